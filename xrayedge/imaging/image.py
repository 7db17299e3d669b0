"""The form of every image within xrayedge: grey pixels, bones bright, with their tags."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableError
from .tags import AcquisitionTags

#: Share of red, green and blue in grey (ITU-R BT.601), which OpenCV and JPEG's Y have too.
_LUMA = (0.299, 0.587, 0.114)
_BLOCK = 1 << 22  # pixels looked up at once: indices take eight times the memory of the image


@dataclass(frozen=True, eq=False)
class Image:
    """A grey image.

    Parameters
    ----------
    pixels
        ``uint8 [H, W]``, bones bright whatever the file's photometric interpretation.
    source
        Where it came from: the path as the caller gave it, ``<bytes>`` or ``<array>``.
    tags
        Of a DICOM file.
    """

    pixels: NDArray[np.uint8]
    source: str
    tags: AcquisitionTags | None = None


def to_grey(values: NDArray[np.generic], source: str) -> NDArray[np.uint8]:
    """Bring a decoded array to ``uint8 [H, W]``.

    ``uint8`` keeps its values. Every other type is scaled linearly from its own minimum and
    maximum, as the images that the shipped models were trained on were. Three or four channels
    are red, green, blue and what is ignored; their grey is that of a colour file (ITU-R BT.601).

    Raises
    ------
    UnreadableError
        Not ``[H, W]`` or ``[H, W, 1|3|4]``, without pixels, not numeric, or not finite.
    """
    if values.dtype.kind not in "uifb":
        raise UnreadableError(f"{source}: pixels of type {values.dtype} are not numbers")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] in (3, 4) and values.size:
        values = _luma(values[:, :, :3])
    if values.ndim != 2 or values.size == 0:
        raise UnreadableError(
            f"{source}: expected one grey image [H, W], got shape {list(values.shape)}"
        )
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    return scale_to_bytes(values, source)


def _luma(colours: NDArray[Any]) -> NDArray[Any]:
    if colours.dtype == np.uint8:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY))
    weights = np.asarray(_LUMA, np.float64 if colours.dtype.itemsize > 4 else np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused behind
        return np.asarray(colours.astype(weights.dtype, copy=False) @ weights)


def scale_to_bytes(values: NDArray[np.generic], source: str) -> NDArray[np.uint8]:
    """Scale numbers ``[H, W]`` linearly from their own minimum and maximum to 0 and 255."""
    if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
        every = every_value(values.dtype).astype(np.float64)
        return look_up(values, scale(every, float(values.min()), float(values.max())))
    numbers = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32)
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite(high - low):
        raise UnreadableError(f"{source}: pixels hold NaN or infinite values; replace them first")
    return scale(numbers, low, high)


def scale(numbers: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Scale floats, ``low`` to 0 and ``high`` to 255 and beyond to the same; overwrites them."""
    factor = 255.0 / (high - low) if high > low else 0.0
    if not np.isfinite(factor):  # they differ by less than any grey value could show
        return np.where(numbers > low, 255, 0).astype(np.uint8)
    with np.errstate(over="ignore"):  # far beyond the range, which is black or white
        numbers -= low
        numbers *= factor
    np.rint(numbers, out=numbers)
    np.clip(numbers, 0.0, 255.0, out=numbers)
    return numbers.astype(np.uint8)


def every_value(dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """All values of an integer type of one or two bytes, in the order of their bit patterns."""
    return np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(
        dtype.newbyteorder("=")
    )


def look_up(values: NDArray[np.generic], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace integers ``[H, W]`` by their entries in a table in the order of `every_value`."""
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    patterns = native.view(f"u{values.dtype.itemsize}")
    if patterns.itemsize == 1 or _opencv_looks_up_16_bits():
        return np.asarray(cv2.LUT(patterns, table), np.uint8)
    found = np.empty(patterns.shape, np.uint8)
    rows = max(1, _BLOCK // patterns.shape[1])
    for top in range(0, len(patterns), rows):
        # No index is out of bounds; to clip saves the check.
        part = slice(top, top + rows)
        np.take(table, patterns[part], mode="clip", out=found[part])
    return found


@cache
def _opencv_looks_up_16_bits() -> bool:
    """Whether this OpenCV does: versions before 5.0 take tables of 256 entries only."""
    try:
        cv2.LUT(np.zeros((1, 1), np.uint16), np.zeros(1 << 16, np.uint8))
    except cv2.error:
        return False
    return True
