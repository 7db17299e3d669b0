"""Batches of preprocessed images: random and balanced for training, in order for evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from ..data import HEALTHY, INVERTED_LABEL, TURNED_LABEL, Box, Sample, read_sample, shrink_to
from ..preprocessing import Preprocessing
from .augmentation import Augmentation
from .losses import map_loss_targets, targets
from .lungs import moved
from .recipe import Recipe

_CLASS_BALANCE = 0.5  # exponent on the number of images of a class within a set
_FINER = 8  # pixels across a place of the map, to draw boxes in

_DRAW, _AUGMENT = 1, 2  # separate streams of random numbers


def sampling_weights(
    samples: Sequence[Sample], source_balance: float, set_balance: float | None = None
) -> NDArray[np.float64]:
    """Probability of drawing each sample, ``float64 [N]``; they sum to 1.

    See `Recipe.source_balance` and `Recipe.set_balance`. A sample's set is what the manifest's
    column ``set`` says, and its source where there is no such column.
    """
    levels = [(_label, 0.0), (_source, source_balance)]
    if set_balance is not None:
        levels = [(_set, set_balance), (_label, _CLASS_BALANCE), (_source, source_balance)]
    paths = [tuple(key(sample) for key, _ in levels) for sample in samples]
    weights = np.ones(len(samples))
    for depth, (_, exponent) in enumerate(levels, start=1):
        counts = Counter(path[:depth] for path in paths)
        masses = {path: count**exponent for path, count in counts.items()}
        totals: dict[tuple[str, ...], float] = {}
        for path, mass in masses.items():
            totals[path[:-1]] = totals.get(path[:-1], 0.0) + mass
        weights *= [masses[path[:depth]] / totals[path[: depth - 1]] for path in paths]
    in_cell = Counter(paths)
    return weights / [in_cell[path] for path in paths]


def _label(sample: Sample) -> str:
    return sample.label


def _source(sample: Sample) -> str:
    return sample.source


def _set(sample: Sample) -> str:
    return sample.columns.get("set") or sample.source


def source_targets(samples: Sequence[Sample], classes: Sequence[str]) -> NDArray[np.float32]:
    """`losses.targets` of samples: the rivals are the classes of the sample's own source.

    A label that is not a class gives no one-hot label; in a source without classes, all are rivals.
    """
    held: dict[str, set[str]] = {}
    for sample in samples:
        held.setdefault(sample.source, set()).add(sample.label)
    rivals = np.array([[name in held[sample.source] for name in classes] for sample in samples])
    rivals[~rivals.any(axis=1)] = True
    labels = np.array([[name == sample.label for name in classes] for sample in samples])
    return targets(labels, rivals)


def opacity_targets(
    boxes: Sequence[Box],
    shape: tuple[int, int],
    matrix: NDArray[np.float64],
    preprocessing: Preprocessing,
    places: tuple[int, int],
) -> NDArray[np.float32]:
    """The share of each place of the map that boxes cover, ``float32 [h, w]``.

    Parameters
    ----------
    boxes
        In fractions of the image before augmentation.
    shape
        Height and width in pixels, of that image and of the augmented one.
    matrix
        The augmentation's transform; see `Augmentation.vary`.
    preprocessing
        Makes the network's input from the augmented image.
    places
        Height and width of the map.
    """
    height, width = shape
    fine = np.zeros((places[0] * _FINER, places[1] * _FINER), np.uint8)
    frame = np.array(preprocessing.frame(height, width))
    to_fine = np.array(fine.shape[::-1]) / (frame[2:] - frame[:2])
    for left, top, right, bottom in boxes:
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        # The transform is for pixel centres, which are half a pixel away from edges.
        centres = corners * (width, height) - 0.5
        moved = centres @ matrix[:, :2].T + matrix[:, 2] + 0.5
        drawn = (moved - frame[:2]) * to_fine - 0.5
        cv2.fillConvexPoly(fine, np.rint(drawn).astype(np.int32), 1)
    shares = cv2.resize(fine.astype(np.float32), places[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(shares, np.float32)


def label_targets(
    samples: Sequence[Sample],
    classes: NDArray[np.float32],
    opacity: NDArray[np.float32],
    recipe: Recipe,
) -> NDArray[np.float32]:
    """`losses.map_loss_targets` of samples; ``opacity`` is ``float32 [N, h, w]``.

    A healthy image holds no opacity, whether or not somebody has looked for boxes.
    """
    not_healthy = [recipe.not_healthy.get(sample.label, 0.0) for sample in samples]
    read = [sample.opacity_boxes is not None or sample.label == HEALTHY for sample in samples]
    return map_loss_targets(
        classes, np.array(not_healthy, np.float32), opacity, np.array(read, np.float32)
    )


def unvaried_targets(
    samples: Sequence[Sample], classes: Sequence[str], recipe: Recipe, places: tuple[int, int]
) -> NDArray[np.float32]:
    """`label_targets` of the images as they are, for a map of this height and width."""
    classes_of = source_targets(samples, classes)
    if not recipe.opacity:
        return label_targets(samples, classes_of, np.zeros((len(samples), 0, 0), "f4"), recipe)
    # Boxes are in fractions, so any shape of the same fit does: here the input's own.
    stretched, unmoved = replace(recipe.preprocessing, fit="stretch"), np.eye(2, 3)
    shape = (recipe.preprocessing.size, recipe.preprocessing.size)
    maps = [
        opacity_targets(sample.opacity_boxes or (), shape, unmoved, stretched, places)
        for sample in samples
    ]
    return label_targets(samples, classes_of, np.stack(maps), recipe)


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """Training batches, which depend only on the seed, the epoch and the position.

    A resumed run therefore sees the same images as an uninterrupted one. Augmented images are
    drawn by `sampling_weights`; without augmentation each is seen once per epoch.

    Parameters
    ----------
    samples, classes, recipe
        What to draw from and how.
    epoch
        The first epoch's number.
    features
        Without augmentation: the network's input for each sample, ``float32 [N, ...]``.
    places
        Height and width of the map, for a recipe that learns maps; see `losses.map_loss_targets`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        recipe: Recipe,
        epoch: int,
        features: NDArray[np.float32] | None = None,
        places: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self._samples = samples
        self._targets = source_targets(samples, classes)
        self._unvaried = self._targets
        if recipe.learns_maps and recipe.augmentation is None:
            self._unvaried = unvaried_targets(samples, classes, recipe, places)
        self._recipe = recipe
        self._features = features
        self._places = places
        self._weights = sampling_weights(samples, recipe.source_balance, recipe.set_balance)
        upright = {recipe.turned_label, TURNED_LABEL, INVERTED_LABEL}
        self._any_way_up = [
            recipe.turned_label is not None and sample.label not in upright for sample in samples
        ]
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._epoch = epoch
        self._draw()

    def __len__(self) -> int:
        return -(-len(self._samples) // self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        drawn = self._batch(index)
        if self._recipe.augmentation is None:
            assert self._features is not None
            return self._features[drawn], self._unvaried[drawn]
        if self._recipe.finds_lungs:
            return self._framed(index)
        images, wanted = self.varied(index)
        inputs = np.stack([self._recipe.preprocessing.apply(image) for image in images])
        return inputs, wanted if self._recipe.learns_maps else self._targets[drawn]

    def varied(self, index: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
        """A batch's augmented images, before preprocessing, and their `losses.map_loss_targets`."""
        drawn, views = self._batch(index), self._views(index)
        maps = np.zeros((len(drawn), 0, 0), np.float32)
        if self._recipe.opacity:
            maps = np.stack(
                [self._opacities(int(one), view) for one, view in zip(drawn, views, strict=True)]
            )
        samples = [self._samples[one] for one in drawn]
        wanted = label_targets(samples, self._targets[drawn], maps, self._recipe)
        return [pixels for pixels, _ in views], wanted

    def _framed(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """A batch's inputs, and where the lungs' edges are in each, ``float32 [n, 4]``."""
        inputs, boxes = [], []
        for one, (pixels, matrix) in zip(self._batch(index), self._views(index), strict=True):
            box = self._samples[int(one)].lung_box
            assert box is not None
            inputs.append(self._recipe.preprocessing.apply(pixels))
            boxes.append(moved(box, pixels.shape, matrix))
        return np.stack(inputs), np.stack(boxes)

    def _views(self, index: int) -> list[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
        """A batch's augmented images, and the transform of each."""
        augmentation = self._recipe.augmentation
        assert augmentation is not None
        rng = self._generator(_AUGMENT, index)
        return [self._varied(augmentation, int(one), rng) for one in self._batch(index)]

    def _opacities(
        self, index: int, view: tuple[NDArray[np.uint8], NDArray[np.float64]]
    ) -> NDArray[np.float32]:
        pixels, matrix = view
        boxes = self._samples[index].opacity_boxes or ()
        shape = (pixels.shape[0], pixels.shape[1])
        return opacity_targets(boxes, shape, matrix, self._recipe.preprocessing, self._places)

    def on_epoch_end(self) -> None:
        """Draw the next epoch's images."""
        self._epoch += 1
        self._draw()

    def _batch(self, index: int) -> NDArray[np.int_]:
        size = self._recipe.batch_size
        return self._drawn[index * size : (index + 1) * size]

    def _generator(self, purpose: int, index: int) -> np.random.Generator:
        return np.random.default_rng([purpose, self._recipe.seed, self._epoch, index])

    def _draw(self) -> None:
        rng = self._generator(_DRAW, 0)
        if self._recipe.augmentation is None:
            self._drawn = rng.permutation(len(self._samples))
            return
        count = len(self) * self._recipe.batch_size
        self._drawn = rng.choice(len(self._samples), size=count, p=self._weights)

    def _varied(
        self, augmentation: Augmentation, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        # Drawn like the images themselves, so that what it lends does not reveal a class.
        other = int(rng.choice(len(self._samples), p=self._weights))
        pixels = self._read(index)
        if self._any_way_up[index]:
            pixels = _turn_or_invert(pixels, rng)
        lungs = self._samples[index].lung_box
        return augmentation.vary(pixels, self._read(other), rng, lungs)

    def _read(self, index: int) -> NDArray[np.uint8]:
        """The image at up to twice the input's resolution: finer detail would be lost anyway."""
        if index not in self._pixels:
            pixels = read_sample(self._samples[index])
            self._pixels[index] = shrink_to(pixels, 2 * self._recipe.preprocessing.size)
        return self._pixels[index]


def _turn_or_invert(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Images that are not frontal chests stay so when turned: half are turned, a fifth inverted."""
    if rng.random() < 0.5:
        pixels = np.rot90(pixels, int(rng.integers(1, 4)))
    if rng.random() < 0.2:
        pixels = 255 - pixels
    return np.ascontiguousarray(pixels)
