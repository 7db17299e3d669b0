"""Boxes of opacities from the last channel of the activation map.

The channel is the logit that a place lies in an opacity, learnt from radiologists' boxes. Its
calibrated scores are enlarged ninefold, bilinearly. Each connected region at or above the bundle's
threshold is one opacity, with the region's bounding box and largest score. The strongest comes
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from .manifest import OpacitySettings
from .preprocessing import Preprocessing, Window

#: Left, top, right, bottom: edges, so that the whole of an image is (0, 0, width, height).
Box: TypeAlias = tuple[float, float, float, float]

#: Odd, so that the enlarged map holds each place's own score, at its centre.
_FINER = 9
#: Boxes are rounded to a tenth of a pixel.
_DECIMALS = 1
#: Places that touch at a corner lie in one region.
_CONNECTIVITY = 8


@dataclass(frozen=True)
class Opacity:
    """One opacity.

    Parameters
    ----------
    box
        Left, top, right and bottom edge, in pixels of the image.
    score
        0 to 1, the largest calibrated score in it.
    """

    box: Box
    score: float


def scores(logits: NDArray[np.floating], settings: OpacitySettings) -> NDArray[np.float64]:
    """Calibrated scores, 0 to 1, of the channel's logits; any shape (Platt 1999)."""
    shifted = (np.asarray(logits, np.float64) + settings.bias) / settings.temperature
    return np.asarray(0.5 * (1.0 + np.tanh(shifted / 2.0)))  # a sigmoid that can't overflow


def find(
    logits: NDArray[np.floating],
    settings: OpacitySettings,
    preprocessing: Preprocessing,
    window: Window,
) -> tuple[Opacity, ...]:
    """The opacities of one image, strongest first.

    Parameters
    ----------
    logits
        The map's channel ``opacity``, ``float [h, w]``.
    settings
        Threshold and calibration.
    preprocessing
        What made the network's input out of the window.
    window
        The part of the image that the network saw, or all of it.

    Returns
    -------
    Boxes in pixels of the whole image; what lies in the bars that ``pad`` adds is left out.
    """
    places = scores(logits, settings).astype(np.float32)
    rows, columns = (_FINER * side for side in places.shape)
    # Bilinear, because cubic interpolation overshoots and would find opacities that are not there.
    places = np.asarray(cv2.resize(places, (columns, rows), interpolation=cv2.INTER_LINEAR))
    above = (places >= settings.threshold).astype(np.uint8)
    count, regions, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=_CONNECTIVITY)
    left, top, right, bottom = preprocessing.frame_in(window)
    across, down = (right - left) / columns, (bottom - top) / rows
    found = []
    for region in range(1, count):  # 0 is the rest
        x, y, wide, high = (int(stats[region, column]) for column in range(4))
        box = (
            _inside(left + x * across, window.left, window.right),
            _inside(top + y * down, window.top, window.bottom),
            _inside(left + (x + wide) * across, window.left, window.right),
            _inside(top + (y + high) * down, window.top, window.bottom),
        )
        if box[0] < box[2] and box[1] < box[3]:
            found.append(Opacity(box, float(places[regions == region].max())))
    return tuple(sorted(found, key=lambda one: -one.score))


def turned_back(box: Box, quarter_turns: int, height: int, width: int) -> Box:
    """A box in the coordinates of the image before it was rotated.

    Parameters
    ----------
    box
        In an image that was turned.
    quarter_turns
        Counter-clockwise turns of 90 degrees that made it.
    height, width
        Of the turned image, in pixels.
    """
    for _ in range(quarter_turns % 4):
        left, top, right, bottom = box
        # Counter-clockwise, (x, y) came from (height - y, x).
        box = (height - bottom, left, height - top, right)
        height, width = width, height
    return box


def _inside(edge: float, low: int, high: int) -> float:
    return round(min(max(edge, float(low)), float(high)), _DECIMALS)
