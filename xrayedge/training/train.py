"""Train a model by a recipe into a run folder; resumable after every epoch."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data import HEALTHY, Dataset, Sample, model_inputs
from ..errors import RunError
from ..lungs import LungFiles
from ..scores import softmax
from .calibration import doubts, fit_temperature, fit_threshold
from .losses import LabelledAccuracy, MapLoss, SourceAwareCrossentropy, accuracy
from .lungs import EdgeLoss, box_inputs, overlap
from .network import (
    ARCHITECTURES,
    activation_map_model,
    adopt,
    build,
    dtype_policy,
    load_imagenet,
    split,
)
from .recipe import Phase, Recipe
from .run import (
    CHECKPOINT,
    LUNGS,
    MODEL,
    RECORD,
    Epoch,
    RunRecord,
    as_seen,
    lungs_of,
    own_run,
)
from .sampling import TrainingBatches, source_targets, unvaried_targets

_WARMUP_FRACTION = 0.05
_HEAD = 6  # stands for the head in `network.split`

_Validation = tuple[NDArray[Any], NDArray[np.float32]]  # inputs and targets

Progress = Callable[[int, int, Epoch], None]


def train(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    data_name: dict[str, Any],
    weights: Path | None = None,
    start: Path | None = None,
    lungs: LungFiles | None = None,
    progress: Progress | None = None,
) -> RunRecord:
    """Train, or resume an interrupted run.

    Parameters
    ----------
    dataset
        Images with the splits ``train`` and ``val``; `val` chooses the epoch that is kept and
        the temperature. A recipe that keeps its last epoch does without.
    recipe
        What to do.
    out
        The run folder. If it holds an unfinished run of the same recipe and data, that is resumed.
    data_name
        How the dataset was named, for the record.
    weights
        Local ImageNet weights (see `network.load_imagenet`).
    start
        A finished run of the same architecture and classes to start from, instead of ImageNet's
        weights: to continue with another recipe, or with your own hospital's images.
    lungs
        Frames the images; by default what frames those of ``start``, if anything does.
    progress
        Called after each epoch with its number from 1, the number of epochs, and the epoch.

    Raises
    ------
    RunError
        The folder holds a finished run, one of another recipe or of other data, or one that
        another process trains; or ``start`` does not fit.
    """
    with own_run(out):
        if lungs is None and start is not None:
            lungs = lungs_of(start)
        return _train(dataset, recipe, out, data_name, weights, start, lungs, progress)


def _train(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    data_name: dict[str, Any],
    weights: Path | None,
    start: Path | None,
    lungs: LungFiles | None,
    progress: Progress | None,
) -> RunRecord:
    record = _start_or_resume(dataset, recipe, out, data_name, start, lungs)
    dataset = as_seen(dataset, lungs)
    samples = dataset.split("train")
    validation = _validation(dataset, recipe)
    first = 0
    with dtype_policy(recipe.precision):
        keras.utils.set_random_seed(recipe.seed)
        whole = build_network(recipe, len(dataset.classes), recipe.dropout)
        if start is not None:
            adopt(whole, keras.saving.load_model(start / MODEL, compile=False))
        elif ARCHITECTURES[recipe.architecture].imagenet:
            load_imagenet(whole, weights)
        model, features, places, checked = whole, None, (0, 0), validation
        if recipe.learns_maps:
            model = activation_map_model(whole)
            places = model.output.shape[1:3]
            checked = validation and map_validation(dataset.split("val"), dataset, recipe, places)
        if recipe.augmentation is None:
            below, model = split(model, _lowest_block(recipe))
            features = _features(below, model_inputs(samples, recipe.preprocessing))
            checked = checked and (_features(below, checked[0]), checked[1])
        for number, phase in enumerate(recipe.phases):
            done = min(max(len(record.history) - first, 0), phase.epochs)
            if done < phase.epochs:
                if record.history:
                    model = resume(out, model, fresh_phase=done == 0)
                if done == 0:
                    steps = -(-len(samples) // recipe.batch_size)
                    _compile(model, phase, recipe, dataset.classes, steps)
                batches = TrainingBatches(
                    samples,
                    dataset.classes,
                    recipe,
                    epoch=first + done,
                    features=features,
                    places=places,
                )
                recorder = Recorder(record, number, out, whole, progress)
                model.fit(
                    batches,
                    validation_data=checked,
                    epochs=phase.epochs,
                    initial_epoch=done,
                    callbacks=[recorder],
                    shuffle=False,  # the batches are random already, and the same again on resuming
                    verbose=0,
                )
                record = recorder.record
            first += phase.epochs
    return finish(record, out, None if recipe.finds_lungs else validation)


def _start_or_resume(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    data_name: dict[str, Any],
    start: Path | None,
    lungs: LungFiles | None,
) -> RunRecord:
    data = {
        **data_name,
        "seed": recipe.seed,
        "with_val": recipe.keep == "best",
        "digest": dataset.digest(),
        "images": dataset.summary(),
    }
    before = None
    if start is not None:
        parent = RunRecord.read(start)
        _check_start(parent, start, dataset, recipe)
        before = parent.to_dict()
    framed_by = lungs.digest() if lungs else None
    fresh = RunRecord(recipe, dataset.classes, data, versions(), before, lungs=framed_by)
    if not (out / RECORD).exists():
        out.mkdir(parents=True, exist_ok=True)
        if lungs is not None:
            lungs.copy_to(out / LUNGS)
        fresh.write(out)
        return fresh
    record = RunRecord.read(out)
    if record.finished:
        raise RunError(f"{out}: holds a finished run; give another folder")
    made_of = (record.recipe, record.data["digest"], record.start, record.lungs)
    if made_of != (recipe, data["digest"], before, framed_by):
        raise RunError(f"{out}: holds a run of another recipe or other data; give another folder")
    return record


def _check_start(parent: RunRecord, start: Path, dataset: Dataset, recipe: Recipe) -> None:
    if not parent.finished:
        raise RunError(f"{start}: the run to start from is not finished")
    if parent.classes != dataset.classes:
        raise RunError(
            f"{start}: knows the classes {', '.join(parent.classes)}; "
            f"the data hold {', '.join(dataset.classes)}"
        )
    if parent.recipe.architecture != recipe.architecture:
        raise RunError(
            f"{start}: is a {parent.recipe.architecture}; the recipe makes a {recipe.architecture}"
        )
    if parent.recipe.opacity and not recipe.opacity:
        raise RunError(f"{start}: has a channel for opacities, which the recipe would lose")
    if parent.recipe.widths != recipe.widths:
        raise RunError(f"{start}: has other widths than the recipe; see `Recipe.for_network_of`")


def versions() -> dict[str, str]:
    """Versions of Python, this package, Keras, its backend and NumPy."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "xrayedge": version("xrayedge"),
        "keras": keras.__version__,
        "backend": backend,
        "numpy": np.__version__,
    }


