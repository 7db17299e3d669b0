"""Metrics of a classifier's scores, for any weights of the images: see `bootstrap`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Weights, auc, divided, share

CALIBRATION_BINS = 10


def accuracy(
    labels: NDArray[np.int_], scores: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """Share of images whose most probable class is the true one, ``float64 [rounds]``."""
    return share(scores.argmax(axis=1) == labels, weights)


def balanced_accuracy(
    labels: NDArray[np.int_], scores: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """Mean over the classes in ``labels`` of their recall, ``float64 [rounds]``."""
    right = scores.argmax(axis=1) == labels
    chosen = [labels == index for index in np.unique(labels)]
    return mean_of([share(right[one], weights[:, one]) for one in chosen])


def macro_auc(
    labels: NDArray[np.int_], scores: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """Mean over the classes in ``labels`` of one-against-the-rest AUC, ``float64 [rounds]``."""
    present = np.unique(labels)
    return mean_of([auc(labels == index, scores[:, index], weights) for index in present])


def mean_of(metrics: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over classes, those that a round did not draw aside."""
    stacked = np.stack(metrics)
    known = ~np.isnan(stacked)
    return divided(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def class_metrics(
    labels: NDArray[np.int_],
    scores: NDArray[np.float64],
    classes: Sequence[str],
    weights: Weights,
) -> dict[str, NDArray[np.float64]]:
    """The metrics of an `Evaluation` that compare classes; each ``float64 [rounds]``.

    Parameters
    ----------
    labels
        ``int [N]``, indices of ``classes``.
    scores
        Probabilities, ``float64 [N, classes]``.
    classes
        Names, in the order of the scores.
    weights
        How often each image counts, ``float64 [rounds, N]``.
    """
    predicted = scores.argmax(axis=1)
    present = np.unique(labels)
    total = weights.sum(axis=1)
    hits = {index: weights[:, (labels == index) & (predicted == index)].sum(1) for index in present}
    true = {index: weights[:, labels == index].sum(axis=1) for index in present}
    called = {index: weights[:, predicted == index].sum(axis=1) for index in present}
    recalls = {index: divided(hits[index], true[index]) for index in present}
    if len(present) == 1:
        only = present[0]
        return {
            "accuracy": accuracy(labels, scores, weights),
            f"recall/{classes[only]}": recalls[only],
        }
    precisions = {
        # A class that is never called has found none of its images: 0, not undefined.
        index: np.where(called[index] > 0, divided(hits[index], called[index]), 0.0)
        for index in present
    }
    f1s = {index: divided(2 * hits[index], true[index] + called[index]) for index in present}
    specificities = {
        index: 1.0 - divided(called[index] - hits[index], total - true[index]) for index in present
    }
    aucs = {index: auc(labels == index, scores[:, index], weights) for index in present}
    found = {
        "accuracy": accuracy(labels, scores, weights),
        "balanced_accuracy": balanced_accuracy(labels, scores, weights),
        "macro_precision": mean_of(list(precisions.values())),
        "macro_f1": mean_of(list(f1s.values())),
        "macro_specificity": mean_of(list(specificities.values())),
        "macro_auc": macro_auc(labels, scores, weights),
        "calibration_error": _calibration_error(labels, scores, weights),
    }
    for index in present:
        name = classes[index]
        found[f"precision/{name}"] = precisions[index]
        found[f"recall/{name}"] = recalls[index]
        found[f"f1/{name}"] = f1s[index]
        found[f"specificity/{name}"] = specificities[index]
        found[f"auc/{name}"] = aucs[index]
    return found


@dataclass(frozen=True)
class CalibrationBin:
    """Images of like confidence: their mean confidence and the share that was right."""

    images: int
    confidence: float
    accuracy: float


def calibration_bins(
    labels: NDArray[np.integer], scores: NDArray[np.float64]
) -> list[CalibrationBin]:
    """Images in bins of equal width by the probability of their predicted class; none empty."""
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == labels
    bins = _bins(confidence)
    return [
        CalibrationBin(
            int((bins == number).sum()),
            float(confidence[bins == number].mean()),
            float(right[bins == number].mean()),
        )
        for number in np.unique(bins)
    ]


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.int_]:
    return np.asarray(np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1))


def _calibration_error(
    labels: NDArray[np.integer], scores: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """Expected calibration error (Naeini et al. 2015), ``float64 [rounds]``."""
    confidence = scores.max(axis=1)
    excess = confidence - (scores.argmax(axis=1) == labels)
    bins = _bins(confidence)[:, np.newaxis] == np.arange(CALIBRATION_BINS)
    gaps = np.abs(weights @ (excess[:, np.newaxis] * bins))
    return divided(gaps.sum(axis=1), weights.sum(axis=1))
