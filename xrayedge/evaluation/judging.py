"""Labelled images and a model's scores for them: scored once, then evaluated in any way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import opacities
from ..bundle import OpacitySettings, OperatingPoint
from ..data import Box, Sample, read_sample
from ..errors import DatasetError, ImageError
from ..heatmap import evidence
from ..preprocessing import Preprocessing, Window
from .bootstrap import Metric
from .classes import Evaluation, evaluate, rows_by
from .localisation import THRESHOLDS, Places, evidence_inside, evidence_inside_lungs, localise
from .scoring import ScoringModel


@dataclass(frozen=True, eq=False)
class Judged:
    """Images and what a model says of them.

    Parameters
    ----------
    samples
        The images that could be read.
    classes
        Names, in the order of the scores.
    preprocessing
        What made the model's inputs.
    scores
        Probabilities, ``float64 [N, classes]``.
    maps
        Activation maps, ``float32 [N, h, w, channels]``: the classes', then the opacities'.
    sizes
        Height and width of each image, ``int [N, 2]``.
    windows
        The part of each image that the model saw.
    points
        Operating points to judge labels at.
    opacity
        How the maps' last channel is read; ``None``: all are of classes.
    unreadable
        Images that could not be read, each with what was wrong.
    """

    samples: Sequence[Sample]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    sizes: NDArray[np.int_]
    windows: Sequence[Window]
    points: tuple[OperatingPoint, ...] = ()
    opacity: OpacitySettings | None = None
    unreadable: tuple[tuple[Sample, str], ...] = ()

    @property
    def labels(self) -> NDArray[np.int_]:
        """Indices of the true classes, ``int [N]``; -1 for a label that is no class."""
        names = {name: index for index, name in enumerate(self.classes)}
        return np.array([names.get(sample.label, -1) for sample in self.samples])

    def evaluate(self) -> Evaluation:
        """Every metric of the images together."""
        found = evaluate(self.samples, self.classes, self.scores, self.points)
        return replace(found, localisation=self._localise(), unreadable=len(self.unreadable))

    def evaluate_by(self, column: str) -> dict[str, Evaluation]:
        """The same for each value of a manifest's column; `DatasetError` where there is none."""
        rows = rows_by(column, self.samples)
        return {value: self.only(chosen).evaluate() for value, chosen in rows.items()}

    def only(self, rows: Sequence[int]) -> Judged:
        """Some of the images; those that could not be read are not among them."""
        return replace(
            self,
            samples=[self.samples[row] for row in rows],
            scores=self.scores[rows],
            maps=self.maps[rows],
            sizes=self.sizes[rows],
            windows=[self.windows[row] for row in rows],
            unreadable=(),
        )

    def inputs(self, row: int) -> NDArray[np.uint8]:
        """What the model saw of one image, ``uint8 [size, size, 1]``; it is read again."""
        return self.preprocessing.apply(self.windows[row].cut(read_sample(self.samples[row])))

    def evidence(self, row: int, channel: int) -> NDArray[np.float32]:
        """Evidence for a class in one image; see `heatmap.evidence`."""
        return evidence(self.maps[row, :, :, : len(self.classes)], channel)

    def places(self, row: int) -> Places:
        """The opacities of one image; the model must have the channel."""
        assert self.opacity is not None
        height, width = (int(side) for side in self.sizes[row])
        logits = self.maps[row, :, :, -1]
        scores = opacities.scores(logits, self.opacity)
        down, across = np.unravel_index(int(scores.argmax()), scores.shape)
        left, top, right, bottom = self.preprocessing.frame_in(self.windows[row])
        peak = (
            (left + (across + 0.5) / scores.shape[1] * (right - left)) / width,
            (top + (down + 0.5) / scores.shape[0] * (bottom - top)) / height,
            float(scores.max()),
        )
        others = (self._opacities(row, replace(self.opacity, threshold=one)) for one in THRESHOLDS)
        return Places(
            self._opacities(row, self.opacity),
            peak,
            tuple(tuple(box for box, _ in found) for found in others),
        )

    def _opacities(self, row: int, settings: OpacitySettings) -> tuple[tuple[Box, float], ...]:
        """Box, in fractions of the image, and score of each opacity."""
        height, width = (int(side) for side in self.sizes[row])
        found = opacities.find(
            self.maps[row, :, :, -1], settings, self.preprocessing, self.windows[row]
        )
        return tuple(
            (
                (
                    one.box[0] / width,
                    one.box[1] / height,
                    one.box[2] / width,
                    one.box[3] / height,
                ),
                one.score,
            )
            for one in found
        )

    def _localise(self) -> dict[str, Metric]:
        found: dict[str, Metric] = {}
        if self.opacity is not None:
            read = [row for row, one in enumerate(self.samples) if one.opacity_boxes is not None]
            found |= localise(
                [self.samples[row] for row in read], [self.places(row) for row in read]
            )
        boxed = [row for row, one in enumerate(self.samples) if one.lung_box is not None]
        if boxed:
            shares = []
            for row in boxed:
                box = self.samples[row].lung_box
                assert box is not None
                height, width = (int(side) for side in self.sizes[row])
                explained = self.evidence(row, int(self.scores[row].argmax()))
                shares.append(
                    evidence_inside(
                        explained, box, self.preprocessing, self.windows[row], height, width
                    )
                )
            found |= evidence_inside_lungs([self.samples[row] for row in boxed], shares)
        return found


def judge(
    model: ScoringModel,
    samples: Sequence[Sample],
    progress: Callable[[Sequence[Sample]], Iterable[Sample]] = iter,
) -> Judged:
    """Score images; those that can't be read are set aside, and the rest continues.

    Parameters
    ----------
    model, samples
        Who scores what.
    progress
        Wraps the samples, to show how far it is.

    Raises
    ------
    DatasetError
        No image can be read.
    """
    read, scores, maps, sizes, windows = [], [], [], [], []
    unreadable = []
    for sample in progress(samples):
        try:
            pixels = read_sample(sample)
        except ImageError as error:
            unreadable.append((sample, str(error)))
            continue
        window = model.window(pixels)
        found, activation_map = model.judge(model.inputs(pixels, window))
        read.append(sample)
        scores.append(found)
        maps.append(activation_map)
        sizes.append(pixels.shape)
        windows.append(window)
    if not read:
        raise DatasetError(f"none of {len(samples)} images can be read; first: {unreadable[0][1]}")
    return Judged(
        read,
        model.classes,
        model.preprocessing,
        np.stack(scores),
        np.stack(maps),
        np.array(sizes),
        windows,
        model.points,
        model.opacity,
        tuple(unreadable),
    )
