"""Labelled images in a folder per class."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import DatasetError
from ..imaging import IMAGE_SUFFIXES
from .manifest import split_name
from .samples import NON_CLASSES, Sample

#: Written beside the files of an archive by macOS; holds no images.
_LITTER = "__MACOSX"


def read_folder(root: Path, classes: Collection[str] | None = None) -> list[Sample]:
    """The samples of a folder with a folder per class, or with such folders per split.

    A folder can't say which images share a patient: each image counts as a patient of its own,
    copies of one image (the same bytes) as one.

    Raises
    ------
    DatasetError
        A class folder is empty or unknown, or stands beside the splits.
    """
    splits: dict[str, list[Path]] = {}
    others: list[Path] = []
    for folder in _folders(root):
        split = split_name(folder.name)
        if split is None:
            others.append(folder)
        else:
            splits.setdefault(split, []).append(folder)
    if not splits:
        return _joined([sample for folder in others for sample in _class_folder(folder, classes)])
    for folder in others:
        if next(_images(folder), None) is not None:
            raise DatasetError(
                f"{folder}: stands beside the splits {', '.join(splits)}; move its images into "
                "their class folders there"
            )
    return _joined(
        [
            replace(sample, split=split)
            for split, folders in splits.items()
            for folder in folders
            for inner in _folders(folder)
            for sample in _class_folder(inner, classes)
        ]
    )


def _class_folder(folder: Path, classes: Collection[str] | None) -> list[Sample]:
    files = sorted(_images(folder))
    if classes is not None and folder.name not in classes and folder.name not in NON_CLASSES:
        if not files:
            return []
        raise DatasetError(
            f"{folder}: is named after no class; there are {', '.join(sorted(classes))}"
        )
    if not files:
        raise DatasetError(f"{folder}: the class folder holds no image; fill or remove it")
    return [Sample(path, folder.name, "", str(path), patient_known=False) for path in files]


def _joined(samples: list[Sample]) -> list[Sample]:
    """Copies of one image in one group: the first one's."""
    sizes: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        sizes.setdefault(sample.path.stat().st_size, []).append(index)
    joined = list(samples)
    for alike in sizes.values():
        if len(alike) > 1:  # only files of one size can be copies: few are read
            groups: dict[str, str] = {}
            for index in alike:
                content = hashlib.sha256(samples[index].path.read_bytes()).hexdigest()
                group = groups.setdefault(content, samples[index].group)
                joined[index] = replace(samples[index], group=group)
    return joined


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path.name))


def _images(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(map(_hidden, path.relative_to(folder).parts))
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden:
            yield path


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == _LITTER
