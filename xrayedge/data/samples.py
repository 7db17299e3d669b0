"""Labelled pictures and the sets that they form."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "val", "test")
HEALTHY = "healthy"
#: Labels that say that a patient is ill, and not with which of the classes.
NON_CLASSES = ("indeterminate", "other")
TURNED_LABEL = "turned"
INVERTED_LABEL = "inverted"
ARTIFICIAL_LABEL = "artificial"

#: Left, top, right, bottom, in fractions of an image's width and height.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sample:
    """One labelled picture.

    Parameters
    ----------
    path
        The picture's file.
    label
        Its class.
    split
        ``train``, ``val`` or ``test``.
    group
        Who it belongs to: pictures of one patient share a group and never part.
    source
        The hospital or collection it came from; empty where the data don't say.
    row
        Its line in the manifest; ``None`` in a folder.
    quarter_turns
        Counter-clockwise turns of 90 degrees to apply after reading.
    inverted
        Whether grey values are to be inverted after reading.
    drawn
        Kind and seed of a picture that has no file: see `artificial.draw`.
    opacity_boxes
        Round each opacity that a radiologist has seen; ``None`` where none has looked.
    lung_box
        Round both lungs, where it is known.
    columns
        The manifest's row, to evaluate groups of pictures apart; empty for a folder.
    """

    path: Path
    label: str
    split: str
    group: str
    source: str = ""
    row: int | None = None
    quarter_turns: int = 0
    inverted: bool = False
    drawn: tuple[str, int] | None = None
    opacity_boxes: tuple[Box, ...] | None = None
    lung_box: Box | None = None
    columns: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Dataset:
    """Samples and the class names, sorted, that index a model's scores."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]

    def split(self, name: str) -> tuple[Sample, ...]:
        """The samples of one split, in the data's own order."""
        return tuple(sample for sample in self.samples if sample.split == name)

    def digest(self) -> str:
        """sha256 over every sample's bytes, label, split and group: names this very data set."""
        total = hashlib.sha256()
        for sample in self.samples:
            content = sample.drawn or hashlib.sha256(sample.path.read_bytes()).hexdigest()
            row = [content, sample.label, sample.split, sample.group, sample.quarter_turns]
            row += [sample.inverted] if sample.inverted else []
            total.update(json.dumps(row).encode())
        return total.hexdigest()

    def summary(self) -> dict[str, dict[str, int]]:
        """Pictures per split and class."""
        counts = {
            split: Counter(sample.label for sample in self.samples if sample.split == split)
            for split in SPLITS
        }
        return {split: dict(sorted(count.items())) for split, count in counts.items() if count}
