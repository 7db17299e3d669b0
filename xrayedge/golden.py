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
        Of any one probability.
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
    inputs = [network.preprocessing.apply(phantom(number)) for number in range(PHANTOMS)]
    return tuple(
        GoldenVector(
            phantom=number,
            input_sha256=_digest(one),
            probabilities=tuple(round(float(score), 6) for score in _scores(network, engine, one)),
            tolerance=TOLERANCES[precision],
        )
        for number, one in enumerate(inputs)
    )


def check(network: Network, engine: Engine, golden: Sequence[GoldenVector]) -> GoldenCheck:
    """Compare this device with a file's golden vectors; there must be some."""
    differences, within, same = [], [], []
    for vector in golden:
        inputs = network.preprocessing.apply(phantom(vector.phantom))
        found = _scores(network, engine, inputs)
        difference = float(np.abs(found - np.asarray(vector.probabilities)).max())
        differences.append(difference)
        within.append(difference <= vector.tolerance)
        same.append(_digest(inputs) == vector.input_sha256)
    return GoldenCheck(max(differences), all(within), all(same))


def _scores(network: Network, engine: Engine, inputs: NDArray[np.uint8]) -> NDArray[np.float64]:
    maps = engine.run(inputs[np.newaxis])[0]
    return probabilities(maps[:, :, : len(network.classes)], network.temperature)


def _digest(inputs: NDArray[np.uint8]) -> str:
    return hashlib.sha256(inputs.tobytes()).hexdigest()
