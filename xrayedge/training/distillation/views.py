"""Augmented training images and the teachers' maps of them, computed once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from ...data import Dataset
from ...errors import RunError
from ...files import write_atomically
from ...preprocessing import Preprocessing
from ..augmentation import Augmentation
from ..losses import unlabel
from ..network import activation_map_model, dtype_policy
from ..recipe import Recipe
from ..run import MODEL, RunRecord
from ..sampling import TrainingBatches
from ..train import build_network

_IMAGES = 96  # to judge and fit by
VIEWS = 10  # of each training image, each shown to the teachers once


class Teachers:
    """One or more finished runs as one teacher: the mean of their maps.

    Parameters
    ----------
    folders
        Finished runs of the same classes. Their inputs may differ in size.
    precision
        Keras' dtype policy to run them with.

    Raises
    ------
    RunError
        There is none, one is not finished, or they know different classes.
    """

    def __init__(self, folders: Sequence[Path], precision: str = "float32") -> None:
        if not folders:
            raise RunError("distillation needs a teacher")
        self.records = tuple(RunRecord.read(folder) for folder in folders)
        self._folders = tuple(folders)
        self._precision = precision
        for folder, record in zip(folders, self.records, strict=True):
            if not record.finished:
                raise RunError(f"{folder}: the teacher's run is not finished")
            if _channels(record) != _channels(self.records[0]):
                raise RunError(f"{folder}: knows other classes than {folders[0]}")

    @property
    def preprocessing(self) -> Preprocessing:
        """The first one's."""
        return self.records[0].recipe.preprocessing

    @property
    def opacity(self) -> bool:
        """Whether the maps have a channel of opacities."""
        return self.records[0].recipe.opacity > 0.0

    def maps(
        self, images: Sequence[NDArray[np.uint8]], places: tuple[int, int]
    ) -> NDArray[np.float32]:
        """The mean map of each image, ``float32 [N, h, w, channels]``; ``places`` is h and w.

        Opacities are those of the finest maps alone: a coarse one blurs where they are.

        Parameters
        ----------
        images
            Before preprocessing: ``uint8 [H, W]`` of any size.
        places
            Maps of other sizes are resampled.
        """
        maps = []
        for record, model in zip(self.records, self._models, strict=True):
            preprocess = record.recipe.preprocessing.apply
            inputs = np.stack([preprocess(image) for image in images])
            maps.append(np.asarray(model.predict(inputs, batch_size=16, verbose=0), np.float32))
        resampled = np.stack([_resample(found, places) for found in maps])
        mean = np.asarray(resampled.mean(axis=0), np.float32)
        if self.opacity:
            sides = [found.shape[1] for found in maps]
            finest = [side == max(sides) for side in sides]
            mean[..., -1] = resampled[finest, ..., -1].mean(axis=0)
        return mean

    @cached_property
    def _models(self) -> list[keras.Model]:
        models = []
        with dtype_policy(self._precision):
            for folder, record in zip(self._folders, self.records, strict=True):
                model = build_network(record.recipe, len(record.classes))
                saved = keras.saving.load_model(folder / MODEL, compile=False)
                model.set_weights(saved.get_weights())
                models.append(activation_map_model(model))
        return models


def _channels(record: RunRecord) -> tuple[tuple[str, ...], bool]:
    return record.classes, record.recipe.opacity > 0.0


