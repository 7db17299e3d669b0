"""From a model's activation map to probabilities, in float, whatever the model's precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bundle import OperatingPoint


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def decide(probabilities: dict[str, float], point: OperatingPoint) -> tuple[str, bool]:
    """The label at an operating point, and whether it is certain enough to act upon."""
    weighted = {name: value * point.weights[name] for name, value in probabilities.items()}
    label = max(weighted, key=lambda name: weighted[name])
    share = weighted[label] / sum(weighted.values())
    return label, share >= point.abstain_below


def probabilities(maps: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Class probabilities of activation maps.

    Parameters
    ----------
    maps
        ``float [..., h, w, classes]``, logits at each place: the channels of classes only, without
        that of opacities.
    temperature
        Divides the mean logits before the softmax.

    Returns
    -------
    ``float64 [..., classes]``.
    """
    logits = np.asarray(maps, np.float64).mean(axis=(-3, -2))
    return softmax(logits / temperature)
