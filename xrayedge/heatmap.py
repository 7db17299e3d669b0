"""Where the model saw its reasons: the class activation map laid over the picture."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from .preprocessing import Preprocessing

_LONG_SIDE = 768
_OPACITY = 0.55
_BAR_WIDTH, _BAR_TEXT_WIDTH, _MARGIN, _HEADER = 18, 92, 12, 44
_COLOURS = cv2.COLORMAP_INFERNO
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (255, 255, 255)


def evidence(activation_map: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
    """How far each place speaks for one class against the mean of the others, in logits.

    Parameters
    ----------
    activation_map
        ``float32 [h, w, classes]``.
    channel
        Index of the class.

    Returns
    -------
    ``float32 [h, w]``. Its mean is the class's logit over the others', so unlike a single channel
    it does not change when all classes' logits rise together.
    """
    others = np.delete(activation_map, channel, axis=2).mean(axis=2)
    return np.asarray(activation_map[:, :, channel] - others, np.float32)


def overlay(
    pixels: NDArray[np.uint8],
    activation_map: NDArray[np.float32],
    preprocessing: Preprocessing,
    probabilities: Mapping[str, float],
    label: str,
) -> NDArray[np.uint8]:
    """Draw the evidence for ``label`` over the picture, with its score and a colour bar.

    Parameters
    ----------
    pixels
        The picture, ``uint8 [H, W]``.
    activation_map
        Of the same picture, ``float32 [h, w, classes]``.
    preprocessing
        What made the model's input out of the picture.
    probabilities
        Of each class, in the order of the map's channels.
    label
        The class to explain.

    Returns
    -------
    ``uint8 [H', W', 3]``, blue, green, red as OpenCV writes it; the longer side of the picture
    in it has 768 pixels.
    """
    scale = _LONG_SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.resize(pixels, (width, height), interpolation=shrinks)
    found = evidence(activation_map, list(probabilities).index(label))
    strongest = max(float(found.max()), 0.0)
    strength = np.clip(preprocessing.restore(found, height, width) / (strongest or 1.0), 0.0, 1.0)
    colours = cv2.applyColorMap(np.rint(strength * 255).astype(np.uint8), _COLOURS)
    opacity = (_OPACITY * strength)[:, :, np.newaxis]
    blended = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) * (1.0 - opacity) + colours * opacity
    canvas = np.zeros(
        (height + _HEADER, width + _MARGIN + _BAR_WIDTH + _BAR_TEXT_WIDTH, 3), np.uint8
    )
    canvas[_HEADER:, :width] = np.rint(blended)
    _draw_bar(canvas, height, width + _MARGIN, strongest)
    cv2.putText(
        canvas, f"{label} {probabilities[label]:.2f}", (8, 30), _FONT, 0.8, _WHITE, 1, cv2.LINE_AA
    )
    return canvas


def _draw_bar(canvas: NDArray[np.uint8], height: int, left: int, strongest: float) -> None:
    top, bottom = _HEADER + height // 8, _HEADER + height - height // 8
    ramp = np.linspace(255, 0, bottom - top).astype(np.uint8)[:, np.newaxis]
    canvas[top:bottom, left : left + _BAR_WIDTH] = cv2.applyColorMap(ramp, _COLOURS)
    beside = left + _BAR_WIDTH + 6
    for text, row in (("evidence", top - 26), ("(logits)", top - 10)):
        cv2.putText(canvas, text, (left, row), _FONT, 0.42, _WHITE, 1, cv2.LINE_AA)
    for text, row in ((f"{strongest:.1f}", top + 10), ("<= 0", bottom)):
        cv2.putText(canvas, text, (beside, row), _FONT, 0.45, _WHITE, 1, cv2.LINE_AA)
