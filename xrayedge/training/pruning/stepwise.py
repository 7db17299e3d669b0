"""Prune a trained run: plan, narrow and recover, in steps, resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from ...data import Dataset
from ...errors import RunError
from ..distillation import VIEWS, Teachers, learn, lesson
from ..network import ARCHITECTURES, without_last_pooling
from ..recipe import ROBUST, Phase, Recipe
from ..run import LUNGS, MODEL, RECORD, RunRecord, as_seen, lungs_of, own_run
from ..train import Progress, versions
from .narrowing import at_its_size, narrow
from .planning import importance, plan

RECOVERY = Phase(epochs=1, learning_rate=2e-4, first_block=1)
FINAL = Phase(epochs=8, learning_rate=3e-4, first_block=1)
#: Weight of the labels: the teacher's maps say more about the same data.
LABEL_WEIGHT = 0.1


def prune(
    teacher: Path,
    dataset: Dataset,
    fraction: float,
    out: Path,
    *,
    steps: int = 1,
    half_side: bool = False,
    views: Path | None = None,
    view_count: int = VIEWS,
    changes: dict[str, Any] | None = None,
    progress: Progress | None = None,
    on_view: Callable[[int, int], None] | None = None,
) -> RunRecord:
    """Make a narrower network from a trained one, in steps with recovery in between.

    Parameters
    ----------
    teacher
        A finished run of a classifier.
    dataset
        The teacher's training data: the split ``train`` to judge channels and to train, ``val`` for
        the temperature.
    fraction
        The largest share of the teacher's multiply-accumulates, and of its weights, to keep.
    half_side
        Whether to halve the input's side as well, which alone leaves a quarter of the operations.
        The last pooling is then removed, so that the map keeps its size; ``fraction`` is of the
        rest.
    out
        The run folder. An interrupted pruning is resumed there.
    steps
        The number of steps, with a short recovery between them.
    views
        Folder for the augmented images and the teacher's maps of them; several prunings may share
        it. By default they are kept in ``out`` and removed at the end.
    view_count
        Number of views of each training image.
    changes
        Changes to the recipe: ``phases`` (one, for the last recovery), ``seed``, ``precision``.
        Networks wider than `FULL_RATE_WIDTH` channels learn at a lower rate than the phase's.
    progress
        Called after each epoch, as in `train.train`.
    on_view
        Called after each view of every image has been shown to the teacher: how many of how many.

    Raises
    ------
    RunError
        The teacher is not a finished run on these data, the fraction can't be reached, a folder
        holds another run, or views of one, or the architecture has none for half the side.
    """
    parent = RunRecord.read(teacher)
    if not parent.finished or not parent.goes_on_with(dataset):
        raise RunError(f"{teacher}: not a finished run on these data")
    if not 0.0 < fraction <= 1.0:
        raise RunError(f"the fraction to keep must be above 0 and at most 1, not {fraction}")
    settings: dict[str, Any] = {
        "name": "pruned",
        "phases": (FINAL,),
        "augmentation": ROBUST,
        "batch_size": 32,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "dropout": 0.0,
        "within_source": 0.0,
        "keep": "last",
        # Not the teacher's: without the instructions for it, bfloat16 takes ten times as long.
        "precision": "float32",
    }
    recipe = replace(parent.recipe, **{**settings, **(changes or {})})
    if half_side:
        recipe = of_half_the_side(recipe)
    with own_run(out):
        return _prune(
            teacher,
            parent,
            dataset,
            recipe,
            fraction,
            out,
            steps,
            views,
            view_count,
            progress,
            on_view,
        )


def _prune(
    teacher: Path,
    parent: RunRecord,
    dataset: Dataset,
    recipe: Recipe,
    fraction: float,
    out: Path,
    steps: int,
    views: Path | None,
    view_count: int,
    progress: Progress | None,
    on_view: Callable[[int, int], None] | None,
) -> RunRecord:
    if (out / RECORD).exists():
        found = RunRecord.read(out)
        made_of = (replace(found.recipe, widths=None), found.start, found.fraction, found.views)
        if made_of != (replace(recipe, widths=None), parent.to_dict(), fraction, view_count):
            raise RunError(f"{out}: holds another run; give another folder")
        if found.finished:
            return found
    whole = keras.saving.load_model(teacher / MODEL, compile=False)
    model = at_its_size(whole, recipe, len(dataset.classes))
    widths = parent.recipe.widths or ARCHITECTURES[parent.recipe.architecture].blocks
    lungs = lungs_of(teacher)
    if lungs is not None:
        lungs.copy_to(out / LUNGS)
    material = lesson(
        views or out / "views",
        Teachers([teacher], recipe.precision),
        as_seen(dataset, lungs),
        replace(recipe, widths=widths),
        LABEL_WEIGHT,
        view_count,
        on_view,
    )
    sample = material.views.sample
    for step in range(1, steps + 1):
        last = step == steps
        folder = out if last else out / f"step-{step}"
        goal = plan(
            importance(model, sample),
            widths,
            recipe.preprocessing.size,
            fraction ** (1 / steps),
        )
        step_recipe = replace(recipe, widths=goal, phases=recipe.phases if last else (RECOVERY,))
        record = RunRecord(
            step_recipe,
            dataset.classes,
            parent.data_of(dataset),
            versions(),
            parent.to_dict(),
            fraction=fraction,
            views=view_count,
            lungs=parent.lungs,
        )
        learn(
            partial(narrow, model, step_recipe, len(dataset.classes), sample),
            record,
            folder,
            material,
            progress,
        )
        model = keras.saving.load_model(folder / MODEL, compile=False)
        widths = goal
    if views is None:
        material.views.remove()
    return RunRecord.read(out)


def of_half_the_side(recipe: Recipe) -> Recipe:
    """The recipe for the corresponding architecture with inputs of half the side."""
    architecture = without_last_pooling(recipe.architecture)
    smaller = replace(recipe.preprocessing, size=recipe.preprocessing.size // 2)
    return replace(recipe, architecture=architecture, preprocessing=smaller)
