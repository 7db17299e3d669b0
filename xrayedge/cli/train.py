"""`train`: from labelled images to a trained run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..preprocessing import Equalisation
from .epochs import interruptible, show_doubts
from .evaluate import parts_table
from .options import (
    DATA,
    Number,
    RecipeName,
    equalisation_option,
    leave_out_option,
    lungs_option,
    out_option,
    refuse_ignored,
    training_precision_option,
    where_option,
)
from .printing import messages, quiet_tensorflow, wide_results

if TYPE_CHECKING:
    from .epochs import Progress


def _data_name(
    data: tuple[Path, ...], where: list[tuple[str, str]], leave_out: list[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "name": ", ".join(path.name for path in data),
        "where": [f"{column}={value}" for column, value in where],
        "leave_out": [f"{column}={value}" for column, value in leave_out],
    }


@click.command()
@click.argument("data", nargs=-1, required=True, type=DATA)
@out_option("The run's folder.")
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
@lungs_option("--start")
@click.option(
    "--size", type=click.IntRange(32), help="Side of the input, in pixels, instead of the recipe's."
)
@equalisation_option
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
    lungs_from: str | None,
    size: int | None,
    equalisation: Equalisation | None,
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
    from ..lungs import LungFiles
    from ..training.bundles import finished_run
    from ..training.recipe import RECIPES
    from ..training.run import RunRecord

    lungs = None if lungs_from is None else LungFiles.find(lungs_from)
    changes: dict[str, Any] = {"seed": seed, "precision": precision}
    recipe = replace(
        RECIPES[recipe_name or ("vgg16" if start is None else "own-hospital")],
        **{name: value for name, value in changes.items() if value is not None},
    )
    with (
        finished_run(start) if start is not None else nullcontext() as parent,
        interruptible() as show_epoch,
    ):
        dataset = load_dataset(
            data,
            where,
            seed=recipe.seed,
            with_val=recipe.keep == "best",
            turned_of=recipe.turned_label,
            non_classes=recipe.uses_non_classes,
        ).without(leave_out)
        if recipe.finds_lungs:
            dataset = dataset.with_lung_boxes()
        if parent is not None:
            recipe, dataset = RunRecord.read(parent).continued(recipe, dataset)
        recipe = recipe.adjusted(
            size=size, equalisation=equalisation, epochs=epochs, learning_rate=rate
        )
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
                    lungs=lungs,
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
            lungs=lungs,
            progress=show_epoch,
        )
    messages.print(
        f"kept epoch {(record.best_epoch or 0) + 1} of {len(record.history)}, "
        f"temperature {record.temperature:.3f}; {out}"
    )
    show_doubts(record)
