"""Train a narrowed network on the activation maps of the original."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from ...data import Dataset, model_inputs
from ...errors import RunError
from ...preprocessing import Preprocessing
from ..losses import Distillation, LabelledAccuracy
from ..network import activation_map_model
from ..recipe import Phase, Recipe
from ..run import RECORD, RunRecord
from ..sampling import source_targets
from ..train import Progress, Recorder, build_network, finish, resume, schedule
from .narrowing import narrow
from .views import Views, map_targets

RECOVERY = Phase(epochs=1, learning_rate=2e-4, first_block=1)
FINAL = Phase(epochs=8, learning_rate=3e-4, first_block=1)
#: Wider layers need a proportionally lower rate: Adam moves all weights by the same amount, so a
#: layer's output moves with the number of weights summed. At the full rate, 328 channels died in
#: one epoch.
FULL_RATE_WIDTH = 176


@dataclass(frozen=True)
class Validation:
    """The split ``val``: inputs, the teacher's maps of them, and labels as in `train`."""

    inputs: NDArray[np.uint8]
    maps: NDArray[np.float32]
    labels: NDArray[np.float32]


def validation_of(
    whole: keras.Model, seen_by_whole: Preprocessing, dataset: Dataset, recipe: Recipe
) -> Validation:
    samples = dataset.labelled("val")
    labels = source_targets(samples, dataset.classes)
    maps = map_targets(whole, model_inputs(samples, seen_by_whole), labels[:, 0])
    return Validation(model_inputs(samples, recipe.preprocessing), maps, labels)


def at_its_width(recipe: Recipe) -> Phase:
    """The recipe's phase at a rate that a network of its widths can stand."""
    assert recipe.widths is not None
    (phase,) = recipe.phases
    widest = max(max(block) for block in recipe.widths)
    share = min(1.0, FULL_RATE_WIDTH / widest)
    return replace(phase, learning_rate=phase.learning_rate * share)


class _ViewBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """A share of the views, in a different order each epoch."""

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


def recover(
    model: keras.Model,
    record: RunRecord,
    folder: Path,
    views: Views,
    validation: Validation,
    progress: Progress | None,
) -> None:
    """Narrow the model to the record's recipe and train it on the views."""
    if (folder / RECORD).exists():
        found = RunRecord.read(folder)
        made_of = (record.recipe, record.start, record.fraction, record.views)
        if (found.recipe, found.start, found.fraction, found.views) != made_of:
            raise RunError(f"{folder}: holds another run; give another folder")
        if found.finished:
            return
        record = found
    folder.mkdir(parents=True, exist_ok=True)
    recipe, (phase,) = record.recipe, record.recipe.phases
    classes = len(record.classes)
    previous_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        keras.utils.set_random_seed(recipe.seed)
        whole = build_network(recipe, classes)
        student = activation_map_model(whole)
        done = len(record.history)
        batches = _ViewBatches(views, recipe, epoch=done)
        if done:
            student = resume(folder, student, fresh_phase=False)
        else:
            keras.config.set_dtype_policy("float32")
            fitted = narrow(model, recipe, classes, views.sample)
            keras.config.set_dtype_policy(recipe.precision)
            whole.set_weights(fitted.get_weights())
            student.compile(
                optimizer=keras.optimizers.AdamW(
                    schedule(at_its_width(recipe), len(batches)),
                    weight_decay=recipe.weight_decay,
                ),
                loss=Distillation(classes, float(np.var(views.targets[:, :-classes]))),
                metrics=[LabelledAccuracy(classes, last=True)],
            )
        recorder = Recorder(record, 0, folder, whole, progress)
        if done < phase.epochs:
            student.fit(
                batches,
                validation_data=(validation.inputs, validation.maps),
                epochs=phase.epochs,
                initial_epoch=done,
                callbacks=[recorder],
                shuffle=False,
                verbose=0,
            )
    finally:
        keras.config.set_dtype_policy(previous_policy)
    finish(recorder.record, folder, (validation.inputs, validation.labels))
