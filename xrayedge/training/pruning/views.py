"""Augmented training images and the teacher's maps of them, computed once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ...data import Dataset
from ...errors import RunError
from ...files import write_atomically
from ...preprocessing import Preprocessing
from ..network import activation_map_model
from ..recipe import Recipe
from ..run import MODEL, RunRecord
from ..sampling import TrainingBatches

_IMAGES = 96  # to judge and fit by
VIEWS = 10  # of each training image, each shown to the teacher once


class Views:
    """Augmented training images and the teacher's activation maps of them, computed once.

    Parameters
    ----------
    folder
        Holds one file for each view of all images; files from an earlier call are reused.
    teacher
        A finished run.
    dataset
        Its split ``train`` is augmented.
    recipe
        The augmentation, and the preprocessing of the student; the teacher sees the same augmented
        images with its own preprocessing.
    count
        Number of views of each image.
    on_view
        Called after each view: how many of how many are done.

    Raises
    ------
    RunError
        The folder holds views of other images or another teacher's maps.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Path,
        dataset: Dataset,
        recipe: Recipe,
        count: int = VIEWS,
        on_view: Callable[[int, int], None] | None = None,
    ) -> None:
        parent = RunRecord.read(teacher)
        self._folder = folder
        self._key = folder / "made-of.json"
        made_of = {
            "teacher": parent.to_dict(),
            "data": dataset.digest(),
            "augmentation": recipe.to_dict()["augmentation"],
            "batch_size": recipe.batch_size,
            "seed": recipe.seed,
            "source_balance": recipe.source_balance,
        }
        if not self._key.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._key, json.dumps(made_of, indent=2).encode())
        elif json.loads(self._key.read_text(encoding="utf-8")) != made_of:
            raise RunError(f"{folder}: holds views for another teacher; give another folder")
        # As in the teacher's training: the detail in augmented images depends on its input size.
        varying = replace(recipe, preprocessing=parent.recipe.preprocessing)
        self._teacher = teacher
        inputs, targets = [], []
        for view in range(count):
            batches = TrainingBatches(dataset.split("train"), dataset.classes, varying, epoch=view)
            targets.append(self._targets(view, batches, varying.preprocessing))
            inputs.append(self._inputs(view, batches, recipe.preprocessing))
            if on_view:
                on_view(view + 1, count)
        self.inputs: NDArray[np.uint8] = np.concatenate(inputs)
        self.targets: NDArray[np.float32] = np.concatenate(targets)
        #: Some of the inputs, to judge channels and fit weights by.
        self.sample = self.inputs[:: max(1, len(self.inputs) // _IMAGES)][:_IMAGES]

    def _inputs(
        self, view: int, batches: TrainingBatches, preprocessing: Preprocessing
    ) -> NDArray[np.uint8]:
        file = self._folder / f"inputs-{preprocessing.size}-{view}.npy"
        if not file.exists():
            _save_array(file, _preprocessed(batches, preprocessing))
        return np.asarray(np.load(file))

    def _targets(
        self,
        view: int,
        batches: TrainingBatches,
        preprocessing: Preprocessing,
    ) -> NDArray[np.float32]:
        file = self._folder / f"targets-{view}.npy"
        if not file.exists():
            inputs = _preprocessed(batches, preprocessing)
            labels = np.concatenate([batches.labels(index) for index in range(len(batches))])
            _save_array(file, map_targets(self._model, inputs, labels))
        return np.asarray(np.load(file))

    @cached_property
    def _model(self) -> keras.Model:
        return keras.saving.load_model(self._teacher / MODEL, compile=False)

    def remove(self) -> None:
        """Delete the files."""
        for file in (*self._folder.glob("*.npy"), self._key):
            file.unlink()
        self._folder.rmdir()


def _preprocessed(batches: TrainingBatches, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """All augmented images of an epoch, with another preprocessing than the batches' own."""
    return np.stack(
        [
            preprocessing.apply(image)
            for index in range(len(batches))
            for image in batches.images(index)
        ]
    )


def _save_array(file: Path, values: NDArray[Any]) -> None:
    temporary = file.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.save(stream, values)
    temporary.replace(file)


def map_targets(
    model: keras.Model, inputs: NDArray[np.uint8], labels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The targets of `losses.Distillation`: each map, flattened, then the one-hot label."""
    maps = activation_map_model(model).predict(inputs, batch_size=16, verbose=0)
    flat = np.asarray(maps, np.float32).reshape(len(inputs), -1)
    return np.concatenate([flat, labels], axis=1)