class Views:
    """Augmented training images, their targets and the teachers' maps, computed once.

    Parameters
    ----------
    folder
        Holds the files of each view of all images; files from an earlier call are reused.
    teachers
        Each sees the augmented images with its own preprocessing.
    dataset
        Its split ``train`` is augmented.
    recipe
        Sampling, augmentation, the weights of the labels, and the preprocessing of the student.
    places
        Height and width of the student's map.
    count
        Number of views of each image.
    on_view
        Called after each view: how many of how many are done.
    blended
        Share of the images that are blended with another one (Zhang et al. 2018). They have no
        label: the student learns what the teachers make of them (Beyer et al. 2022).
    disguise
        Changes the student's images once the teachers have seen them, so that the student learns
        to judge them alike. It must leave everything in its place.

    Raises
    ------
    RunError
        The folder holds views of other images or other teachers' maps.
    """

    def __init__(
        self,
        folder: Path,
        teachers: Teachers,
        dataset: Dataset,
        recipe: Recipe,
        places: tuple[int, int],
        count: int = VIEWS,
        on_view: Callable[[int, int], None] | None = None,
        blended: float = 0.0,
        disguise: Augmentation | None = None,
    ) -> None:
        self._folder = folder
        self._key = folder / "made-of.json"
        # As in the teacher's training: the detail in augmented images depends on its input size.
        varying = replace(recipe, preprocessing=teachers.preprocessing)
        varied_by = varying.to_dict()
        decisive = ("augmentation", "batch_size", "seed", "source_balance", "set_balance")
        made_of = {
            "teachers": [record.to_dict() for record in teachers.records],
            "data": dataset.digest(),
            **{name: varied_by[name] for name in (*decisive, "opacity", "not_healthy")},
            "blended": blended,
            "disguise": asdict(disguise) if disguise else None,
        }
        if not self._key.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._key, json.dumps(made_of, indent=2).encode())
        elif json.loads(self._key.read_text(encoding="utf-8")) != made_of:
            raise RunError(f"{folder}: holds views for another teacher; give another folder")
        own, inputs, targets = recipe.preprocessing, [], []
        for view in range(count):
            # Views made for networks with other inputs lie beside these.
            shown = folder / f"inputs-{own.size}-{own.equalisation}-{view}.npy"
            wanted = folder / f"targets-{places[0]}x{places[1]}-{view}.npy"
            if not (shown.exists() and wanted.exists()):
                batches = TrainingBatches(
                    dataset.split("train"), dataset.classes, varying, epoch=view, places=places
                )
                images, labels = _varied(batches)
                rng = np.random.default_rng([recipe.seed, view])
                images = _blend(images, labels, len(dataset.classes), blended, rng)
                if not shown.exists():
                    seen = images if disguise is None else _disguised(images, disguise, rng)
                    _save_array(shown, np.stack([own.apply(image) for image in seen]))
                if not wanted.exists():
                    _save_array(wanted, with_maps(labels, teachers.maps(images, places)))
            inputs.append(np.load(shown))
            targets.append(np.load(wanted))
            if on_view:
                on_view(view + 1, count)
        self.inputs: NDArray[np.uint8] = np.concatenate(inputs)
        self.targets: NDArray[np.float32] = np.concatenate(targets)
        channels = len(dataset.classes) + teachers.opacity
        #: The teachers' part of the targets, ``float32 [N, h * w * channels]``.
        self.maps: NDArray[np.float32] = self.targets[:, -places[0] * places[1] * channels :]
        #: Some of the inputs, to judge channels and fit weights by.
        self.sample = self.inputs[:: max(1, len(self.inputs) // _IMAGES)][:_IMAGES]

    def remove(self) -> None:
        """Delete the files."""
        for file in (*self._folder.glob("*.npy"), self._key):
            file.unlink()
        self._folder.rmdir()


def _resample(maps: NDArray[np.float32], places: tuple[int, int]) -> NDArray[np.float32]:
    if maps.shape[1:3] == places:
        return maps
    # cv2's size is width by height.
    return np.stack([cv2.resize(one, places[::-1]) for one in maps])


def _varied(batches: TrainingBatches) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    """All augmented images of an epoch, and their `losses.map_loss_targets`."""
    images: list[NDArray[np.uint8]] = []
    labels = []
    for index in range(len(batches)):
        some, of_them = batches.varied(index)
        images += some
        labels.append(of_them)
    return images, np.concatenate(labels)


def _blend(
    images: Sequence[NDArray[np.uint8]],
    labels: NDArray[np.float32],
    classes: int,
    share: float,
    rng: np.random.Generator,
) -> list[NDArray[np.uint8]]:
    """Blend a share of the images with others, and take their labels out of ``labels``."""
    result = list(images)
    for index in np.flatnonzero(rng.random(len(images)) < share).tolist():
        own, other = images[index], images[int(rng.integers(len(images)))]
        other = np.asarray(cv2.resize(other, own.shape[::-1], interpolation=cv2.INTER_AREA))
        weight = rng.random()
        result[index] = np.asarray(cv2.addWeighted(own, weight, other, 1.0 - weight, 0.0), np.uint8)
        unlabel(labels, index, classes)
    return result


def _disguised(
    images: Sequence[NDArray[np.uint8]], disguise: Augmentation, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Each image with what another one lends it."""
    lenders = rng.integers(len(images), size=len(images)).tolist()
    return [
        disguise.apply(image, images[lender], rng)
        for image, lender in zip(images, lenders, strict=True)
    ]


def _save_array(file: Path, values: NDArray[Any]) -> None:
    temporary = file.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.save(stream, values)
    temporary.replace(file)


def with_maps(labels: NDArray[np.float32], maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The targets of `losses.Distillation`: those of `losses.MapLoss`, then each map, flattened."""
    return np.concatenate([labels, maps.reshape(len(maps), -1)], axis=1, dtype="f4")
