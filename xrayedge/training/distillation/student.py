"""Distil larger networks into a trained small one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from ...data import Dataset
from ...errors import RunError
from ..network import adopt
from ..recipe import RECIPES, Phase
from ..run import MODEL, RunRecord, own_run
from ..train import Progress, build_network, versions
from .learning import learn, lesson
from .views import VIEWS, Teachers

#: Higher than in pruning: the teachers make errors that the labels correct.
LABEL_WEIGHT = 0.5
#: Half of the images are blends: the teachers have learned the others, and so say little more about
#: those than their labels do.
BLENDED = 0.5
DISTIL = Phase(epochs=4, learning_rate=5e-4, first_block=1)


def distil(
    student: Path,
    teachers: Sequence[Path],
    dataset: Dataset,
    out: Path,
    *,
    size: int | None = None,
    views: Path | None = None,
    view_count: int = VIEWS,
    changes: dict[str, Any] | None = None,
    progress: Progress | None = None,
    on_view: Callable[[int, int], None] | None = None,
) -> RunRecord:
    """Continue training a network on its teachers' maps of augmented images.

    Parameters
    ----------
    student
        A finished run: the network and weights to start from.
    teachers
        Finished runs of the same classes, with a channel of opacities where the student has one.
    dataset
        ``train`` to learn from, including labels that are not classes; ``val`` to fit the
        temperature.
    out
        The run folder. An interrupted run resumes there.
    size
        Side of the student's input, in pixels, instead of its own.
    views, view_count, progress, on_view
        See `pruning.prune`.
    changes
        To the recipe: ``phases``, one, ``seed``, ``precision``.

    Raises
    ------
    RunError
        A run is not finished, they know other classes than the data, or a folder holds another
        run, or views of one.
    """
    begun = RunRecord.read(student)
    if not begun.finished:
        raise RunError(f"{student}: the run to start from is not finished")
    if RunRecord.is_finished(out):
        raise RunError(f"{out}: holds a finished run; give another folder")
    recipe = replace(
        RECIPES["hospitals-fine"].for_network_of(begun.recipe).adjusted(size=size),
        name="distilled",
        **{"phases": (DISTIL,), **(changes or {})},
    )
    shown_by = Teachers(teachers, recipe.precision)
    if not shown_by.opacity:
        if begun.recipe.opacity:
            raise RunError(f"{teachers[0]}: has no channel for opacities to teach {student}")
        recipe = replace(recipe, opacity=0.0)
    for folder, record in ((student, begun), (teachers[0], shown_by.records[0])):
        if record.classes != dataset.classes:
            raise RunError(
                f"{folder}: knows the classes {', '.join(record.classes)}; "
                f"the data hold {', '.join(dataset.classes)}"
            )

    def begin() -> keras.Model:
        model = build_network(recipe, len(dataset.classes))
        adopt(model, keras.saving.load_model(student / MODEL, compile=False))
        return model

    record = RunRecord(
        recipe,
        dataset.classes,
        begun.data_of(dataset),
        versions(),
        begun.to_dict(),
        teachers=tuple(one.to_dict() for one in shown_by.records),
        views=view_count,
    )
    with own_run(out):
        material = lesson(
            views or out / "views",
            shown_by,
            dataset,
            recipe,
            LABEL_WEIGHT,
            view_count,
            on_view,
            BLENDED,
        )
        learn(begin, record, out, material, progress)
        if views is None:
            material.views.remove()
    return RunRecord.read(out)
