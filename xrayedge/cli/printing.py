"""Where the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
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
