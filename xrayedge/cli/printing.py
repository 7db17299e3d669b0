"""Where the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..bench.tables import TextTable

# Markup off: a file's name may hold brackets.
results = Console(highlight=False, soft_wrap=True, markup=False)
wide_results = Console(highlight=False, width=1000)
messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def printable(text: str) -> str:
    """A file's name may hold line feeds, terminal commands, or bytes that are no text."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def print_table(table: TextTable) -> None:
    """In its natural width, however narrow the terminal: no cell is cut off."""
    drawn = Table(*table.headings)
    for row in table.rows:
        drawn.add_row(*row)
    wide_results.print(drawn)


def quiet_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextmanager
def quiet_engines() -> Iterator[None]:
    """Keep TensorFlow Lite from telling on stderr, while a model is loaded, that it did so.

    Its C++ code writes ``INFO: ...`` to the descriptor, whatever the log level. All else that is
    written meanwhile comes out at the end.
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
