"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from ..bundle import DEFAULT_MODEL, Precision
from ..engines import EngineName

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _columns(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, str]]:
    pairs = []
    for value in values:
        column, separator, wanted = value.partition("=")
        if not separator:
            raise click.BadParameter(f"{value!r} is not COLUMN=VALUE")
        pairs.append((column, wanted))
    return pairs


where_option = click.option(
    "--where",
    metavar="COLUMN=VALUE",
    multiple=True,
    callback=_columns,
    help="Use the manifest's rows with this value; several of one column are alternatives.",
)


leave_out_option = click.option(
    "--leave-out",
    metavar="COLUMN=VALUE",
    multiple=True,
    callback=_columns,
    help="Train without the rows with this value, to evaluate on them; may be repeated.",
)

model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A shipped bundle or a bundle's folder.",
)
precision_option = click.option(
    "--precision", type=click.Choice(get_args(Precision)), default="int8", show_default=True
)
engine_option = click.option(
    "--engine", type=click.Choice(get_args(EngineName)), help="Default: the first installed."
)


def folder_option(name: str, help_text: str) -> Callable[[_Command], _Command]:
    return click.option(
        name, type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help=help_text
    )


training_precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16"]),
    help="Arithmetic of the training; bfloat16 halves the time where the processor has it.",
)
