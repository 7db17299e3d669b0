"""Whether a model finds the places that radiologists marked, and whether its evidence is in the
lungs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import Box, Sample
from ..preprocessing import Preprocessing, Window
from .bootstrap import Metric, Weights, auc, divided, intervals, mean

#: False boxes an image at which the free-response sensitivity is read.
FALSE_BOXES = (0.25, 0.5, 1.0)
#: Thresholds on opacity scores that are tried for it.
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True, eq=False)
class Places:
    """What a model finds in one image, in fractions of its width and height.

    Parameters
    ----------
    opacities
        Box and score of each opacity, strongest first.
    peak
        Column, row and score of the place that scores highest.
    by_threshold
        The boxes that each of `THRESHOLDS` would give instead of the model's own.
    """

    opacities: tuple[tuple[Box, float], ...]
    peak: tuple[float, float, float]
    by_threshold: tuple[tuple[Box, ...], ...]


def localise(samples: Sequence[Sample], places: Sequence[Places]) -> dict[str, Metric]:
    """Compare the findings with radiologists' boxes; images without a reading are left out.

    Returns
    -------
    ``pointing_game``
        Of images with boxes: in how many the centre of the strongest opacity lies in a box. No
        opacity is a miss.
    ``peak_in_a_box``
        The same of the place that scores highest, whatever the threshold (Zhang et al. 2016).
    ``boxes_found/at_F_false``
        Free-response sensitivity: the share of all boxes in which the centre of an opacity lies,
        at the best of `THRESHOLDS` with at most F opacities an image whose centre is in no box
        (Bunch et al. 1978).
    ``auc/any_opacity``
        Images with a box against those without, by the highest score.

    All with intervals over patients; empty where nobody read an image.
    """
    read = [index for index, sample in enumerate(samples) if sample.opacity_boxes is not None]
    if not read:
        return {}
    boxes = [samples[index].opacity_boxes or () for index in read]
    found = [places[index] for index in read]
    with_box = np.array([bool(some) for some in boxes])
    pointed = np.full(len(read), np.nan)
    peaks = np.full(len(read), np.nan)
    for row, (some, one) in enumerate(zip(boxes, found, strict=True)):
        if some:
            pointed[row] = bool(one.opacities) and _in_any(_centre(one.opacities[0][0]), some)
            peaks[row] = _in_any(one.peak[:2], some)
    strongest = np.array([one.peak[2] for one in found])
    hits, false = _counts_by_threshold(boxes, found)
    of_each = np.array([len(some) for some in boxes], np.float64)

    def statistic(weights: Weights) -> Mapping[str, NDArray[np.float64]]:
        images, all_boxes = weights.sum(axis=1, keepdims=True), weights @ of_each
        sensitivity = divided(weights @ hits, np.tile(all_boxes[:, None], hits.shape[1]))
        rates = weights @ false / images
        return {
            "pointing_game": mean(pointed, weights),
            "peak_in_a_box": mean(peaks, weights),
            "auc/any_opacity": auc(with_box, strongest, weights),
            **{
                f"boxes_found/at_{most:g}_false": np.where(rates <= most, sensitivity, 0.0).max(1)
                for most in FALSE_BOXES
            },
        }

    return intervals(statistic, [samples[index].group for index in read])


def evidence_inside(
    evidence: NDArray[np.float32],
    box: Box,
    preprocessing: Preprocessing,
    window: Window,
    height: int,
    width: int,
) -> float:
    """Share of the evidence for a class, ``float32 [h, w]``, that lies in a box; NaN without any.

    Parameters
    ----------
    evidence
        See `heatmap.evidence`; what speaks against the class doesn't count.
    box
        In fractions of the image's width and height.
    preprocessing, window
        What made the network's input, and out of which part of the image.
    height, width
        Of the image, in pixels.
    """
    positive = np.maximum(evidence.astype(np.float64), 0.0)
    left, top, right, bottom = preprocessing.frame_in(window)
    across = _overlap(left / width, right / width, evidence.shape[1], box[0], box[2])
    down = _overlap(top / height, bottom / height, evidence.shape[0], box[1], box[3])
    total = positive.sum()
    return float((positive * np.outer(down, across)).sum() / total) if total > 0 else float("nan")


def evidence_inside_lungs(samples: Sequence[Sample], shares: Sequence[float]) -> dict[str, Metric]:
    """``evidence_inside_lung_box``: the mean of `evidence_inside` of images with a lung box."""
    values = np.array(shares, np.float64)
    return intervals(
        lambda weights: {"evidence_inside_lung_box": mean(values, weights)},
        [sample.group for sample in samples],
    )


def _overlap(start: float, stop: float, count: int, low: float, high: float) -> NDArray[np.float64]:
    """Share of each of ``count`` equal cells from ``start`` to ``stop`` that lies in a range."""
    edges = np.linspace(start, stop, count + 1)
    inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.asarray(np.maximum(inside, 0.0) / (edges[1] - edges[0]))


def _counts_by_threshold(
    boxes: Sequence[Sequence[Box]], found: Sequence[Places]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes found and false opacities in each image at each threshold, ``float64 [N, T]``."""
    hits = np.zeros((len(found), len(THRESHOLDS)))
    false = np.zeros_like(hits)
    for row, (some, one) in enumerate(zip(boxes, found, strict=True)):
        for column, given in enumerate(one.by_threshold):
            centres = [_centre(box) for box in given]
            hits[row, column] = sum(any(_in(point, box) for point in centres) for box in some)
            false[row, column] = sum(not _in_any(point, some) for point in centres)
    return hits, false


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2.0, (box[1] + box[3]) / 2.0


def _in(point: tuple[float, float], box: Box) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _in_any(point: tuple[float, float], boxes: Sequence[Box]) -> bool:
    return any(_in(point, box) for box in boxes)
