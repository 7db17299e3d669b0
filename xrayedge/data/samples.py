"""Labelled images and the sets that they form."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from ..manifest import EDGES
from ..preprocessing import Window

SPLITS = ("train", "val", "test")
#: Labels that are no classes: they say that a chest is not healthy, but not what it has.
NON_CLASSES = ("indeterminate", "other")
#: The class without findings, where the data have one.
HEALTHY = "healthy"
TURNED_LABEL = "turned"
INVERTED_LABEL = "inverted"
ARTIFICIAL_LABEL = "artificial"

#: Left, top, right, bottom, in fractions of the image's width and height, 0 to 1.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Parameters
    ----------
    path
        The image's file.
    label
        The class, or one of `NON_CLASSES`.
    split
        ``train``, ``val`` or ``test``; empty where the data don't say.
    group
        The patient: images of one patient share a group and are never separated.
    source
        The hospital or collection it came from; empty where the data don't say.
    row
        Its line in the manifest; ``None`` in a folder.
    quarter_turns
        Counter-clockwise turns of 90 degrees to apply after reading.
    inverted
        Whether grey values are to be inverted after reading.
    drawn
        Kind and seed of an image that has no file: see `artificial.draw`.
    columns
        The manifest's row, to evaluate groups of images apart; empty for a folder.
    opacity_boxes
        Around each opacity, as the image lies in its file; ``None`` where nobody looked for them.
    lung_box
        Around both lungs; ``None`` where it is not known.
    window
        The part of the image to use, instead of all of it; boxes are in fractions of that part.
    manifest
        Where ``row`` is; ``None`` in a folder.
    patient_known
        Whether the data say whose image it is; else ``group`` stands for the image alone.
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
    columns: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    opacity_boxes: tuple[Box, ...] | None = None
    lung_box: Box | None = None
    window: Window | None = None
    manifest: Path | None = None
    patient_known: bool = True

    @property
    def place(self) -> str:
        """Where the data name it, for a message."""
        return f"{self.path}" if self.row is None else f"{self.manifest}, row {self.row}"


@dataclass(frozen=True)
class Dataset:
    """Samples and the class names, sorted, that index a model's scores.

    Parameters
    ----------
    samples
        The images; their labels are among ``classes`` or `NON_CLASSES`.
    classes
        Never holds one of `NON_CLASSES`.
    left_out
        Images of each of `NON_CLASSES` that the data hold but ``samples`` don't.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Sample, ...]:
        """The samples of one split, in the data's own order."""
        return tuple(sample for sample in self.samples if sample.split == name)

    def labelled(self, name: str) -> tuple[Sample, ...]:
        """The samples of one split whose label is a class, not one of `NON_CLASSES`."""
        return tuple(sample for sample in self.split(name) if sample.label in self.classes)

    def without(self, left_out: Sequence[tuple[str, str]]) -> Dataset:
        """The dataset without the images that have one of these ``(column, value)`` pairs.

        Raises
        ------
        DatasetError
            No image has such a pair.
        """
        for column, value in left_out:
            if not any(sample.columns.get(column) == value for sample in self.samples):
                raise DatasetError(f"no image has {column}={value}; nothing to leave out")
        pairs = list(left_out)
        kept = tuple(
            sample
            for sample in self.samples
            if not any(sample.columns.get(column) == value for column, value in pairs)
        )
        return replace(self, samples=kept)

    def with_lung_boxes(self) -> Dataset:
        """The images with a lung box, to learn its edges from instead of classes.

        Raises
        ------
        DatasetError
            No image of the split ``train`` has one.
        """
        kept = tuple(sample for sample in self.samples if sample.lung_box is not None)
        if not any(sample.split == "train" for sample in kept):
            raise DatasetError(
                "no image of the split train has a box around the lungs: give a manifest with the "
                "column lung_box"
            )
        return Dataset(kept, EDGES)

    def digest(self) -> str:
        """sha256 over every sample's bytes, label, split, group, boxes and window."""
        total = hashlib.sha256()
        for sample in self.samples:
            content = sample.drawn or hashlib.sha256(sample.path.read_bytes()).hexdigest()
            row: list[Any] = [content, sample.label, sample.split, sample.group]
            row.append(sample.quarter_turns)
            # What follows stands only where there is some: data without it keep the digest that
            # older runs recorded.
            row += [sample.inverted] if sample.inverted else []
            if sample.opacity_boxes is not None or sample.lung_box is not None:
                row += [{"opacity_boxes": sample.opacity_boxes, "lung_box": sample.lung_box}]
            row += [asdict(sample.window)] if sample.window else []
            total.update(json.dumps(row).encode())
        return total.hexdigest()

    def summary(self) -> dict[str, dict[str, int]]:
        """Images per split and label."""
        counts = {
            split: Counter(sample.label for sample in self.samples if sample.split == split)
            for split in SPLITS
        }
        return {split: dict(sorted(count.items())) for split, count in counts.items() if count}
