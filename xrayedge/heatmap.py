"""Heatmaps: the class activation map drawn over the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .opacities import Box, Opacity
from .preprocessing import Preprocessing

_Weight = TypeVar("_Weight", np.uint16, np.float32)

_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

_LONG_SIDE = 768
#: Rows drawn at once: few enough for a processor's cache, and many for each call.
_BAND = 64
#: A weight of one in the 16-bit sums of rows.
_ONE = 256
#: How much of the strongest place's colour is the map's.
_COVER = 0.55
_BAR_WIDTH, _BAR_TEXT_WIDTH, _MARGIN, _HEADER = 18, 92, 12, 44
_COLOURS = cv2.COLORMAP_INFERNO
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (255, 255, 255)
_OUTLINE = (255, 255, 0)  # cyan, which is no colour of the map
_RESEARCH = "research software, not a medical device"
#: Of the levels 0 to 255 of the evidence: the colour that is added, and what is left of the grey.
_LEVELS = np.arange(256, dtype=np.uint8)[:, np.newaxis]
_SHARES = _COVER * np.arange(256)[:, np.newaxis, np.newaxis] / 255.0
_ADDED = np.rint(cv2.applyColorMap(_LEVELS, _COLOURS) * _SHARES).astype(np.uint8)
_LEFT = np.rint(255.0 * (1.0 - _SHARES)).astype(np.uint8)
#: Blue, green, red and what is left as one number, so that one look-up gives all.
_ADDED_AND_LEFT = np.dstack([_ADDED, _LEFT]).view(np.int32)[:, :, 0]


def evidence(activation_map: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
    """The evidence of each place for one class against the mean of the others, in logits.

    Parameters
    ----------
    activation_map
        ``float32 [h, w, classes]``, without the channel of opacities.
    channel
        Index of the class.

    Returns
    -------
    ``float32 [h, w]``. Its mean is the class's logit over the others', so unlike a single channel
    it does not change when all classes' logits rise together.
    """
    others = np.delete(activation_map, channel, axis=2).mean(axis=2)
    return np.asarray(activation_map[:, :, channel] - others, np.float32)


def part_of(lungs: Box | None, height: int, width: int) -> Box:
    """The ``part`` of `overlay` and `layer` for `Screening.lungs` of an image of this size."""
    left, top, right, bottom = lungs or (0.0, 0.0, float(width), float(height))
    return left / width, top / height, right / width, bottom / height


def layer(
    activation_map: NDArray[np.float32],
    preprocessing: Preprocessing,
    probabilities: Mapping[str, float],
    label: str,
    height: int,
    width: int,
    part: Box = _WHOLE,
) -> NDArray[np.uint8]:
    """The evidence for ``label`` alone, to be laid over an image of this size by somebody else.

    Parameters
    ----------
    activation_map, preprocessing, probabilities, label
        As of `overlay`.
    height, width
        In pixels.
    part
        As of `overlay`.

    Returns
    -------
    ``uint8 [height, width, 4]``: blue, green, red and alpha, which is 255 at the strongest place
    and 0 where nothing speaks for the label.
    """
    strength = _strength(activation_map, preprocessing, probabilities, label, height, width, part)[
        0
    ]
    level = _level(strength)
    return np.dstack([np.asarray(cv2.applyColorMap(level, _COLOURS), np.uint8), level])


def overlay(
    pixels: NDArray[np.uint8],
    activation_map: NDArray[np.float32],
    preprocessing: Preprocessing,
    probabilities: Mapping[str, float],
    label: str,
    opacities: Sequence[Opacity] = (),
    part: Box = _WHOLE,
) -> NDArray[np.uint8]:
    """Draw the evidence for ``label`` over the image, with its score and a colour bar.

    Parameters
    ----------
    pixels
        The image, ``uint8 [H, W]``.
    activation_map
        Of the same image, ``float32 [h, w, channels]``; the classes' channels come first.
    preprocessing
        What made the model's input out of the image.
    probabilities
        Of each class, in the order of the map's channels.
    label
        The class to explain.
    opacities
        Outlined, each with its score; in pixels of this image.
    part
        What the classifier saw of the image: left, top, right and bottom edge, as shares of its
        width and height.

    Returns
    -------
    ``uint8 [H', W', 3]``, blue, green, red as OpenCV writes it; the longer side of the image
    in it has 768 pixels.
    """
    scale = _LONG_SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    strength, strongest = _strength(
        activation_map, preprocessing, probabilities, label, height, width, part
    )
    canvas = np.zeros(
        (height + _HEADER, width + _MARGIN + _BAR_WIDTH + _BAR_TEXT_WIDTH, 3), np.uint8
    )
    drawn = canvas[_HEADER:, :width]
    for rows, grey in _resized(pixels, height, width):
        _blend(grey, strength[rows], drawn[rows])
    for opacity in opacities:
        _outline(drawn, opacity, scale)
    _draw_bar(canvas, height, width + _MARGIN, strongest)
    title = f"{label} {probabilities[label]:.2f}"
    cv2.putText(canvas, title, (8, 21), _FONT, 0.7, _WHITE, 1, cv2.LINE_AA)
    cv2.putText(canvas, _RESEARCH, (8, 38), _FONT, 0.36, _WHITE, 1, cv2.LINE_AA)
    return canvas


def _strength(
    activation_map: NDArray[np.float32],
    preprocessing: Preprocessing,
    probabilities: Mapping[str, float],
    label: str,
    height: int,
    width: int,
    part: Box,
) -> tuple[NDArray[np.float32], float]:
    """``float32 [height, width]``, 1 at the strongest place, and the evidence there in logits."""
    of_classes = activation_map[:, :, : len(probabilities)]
    found = evidence(of_classes, list(probabilities).index(label))
    strongest = max(float(found.max()), 0.0)
    left, right = (round(part[edge] * width) for edge in (0, 2))
    top, bottom = (round(part[edge] * height) for edge in (1, 3))
    seen = preprocessing.restore(
        found / (strongest or 1.0), max(bottom - top, 1), max(right - left, 1)
    )
    if seen.shape == (height, width):
        return seen, strongest
    strength = np.zeros((height, width), np.float32)
    strength[top : top + len(seen), left : left + seen.shape[1]] = seen
    return strength, strongest


def _level(strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    _, positive = cv2.threshold(strength, 0.0, 0.0, cv2.THRESH_TOZERO)
    return np.asarray(cv2.convertScaleAbs(positive, alpha=255.0), np.uint8)


def _resized(
    pixels: NDArray[np.uint8], height: int, width: int
) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Bands of the resized image, ``uint8 [_BAND, width]``, and which rows they are.

    Where the image shrinks, each pixel is the mean of the area that it stands for, to one grey
    level what OpenCV's ``INTER_AREA`` gives, in less than half the time: whole rows are added, in
    16 bits, then whole columns, as rows of the transposed band. A band stays in the cache.
    """
    if height > len(pixels) or width > pixels.shape[1]:
        enlarged = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        yield slice(0, height), np.asarray(enlarged, np.uint8)
        return
    rows, shares = _covered(len(pixels), height)
    columns, shares_across = _covered(pixels.shape[1], width)
    weights = np.rint(_ONE * shares)
    # They are rounded, and must add up to one: the largest can take the difference.
    weights[weights.argmax(axis=0), np.arange(height)] += _ONE - weights.sum(axis=0)
    of_rows, of_columns = weights.astype(np.uint16), (shares_across / _ONE).astype(np.float32)
    for top in range(0, height, _BAND):
        band = slice(top, min(top + _BAND, height))
        tall = np.asarray(cv2.transpose(_weighed(pixels, rows[:, band], of_rows[:, band])))
        shrunk = cv2.convertScaleAbs(_weighed(tall, columns, of_columns))
        yield band, np.asarray(cv2.transpose(shrunk), np.uint8)


