"""Distil larger networks into a trained small one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras

from ...data import Dataset
from ...errors import RunError
from ...lungs import LungFiles
from ...preprocessing import Equalisation
from ..augmentation import Augmentation
from ..network import adopt, without_last_pooling
from ..recipe import RECIPES, Phase
from ..run import LUNGS, MODEL, RunRecord, as_seen, lungs_of, own_run
from ..train import Progress, build_network, versions
from .learning import learn, lesson
from .views import VIEWS, Teachers

#: Higher than in pruning: the teachers make errors that the labels correct.
LABEL_WEIGHT = 0.5
#: Half of the images are blends: the teachers have learned the others, and so say little more about
#: those than their labels do.
BLENDED = 0.5
#: What the student sees and the teachers do not: another hospital's film, sharpness and text.
DISGUISE = Augmentation(
    rotation=0.0,
    zoom=0.0,
    shift=0.0,
    stretch=0.0,
    flip=0.0,
    gamma=0.3,
    contrast=0.1,
    brightness=0.05,
    blur=0.2,
    erase=0.1,
    text=0.2,
    collimate=0.1,
    style=0.4,
    border=0.2,
    texture=0.3,
    detail=0.1,
    noise=0.02,
)
DISTIL = Phase(epochs=4, learning_rate=5e-4, first_block=1)
#: Of a whole VGG16: what its first three blocks learned from ImageNet stays.
DISTIL_WHOLE = Phase(epochs=1, learning_rate=1e-4, first_block=4)


def distil(
    student: Path,
    teachers: Sequence[Path],
    dataset: Dataset,
    out: Path,
    *,
    size: int | None = None,
    equalisation: Equalisation | None = None,
    views: Path | None = None,
    view_count: int = VIEWS,
    epochs: int | None = None,
    learning_rate: float | None = None,
    fine_map: bool = False,
    disguise: Augmentation | None = DISGUISE,
    lungs: LungFiles | None = None,
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
        They have seen the same part of the images as the student, but for ``lungs``.
    dataset
        ``train`` to learn from, including labels that are not classes; ``val`` to fit the
        temperature.
    out
        The run folder. An interrupted run resumes there.
    size
        Side of the student's input, in pixels, instead of its own.
    equalisation
        Of the student's input, instead of its own.
    epochs, learning_rate
        Instead of those of `DISTIL`, or of `DISTIL_WHOLE` for a whole VGG16.
    fine_map
        Leave out the student's last pooling: its map then has twice as many places per side.
    disguise
        See `Views`.
    lungs
        What frames the images, for a student or teachers that have learned from whole ones, too.
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
        RECIPES["hospitals-fine"].for_network_of(begun.recipe),
        name="distilled",
        **{"phases": (DISTIL if begun.recipe.widths else DISTIL_WHOLE,), **(changes or {})},
    ).adjusted(size=size, equalisation=equalisation, epochs=epochs, learning_rate=learning_rate)
    if fine_map:
        recipe = replace(recipe, architecture=without_last_pooling(recipe.architecture))
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

    seen = {one.lungs for one in (begun, *shown_by.records)}
    if lungs is None:
        lungs = lungs_of(student)
    else:
        seen = {lungs.digest(), *seen} - {None}
    if len(seen) > 1:
        raise RunError(
            "the student and its teachers must see the same part of the images: the lungs, framed "
            "by the same network, or all of it; see `xrayedge distil --lungs`"
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
        blended=BLENDED,
        disguise=asdict(disguise) if disguise else None,
        lungs=lungs.digest() if lungs else None,
    )
    with own_run(out):
        if lungs is not None:
            lungs.copy_to(out / LUNGS)
        material = lesson(
            views or out / "views",
            shown_by,
            as_seen(dataset, lungs),
            recipe,
            LABEL_WEIGHT,
            view_count,
            on_view,
            BLENDED,
            disguise,
        )
        learn(begin, record, out, material, progress)
        if views is None:
            material.views.remove()
    return RunRecord.read(out)
