"""Augmentation of training images before preprocessing: geometry, exposure, sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data import Box

_OCTAVES = 5
_FINEST = 3  # octaves: at twice the input's resolution the third is four input pixels wide
_CHARACTERS = "ABCDEFGHIKLMNOPRSTUVWXYZ0123456789LLRRAP :/"
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
_CAPITAL = 22.0  # pixels high at OpenCV's scale 1
_WIDEST_MARGIN = 0.12  # of a side, around the lungs
_DEEPEST_INSET = 0.18  # of a side: the lungs begin further in


@dataclass(frozen=True)
class Augmentation:
    """The strength of augmentation. Each number is the largest change in either direction.

    Parameters
    ----------
    rotation
        Degrees.
    zoom, shift, stretch
        Fractions: of the scale, of the side, and of the aspect ratio.
    flip
        Probability of a left-right mirror image.
    gamma
        Natural logarithm of the exponent on grey values.
    contrast, brightness
        Fractions of the grey range.
    blur
        Probability of losing resolution to that of a small or over-compressed image.
    erase
        Probability of blanking a rectangle, where burnt-in text or a device might be.
    text
        Probability of burnt-in text: a side marker or a few words, as in any hospital.
    collimate
        Probability of blanking bars along the sides, as a collimator or a film's edge does.
    style
        Probability of moving the grey values towards another image's histogram, so that a source's
        exposure and film do not reveal its class.
    border
        Probability of replacing the outer part of the image by that of another image, so that
        labels, shields and collimation do not reveal the class.
    texture
        Natural logarithm of the gain on each octave of detail: detectors and their software
        sharpen and smooth differently.
    detail
        Probability of taking the finest detail from another image: traces of a detector, its
        software or a journal's compression then say nothing about the class.
    noise
        Largest standard deviation of added noise, as a fraction of the grey range.
    lung_crop
        Probability of cropping the image to the box around the lungs and a random margin, if there
        is such a box: hospitals collimate differently.
    """

    rotation: float = 8.0
    zoom: float = 0.12
    shift: float = 0.05
    stretch: float = 0.12
    flip: float = 0.5
    gamma: float = 0.4
    contrast: float = 0.2
    brightness: float = 0.1
    blur: float = 0.4
    erase: float = 0.3
    text: float = 0.0
    collimate: float = 0.0
    style: float = 0.0
    border: float = 0.0
    texture: float = 0.0
    detail: float = 0.0
    noise: float = 0.0
    lung_crop: float = 0.0

    def apply(
        self, pixels: NDArray[np.uint8], other: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Augment ``uint8 [H, W]``; the result has the same shape.

        ``other``, an image of any class and size, provides its style and its surroundings.
        """
        return self.vary(pixels, other, rng)[0]

    def vary(
        self,
        pixels: NDArray[np.uint8],
        other: NDArray[np.uint8],
        rng: np.random.Generator,
        lung_box: Box | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Augment an image, and return how its pixels moved.

        Parameters
        ----------
        pixels
            ``uint8 [H, W]``.
        other
            An image of any class and size, which provides its style and its surroundings.
        lung_box
            Box around both lungs, in fractions of the image's width and height.

        Returns
        -------
        The augmented image, ``uint8 [H, W]``, and the affine transform ``float64 [2, 3]`` that maps
        a pixel's centre (x, y) in the original to its position in the augmented image.
        """
        matrix = self._geometry(pixels.shape, rng)
        if lung_box is not None and rng.random() < self.lung_crop:
            matrix = _after(matrix, _cut_to(lung_box, pixels.shape, rng))
        pixels = _warp(pixels, matrix)
        if rng.random() < self.border:
            pixels = _surround(pixels, other, rng)
        if rng.random() < self.detail:
            pixels = _swap_detail(pixels, other, rng)
        if self.texture:
            pixels = _retexture(pixels, self.texture, rng)
        if rng.random() < self.blur:
            pixels = _degrade(pixels, rng)
        if rng.random() < self.style:
            pixels = _restyle(pixels, other, rng)
        pixels = self._expose(pixels, rng)
        if self.noise:
            pixels = _add_noise(pixels, rng.uniform(0.0, self.noise), rng)
        if rng.random() < self.erase:
            pixels = _erase(pixels, rng)
        if rng.random() < self.text:
            pixels = _write(pixels, rng)
        if rng.random() < self.collimate:
            pixels = _collimate(pixels, rng)
        return pixels, matrix

    def _geometry(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        height, width = shape
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        scale = 1.0 + rng.uniform(-self.zoom, self.zoom)
        stretch = np.exp(rng.uniform(-self.stretch, self.stretch) / 2.0)
        mirror = -1.0 if rng.random() < self.flip else 1.0
        rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = rotate @ np.diag([scale * stretch * mirror, scale / stretch])
        centre = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
        moved = centre + rng.uniform(-self.shift, self.shift, 2) * (width, height)
        return np.column_stack([linear, moved - linear @ centre])

    def _expose(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        levels = np.linspace(0.0, 1.0, 256)
        levels = levels ** np.exp(rng.uniform(-self.gamma, self.gamma))
        levels = (levels - 0.5) * (1.0 + rng.uniform(-self.contrast, self.contrast)) + 0.5
        levels = levels + rng.uniform(-self.brightness, self.brightness)
        table = np.rint(np.clip(levels, 0.0, 1.0) * 255.0).astype(np.uint8)
        return np.asarray(cv2.LUT(pixels, table), dtype=np.uint8)


def _cut_to(box: Box, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """The transform that enlarges a box, with a random margin on each side, to the whole image."""
    height, width = shape
    left, top, right, bottom = box
    margins = rng.uniform(0.02, _WIDEST_MARGIN, 4)
    left, top = max(0.0, left - margins[0]), max(0.0, top - margins[1])
    right, bottom = min(1.0, right + margins[2]), min(1.0, bottom + margins[3])
    across, down = 1.0 / (right - left), 1.0 / (bottom - top)
    # Of edges first, then of pixel centres, which are half a pixel away from them.
    return np.array(
        [
            [across, 0.0, across * (0.5 - left * width) - 0.5],
            [0.0, down, down * (0.5 - top * height) - 0.5],
        ]
    )


def _after(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine transform that applies one after the other."""
    return np.asarray(second @ np.vstack([first, [0.0, 0.0, 1.0]]), np.float64)


def _warp(pixels: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = pixels.shape
    warped = cv2.warpAffine(
        pixels,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return np.asarray(warped, dtype=np.uint8)


def _surround(
    pixels: NDArray[np.uint8], other: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Keep a central rectangle with random insets and soft edges; fill the rest from ``other``."""
    height, width = pixels.shape
    top, bottom = (round(height * inset) for inset in rng.uniform(0.02, _DEEPEST_INSET, 2))
    left, right = (round(width * inset) for inset in rng.uniform(0.02, _DEEPEST_INSET, 2))
    own = np.zeros((height, width), np.float32)
    own[top : height - bottom, left : width - right] = 1.0
    softness = 0.01 * min(height, width)
    own = np.asarray(cv2.GaussianBlur(own, (0, 0), softness), dtype=np.float32)
    outside = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(own * pixels + (1.0 - own) * outside), dtype=np.uint8)


def _retexture(
    pixels: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Scale each octave of detail by its own random gain."""
    bands, level = _octaves(pixels, _OCTAVES)
    gains = np.exp(rng.uniform(-strength, strength, _OCTAVES)).astype(np.float32)
    return _compose([gain * band for gain, band in zip(gains, bands, strict=True)], level)


def _swap_detail(
    pixels: NDArray[np.uint8], other: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Replace the one to three finest octaves by those of ``other``."""
    height, width = pixels.shape
    count = int(rng.integers(1, _FINEST + 1))
    fitted = np.asarray(cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    _, level = _octaves(pixels, count)
    bands, _ = _octaves(fitted, count)
    return _compose(bands, level)


def _octaves(
    pixels: NDArray[np.uint8], count: int
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """The finest bands of a Laplacian pyramid (Burt & Adelson 1983), and the remainder."""
    level: NDArray[np.float32] = pixels.astype(np.float32)
    bands = []
    for _ in range(count):
        below = np.asarray(cv2.pyrDown(level), dtype=np.float32)
        bands.append(level - cv2.pyrUp(below, dstsize=(level.shape[1], level.shape[0])))
        level = below
    return bands, level


def _compose(bands: list[NDArray[np.float32]], level: NDArray[np.float32]) -> NDArray[np.uint8]:
    for band in reversed(bands):
        above = cv2.pyrUp(level, dstsize=(band.shape[1], band.shape[0]))
        level = np.asarray(above + band, dtype=np.float32)
    return np.asarray(np.clip(np.rint(level), 0, 255), dtype=np.uint8)


def _restyle(
    pixels: NDArray[np.uint8], other: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Move the histogram towards that of ``other``, by a random share."""
    own, wanted = (
        np.cumsum(np.bincount(image.ravel(), minlength=256)) / image.size
        for image in (pixels, other)
    )
    levels = np.arange(256)
    matched = np.interp(own, wanted, levels)
    share = rng.random()
    table = np.rint(share * matched + (1.0 - share) * levels).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table), dtype=np.uint8)


def _add_noise(
    pixels: NDArray[np.uint8], deviation: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(deviation * 255.0)
    return np.asarray(np.clip(np.rint(pixels + noise), 0, 255), dtype=np.uint8)


def _degrade(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = pixels.shape
    factor = rng.uniform(0.3, 0.9)
    small = (max(8, round(width * factor)), max(8, round(height * factor)))
    reduced = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
    _, data = cv2.imencode(".jpg", reduced, quality)
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None  # just encoded
    restored = cv2.resize(decoded, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(restored, dtype=np.uint8)


def _erase(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = pixels.shape
    erased: NDArray[np.uint8] = pixels.copy()
    rows, columns = (max(1, round(side * rng.uniform(0.05, 0.25))) for side in (height, width))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    erased[top : top + rows, left : left + columns] = rng.integers(0, 256)
    return erased


def _write(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One to three lines of capitals and digits, bright or dark, mostly near an edge."""
    height, width = pixels.shape
    written: NDArray[np.uint8] = pixels.copy()
    size = min(height, width) * rng.uniform(0.03, 0.08)  # of a capital
    scale, thickness = size / _CAPITAL, max(1, round(size / 8))
    left = round(width * _near_an_edge(rng))
    top = round(height * _near_an_edge(rng))
    grey = int(rng.choice([255, 255, 230, 0]))
    for line in range(int(rng.integers(1, 4))):
        characters = rng.choice(list(_CHARACTERS), size=int(rng.choice([1, 1, 2, 6, 10])))
        place = (left, top + round((1 + 1.6 * line) * size))
        font = int(rng.choice(_FONTS))
        cv2.putText(written, "".join(characters), place, font, scale, grey, thickness)
    return written


def _near_an_edge(rng: np.random.Generator) -> float:
    distance = 0.25 * rng.random()
    return distance if rng.random() < 0.5 else 0.9 - distance


def _collimate(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = pixels.shape
    level = rng.choice([0, 255, int(rng.integers(0, 256))])
    collimated = np.full_like(pixels, level)
    top, bottom = (round(height * rng.uniform(0.0, 0.15)) for _ in range(2))
    left, right = (round(width * rng.uniform(0.0, 0.15)) for _ in range(2))
    inside = np.s_[top : height - bottom, left : width - right]
    collimated[inside] = pixels[inside]
    return collimated
