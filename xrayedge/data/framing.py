"""Samples of which the part that a `LungFinder` frames is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..lungs import LungFiles, LungFinder
from ..preprocessing import Window
from .reading import read_sample
from .samples import Box, Sample


def framed(samples: Sequence[Sample], finder: LungFinder) -> tuple[Sample, ...]:
    """Each sample with the window that the finder gives, and its boxes as fractions of that.

    Parameters
    ----------
    samples
        Upright, without windows; each is read once.
    finder
        What frames the lungs.
    """
    result = []
    for sample in samples:
        height, width = (pixels := read_sample(sample)).shape
        result.append(_within(sample, finder.find(pixels, height, width), height, width))
    return tuple(result)


def as_seen(samples: Sequence[Sample], lungs: LungFiles | None) -> tuple[Sample, ...]:
    """Samples as a network sees them that `LungFiles` go with; the same without any."""
    return tuple(samples) if lungs is None else framed(samples, LungFinder.open(lungs))


def _within(sample: Sample, window: Window, height: int, width: int) -> Sample:
    def moved(box: Box) -> Box:
        left, top, right, bottom = box
        rows, columns = window.shape
        return (
            _share(left * width - window.left, columns),
            _share(top * height - window.top, rows),
            _share(right * width - window.left, columns),
            _share(bottom * height - window.top, rows),
        )

    opacities = sample.opacity_boxes
    if opacities is not None:
        inside = (moved(box) for box in opacities)
        opacities = tuple(box for box in inside if box[0] < box[2] and box[1] < box[3])
    # The image is cropped already: there is nothing left to crop at random.
    return replace(sample, window=window, opacity_boxes=opacities, lung_box=None)


def _share(edge: float, side: int) -> float:
    return min(max(edge / side, 0.0), 1.0)
