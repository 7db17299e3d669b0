"""What a model saw when it was made: its trade-off on `val`, and how inputs and scores spread.

`convert` measures these and the bundle carries them: `site` reads what a threshold costs from the
curve, and a monitor compares a device's images with the histograms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .manifest import HEALTHY, Histogram, OperatingPoint, ReferenceHistograms, ValCurve

#: Points of a curve: the 0, 1, ..., 100 % quantiles of the healthy and of the ill.
_QUANTILES = np.linspace(0.0, 1.0, 101)
_BINS = 20
#: Illness scores beyond, in logits, are no more certain: exp(-30) is 1e-13.
_FURTHEST = 30.0
#: Grey statistics are of the image shrunk to this side, so that they don't depend on its size.
_GREY_SIDE = 64


def illness_scores(
    probabilities: NDArray[np.floating], classes: Sequence[str], point: OperatingPoint
) -> NDArray[np.float64]:
    """How far each image is from being called healthy at an operating point, in logits.

    The logarithm of the largest weighted probability of another class over ``healthy``'s. At the
    point itself images up to 0 are called healthy; with a further factor ``w`` on ``healthy``,
    those up to ``log(w)``.

    Parameters
    ----------
    probabilities
        ``float [N, classes]``.
    classes
        Names, in the order of the columns; ``healthy`` is one.
    point
        Whose weights to use.

    Returns
    -------
    ``float64 [N]``, -30 to 30.
    """
    weights = np.array([point.weights[name] for name in classes])
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-300) * weights)
    healthy = list(classes).index(HEALTHY)
    scores = np.delete(logs, healthy, axis=1).max(axis=1) - logs[:, healthy]
    return np.asarray(np.clip(scores, -_FURTHEST, _FURTHEST))


def val_curve(
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    classes: Sequence[str],
    point: OperatingPoint,
    counts: NDArray[np.floating] | None = None,
) -> ValCurve | None:
    """The trade-off between specificity and sensitivity to any illness.

    Parameters
    ----------
    probabilities
        ``float [N, classes]``, of pooled `val`.
    labels
        Of each image: ``healthy``, or anything else, classes or not, for ill.
    classes
        Names, in the order of the columns.
    point
        The network's first operating point.
    counts
        What each image counts, ``float [N]``, so that sources can weigh alike; without, 1.

    Returns
    -------
    ``None`` where ``healthy`` is no class, or there are no healthy or no ill.
    """
    healthy = np.array([label == HEALTHY for label in labels], bool)
    if HEALTHY not in classes or healthy.all() or not healthy.any():
        return None
    scores = illness_scores(probabilities, classes, point)
    groups = (healthy, ~healthy)
    quantiles = [np.quantile(scores[group], _QUANTILES, method="higher") for group in groups]
    thresholds = np.unique(np.concatenate([[-_FURTHEST], *quantiles, [0.0, _FURTHEST]]))
    counts = np.ones(len(scores)) if counts is None else counts
    well, ill = (_share_up_to(thresholds, scores[group], counts[group]) for group in groups)
    return ValCurve(
        thresholds=tuple(map(float, thresholds)),
        specificity=tuple(map(float, well)),
        sensitivity=tuple(map(float, 1.0 - ill)),
        healthy=int(healthy.sum()),
        ill=int((~healthy).sum()),
    )


def _share_up_to(
    thresholds: NDArray[np.floating], scores: NDArray[np.floating], counts: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The share of the scores, each of which counts so much, that are at most each threshold."""
    order = np.argsort(scores)
    cumulative = np.concatenate([[0.0], np.cumsum(counts[order])])
    return np.asarray(
        cumulative[np.searchsorted(scores[order], thresholds, "right")] / cumulative[-1]
    )


def grey(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation, 0 to 255, of an image ``uint8 [H, W]`` shrunk to 64 x 64."""
    # OpenCV halves many times faster than it shrinks by any other ratio.
    while min(pixels.shape) >= 4 * _GREY_SIDE:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        even = pixels[: 2 * height, : 2 * width]
        pixels = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))
    side = (_GREY_SIDE, _GREY_SIDE)
    mean, deviation = cv2.meanStdDev(cv2.resize(pixels, side, interpolation=cv2.INTER_AREA))
    return float(mean[0, 0]), float(deviation[0, 0])


def histogram(values: NDArray[np.floating], low: float, high: float) -> Histogram:
    """Twenty equal bins from ``low`` to ``high``; what lies beyond counts in the first and last."""
    inside = np.clip(np.asarray(values, np.float64), low, high)
    counts, _ = np.histogram(inside, bins=_BINS, range=(low, high))
    return Histogram(low, high, tuple(map(int, counts)))


def measure(
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    frontal_scores: NDArray[np.floating],
    greys: NDArray[np.floating],
) -> ReferenceHistograms:
    """The histograms of a set of images.

    Parameters
    ----------
    probabilities
        ``float [N, classes]``.
    classes
        Names, in the order of the columns.
    frontal_scores
        ``float [N]``.
    greys
        ``float [N, 2]``; see `grey`.
    """
    return ReferenceHistograms(
        probabilities={
            name: _of_scores(probabilities[:, column]) for column, name in enumerate(classes)
        },
        frontal_score=_of_scores(frontal_scores),
        grey_mean=histogram(greys[:, 0], 0.0, 255.0),
        grey_contrast=histogram(greys[:, 1], 0.0, 128.0),
    )


def of_frontal(
    histograms: ReferenceHistograms, frontal_scores: NDArray[np.floating]
) -> ReferenceHistograms:
    """The same images' histograms with another frontal check, whose scores are ``float [N]``."""
    return replace(histograms, frontal_score=_of_scores(frontal_scores))


def _of_scores(scores: NDArray[np.floating]) -> Histogram:
    return histogram(scores, 0.0, 1.0)
