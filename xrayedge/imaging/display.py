"""DICOM's grey transforms, in the order that the standard gives (PS3.3 C.11 and C.7.6.3).

Modality LUT, then VOI LUT or window, then presentation. Each step is a function of the stored
value alone, so they are worked out once on every value that a pixel can hold, and the image is
looked up in that table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .image import every_value, look_up, scale


@dataclass(frozen=True, eq=False)
class Table:
    """A lookup table (PS3.3 C.11.1 and C.11.2).

    Parameters
    ----------
    entries
        ``uint8|uint16 [N]``.
    first
        The value of the first entry; those below have it too, those above the last have the last.
    bits
        Of an entry: 1 to 16.
    """

    entries: NDArray[Any]
    first: int
    bits: int

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The entries of values of any number type."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[index], np.float64)


@dataclass(frozen=True)
class Window:
    """Centre, width and function of a window (PS3.3 C.11.2.1.2)."""

    centre: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The window of values, 0 to 255."""
        with np.errstate(over="ignore"):  # so far from the centre that it is black or white
            shares = self._shares(values)
        return np.asarray(np.rint(np.clip(shares, 0.0, 1.0) * 255.0), np.uint8)

    def _shares(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same before it is cut off at black and white."""
        if self.function == "SIGMOID":
            # Beyond 700 the exponential overflows, where the curve is flat.
            steepness = np.clip(-4.0 * ((values - self.centre) / self.width), -700.0, 700.0)
            return np.asarray(1.0 / (1.0 + np.exp(steepness)))
        if self.function == "LINEAR_EXACT":
            return np.asarray((values - self.centre) / self.width + 0.5)
        # Of width 1: a step at the centre less a half.
        middle, width = self.centre - 0.5, self.width - 1.0
        if width == 0.0:
            return np.asarray(values > middle, np.float64)
        return np.asarray((values - middle) / width + 0.5)


WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Display:
    """How stored values become grey.

    Parameters
    ----------
    stored
        Bits of a value; old overlays live in the others of its cell.
    signed
        Whether values are in two's complement.
    padding
        Least and largest stored value that stands for no pixel at all (PS3.3 C.7.5.1.1.2).
    modality
        Modality LUT, or slope and intercept.
    voi
        VOI LUT or window; without, the display's range is that of the values present.
    inverted
        Whether low values are shown bright.
    """

    stored: int
    signed: bool
    padding: tuple[int, int] | None
    modality: Table | tuple[float, float]
    voi: Table | Window | None
    inverted: bool

    def apply(self, pixels: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8]:
        """Grey of cells ``uint8|uint16 [H, W]``; padding is black.

        Raises
        ------
        ValueError
            The modality LUT gives values that are not finite.
        """
        stored = self._values(every_value(pixels.dtype))
        values = self._modality_values(stored)
        with np.errstate(over="ignore", invalid="ignore"):
            spread = values.max() - values.min()
        if not np.isfinite(spread):
            raise ValueError("the rescale slope gives infinite values")
        absent = np.zeros(stored.shape, bool)
        if self.padding is not None:
            absent = (stored >= self.padding[0]) & (stored <= self.padding[1])
        if isinstance(self.voi, Window):
            table = self.voi(values)
        elif isinstance(self.voi, Table):
            table = scale(self.voi(values), 0.0, 2.0**self.voi.bits - 1.0)
        else:
            seen = values[self._cells(pixels, absent)]
            if not seen.size:
                seen = values[:1]
            table = scale(values, float(seen.min()), float(seen.max()))
        if self.inverted:
            table = 255 - table
        table[absent] = 0
        return look_up(pixels, table)

    def _values(self, cells: NDArray[Any]) -> NDArray[np.int64]:
        values = cells.astype(np.int64) & ((1 << self.stored) - 1)
        if self.signed:
            values = np.where(values >> (self.stored - 1) == 1, values - (1 << self.stored), values)
        return values

    def _modality_values(self, stored: NDArray[np.int64]) -> NDArray[np.float64]:
        if isinstance(self.modality, Table):
            return self.modality(stored)
        slope, intercept = self.modality
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(stored * slope + intercept, np.float64)

    def _cells(
        self, pixels: NDArray[np.unsignedinteger[Any]], absent: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """The cells that can have the least and the largest value, padding aside."""
        linear = not isinstance(self.modality, Table) and not self.signed and not absent.any()
        least, largest = int(pixels.min()), int(pixels.max())
        if linear and largest < 1 << self.stored:
            return np.array([least, largest])
        counts = cv2.calcHist([pixels], [0], None, [len(absent)], [0, len(absent)])
        return np.flatnonzero((counts.ravel() > 0) & ~absent)
