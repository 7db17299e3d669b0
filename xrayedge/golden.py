"""Golden vectors: computed images and the scores that a model must give for them on any device.

A phantom stands for a patient, as in any radiology department: a bundle holds no images of people,
and a device can still check that preprocessing and engine work as they did where the model was
made. Phantoms are integer arithmetic, so every machine draws the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bundle import GoldenVector, Network, Precision
from .engines import Engine
from .opacities import scores as opacity_scores
from .scores import probabilities

PHANTOMS = 4
_HEIGHT, _WIDTH = 352, 320

#: Largest difference that another processor's rounding makes in one probability: of float
#: arithmetic, and of int8, where a value between two steps may be rounded either way.
TOLERANCES: dict[Precision, float] = {
    "float32": 0.002,
    "float16": 0.002,
    "dynamic": 0.02,
    "int8": 0.02,
}


@dataclass(frozen=True)
class GoldenCheck:
    """How a device's scores compare with a file's golden vectors.

    Parameters
    ----------
    largest_difference
        Of any one probability, or mean opacity score.
    within_tolerance
        Whether every vector's difference is.
    same_inputs
        Whether preprocessing gave exactly the bytes that it gave where the file was made.
    """

    largest_difference: float
    within_tolerance: bool
    same_inputs: bool


def phantom(number: int) -> NDArray[np.uint8]:
    """Draw a chest phantom, ``uint8 [352, 320]``: lungs, spine, ribs, and an opacity to find."""
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    pixels = 120 + y // 8
    for side in (-1, 1):
        column = _WIDTH // 2 + side * 72
        lung = (x - column) ** 2 * 6 + (y - 168) ** 2 <= 6 * 60**2
        pixels -= 70 * lung
        opacity = (x - column) ** 2 + (y - 120 - 48 * (number % 3)) ** 2 <= (8 + 10 * number) ** 2
        pixels += 15 * (number + 1) * (opacity & lung) * (1 + side * (number % 2)) // 2
    pixels += 40 * (np.abs(x - _WIDTH // 2) < 14)
    pixels += 18 * ((y + (x - _WIDTH // 2) ** 2 // 160) % 34 < 11)
    pixels += (x * 7 + y * 13 + x * y) % 9  # grain, because equalisation would amplify flat areas
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)


def measure(network: Network, engine: Engine, precision: Precision) -> tuple[GoldenVector, ...]:
    """The golden vectors of a network's file that ``engine`` has loaded."""
    vectors = []
    for number in range(PHANTOMS):
        inputs = network.preprocessing.apply(phantom(number))
        found, opacity = _scores(network, engine, inputs)
        vectors.append(
            GoldenVector(
                phantom=number,
                input_sha256=_digest(inputs),
                probabilities=tuple(round(float(score), 6) for score in found),
                tolerance=TOLERANCES[precision],
                opacity=None if opacity is None else round(opacity, 6),
            )
        )
    return tuple(vectors)


def check(network: Network, engine: Engine, golden: Sequence[GoldenVector]) -> GoldenCheck:
    """Compare this device with a file's golden vectors; there must be some."""
    differences, within, same = [], [], []
    for vector in golden:
        inputs = network.preprocessing.apply(phantom(vector.phantom))
        found, opacity = _scores(network, engine, inputs)
        difference = float(np.abs(found - np.asarray(vector.probabilities)).max())
        if opacity is not None and vector.opacity is not None:
            difference = max(difference, abs(opacity - vector.opacity))
        differences.append(difference)
        within.append(difference <= vector.tolerance)
        same.append(_digest(inputs) == vector.input_sha256)
    return GoldenCheck(max(differences), all(within), all(same))


def _scores(
    network: Network, engine: Engine, inputs: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], float | None]:
    """Probability of each class, and the mean opacity score where the network has that channel.

    The mean, because all places count, and each alone may differ by more than a probability does.
    """
    maps = engine.run(inputs[np.newaxis])[0]
    found = probabilities(maps[:, :, : len(network.classes)], network.temperature)
    if network.opacity is None:
        return found, None
    return found, float(opacity_scores(maps[:, :, -1], network.opacity).mean())


def _digest(inputs: NDArray[np.uint8]) -> str:
    return hashlib.sha256(inputs.tobytes()).hexdigest()
