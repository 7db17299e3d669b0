"""A sample's pixels, and the model inputs that they become."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging import read
from ..preprocessing import Preprocessing, fill_range
from .artificial import draw
from .samples import Sample


def read_sample(sample: Sample) -> NDArray[np.uint8]:
    """The sample's grey pixels as a device screens them: its window, turned and inverted."""
    pixels = fill_range(draw(*sample.drawn) if sample.drawn else read(sample.path).pixels)
    if sample.window is not None:
        pixels = sample.window.cut(pixels)
    if sample.inverted:
        pixels = 255 - pixels
    return np.ascontiguousarray(np.rot90(pixels, sample.quarter_turns))


def shrink_to(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image with a shorter side of at most ``side`` pixels; both ``uint8 [H, W]``."""
    scale = side / min(pixels.shape)
    if scale >= 1.0:
        return pixels
    shrunk = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)


def model_inputs(samples: Sequence[Sample], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Every sample as the device would see it: ``uint8 [N, size, size, 1]``."""
    return np.stack([preprocessing.apply(read_sample(sample)) for sample in samples])
