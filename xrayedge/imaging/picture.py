"""The one form in which every picture travels through xrayedge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableError
from .tags import AcquisitionTags

_BLOCK = 1 << 22  # pixels looked up at once: indices take eight times the memory of the picture


@dataclass(frozen=True, eq=False)
class Picture:
    """A grey picture.

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
    maximum, as the pictures that the shipped models were trained on were. Three or four channels
    are averaged over the first three: a radiograph's are equal.

    Raises
    ------
    UnreadableError
        Not ``[H, W]`` or ``[H, W, 1|3|4]``, without pixels, not numeric, or not finite.
    """
    if values.dtype.kind not in "uifb":
        raise UnreadableError(f"{source}: pixels of type {values.dtype} are not numbers")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] in (3, 4):
        averaged = values[:, :, :3].mean(axis=2, dtype=np.float32)
        values = np.rint(averaged).astype(np.uint8) if values.dtype == np.uint8 else averaged
    if values.ndim != 2 or values.size == 0:
        raise UnreadableError(
            f"{source}: expected one grey picture [H, W], got shape {list(values.shape)}"
        )
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    return scale_to_bytes(values, source)


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
    numbers -= low
    numbers *= 255.0 / (high - low) if high > low else 0.0
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
    found = np.empty(patterns.shape, np.uint8)
    rows = max(1, _BLOCK // patterns.shape[1])
    for top in range(0, len(patterns), rows):
        found[top : top + rows] = table[patterns[top : top + rows]]
    return found
