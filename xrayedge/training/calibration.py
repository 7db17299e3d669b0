"""What is fitted on `val` after training: temperature, operating points, frontal threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..scores import softmax

#: Range searched for the temperature; a fit at its edge means a model that learnt nothing.
_LOG_RANGE = (np.log(0.05), np.log(20.0))
_TIE_BREAK = 1.001  # a class must win, not draw


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature that minimises the negative log likelihood of ``labels``.

    Guo et al. 2017, "On calibration of modern neural networks".

    Parameters
    ----------
    logits
        ``float [N, classes]``.
    labels
        ``int [N]``, indices of the true classes.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits / np.exp(log_temperature))
        chosen = probabilities[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x))


def fit_weight(
    own: NDArray[np.floating], best_other: NDArray[np.floating], sensitivity: float
) -> float:
    """The smallest factor, at least 1, on a class's probability that reaches a sensitivity.

    Parameters
    ----------
    own
        Probability of the class for pictures that are of it, ``float [N]``.
    best_other
        The largest probability of another class, ``float [N]``.
    sensitivity
        Least share of the pictures that must be called so.
    """
    needed = np.sort(best_other / np.maximum(own, 1e-12))
    count = int(np.ceil(sensitivity * len(needed)))
    return max(1.0, float(needed[count - 1]) * _TIE_BREAK)


def fit_bounded_weight(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    column: int,
    tolerance: float,
) -> float:
    """The largest factor on a class's probability that costs little balanced accuracy.

    Every factor between two pictures' turning points calls the same pictures so: the middle, as far
    as can be from where quantisation would turn one of them.

    Parameters
    ----------
    probabilities
        ``float [N, classes]``.
    labels
        ``int [N]``, indices of the true classes.
    column
        The class.
    tolerance
        How much balanced accuracy may be lost against a factor of 1.
    """
    from sklearn.metrics import balanced_accuracy_score

    def reached(factor: float) -> float:
        weights = np.ones(probabilities.shape[1])
        weights[column] = factor
        return float(balanced_accuracy_score(labels, (probabilities * weights).argmax(axis=1)))

    others = np.delete(probabilities, column, axis=1).max(axis=1)
    turns = others / np.maximum(probabilities[:, column], 1e-12)
    turns = np.unique(turns[turns > 1.0])
    beyond = turns[-1:] * _TIE_BREAK**2
    least = reached(1.0) - tolerance
    chosen = 1.0
    for factor in np.sqrt(turns * np.concatenate([turns[1:], beyond])):
        if reached(factor) < least:
            break
        chosen = float(factor)
    return chosen


def fit_threshold(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The threshold that maximises sensitivity + specificity (Youden 1950).

    Where a range of thresholds does, its middle: as far from the pictures on either side as can
    be.

    Parameters
    ----------
    scores
        ``float [N]``; a picture passes from the threshold on.
    positive
        ``bool [N]``, which pictures ought to pass.
    """
    edges = np.concatenate([[0.0], np.unique(scores), [1.0]])
    middles = (edges[:-1] + edges[1:]) / 2.0
    passes = scores[np.newaxis] >= middles[:, np.newaxis]
    youden = passes[:, positive].mean(axis=1) - passes[:, ~positive].mean(axis=1)
    best = np.flatnonzero(youden == youden.max())
    widest = best[np.argmax(edges[best + 1] - edges[best])]
    return float(middles[widest])
