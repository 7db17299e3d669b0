"""Train a network on views: its teachers' maps of augmented images, and the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from ...data import Dataset, read_sample
from ...errors import RunError
from ..augmentation import Augmentation
from ..losses import Distillation, LabelledAccuracy
from ..network import activation_map_model, dtype_policy
from ..recipe import Phase, Recipe
from ..run import RECORD, RunRecord
from ..sampling import source_targets
from ..train import (
    Progress,
    Recorder,
    build_network,
    finish,
    freeze,
    map_loss,
    map_validation,
    resume,
    schedule,
)
from .views import Teachers, Views, with_maps

#: Wider layers need a proportionally lower rate: Adam moves all weights by the same amount, so a
#: layer's output moves with the number of weights summed. At the full rate, 328 channels died in
#: one epoch.
FULL_RATE_WIDTH = 176


@dataclass(frozen=True)
class Lesson:
    """The training material of a network.

    Parameters
    ----------
    views
        Of the training images.
    inputs, targets
        The labelled images of `val`, and their targets for `losses.Distillation`.
    labels
        Their `losses.targets`, to fit the temperature.
    label_weight
        Weight of the labels in the loss; see `losses.Distillation`.
    """

    views: Views
    inputs: NDArray[np.uint8]
    targets: NDArray[np.float32]
    labels: NDArray[np.float32]
    label_weight: float


def places_of(recipe: Recipe, classes: int) -> tuple[int, int]:
    """Height and width of the map of the recipe's network."""
    height, width = activation_map_model(build_network(recipe, classes)).output.shape[1:3]
    return int(height), int(width)


def lesson(
    folder: Path,
    teachers: Teachers,
    dataset: Dataset,
    recipe: Recipe,
    label_weight: float,
    count: int,
    on_view: Callable[[int, int], None] | None,
    blended: float = 0.0,
    disguise: Augmentation | None = None,
) -> Lesson:
    """Views in ``folder`` and the validation of a network of the recipe; see `Views`.

    Raises
    ------
    RunError
        The dataset has no labelled images in ``val``, or the folder holds other views.
    """
    samples = dataset.labelled("val")
    if not samples:
        raise RunError("the temperature is fitted on the split val, which holds no images")
    places = places_of(recipe, len(dataset.classes))
    views = Views(folder, teachers, dataset, recipe, places, count, on_view, blended, disguise)
    inputs, wanted = map_validation(samples, dataset, recipe, places)
    maps = teachers.maps([read_sample(sample) for sample in samples], places)
    labels = source_targets(samples, dataset.classes)
    return Lesson(views, inputs, with_maps(wanted, maps), labels, label_weight)


def at_its_width(recipe: Recipe) -> Phase:
    """The recipe's phase at a rate that a network of its widths can stand."""
    (phase,) = recipe.phases
    if recipe.widths is None:
        return phase
    widest = max(max(block) for block in recipe.widths)
    share = min(1.0, FULL_RATE_WIDTH / widest)
    return replace(phase, learning_rate=phase.learning_rate * share)


class _ViewBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """All views, in a different order each epoch."""

    def __init__(self, views: Views, recipe: Recipe, epoch: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._views = views
        self._recipe = recipe
        self._epoch = epoch
        self._draw()

    def __len__(self) -> int:
        return -(-len(self._order) // self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        size = self._recipe.batch_size
        chosen = np.sort(self._order[index * size : (index + 1) * size])
        inputs = np.asarray(self._views.inputs[chosen])
        return inputs, np.asarray(self._views.targets[chosen])

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        self._epoch += 1
        self._draw()

    def _draw(self) -> None:
        rng = np.random.default_rng([self._recipe.seed, self._epoch])
        self._order = rng.permutation(len(self._views.inputs))


def learn(
    begin: Callable[[], keras.Model],
    record: RunRecord,
    folder: Path,
    material: Lesson,
    progress: Progress | None,
) -> None:
    """Train a network on views into a run folder, or resume an interrupted training.

    Parameters
    ----------
    begin
        Makes the float32 network to start from, of the record's recipe.
    record
        The record of the new run; its recipe has one phase.
    folder
        The run folder.
    material
        Views and validation.
    progress
        Called after each epoch, as in `train.train`.

    Raises
    ------
    RunError
        The folder holds another run.
    """
    if (folder / RECORD).exists():
        found = RunRecord.read(folder)
        if _made_of(found) != _made_of(record):
            raise RunError(f"{folder}: holds another run; give another folder")
        if found.finished:
            return
        record = found
    folder.mkdir(parents=True, exist_ok=True)
    recipe, (phase,) = record.recipe, record.recipe.phases
    with dtype_policy(recipe.precision):
        keras.utils.set_random_seed(recipe.seed)
        whole = build_network(recipe, len(record.classes))
        student = activation_map_model(whole)
        done = len(record.history)
        batches = _ViewBatches(material.views, recipe, epoch=done)
        if done:
            student = resume(folder, student, fresh_phase=False)
        else:
            with dtype_policy("float32"):
                whole.set_weights(begin().get_weights())
            freeze(student, phase)
            student.compile(
                optimizer=keras.optimizers.AdamW(
                    schedule(at_its_width(recipe), len(batches)),
                    weight_decay=recipe.weight_decay,
                    global_clipnorm=recipe.clip_norm,
                ),
                loss=Distillation(
                    map_loss(recipe, record.classes),
                    material.label_weight,
                    float(np.var(material.views.maps)),
                ),
                metrics=[LabelledAccuracy(len(record.classes))],
            )
        recorder = Recorder(record, 0, folder, whole, progress)
        if done < phase.epochs:
            student.fit(
                batches,
                validation_data=(material.inputs, material.targets),
                epochs=phase.epochs,
                initial_epoch=done,
                callbacks=[recorder],
                shuffle=False,  # the batches are random already, and must be again on resuming
                verbose=0,
            )
    finish(recorder.record, folder, (material.inputs, material.labels))


def _made_of(record: RunRecord) -> tuple[object, ...]:
    shown = record.teachers, record.views, record.blended, record.disguise, record.lungs
    return record.recipe, record.start, record.fraction, shown
