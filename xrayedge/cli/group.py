"""The commands, loaded when they are called, and how errors are reported."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from ..deadline import wait_for_threads
from ..errors import XrayEdgeError

_USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

#: Sections of the help, and the module of each verb.
_SECTIONS: dict[str, dict[str, str]] = {
    "Screen": {
        "screen": "screen",
        "calibrate": "calibrate",
        "models": "models",
        "doctor": "models",
        "bench": "bench",
        "archive": "archive",
    },
    "Serve": {"station": "station"},
    "Train": {
        "train": "train",
        "evaluate": "evaluate",
        "prune": "derive",
        "distil": "derive",
        "average": "derive",
        "convert": "convert",
    },
}
_MODULES = {verb: module for verbs in _SECTIONS.values() for verb, module in verbs.items()}

#: The extra that brings each package which is not in the core.
_EXTRAS = {
    "bokeh": "archive",
    "botocore": "archive",
    "cryptography": "fleet",
    "dask": "archive",
    "distributed": "archive",
    "highdicom": "dicom-out",
    "httpx": "station",
    "keras": "train",
    "matplotlib": "train",
    "onnx": "convert",
    "onnxruntime": "onnx",
    "pyarrow": "archive",
    "pydicom": "dicom",
    "pynetdicom": "station",
    "scipy": "train",
    "sklearn": "train",
    "starlette": "station",
    "tensorflow": "train",
    "tf2onnx": "convert",
    "urllib3": "archive",
    "uvicorn": "station",
}

_LONGEST_HELP = 150  # characters of a verb's line in the help

_STUCK = 2.0  # seconds that the end of the process waits for an image that was given up


class Group(click.Group):
    """Loads a verb when it is called, and turns an error into one line and an exit status."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _MODULES:
            return None
        command: click.Command = getattr(import_module(f"{__package__}.{_MODULES[name]}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, verbs in _SECTIONS.items():
            found = [(verb, self.get_command(ctx, verb)) for verb in verbs]
            rows = [
                (verb, command.get_short_help_str(limit=_LONGEST_HELP))
                for verb, command in found
                if command is not None
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except XrayEdgeError as error:
            _tell(str(error))
            ctx.exit(_USAGE_ERROR)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            _tell(f"{package} is not installed; pip install 'xrayedge[{_EXTRAS[package]}]'")
            ctx.exit(_USAGE_ERROR)
        except OSError as error:
            if error.errno is None or error.errno == errno.EPIPE:
                raise
            where = f"{error.filename}: " if error.filename else ""
            _tell(f"{where}{error.strerror}")
            ctx.exit(_USAGE_ERROR)
        except KeyboardInterrupt:
            _tell("interrupted")
            ctx.exit(INTERRUPTED)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.main(*args, **kwargs)
        except SystemExit as end:
            if not wait_for_threads(_STUCK):
                # Native code that came back while Python ends would abort the process.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else _USAGE_ERROR)
            raise


def _tell(message: str) -> None:
    from .printing import messages, printable

    messages.print(f"xrayedge: {printable(message)}")


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="xrayedge")
def main() -> None:
    """Screen chest radiographs on the device. Research software, not a medical device."""
