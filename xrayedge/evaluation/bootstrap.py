"""Intervals over patients: the one bootstrap behind every metric that this project prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 1000
_SEED = 0
_LEVEL = (2.5, 97.5)
#: Weights that are held at a time: 16 MB.
_MOST_WEIGHTS = 2**21


@dataclass(frozen=True)
class Metric:
    """A value and its 95 % interval over patients."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


Weights = NDArray[np.float64]
#: A name or a number for each image.
Patients = Sequence[str] | NDArray[np.int_]
#: From weights ``float64 [rounds, N]`` of N images to each metric's ``float64 [rounds]``; NaN where
#: a round gives it no meaning, such as the recall of a class that was not drawn.
Statistic = Callable[[Weights], Mapping[str, NDArray[np.float64]]]


def intervals(statistic: Statistic, patients: Patients) -> dict[str, Metric]:
    """Each metric of all images, with its percentile interval over resampled patients.

    Patients are drawn with replacement, `ROUNDS` times, always from the same seed (Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 13). An image counts as often as its
    patient was drawn, so metrics are functions of weights and all rounds are computed at once. A
    difference of two models, written as one metric, is thereby paired.

    Parameters
    ----------
    statistic
        The metrics. What is NaN for all images, each counted once, is left out.
    patients
        Whose each image is.
    """
    values = statistic(np.ones((1, len(patients))))
    rounds: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    for weights in _resampled(patients):
        for name, found in statistic(weights).items():
            rounds[name].append(found)
    result: dict[str, Metric] = {}
    for name, value in values.items():
        found = np.concatenate(rounds[name])
        found = found[~np.isnan(found)]
        if not np.isnan(value[0]) and len(found):
            low, high = np.percentile(found, _LEVEL)
            result[name] = Metric(float(value[0]), float(low), float(high))
    return result


def _resampled(patients: Patients) -> Iterator[Weights]:
    """Weights of the images in chunks of rounds, ``float64 [rounds, N]``."""
    members = patient_numbers(patients)
    count = int(members.max()) + 1
    rng = np.random.default_rng(_SEED)
    chunk = max(1, min(ROUNDS, _MOST_WEIGHTS // len(members)))
    for start in range(0, ROUNDS, chunk):
        rounds = min(chunk, ROUNDS - start)
        drawn = rng.integers(0, count, (rounds, count))
        drawn += count * np.arange(rounds)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=rounds * count).reshape(rounds, count)
        yield times[:, members].astype(np.float64)


def patient_numbers(patients: Patients) -> NDArray[np.int_]:
    """A number from 0 on for each patient, in the order of their names: ``int [N]``."""
    return np.unique(np.asarray(patients), return_inverse=True)[1].reshape(-1)


def share(chosen: NDArray[np.bool_], weights: Weights) -> NDArray[np.float64]:
    """The weighted share of images that are chosen, ``float64 [rounds]``."""
    return mean(chosen.astype(np.float64), weights)


def mean(values: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """The weighted mean of values ``float64 [N]``, those that are NaN aside: ``[rounds]``."""
    known = ~np.isnan(values)
    return divided(weights[:, known] @ values[known], weights[:, known].sum(axis=1))


def divided(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quotients; NaN where the denominator is zero."""
    undefined = np.full(np.shape(denominators), np.nan)
    return np.asarray(np.divide(numerators, denominators, undefined, where=denominators > 0))


def auc(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], weights: Weights
) -> NDArray[np.float64]:
    """Area under the ROC curve, ``float64 [rounds]``; NaN without positives or negatives.

    The share of pairs in which the positive image scores higher, ties counting half (Hanley and
    McNeil 1982).

    Parameters
    ----------
    positive, scores
        ``bool [N]`` and ``float64 [N]``.
    weights
        How often each image counts, ``float64 [rounds, N]``.
    """
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    of_positive = weights[:, order] * positive[order]
    positives = np.add.reduceat(of_positive, starts, axis=1)
    negatives = np.add.reduceat(weights[:, order] - of_positive, starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return divided((positives * below).sum(axis=1), pairs)