def _validation(dataset: Dataset, recipe: Recipe) -> _Validation | None:
    samples = dataset.split("val") if recipe.finds_lungs else dataset.labelled("val")
    if not dataset.split("train"):
        raise RunError("training needs images in the split train")
    if not samples:
        if recipe.keep == "best":
            raise RunError("the best epoch is chosen on the split val, which holds no images")
        return None
    if recipe.finds_lungs:
        return box_inputs(samples, recipe.preprocessing)
    return model_inputs(samples, recipe.preprocessing), source_targets(samples, dataset.classes)


def map_validation(
    samples: Sequence[Sample], dataset: Dataset, recipe: Recipe, places: tuple[int, int]
) -> _Validation:
    """Inputs and `losses.map_loss_targets` of unaugmented images, for a map of ``places``."""
    inputs = model_inputs(samples, recipe.preprocessing)
    return inputs, unvaried_targets(samples, dataset.classes, recipe, places)


def _lowest_block(recipe: Recipe) -> int:
    return min(phase.first_block or _HEAD for phase in recipe.phases)


def _features(below: keras.Model, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(below.predict(inputs, batch_size=16, verbose=0), dtype=np.float32)


def build_network(recipe: Recipe, classes: int, dropout: float = 0.0) -> keras.Model:
    """The recipe's network, untrained."""
    architecture = ARCHITECTURES[recipe.architecture]
    if recipe.widths is not None:
        architecture = replace(architecture, blocks=recipe.widths)
    size, opacity = recipe.preprocessing.size, recipe.opacity > 0.0
    return build(architecture, size, classes, dropout, opacity=opacity)


def build_float32(recipe: Recipe, classes: int) -> keras.Model:
    """The recipe's network, untrained, in float32 whatever Keras' policy is."""
    with dtype_policy("float32"):
        return build_network(recipe, classes)


def _compile(
    model: keras.Model, phase: Phase, recipe: Recipe, classes: Sequence[str], steps: int
) -> None:
    freeze(model, phase)
    share, smoothing = recipe.within_source, recipe.label_smoothing
    loss: keras.losses.Loss = SourceAwareCrossentropy(share, smoothing)
    metric: Any = accuracy
    if recipe.learns_maps:
        loss = map_loss(recipe, classes)
        metric = LabelledAccuracy(len(classes))
    elif recipe.finds_lungs:
        loss, metric = EdgeLoss(), keras.metrics.MeanMetricWrapper(overlap, name="accuracy")
    optimizer = keras.optimizers.AdamW(
        schedule(phase, steps),
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip_norm,
    )
    model.compile(optimizer=optimizer, loss=loss, metrics=[metric])


def freeze(model: keras.Model, phase: Phase) -> None:
    """Let only the blocks learn that the phase trains, and the head; before compiling."""
    for layer in model.layers:
        if layer.name.startswith("block"):
            block = int(layer.name[len("block")])
            layer.trainable = phase.first_block is not None and block >= phase.first_block


def map_loss(recipe: Recipe, classes: Sequence[str]) -> MapLoss:
    """The loss of the labels, by the recipe."""
    healthy = classes.index(HEALTHY) if HEALTHY in classes else None
    return MapLoss(
        len(classes), healthy, recipe.opacity, recipe.within_source, recipe.label_smoothing
    )


def schedule(phase: Phase, steps: int) -> Any:
    """The learning rate schedule of a phase with this many steps per epoch."""
    schedules = keras.optimizers.schedules
    if phase.decay == "inverse_time":
        return schedules.InverseTimeDecay(
            phase.learning_rate, decay_steps=1, decay_rate=phase.learning_rate / phase.epochs
        )
    total = steps * phase.epochs
    warmup = min(max(1, round(total * _WARMUP_FRACTION)), total - 1)  # a single step has none
    return schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=total - warmup,
        warmup_target=phase.learning_rate,
        warmup_steps=warmup,
    )