def _covered(length: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which of ``length`` rows each of ``count`` new ones covers, and how much of it each makes up.

    Both ``[taps, count]``; the shares of a column add up to 1.
    """
    edges = np.linspace(0.0, length, count + 1)
    taps = (
        np.floor(edges[:-1]).astype(np.intp)
        + np.arange(int(np.ceil(length / count)) + 1)[:, np.newaxis]
    )
    covered = np.minimum(edges[1:], taps + 1) - np.maximum(edges[:-1], taps)
    return np.minimum(taps, length - 1), np.maximum(covered, 0.0) * (count / length)


def _weighed(
    values: NDArray[Any], taps: NDArray[np.intp], weights: NDArray[_Weight]
) -> NDArray[_Weight]:
    """For each column of ``taps`` the sum of the rows that it names, each times its weight."""
    kind, factors = weights.dtype, weights[:, :, np.newaxis]
    # Take and multiply in place, because new memory costs more than the arithmetic.
    sums: NDArray[_Weight] = np.multiply(values.take(taps[0], axis=0), factors[0], dtype=kind)
    product = np.empty_like(sums)
    for rows, factor in zip(taps[1:], factors[1:], strict=True):
        sums += np.multiply(values.take(rows, axis=0), factor, out=product, dtype=kind)
    return sums


def _blend(grey: NDArray[np.uint8], strength: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """Draw ``uint8 [H, W]`` under the colours of ``float32 [H, W]``, up to 1, to ``[H, W, 3]``.

    In bytes and by tables, which is several times faster than in floats and, for the rounding of
    the level and of both parts of the sum, at most two grey levels off.
    """
    level = _level(strength)
    found = cv2.LUT(level, _ADDED_AND_LEFT).view(np.uint8).reshape(*level.shape, 4)
    under = cv2.multiply(grey, cv2.extractChannel(found, 3), scale=1.0 / 255.0)
    sums = cv2.add(cv2.cvtColor(under, cv2.COLOR_GRAY2BGRA), found)
    cv2.cvtColor(sums, cv2.COLOR_BGRA2BGR, dst=out)


def _outline(image: NDArray[np.uint8], opacity: Opacity, scale: float) -> None:
    left, top, right, bottom = (round(edge * scale) for edge in opacity.box)
    cv2.rectangle(image, (left, top), (right - 1, bottom - 1), _OUTLINE, 2)
    row = top - 6 if top >= 20 else top + 16
    cv2.putText(
        image, f"{opacity.score:.2f}", (left + 4, row), _FONT, 0.5, _OUTLINE, 1, cv2.LINE_AA
    )


def _draw_bar(canvas: NDArray[np.uint8], height: int, left: int, strongest: float) -> None:
    top, bottom = _HEADER + height // 8, _HEADER + height - height // 8
    ramp = np.linspace(255, 0, bottom - top).astype(np.uint8)[:, np.newaxis]
    canvas[top:bottom, left : left + _BAR_WIDTH] = cv2.applyColorMap(ramp, _COLOURS)
    beside = left + _BAR_WIDTH + 6
    for text, row in (("evidence", top - 26), ("(logits)", top - 10)):
        cv2.putText(canvas, text, (left, row), _FONT, 0.42, _WHITE, 1, cv2.LINE_AA)
    for text, row in ((f"{strongest:.1f}", top + 10), ("<= 0", bottom)):
        cv2.putText(canvas, text, (beside, row), _FONT, 0.45, _WHITE, 1, cv2.LINE_AA)
