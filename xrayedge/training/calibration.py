"""Fit the temperature and the frontal threshold on `val` after training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..evaluation import intervals, macro_auc
from ..scores import softmax

#: Range searched for the temperature.
_LOG_RANGE = (np.log(0.05), np.log(20.0))
#: A temperature this close to a bound counts as being at it.
_AT_BOUND = 0.01
#: The AUC of a random order.
_CHANCE = 0.5


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


def doubts(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float
) -> tuple[str, ...]:
    """Doubts about a model after training, in sentences; none if all is well.

    Parameters
    ----------
    logits, labels
        As for `fit_temperature`.
    temperature
        As fitted to them.
    """
    found = []
    if (logits.argmax(axis=1) == labels).all():
        # The likelihood then has no maximum: it grows as the temperature falls.
        found.append(
            f"all {len(labels)} images of val are classified correctly, so they can't set the "
            f"temperature; {temperature:.3g} is arbitrary, and probabilities may be overconfident"
        )
    elif min(abs(np.log(temperature) - bound) for bound in _LOG_RANGE) < _AT_BOUND:
        found.append(
            f"the temperature {temperature:.3g} is at its bound: the scores say little about the "
            "label"
        )
    scores = softmax(logits / temperature)
    area = intervals(
        lambda weights: {"auc": macro_auc(labels.astype(np.int_), scores, weights)},
        np.arange(len(labels)),
    ).get("auc")
    if area is not None and area.low <= _CHANCE:
        found.append(
            f"on val the model can't be told from chance: AUC {area}, {len(labels)} images"
        )
    return tuple(found)


def fit_threshold(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The threshold that maximises sensitivity + specificity (Youden 1950).

    If a range of thresholds does, its middle: as far as possible from the images on either side.

    Parameters
    ----------
    scores
        ``float [N]``; an image passes if its score is at least the threshold.
    positive
        ``bool [N]``, which images should pass.
    """
    edges = np.concatenate([[0.0], np.unique(scores), [1.0]])
    middles = (edges[:-1] + edges[1:]) / 2.0
    passes = scores[np.newaxis] >= middles[:, np.newaxis]
    youden = passes[:, positive].mean(axis=1) - passes[:, ~positive].mean(axis=1)
    best = np.flatnonzero(youden == youden.max())
    widest = best[np.argmax(edges[best + 1] - edges[best])]
    return float(middles[widest])