def resume(out: Path, model: keras.Model, *, fresh_phase: bool) -> keras.Model:
    """The last checkpoint, with its optimiser unless a new phase brings a new one."""
    checkpoint = out / CHECKPOINT
    if not checkpoint.exists():
        raise RunError(f"{out}: the run's checkpoint is gone; train into another folder")
    if fresh_phase:
        model.load_weights(checkpoint)
        return model
    return keras.saving.load_model(checkpoint)


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Saves after each epoch: checkpoint, best model, record, in that order."""

    def __init__(
        self,
        record: RunRecord,
        phase: int,
        out: Path,
        whole: keras.Model,
        progress: Progress | None,
    ) -> None:
        super().__init__()
        self._whole = whole
        self.record = record
        self._phase = phase
        self._out = out
        self._progress = progress
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        metrics = logs or {}
        entry = Epoch(
            phase=self._phase,
            loss=float(metrics["loss"]),
            accuracy=float(metrics["accuracy"]),
            val_loss=metrics.get("val_loss"),
            val_accuracy=metrics.get("val_accuracy"),
            seconds=round(time.monotonic() - self._started, 1),
        )
        record = replace(self.record, history=(*self.record.history, entry))
        save(self.model, self._out / CHECKPOINT)
        if record.best_epoch == len(record.history) - 1:
            _save_float32(self.model, self._whole, record, self._out / MODEL)
        record.write(self._out)
        self.record = record
        if self._progress:
            self._progress(len(record.history), record.recipe.epochs, entry)


def save(model: keras.Model, path: Path) -> None:
    """Write the model, atomically."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _save_float32(model: keras.Model, whole: keras.Model, record: RunRecord, path: Path) -> None:
    """Save the weights as a float32 network without optimiser, whatever the training policy.

    Layers missing from ``model``, the trained part, are taken from ``whole``.
    """
    plain = build_float32(record.recipe, len(record.classes))
    trained = {layer.name for layer in model.layers}
    for layer in plain.layers:
        part = model if layer.name in trained else whole
        layer.set_weights(part.get_layer(layer.name).get_weights())
    save(plain, path)


def finish(record: RunRecord, out: Path, validation: _Validation | None) -> RunRecord:
    """Fit temperature and threshold of the model in ``out``, and write the finished record."""
    if validation is not None:
        inputs, targets = validation
        labels = targets[:, 0].argmax(axis=1)
        model = keras.saving.load_model(out / MODEL, compile=False)
        logits = np.asarray(model.predict(inputs, batch_size=record.recipe.batch_size, verbose=0))
        temperature = fit_temperature(logits, labels)
        found = doubts(logits, labels, temperature)
        record = replace(record, temperature=temperature, doubts=found)
        positive = record.recipe.turned_label
        if positive is not None:
            column = record.classes.index(positive)
            scores = softmax(logits / record.temperature)[:, column]
            record = replace(record, threshold=fit_threshold(scores, labels == column))
    record = replace(record, finished=True)
    record.write(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return record
