"""From a grey image to a model's input bytes.

This is the only place that stretches, resizes or equalises. The same object trains a model,
calibrates its quantised files and screens with it; a bundle's manifest carries its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

#: From this multiple of the target size on, halving first changes grey values only by rounding.
_HALVE_FROM = 8

#: An image that spans fewer grey levels is stretched before anything else.
NARROWEST_RANGE = 96
_TAIL = 200  # one pixel in so many may lie outside, at either end: markers, borders
_ROWS_LOOKED_AT = 128  # of a large image, evenly spaced

Fit = Literal["stretch", "pad", "crop"]
Equalisation = Literal["none", "global", "clahe"]


@dataclass(frozen=True)
class Window:
    """A part of an image, in whole pixels.

    Parameters
    ----------
    left, top, right, bottom
        Edges: the whole of an image is (0, 0, width, height).
    """

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def whole(cls, height: int, width: int) -> Window:
        """All of an image."""
        return cls(0, 0, width, height)

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """That part of ``uint8 [H, W]``, which is not copied."""
        return pixels[self.top : self.bottom, self.left : self.right]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The edges as numbers of pixels."""
        return float(self.left), float(self.top), float(self.right), float(self.bottom)


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a square, then equalise the histogram.

    Parameters
    ----------
    size
        Side of the model's square input, in pixels.
    fit
        How an image is made square: ``stretch`` changes its aspect ratio,
        ``pad`` adds black bars, ``crop`` keeps the central square.
    equalisation
        ``none``; ``global``, one histogram for the whole image (Civit-Masot et al. 2020,
        section 2.2); or ``clahe``, contrast limited adaptive equalisation (Zuiderveld 1994).
    clahe_clip, clahe_tiles
        Clip limit, as a multiple of a flat histogram's bin, and tiles per side. Used by ``clahe``.
    """

    size: int = 224
    fit: Fit = "stretch"
    equalisation: Equalisation = "clahe"
    clahe_clip: float = 2.0
    clahe_tiles: int = 8

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, not {self.size}")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {get_args(Fit)}, not {self.fit!r}")
        if self.equalisation not in get_args(Equalisation):
            raise ValueError(
                f"equalisation must be one of {get_args(Equalisation)}, not {self.equalisation!r}"
            )
        if self.clahe_clip <= 0 or self.clahe_tiles < 1:
            raise ValueError("clahe_clip and clahe_tiles must be positive")

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn an image into one model input.

        Parameters
        ----------
        pixels
            ``uint8 [H, W]``, grey, bones bright.

        Returns
        -------
        ``uint8 [size, size, 1]``.
        """
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels must be uint8 [H, W], not {pixels.dtype} {list(pixels.shape)}"
            )
        if self.fit == "crop":
            pixels = _central_square(pixels)
        square = self._equalise(_resize(pixels, self._inner(*pixels.shape)))
        if self.fit == "pad":
            square = _pad(square, self.size)
        return np.ascontiguousarray(square)[:, :, np.newaxis]

    def frame(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the model's input in an image's pixels.

        Beyond the image where ``pad`` adds bars.
        """
        if self.fit == "stretch":
            return 0.0, 0.0, float(width), float(height)
        side = min(height, width) if self.fit == "crop" else max(height, width)
        left, top = (width - side) / 2.0, (height - side) / 2.0
        return left, top, left + side, top + side

    def frame_in(self, window: Window) -> tuple[float, float, float, float]:
        """The same in the whole image's pixels, where the input was made of a part of it."""
        left, top, right, bottom = self.frame(*window.shape)
        return left + window.left, top + window.top, right + window.left, bottom + window.top

    def restore(self, values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """Map values from the model's input back onto the image that it was made from.

        Parameters
        ----------
        values
            ``float32 [h, w]``, covering the input.
        height, width
            Of the image, in pixels.

        Returns
        -------
        ``float32 [height, width]``; zero where ``crop`` cut the image off.
        """
        if self.fit == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            restored = np.zeros((height, width), np.float32)
            restored[top : top + side, left : left + side] = _enlarge(values, side, side)
            return restored
        if self.fit == "pad":
            side = max(height, width)
            top, left = (side - height) // 2, (side - width) // 2
            return _enlarge(values, side, side)[top : top + height, left : left + width]
        return _enlarge(values, height, width)

    def _inner(self, height: int, width: int) -> tuple[int, int]:
        """Width and height to which a cropped image is resized."""
        if self.fit != "pad":
            return self.size, self.size
        scale = self.size / max(height, width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _halves(self, height: int, width: int) -> bool:
        """Whether `apply` would halve an image of this size first, with the same result.

        Halving an odd side changes the aspect ratio, and a central square may move.
        """
        even = height % 2 == 0 and width % 2 == 0
        return even and self.fit != "crop" and _is_large(self._inner(height, width), height, width)

    def _equalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.equalisation == "global":
            return np.asarray(cv2.equalizeHist(pixels), dtype=np.uint8)
        if self.equalisation == "clahe":
            tiles = (self.clahe_tiles, self.clahe_tiles)
            equaliser = cv2.createCLAHE(clipLimit=self.clahe_clip, tileGridSize=tiles)
            return np.asarray(equaliser.apply(pixels), dtype=np.uint8)
        return pixels

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preprocessing:
        """Rebuild from :meth:`to_dict`; an unknown setting is a ``ValueError``."""
        unknown = sorted(set(settings) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown preprocessing settings: {', '.join(unknown)}")
        return cls(**settings)


def fill_range(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch an image that fills little of the grey range, before any network sees it.

    Such images come from an export without a window, or with one bright marker on dark lungs. If
    the levels between which the pixels lie, except for one in 200 at either end, are fewer than
    `NARROWEST_RANGE` apart, these levels become 0 and 255. Of a large image, some 128 rows decide.

    Parameters
    ----------
    pixels
        ``uint8 [H, W]``.

    Returns
    -------
    ``uint8 [H, W]``; ``pixels`` itself if they span enough levels, or only one.
    """
    rows = pixels[:: max(1, len(pixels) // _ROWS_LOOKED_AT)]
    counts = cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    outside = rows.size // _TAIL
    low = int(np.argmax(np.cumsum(counts) > outside))
    high = 255 - int(np.argmax(np.cumsum(counts[::-1]) > outside))
    span = high - low
    if not 0 < span < NARROWEST_RANGE:
        return pixels
    above = np.clip(np.arange(256) - low, 0, span)
    table = (510 * above + span) // (2 * span)  # halves upwards
    return np.asarray(cv2.LUT(pixels, table.astype(np.uint8)), dtype=np.uint8)


def halved_for(
    pixels: NDArray[np.uint8], preprocessings: Sequence[Preprocessing]
) -> NDArray[np.uint8]:
    """The image, halved as often as all of them would halve it.

    Each makes the same input of it, to the bit, as of the image. A large image is read only once.
    ``uint8 [H, W]`` both; `pixels` itself if there is nothing to halve.
    """
    while all(one._halves(*pixels.shape) for one in preprocessings):
        pixels = _halved(pixels)
    return pixels


def _central_square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Area averaging along a side that shrinks (no aliasing), bilinear along one that grows.

    Large images are halved first: OpenCV does that many times faster than any other ratio.
    """
    while _is_large(size, *pixels.shape):
        pixels = _halved(pixels)
    height, width = pixels.shape
    # One side after the other where they differ: OpenCV has one interpolation for both.
    smaller = min(width, size[0]), min(height, size[1])
    resized = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    if smaller != size:
        resized = cv2.resize(resized, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _is_large(size: tuple[int, int], height: int, width: int) -> bool:
    return width >= _HALVE_FROM * size[0] and height >= _HALVE_FROM * size[1]


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    even = pixels[: 2 * height, : 2 * width]
    halved = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(halved, dtype=np.uint8)


def _enlarge(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    # Bilinear, because cubic interpolation overshoots and would show evidence that is not there.
    enlarged = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, dtype=np.float32)


def _pad(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), np.uint8)
    square[top : top + height, left : left + width] = pixels
    return square
