"""The one form in which every picture travels through xrayedge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableError


@dataclass(frozen=True, eq=False)
class Picture:
    """A grey picture.

    Parameters
    ----------
    pixels
        ``uint8 [H, W]``, bones bright whatever the file's photometric interpretation.
    source
        Where it came from: the path as the caller gave it, ``<bytes>`` or ``<array>``.
    """

    pixels: NDArray[np.uint8]
    source: str


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
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] in (3, 4):
        averaged = values[:, :, :3].mean(axis=2)
        values = np.rint(averaged).astype(np.uint8) if values.dtype == np.uint8 else averaged
    if values.ndim != 2 or values.size == 0:
        raise UnreadableError(
            f"{source}: expected one grey picture [H, W], got shape {list(values.shape)}"
        )
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if values.dtype.kind not in "uifb":
        raise UnreadableError(f"{source}: pixels of type {values.dtype} are not numbers")
    return scale_to_bytes(values, source)


def scale_to_bytes(values: NDArray[np.generic], source: str) -> NDArray[np.uint8]:
    """Scale numbers ``[H, W]`` linearly from their own minimum and maximum to 0 and 255."""
    numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise UnreadableError(f"{source}: pixels hold NaN or infinite values; replace them first")
    low, high = float(numbers.min()), float(numbers.max())
    if high == low:
        return np.zeros(numbers.shape, np.uint8)
    scaled = np.rint((numbers - low) * (255.0 / (high - low)))
    return np.asarray(scaled, np.uint8)
