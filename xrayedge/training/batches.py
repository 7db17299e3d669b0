"""Batches of preprocessed pictures: random and balanced to train, in order to evaluate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from ..data import INVERTED_LABEL, TURNED_LABEL, Sample, read_sample
from .augmentation import Augmentation
from .losses import targets
from .recipe import Recipe

_DRAW, _AUGMENT = 1, 2  # separate streams of random numbers


def sampling_weights(samples: Sequence[Sample], source_balance: float) -> NDArray[np.float64]:
    """Probability of drawing each sample: classes equal, sources within a class tempered."""
    labels = Counter(sample.label for sample in samples)
    cells = Counter((sample.label, sample.source) for sample in samples)
    tempered = {cell: count**source_balance for cell, count in cells.items()}
    per_label = {
        label: sum(mass for (cell_label, _), mass in tempered.items() if cell_label == label)
        for label in labels
    }
    weights = [
        tempered[sample.label, sample.source]
        / per_label[sample.label]
        / cells[sample.label, sample.source]
        for sample in samples
    ]
    return np.asarray(weights) / len(labels)


def source_targets(samples: Sequence[Sample], classes: Sequence[str]) -> NDArray[np.float32]:
    """`losses.targets` of samples: the rivals are the classes of the sample's own source."""
    labels = np.array([classes.index(sample.label) for sample in samples])
    held: dict[str, set[str]] = {}
    for sample in samples:
        held.setdefault(sample.source, set()).add(sample.label)
    rivals = [[name in held[sample.source] for name in classes] for sample in samples]
    return targets(labels, np.array(rivals), len(classes))


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """Training batches; what is drawn depends on the seed, the epoch and the position alone.

    A resumed run therefore sees what the interrupted one would have seen. Augmented pictures are
    drawn by `sampling_weights`; without augmentation each is seen once an epoch.

    Parameters
    ----------
    samples, classes, recipe
        What to draw from and how.
    epoch
        The first epoch's number.
    features
        Without augmentation: the network's input for each sample, ``float32 [N, ...]``.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        recipe: Recipe,
        epoch: int,
        features: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self._samples = samples
        self._targets = source_targets(samples, classes)
        self._recipe = recipe
        self._features = features
        self._weights = sampling_weights(samples, recipe.source_balance)
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
            return self._features[drawn], self._targets[drawn]
        preprocess = self._recipe.preprocessing.apply
        inputs = np.stack([preprocess(picture) for picture in self.pictures(index)])
        return inputs, self._targets[drawn]

    def pictures(self, index: int) -> list[NDArray[np.uint8]]:
        """A batch's varied pictures, before preprocessing."""
        augmentation = self._recipe.augmentation
        assert augmentation is not None
        rng = self._generator(_AUGMENT, index)
        return [self._varied(augmentation, int(one), rng) for one in self._batch(index)]

    def labels(self, index: int) -> NDArray[np.float32]:
        """A batch's one-hot labels, ``float32 [N, classes]``."""
        return np.asarray(self._targets[self._batch(index), 0], np.float32)

    def on_epoch_end(self) -> None:
        """Draw the next epoch's pictures."""
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
    ) -> NDArray[np.uint8]:
        # Drawn as the pictures are: what it lends must not tell one class from another.
        other = int(rng.choice(len(self._samples), p=self._weights))
        pixels = self._read(index)
        if self._any_way_up[index]:
            pixels = _turn_or_invert(pixels, rng)
        return augmentation.apply(pixels, self._read(other), rng)

    def _read(self, index: int) -> NDArray[np.uint8]:
        """The picture at twice the input's resolution at most: finer detail would be lost."""
        if index not in self._pixels:
            pixels = read_sample(self._samples[index])
            scale = 2 * self._recipe.preprocessing.size / min(pixels.shape)
            if scale < 1.0:
                shrunk = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                pixels = np.asarray(shrunk, dtype=np.uint8)
            self._pixels[index] = pixels
        return self._pixels[index]


def _turn_or_invert(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What is no frontal chest is none whichever way it lies: half turned, a fifth inverted."""
    if rng.random() < 0.5:
        pixels = np.rot90(pixels, int(rng.integers(1, 4)))
    if rng.random() < 0.2:
        pixels = 255 - pixels
    return np.ascontiguousarray(pixels)
