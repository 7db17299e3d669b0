"""Train a model by a recipe into a run folder, resumable after every epoch."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..scores import softmax
from .batches import TrainingBatches, model_inputs, source_targets
from .calibration import fit_temperature, fit_threshold
from .data import Dataset, Sample
from .losses import SourceAwareCrossentropy, accuracy
from .network import ARCHITECTURES, build, load_imagenet
from .recipe import Phase, Recipe
from .run import CHECKPOINT, MODEL, Epoch, RunRecord

_WARMUP_FRACTION = 0.05

Progress = Callable[[int, int, Epoch], None]


def train(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    data_name: dict[str, Any],
    weights: Path | None = None,
    progress: Progress | None = None,
) -> RunRecord:
    """Train, or go on with an interrupted run.

    Parameters
    ----------
    dataset
        Pictures with the splits ``train`` and ``val``; `val` chooses the epoch that is kept.
    recipe
        What to do.
    out
        The run folder. If it holds an unfinished run of the same recipe and data, that goes on.
    data_name
        How the data set was named, for the record.
    weights
        Local ImageNet weights (see `network.load_imagenet`).
    progress
        Called after each epoch with its number from 1, the number of epochs, and the epoch.

    Raises
    ------
    RunError
        The folder holds a finished run, or one of another recipe or of other data.
    """
    record = _start_or_resume(dataset, recipe, out, data_name)
    samples = dataset.split("train")
    inputs, targets = _validation(dataset, recipe)
    first = 0
    previous_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        keras.utils.set_random_seed(recipe.seed)
        model = _build(recipe, len(dataset.classes), recipe.dropout)
        if not record.history and ARCHITECTURES[recipe.architecture].imagenet:
            load_imagenet(model, weights)
        for number, phase in enumerate(recipe.phases):
            done = min(max(len(record.history) - first, 0), phase.epochs)
            if done < phase.epochs:
                if record.history:
                    model = _resume(out, model, fresh_phase=done == 0)
                if done == 0:
                    _compile(model, phase, recipe, steps=-(-len(samples) // recipe.batch_size))
                batches = TrainingBatches(samples, dataset.classes, recipe, epoch=first + done)
                recorder = _Recorder(record, number, out, progress)
                model.fit(
                    batches,
                    validation_data=(inputs, targets),
                    epochs=phase.epochs,
                    initial_epoch=done,
                    callbacks=[recorder],
                    shuffle=False,  # the batches are random already, and must be again on resuming
                    verbose=0,
                )
                record = recorder.record
            first += phase.epochs
    finally:
        keras.config.set_dtype_policy(previous_policy)
    return _finish(record, out, inputs, targets)


def _start_or_resume(
    dataset: Dataset, recipe: Recipe, out: Path, data_name: dict[str, Any]
) -> RunRecord:
    data = {**data_name, "digest": dataset.digest(), "pictures": dataset.summary()}
    fresh = RunRecord(recipe, dataset.classes, data, _versions())
    if not (out / "run.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        fresh.write(out)
        return fresh
    record = RunRecord.read(out)
    if record.finished:
        raise RunError(f"{out}: holds a finished run; give another folder")
    if record.recipe != recipe or record.data["digest"] != data["digest"]:
        raise RunError(f"{out}: holds a run of another recipe or other data; give another folder")
    return record


def _versions() -> dict[str, str]:
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "xrayedge": version("xrayedge"),
        "keras": keras.__version__,
        "backend": backend,
        "numpy": np.__version__,
    }


def _validation(dataset: Dataset, recipe: Recipe) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    samples: tuple[Sample, ...] = dataset.split("val")
    if not samples or not dataset.split("train"):
        raise RunError("training needs pictures in both splits, train and val")
    return model_inputs(samples, recipe.preprocessing), source_targets(samples, dataset.classes)


def _build(recipe: Recipe, classes: int, dropout: float = 0.0) -> keras.Model:
    size = recipe.preprocessing.size
    return build(ARCHITECTURES[recipe.architecture], size, classes, dropout)


def _compile(model: keras.Model, phase: Phase, recipe: Recipe, steps: int) -> None:
    for layer in model.layers:
        if layer.name.startswith("block"):
            block = int(layer.name[len("block")])
            layer.trainable = phase.first_block is not None and block >= phase.first_block
    total = steps * phase.epochs
    warmup = max(1, round(total * _WARMUP_FRACTION))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=total - warmup,
        warmup_target=phase.learning_rate,
        warmup_steps=warmup,
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay),
        loss=SourceAwareCrossentropy(recipe.within_source, recipe.label_smoothing),
        metrics=[accuracy],
    )


def _resume(out: Path, model: keras.Model, *, fresh_phase: bool) -> keras.Model:
    """The last checkpoint, with its optimiser unless a new phase brings a new one."""
    checkpoint = out / CHECKPOINT
    if not checkpoint.exists():
        raise RunError(f"{out}: the run's checkpoint is gone; train into another folder")
    if fresh_phase:
        model.load_weights(checkpoint)
        return model
    return keras.saving.load_model(checkpoint)


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """After each epoch: checkpoint, best model, record. In that order, so that none is ahead."""

    def __init__(self, record: RunRecord, phase: int, out: Path, progress: Progress | None) -> None:
        super().__init__()
        self.record = record
        self._phase = phase
        self._out = out
        self._progress = progress
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = logs or {}
        entry = Epoch(
            phase=self._phase,
            loss=float(figures["loss"]),
            accuracy=float(figures["accuracy"]),
            val_loss=float(figures["val_loss"]),
            val_accuracy=float(figures["val_accuracy"]),
            seconds=round(time.monotonic() - self._started, 1),
        )
        record = replace(self.record, history=(*self.record.history, entry))
        _save(self.model, self._out / CHECKPOINT)
        if record.best_epoch == len(record.history) - 1:
            _save_float32(self.model, record, self._out / MODEL)
        record.write(self._out)
        self.record = record
        if self._progress:
            self._progress(len(record.history), record.recipe.epochs, entry)


def _save(model: keras.Model, path: Path) -> None:
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        model.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _save_float32(model: keras.Model, record: RunRecord, path: Path) -> None:
    """Save the weights in a float32 network without optimiser, whatever the training policy."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        plain = _build(record.recipe, len(record.classes))
    finally:
        keras.config.set_dtype_policy(policy)
    plain.set_weights(model.get_weights())
    _save(plain, path)


def _finish(
    record: RunRecord,
    out: Path,
    inputs: NDArray[np.uint8],
    targets: NDArray[np.float32],
) -> RunRecord:
    model = keras.saving.load_model(out / MODEL, compile=False)
    logits = np.asarray(model.predict(inputs, batch_size=record.recipe.batch_size, verbose=0))
    labels = targets[:, 0].argmax(axis=1)
    temperature = fit_temperature(logits, labels)
    threshold = None
    positive = record.recipe.turned_label
    if positive is not None:
        column = record.classes.index(positive)
        scores = softmax(logits / temperature)[:, column]
        threshold = fit_threshold(scores, labels == column)
    record = replace(record, finished=True, temperature=temperature, threshold=threshold)
    record.write(out)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return record
