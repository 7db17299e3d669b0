"""Options that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from click.core import ParameterSource

from ..bundle import DEFAULT_MODEL, Precision
from ..engines import EngineName
from ..imaging import Limits
from ..preprocessing import Equalisation

#: A folder per class or a manifest. Looked for at once: to import Keras takes seconds.
DATA = click.Path(path_type=Path, exists=True)

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
    help="Use the manifest's rows with this value; several values of one column are alternatives.",
)


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=Limits().max_pixels,
    help="Reject larger images before decoding them.",
)


max_bytes_option = click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    default=Limits().max_bytes,
    help="Reject larger files.",
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
    help="Name of a shipped bundle, or a bundle's folder.",
)
precision_option = click.option(
    "--precision", type=click.Choice(get_args(Precision)), default="int8"
)
engine_option = click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    show_default="the first installed",
)

site_option = click.option(
    "--site",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Use the operating point of this profile, made by `calibrate`.",
)


def folder_option(name: str, help_text: str) -> Callable[[_Command], _Command]:
    return click.option(
        name, type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help=help_text
    )


training_precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16"]),
    help="Arithmetic of training; bfloat16 halves the time on processors that have it.",
)


equalisation_option = click.option(
    "--equalisation",
    type=click.Choice(get_args(Equalisation)),
    show_default="that of the model to start from, or the recipe's",
    help="Histogram equalisation of the input.",
)


class Number(click.FloatRange):
    """A number in a range; NaN, which a range check lets through, is refused."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class RecipeName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """A recipe's name. Names are looked up only when needed: training is an extra."""

    name = "recipe"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self._names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        names = self._names()
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}.", param, ctx)
        return str(value)

    def _names(self) -> list[str]:
        from ..training.recipe import RECIPES

        return list(RECIPES)


def training_data_option(help_text: str) -> Callable[[_Command], _Command]:
    """The images that a verb which makes a run or a bundle needs."""
    return click.option(
        "--data", type=DATA, metavar="DATA", multiple=True, required=True, help=help_text
    )


def lungs_option(usual: str, more: str = "") -> Callable[[_Command], _Command]:
    """What frames the lungs for a verb that trains, as ``lungs_from``; usually as for ``usual``."""
    return click.option(
        "--lungs",
        "lungs_from",
        metavar="FOLDER|BUNDLE",
        show_default=f"what frames the lungs for {usual}",
        help="Learn from the lungs alone, framed as for a BUNDLE, or by a converted run of the "
        f"recipe lungs. {more}".rstrip(),
    )


def out_option(help_text: str) -> Callable[[_Command], _Command]:
    """The folder of the run that a verb makes."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="RUN",
        required=True,
        help=help_text,
    )


def refuse_ignored(ctx: click.Context, reason: str, *names: str) -> None:
    """Refuse options that were given and would have no effect.

    Parameters
    ----------
    ctx
        Of the verb.
    reason
        Why they have none: the end of the message.
    names
        Of the verb's parameters.
    """
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[0]} has no effect {reason}.", ctx)
