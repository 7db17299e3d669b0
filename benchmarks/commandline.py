"""Command-line options and document parts that the benchmarks share."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from xrayedge.machine import describe


def column_value(text: str) -> tuple[str, str]:
    """An argument ``COLUMN=VALUE``, as `load_dataset` takes it."""
    column, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE")
    return column, value


def add_where(parser: argparse.ArgumentParser) -> None:
    """The option ``--where``: a list of pairs."""
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        type=column_value,
        metavar="COLUMN=VALUE",
        help="the manifest's rows with this value",
    )


def this_command() -> str:
    """The command being run, with paths reduced to names: folders mean nothing elsewhere."""
    script, *words = sys.argv
    plain = [word if "=" in word else Path(word).name for word in words]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *plain])


def this_machine() -> str:
    """The processor, and those of its instructions that engines use."""
    machine = describe()
    return f"{machine.cpu or machine.architecture} with {', '.join(machine.cpu_features)}"


def short(source: str) -> str:
    """A source's name without what is in brackets and how it came here."""
    return re.sub(r"\(.*?\)|\bvia\b.*|/ Belarus.*", "", source).strip(" ,;") or "unnamed"
