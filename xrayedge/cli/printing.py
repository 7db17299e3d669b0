"""Where the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from ..errors import XrayEdgeError

if TYPE_CHECKING:
    from ..bench.tables import TextTable

_STDERR = 2

# Markup off: a file's name may hold brackets.
results = Console(highlight=False, soft_wrap=True, markup=False)
wide_results = Console(highlight=False, width=1000)
messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def printable(text: str) -> str:
    """A file's name may hold line feeds, terminal commands, or bytes that are no text."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def print_table(table: TextTable) -> None:
    """Print at its natural width, however narrow the terminal, so that no cell is cut off."""
    drawn = Table(*table.headings)
    for row in table.rows:
        drawn.add_row(*row)
    wide_results.print(drawn)


def quiet_tensorflow() -> None:
    """Hold back what TensorFlow's libraries write to stderr while this command runs.

    Their C++ code writes to the descriptor directly, whatever Python's settings are. If the command
    ends with an error that is not ours, their output is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    click.get_current_context().with_resource(_native_stderr_kept_back())


@contextmanager
def _native_stderr_kept_back() -> Iterator[None]:
    ours = sys.stderr
    ours.flush()
    descriptor = os.dup(_STDERR)
    with TemporaryFile() as kept, open(descriptor, "w", buffering=1) as terminal:  # noqa: PTH123 - a descriptor has no path
        try:
            writes_there = ours.fileno() == _STDERR
        except (OSError, AttributeError):  # a test's own stream
            writes_there = False
        if writes_there:
            sys.stderr = terminal
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield
        except Exception as error:
            if not isinstance(error, (XrayEdgeError, click.ClickException, click.exceptions.Exit)):
                kept.seek(0)
                print(kept.read().decode(errors="replace"), end="", file=sys.stderr)
            raise
        finally:
            os.dup2(descriptor, _STDERR)
            sys.stderr = ours


@contextmanager
def quiet_engines() -> Iterator[None]:
    """Hide TensorFlow Lite's message on stderr that a model was loaded.

    Its C++ code writes ``INFO: ...`` to the descriptor, whatever the log level. Everything else
    written meanwhile is shown at the end.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    held = os.memfd_create("stderr")
    os.dup2(held, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        with os.fdopen(held, "rb") as stream:
            stream.seek(0)
            said = [line for line in stream if not line.startswith(b"INFO: ")]
        os.write(2, b"".join(said))
