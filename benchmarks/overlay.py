"""The heatmap's overlay compared with one drawn in floats: time, and the largest difference.

    python benchmarks/overlay.py [IMAGE]

Prints minimum and median of processor time, run alternately in one process, and the medians'
ratio. Without IMAGE a computed one of 2048 x 2175 pixels is drawn on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from xrayedge import Preprocessing, read
from xrayedge.golden import phantom
from xrayedge.heatmap import evidence, overlay

ROUNDS = 50
LONG_SIDE, HEADER, COVER = 768, 44, 0.55
PROBABILITIES = {"covid": 0.7, "healthy": 0.2, "pneumonia": 0.1}


def in_floats(
    pixels: NDArray[np.uint8], activation_map: NDArray[np.float32], preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """The image under its evidence, as the formula says, ``uint8 [H', W', 3]``."""
    scale = LONG_SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    grey = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    found = evidence(activation_map, 0)
    strength = preprocessing.restore(found, height, width) / max(float(found.max()), 1e-6)
    strength = np.clip(strength, 0.0, 1.0)
    colours = cv2.applyColorMap(np.rint(strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = (COVER * strength)[:, :, np.newaxis]
    blended = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) * (1.0 - share) + colours * share
    return np.asarray(np.rint(blended), np.uint8)


def milliseconds(work: Callable[[], object]) -> float:
    """Of processor time, which other programs on the machine change least."""
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", nargs="?", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    drawn = cv2.resize(phantom(1), (2175, 2048), interpolation=cv2.INTER_CUBIC)
    pixels = read(arguments.image).pixels if arguments.image else np.asarray(drawn, np.uint8)
    activation_map = np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)
    preprocessing = Preprocessing()

    def tables() -> NDArray[np.uint8]:
        return overlay(pixels, activation_map, preprocessing, PROBABILITIES, "covid")

    def floats() -> NDArray[np.uint8]:
        return in_floats(pixels, activation_map, preprocessing)

    expected = floats().astype(int)
    found = tables()[HEADER:, : expected.shape[1]].astype(int)
    times = [(milliseconds(tables), milliseconds(floats)) for _ in range(ROUNDS)]
    own, other = zip(*times, strict=True)
    print(f"{pixels.shape[1]} x {pixels.shape[0]} pixels, {ROUNDS} rounds, one thread")
    for name, found_ms in (("overlay", own), ("in floats", other)):
        print(f"{name}: least {min(found_ms):.1f} ms, median {statistics.median(found_ms):.1f} ms")
    print(f"ratio of the medians {statistics.median(own) / statistics.median(other):.2f}")
    print(f"largest difference {np.abs(found - expected).max()} grey levels")


if __name__ == "__main__":
    main()
