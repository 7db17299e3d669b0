"""`train`, `prune`, `distil` and `average`: from labelled images to a trained run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .evaluate import parts_table
from .options import (
    DATA,
    Number,
    RecipeName,
    leave_out_option,
    refuse_ignored,
    training_precision_option,
    where_option,
)
from .printing import messages, quiet_tensorflow, wide_results

if TYPE_CHECKING:
    from ..training.run import Epoch, RunRecord

    Progress = Callable[[int, int, Epoch], None]


_Command = TypeVar("_Command", bound=Callable[..., Any])


def _data_name(
    data: tuple[Path, ...], where: list[tuple[str, str]], leave_out: list[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "name": ", ".join(path.name for path in data),
        "where": [f"{column}={value}" for column, value in where],
        "leave_out": [f"{column}={value}" for column, value in leave_out],
    }


def _show_epoch(number: int, total: int, epoch: Epoch) -> None:
    val = ""
    if epoch.val_loss is not None:
        val = f"val loss {epoch.val_loss:.4f}  val accuracy {epoch.val_accuracy:.3f}  "
    messages.print(
        f"epoch {number}/{total}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.3f}  "
        f"{val}{epoch.seconds:.0f} s"
    )


def _show_doubts(record: RunRecord) -> None:
    for doubt in record.doubts:
        messages.print(f"warning: {doubt}")


@contextmanager
def _interruptible() -> Iterator[Progress]:
    """Make Ctrl-C end a training, and say how to resume it. Yields the callback for epochs.

    Python drops an exception raised while it finalises an object, including `KeyboardInterrupt`;
    the training then ends after the epoch.
    """
    asked = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def show(number: int, total: int, epoch: Epoch) -> None:
        _show_epoch(number, total, epoch)
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield show
    except KeyboardInterrupt:
        messages.print("the same command resumes after the last finished epoch")
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _out_option(help_text: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="RUN",
        required=True,
        help=help_text,
    )


def _views_option(what: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--views",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"Keep the augmented images and {what}",
    )


_view_count_option = click.option(
    "--view-count",
    type=click.IntRange(1),
    metavar="N",
    show_default="10",
    help="Number of augmented views of each image.",
)


@click.command()
@click.argument("data", nargs=-1, required=True, type=DATA)
@_out_option("The run's folder.")
@click.option(
    "--recipe",
    "recipe_name",
    type=RecipeName(),
    show_default="own-hospital with --start, else vgg16",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    show_default="downloaded by Keras",
    help="Local ImageNet weights, .npz.",
)
@click.option(
    "--start",
    metavar="RUN|BUNDLE",
    help="A finished run or a bundle to start from: its model, widths and preprocessing.",
)
@click.option(
    "--size", type=click.IntRange(32), help="Side of the input, in pixels, instead of the recipe's."
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of the recipe's last phase.")
@click.option(
    "--rate",
    type=Number(0.0, min_open=True),
    help="The highest learning rate of the recipe's last phase.",
)
@click.option("--seed", type=int, help="Seed, instead of the recipe's.")
@training_precision_option
@click.option(
    "--leave-one-source-out",
    is_flag=True,
    help="For each source, train without it and evaluate on it; one run per source.",
)
@leave_out_option
@where_option
@click.pass_context
def train(
    ctx: click.Context,
    data: tuple[Path, ...],
    out: Path,
    recipe_name: str | None,
    weights: Path | None,
    start: str | None,
    size: int | None,
    epochs: int | None,
    rate: float | None,
    seed: int | None,
    precision: str | None,
    leave_one_source_out: bool,
    leave_out: list[tuple[str, str]],
    where: list[tuple[str, str]],
) -> None:
    """Train a model on DATA, folders per class or manifest CSVs. Resumes an interrupted run."""
    if start is not None:
        refuse_ignored(ctx, "with --start, whose weights are taken", "weights")
    quiet_tensorflow()
    from ..data import load_dataset
    from ..training.bundles import finished_run
    from ..training.recipe import RECIPES
    from ..training.run import RunRecord

    changes: dict[str, Any] = {"seed": seed, "precision": precision}
    recipe = replace(
        RECIPES[recipe_name or ("vgg16" if start is None else "own-hospital")],
        **{name: value for name, value in changes.items() if value is not None},
    )
    with (
        finished_run(start) if start is not None else nullcontext() as parent,
        _interruptible() as show_epoch,
    ):
        dataset = load_dataset(
            data,
            where,
            seed=recipe.seed,
            with_val=recipe.keep == "best",
            turned_of=recipe.turned_label,
            non_classes=bool(recipe.not_healthy),
        ).without(leave_out)
        if parent is not None:
            recipe, dataset = RunRecord.read(parent).continued(recipe, dataset)
        recipe = recipe.adjusted(size=size, epochs=epochs, learning_rate=rate)
        for split, counts in dataset.summary().items():
            listed = ", ".join(f"{count} {label}" for label, count in counts.items())
            messages.print(f"{split}: {listed}")
        for label, count in dataset.left_out.items():
            messages.print(f"left out: {count} labelled {label!r}, which is no class")
        data_name = _data_name(data, where, leave_out)
        if leave_one_source_out:
            from ..training.generalisation import leave_one_source_out as folds

            def announce(source: str) -> Progress:
                messages.print(f"without {source}")
                return show_epoch

            evaluations = {
                fold.source: fold.evaluation
                for fold in folds(
                    dataset,
                    recipe,
                    out,
                    data_name=data_name,
                    weights=weights,
                    start=parent,
                    progress=announce,
                )
            }
            wide_results.print(parts_table("source, by a model that never saw it", evaluations))
            return
        from ..training.train import train as run_training

        record = run_training(
            dataset,
            recipe,
            out,
            data_name=data_name,
            weights=weights,
            start=parent,
            progress=show_epoch,
        )
    messages.print(
        f"kept epoch {(record.best_epoch or 0) + 1} of {len(record.history)}, "
        f"temperature {record.temperature:.3f}; {out}"
    )
    _show_doubts(record)


@click.command()
@click.argument("run", metavar="RUN|BUNDLE")
@click.option(
    "--data",
    type=DATA,
    metavar="DATA",
    multiple=True,
    required=True,
    help="What trained RUN, or images of a BUNDLE's classes: the narrower network learns from "
    "them. May be repeated.",
)
@click.option(
    "--target-macs",
    type=Number(0.0, 1.0, min_open=True),
    required=True,
    metavar="FRACTION",
    help="Largest share of RUN's multiply-accumulates and weights to keep.",
)
@_out_option("The new run's folder.")
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
    with finished_run(run) as teacher, _interruptible() as show_epoch:
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
            on_view=lambda number, total: messages.print(f"view {number}/{total}"),
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
    _show_doubts(record)


@click.command()
@click.argument("student", metavar="RUN|BUNDLE")
@click.option(
    "--teacher",
    "teachers",
    metavar="RUN|BUNDLE",
    multiple=True,
    required=True,
    help="A finished run or a bundle whose maps the student learns from. Several: the mean of "
    "their maps.",
)
@click.option(
    "--data",
    type=DATA,
    metavar="DATA",
    multiple=True,
    required=True,
    help="Images to learn from, with a split val. May be repeated.",
)
@_out_option("The new run's folder.")
@click.option(
    "--size",
    type=click.IntRange(32),
    help="Side of the student's input, in pixels, instead of its own.",
)
@click.option(
    "--fine-map",
    is_flag=True,
    help="Leave out the student's last pooling: its map has twice the places a side.",
)
@_views_option("the teachers' maps of them here, for other students.")
@_view_count_option
@click.option(
    "--epochs",
    type=click.IntRange(1),
    show_default="4, of a whole VGG16 1",
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
    fine_map: bool,
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
    from ..training.bundles import finished_run
    from ..training.distillation import VIEWS
    from ..training.distillation import distil as run_distillation

    with ExitStack() as opened:
        begun, *shown_by = (
            opened.enter_context(finished_run(model)) for model in (student, *teachers)
        )
        show_epoch = opened.enter_context(_interruptible())
        record = run_distillation(
            begun,
            shown_by,
            load_dataset(data, non_classes=True),
            out,
            size=size,
            views=views,
            view_count=view_count or VIEWS,
            epochs=epochs,
            learning_rate=rate,
            fine_map=fine_map,
            changes={"precision": precision} if precision else None,
            progress=show_epoch,
            on_view=lambda number, total: messages.print(f"view {number}/{total}"),
        )
    messages.print(f"temperature {record.temperature:.3f}; {out}")


@click.command()
@click.argument("models", metavar="RUN|BUNDLE...", nargs=-1, required=True)
@click.option(
    "--data",
    type=DATA,
    metavar="DATA",
    multiple=True,
    required=True,
    help="Training data of the first run, whose split val fits the temperature. May be repeated.",
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
@_out_option("The new run's folder.")
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
    _show_doubts(record)
