"""The verbs, loaded when they are called, and what becomes of an error."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from ..errors import XrayEdgeError

_USAGE_ERROR = 2

#: The module of each verb.
_MODULES = {
    "screen": "screen",
    "models": "models",
    "doctor": "models",
    "bench": "bench",
    "train": "train",
    "evaluate": "evaluate",
    "prune": "train",
    "average": "train",
    "convert": "convert",
}


class _Group(click.Group):
    """Loads a verb when it is called, and turns our errors into one line and exit status 2."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _MODULES:
            return None
        command: click.Command = getattr(import_module(f"{__package__}.{_MODULES[name]}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except XrayEdgeError as error:
            from .printing import messages, printable

            messages.print(f"xrayedge: {printable(str(error))}")
            ctx.exit(_USAGE_ERROR)


@click.group(cls=_Group)
@click.version_option(package_name="xrayedge")
def main() -> None:
    """Screen chest radiographs on the spot. Research software, not a medical device."""
