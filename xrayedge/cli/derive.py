"""`prune`, `distil` and `average`: a new run from finished ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from ..preprocessing import Equalisation
from .epochs import interruptible, show_doubts
from .options import (
    Number,
    equalisation_option,
    lungs_option,
    out_option,
    training_data_option,
    training_precision_option,
)
from .printing import messages, quiet_tensorflow

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _views_option(what: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--views",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"Keep the augmented images and {what}",
    )


def _show_view(number: int, total: int) -> None:
    messages.print(f"view {number}/{total}")


_view_count_option = click.option(
    "--view-count",
    type=click.IntRange(1),
    metavar="N",
    show_default="10",
    help="Number of augmented views of each image.",
)


@click.command()
@click.argument("run", metavar="RUN|BUNDLE")
@training_data_option(
    "What trained RUN, or images of a BUNDLE's classes: the narrower network learns from them. May "
    "be repeated."
)
@click.option(
    "--target-macs",
    type=Number(0.0, 1.0, min_open=True),
    required=True,
    metavar="FRACTION",
    help="Largest share of RUN's multiply-accumulates and weights to keep.",
)
@out_option("The new run's folder.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=1,
    help="Prune in this many steps, with a short recovery between them.",
)
@click.option(
    "--half-side",
    is_flag=True,
    help="Halve the side of the input too; FRACTION counts from the quarter that this leaves.",
)
@_views_option("RUN's maps of them here, for other fractions.")
@_view_count_option
@click.option(
    "--epochs", type=click.IntRange(1), show_default="8", help="Epochs of the last recovery."
)
@training_precision_option
def prune(
    run: str,
    data: tuple[Path, ...],
    target_macs: float,
    out: Path,
    steps: int,
    half_side: bool,
    views: Path | None,
    view_count: int | None,
    epochs: int | None,
    precision: str | None,
) -> None:
    """Make a narrower, faster network from a run or a bundle. Resumes an interrupted pruning."""
    quiet_tensorflow()
    from ..training.bundles import finished_run
    from ..training.distillation import VIEWS
    from ..training.network import ARCHITECTURES
    from ..training.pruning import FINAL, layer_costs
    from ..training.pruning import prune as run_pruning
    from ..training.run import RunRecord

    changes: dict[str, Any] = {"precision": precision} if precision else {}
    if epochs:
        changes["phases"] = (replace(FINAL, epochs=epochs),)
    with finished_run(run) as teacher, interruptible() as show_epoch:
        record = run_pruning(
            teacher,
            RunRecord.read(teacher).load_data(data),
            target_macs,
            out,
            steps=steps,
            half_side=half_side,
            views=views,
            view_count=view_count or VIEWS,
            changes=changes,
            progress=show_epoch,
            on_view=_show_view,
        )
    recipe = record.recipe
    if recipe.widths is not None:  # which a pruned run always has
        operations, weights = layer_costs(
            recipe.widths,
            recipe.preprocessing.size,
            len(record.classes),
            ARCHITECTURES[recipe.architecture].pool_last,
        )
        widths = ", ".join("-".join(str(width) for width in block) for block in recipe.widths)
        messages.print(
            f"widths {widths}: {sum(operations) / 1e9:.2f} G multiply-accumulates, "
            f"{sum(weights) / 1e6:.2f} M weights, temperature {record.temperature:.3f}; {out}"
        )
    show_doubts(record)


@click.command()
@click.argument("student", metavar="RUN|BUNDLE")
@click.option(
    "--teacher",
    "teachers",
    metavar="RUN|BUNDLE",
    multiple=True,
    required=True,
    help="A finished run or a bundle whose maps the student learns from. Several: the mean of "
    "their maps, and the opacities of the finest.",
)
@training_data_option("Images to learn from, with a split val. May be repeated.")
@out_option("The new run's folder.")
@click.option(
    "--size",
    type=click.IntRange(32),
    help="Side of the student's input, in pixels, instead of its own.",
)
@equalisation_option
@click.option(
    "--fine-map",
    is_flag=True,
    help="Leave out the student's last pooling: its map then has twice as many places per side.",
)
@lungs_option("STUDENT", "The student and its teachers may have learned from whole images.")
@_views_option("the teachers' maps of them here, for other students.")
@_view_count_option
@click.option(
    "--epochs",
    type=click.IntRange(1),
    show_default="4; 1 for a whole VGG16",
    help="Epochs; each shows every view of every image.",
)
@click.option("--rate", type=Number(0.0, min_open=True), help="The highest learning rate.")
@training_precision_option
def distil(
    student: str,
    teachers: tuple[str, ...],
    data: tuple[Path, ...],
    out: Path,
    size: int | None,
    equalisation: Equalisation | None,
    fine_map: bool,
    lungs_from: str | None,
    views: Path | None,
    view_count: int | None,
    epochs: int | None,
    rate: float | None,
    precision: str | None,
) -> None:
    """Train a run or a bundle on from what larger networks make of the images.

    Resumes an interrupted distillation.
    """
    quiet_tensorflow()
    from ..data import load_dataset
    from ..lungs import LungFiles
    from ..training.bundles import finished_run
    from ..training.distillation import VIEWS
    from ..training.distillation import distil as run_distillation

    lungs = None if lungs_from is None else LungFiles.find(lungs_from)
    with ExitStack() as opened:
        begun, *shown_by = (
            opened.enter_context(finished_run(model)) for model in (student, *teachers)
        )
        show_epoch = opened.enter_context(interruptible())
        record = run_distillation(
            begun,
            shown_by,
            load_dataset(data, non_classes=True),
            out,
            size=size,
            equalisation=equalisation,
            views=views,
            view_count=view_count or VIEWS,
            epochs=epochs,
            learning_rate=rate,
            fine_map=fine_map,
            lungs=lungs,
            changes={"precision": precision} if precision else None,
            progress=show_epoch,
            on_view=_show_view,
        )
    messages.print(f"temperature {record.temperature:.3f}; {out}")


@click.command()
@click.argument("models", metavar="RUN|BUNDLE...", nargs=-1, required=True)
@training_data_option(
    "Training data of the first run, whose split val fits the temperature. May be repeated."
)
@click.option(
    "--share",
    "shares",
    type=click.FloatRange(0.0, min_open=True),
    multiple=True,
    help="Of each model in the average, in their order.  [default: equal]",
)
@click.option(
    "--size",
    type=click.IntRange(32),
    help="Side of the average's input, in pixels.  [default: that of the first model]",
)
@out_option("The new run's folder.")
def average(
    models: tuple[str, ...],
    data: tuple[Path, ...],
    shares: tuple[float, ...],
    size: int | None,
    out: Path,
) -> None:
    """Average the weights of models that were started from one another into a new run."""
    quiet_tensorflow()
    from ..training.averaging import average as average_runs
    from ..training.bundles import finished_run
    from ..training.run import RunRecord

    with ExitStack() as opened:
        runs = [opened.enter_context(finished_run(model)) for model in models]
        dataset = RunRecord.read(runs[0]).load_data(data)
        record = average_runs(runs, dataset, out, shares or None, size=size)
    messages.print(f"average of {len(runs)} models, temperature {record.temperature:.3f}; {out}")
    show_doubts(record)
