"""Artificial images, drawn from a seed, which the frontal check must reject as well."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
)
_LETTERS = np.array(list(string.ascii_letters + string.digits + "   ,.:-"))

_Draw = Callable[[tuple[int, int], np.random.Generator], NDArray[np.uint8]]


def draw(kind: str, seed: int) -> NDArray[np.uint8]:
    """One image ``uint8 [H, W]`` of a kind of `KINDS`; the same for the same seed."""
    rng = np.random.default_rng([list(KINDS).index(kind), seed])
    shape = (int(rng.integers(160, 513)), int(rng.integers(160, 513)))
    return KINDS[kind](shape, rng)


def _blank(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    level = rng.choice([0, 255, int(rng.integers(0, 256))])
    return np.full(shape, level, np.uint8)


def _nearly_constant(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A level with a few grey values of noise, or a plain gradient across."""
    level, spread = rng.uniform(20, 235), rng.uniform(0.5, 6.0)
    rise, run = np.mgrid[: shape[0], : shape[1]]
    gradient = (rng.normal() * rise / shape[0] + rng.normal() * run / shape[1]) * rng.uniform(0, 60)
    return _clip(level + gradient + rng.normal(0.0, spread, shape))


def _noise(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """White noise, or noise smoothed to clouds of any size."""
    cell = float(np.exp(rng.uniform(0.0, np.log(100.0))))
    coarse = (max(2, round(shape[0] / cell)), max(2, round(shape[1] / cell)))
    values = rng.normal(128.0, rng.uniform(20.0, 80.0), coarse)
    return _clip(cv2.resize(values, shape[::-1], interpolation=cv2.INTER_CUBIC))


def _checkerboard(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A checkerboard, or stripes, in two levels."""
    cell = float(np.exp(rng.uniform(np.log(4.0), np.log(120.0))))
    rows, columns = np.mgrid[: shape[0], : shape[1]] // cell
    odd = (rows * rng.integers(0, 2) + columns) % 2 == 1
    dark, bright = sorted(rng.integers(0, 256, 2))
    return np.asarray(np.where(odd, bright, dark), np.uint8)


def _text(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A page or a window of text, dark on bright or bright on dark, with panels and rules."""
    page = np.full(shape, int(rng.integers(170, 256)), np.uint8)
    for _ in range(int(rng.integers(0, 5))):
        corner = rng.integers(0, shape[::-1]), rng.integers(0, shape[::-1])
        level, thickness = int(rng.integers(60, 256)), int(rng.choice([-1, 1, 2]))
        cv2.rectangle(page, corner[0].tolist(), corner[1].tolist(), level, thickness)
    size = rng.uniform(0.3, 1.2)
    font, ink = int(rng.choice(_FONTS)), int(rng.integers(0, 90))
    left, advance = int(rng.integers(2, 40)), int(24 * size + rng.integers(4, 16))
    for row in range(advance, shape[0], advance):
        if rng.random() < 0.85:
            line = "".join(rng.choice(_LETTERS, int(rng.integers(3, 60))))
            cv2.putText(page, line, (left, row), font, size, ink, 1, cv2.LINE_AA)
    return 255 - page if rng.random() < 0.4 else page


def _shapes(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Plain discs and boxes, as in drawings and test patterns."""
    drawing = np.full(shape, int(rng.integers(0, 256)), np.uint8)
    for _ in range(int(rng.integers(1, 8))):
        centre = rng.integers(0, shape[::-1]).tolist()
        axes = (rng.integers(5, 40, 2) * min(shape) // 100 + 1).tolist()
        level = int(rng.integers(0, 256))
        cv2.ellipse(drawing, centre, axes, float(rng.uniform(0, 180)), 0, 360, level, -1)
    return _clip(drawing + rng.normal(0.0, rng.uniform(0.0, 8.0), shape))


def _clip(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


#: What can be drawn, by name.
KINDS: dict[str, _Draw] = {
    "blank": _blank,
    "nearly-constant": _nearly_constant,
    "noise": _noise,
    "checkerboard": _checkerboard,
    "text": _text,
    "shapes": _shapes,
}
