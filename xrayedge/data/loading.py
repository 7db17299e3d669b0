"""Labelled pictures: a folder per class or a manifest CSV, always split by patient."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..imaging import PICTURE_SUFFIXES
from .artificial import KINDS
from .samples import ARTIFICIAL_LABEL, INVERTED_LABEL, SPLITS, TURNED_LABEL, Dataset, Sample

#: Drawn pictures of each kind of `artificial.KINDS`, per split.
_ARTIFICIAL = {"train": 40, "val": 10, "test": 10}
_FOLDS = 6  # one fold of six, about 17 %, becomes a missing `val`, and another a missing `test`


def load_dataset(
    data: Path,
    where: Sequence[tuple[str, str]] = (),
    *,
    seed: int = 0,
    complete: bool = True,
    with_val: bool = True,
    turned_of: str | None = None,
) -> Dataset:
    """Load labelled pictures.

    Parameters
    ----------
    data
        A manifest CSV with the columns ``file`` (relative to the CSV) and ``label``, and where
        there are any ``split``, ``group_id`` or ``patient_id``, and ``source``; or a folder with
        a folder per class, or with ``train``/``val``/``test`` folders of those.
    where
        ``(column, value)`` pairs; a manifest's row is used if it matches one value of each column.
    seed
        Chooses the patients of a split that the data don't bring.
    complete
        Whether missing splits are made out of the patients that there are.
    with_val
        Whether a missing ``val`` is among them.
    turned_of
        A class whose pictures also appear on their side or upside down, as a class ``turned``,
        and with bones dark, as ``inverted``; drawn pictures join as ``artificial``. See
        `Recipe.turned_label`.

    Raises
    ------
    DatasetError
        A file is missing, a row is incomplete, a patient is on two sides, or there is one class.
    """
    if data.is_dir():
        if where:
            raise DatasetError(f"{data}: a folder has no columns to filter; use a manifest CSV")
        samples = _read_folder(data)
    elif data.is_file():
        samples = _read_manifest(data, where)
    else:
        raise DatasetError(f"{data}: no such folder or manifest CSV")
    if not samples:
        raise DatasetError(f"{data}: no pictures found; expected a folder per class or a manifest")
    if complete:
        samples = _complete_splits(samples, seed, with_val)
    _check(samples, data)
    if turned_of is not None:
        samples = samples + _varied(samples, turned_of, seed) + _drawn(samples)
    return Dataset(tuple(samples), tuple(sorted({sample.label for sample in samples})))


def _varied(samples: list[Sample], label: str, seed: int) -> list[Sample]:
    """Each picture of one class turned at random, and inverted, in its original's split and group.

    Every second inverted picture is turned as well.
    """
    rng = np.random.default_rng(seed)
    chosen = [sample for sample in samples if sample.label == label]
    if not chosen:
        raise DatasetError(f"the data hold no picture labelled {label!r}")
    turned = [
        replace(sample, label=TURNED_LABEL, quarter_turns=int(rng.integers(1, 4)))
        for sample in chosen
    ]
    inverted = [
        replace(
            sample,
            label=INVERTED_LABEL,
            inverted=True,
            quarter_turns=int(rng.choice([0, 0, 0, 1, 2, 3])),
        )
        for sample in chosen
    ]
    return turned + inverted


def _drawn(samples: list[Sample]) -> list[Sample]:
    """Artificial pictures for each split that there is."""
    splits = [split for split in SPLITS if any(sample.split == split for sample in samples)]
    return [
        Sample(
            path=Path(f"{kind}-{split}-{number}"),
            label=ARTIFICIAL_LABEL,
            split=split,
            group=f"{kind}-{split}-{number}",
            source=kind,
            drawn=(kind, 1000 * SPLITS.index(split) + number),
        )
        for split in splits
        for kind in KINDS
        for number in range(_ARTIFICIAL[split])
    ]


def _read_folder(root: Path) -> list[Sample]:
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    split_folders = [folder for folder in folders if folder.name in SPLITS]
    if split_folders:
        return [
            replace(sample, split=folder.name)
            for folder in split_folders
            for sample in _read_class_folders(folder)
        ]
    return _read_class_folders(root)


def _read_class_folders(root: Path) -> list[Sample]:
    samples: list[Sample] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES
        )
        if not files:
            raise DatasetError(f"{folder}: the class folder holds no picture; fill or remove it")
        # A folder can't say which pictures share a patient: each counts as its own.
        samples += [Sample(path, folder.name, "", group=str(path)) for path in files]
    return samples


def _read_manifest(manifest: Path, where: Sequence[tuple[str, str]]) -> list[Sample]:
    with manifest.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns = set(reader.fieldnames or ())
        missing = sorted(({"file", "label"} | {column for column, _ in where}) - columns)
        if missing:
            raise DatasetError(f"{manifest}: no column {', '.join(missing)}")
        rows = list(enumerate(reader, start=2))
    wanted: dict[str, set[str]] = {}
    for column, value in where:
        wanted.setdefault(column, set()).add(value)
    samples = []
    for number, row in rows:
        if not all(row[column] in values for column, values in wanted.items()):
            continue
        if not row["file"] or not row["label"]:
            raise DatasetError(f"{manifest}, row {number}: file or label is empty")
        path = manifest.parent / row["file"]
        if not path.is_file():
            raise DatasetError(f"{manifest}, row {number}: {row['file']} does not exist")
        split = row.get("split") or ""
        if split and split not in SPLITS:
            raise DatasetError(f"{manifest}, row {number}: split {split!r} is none of {SPLITS}")
        group = row.get("group_id") or row.get("patient_id") or row["file"]
        source = row.get("source") or ""
        samples.append(Sample(path, row["label"], split, group, source, number, columns=row))
    return samples


def _complete_splits(samples: list[Sample], seed: int, with_val: bool) -> list[Sample]:
    """Give a split to what has none: all of it, or a `val` out of `train`."""
    unsplit = [sample for sample in samples if not sample.split]
    if unsplit and len(unsplit) < len(samples):
        raise DatasetError("some pictures have a split and others none; give all or none")
    if unsplit:
        held_out = _one_fold(samples, seed)
        samples = [
            replace(sample, split="test" if sample.group in held_out else "train")
            for sample in samples
        ]
    if with_val and not any(sample.split == "val" for sample in samples):
        train = [sample for sample in samples if sample.split == "train"]
        held_out = _one_fold(train, seed)
        samples = [
            replace(sample, split="val")
            if sample.split == "train" and sample.group in held_out
            else sample
            for sample in samples
        ]
    return samples


def _one_fold(samples: list[Sample], seed: int) -> set[str]:
    """The groups of one stratified fold: about a sixth of the patients of each class."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = [sample.label for sample in samples]
    groups = [sample.group for sample in samples]
    per_class = {label: len({s.group for s in samples if s.label == label}) for label in labels}
    smallest = min(per_class, key=lambda label: per_class[label])
    if per_class[smallest] < _FOLDS:
        raise DatasetError(
            f"class {smallest!r} has {per_class[smallest]} patients; {_FOLDS} are needed to split"
        )
    folds = StratifiedGroupKFold(n_splits=_FOLDS, shuffle=True, random_state=seed)
    _, held_out = next(folds.split(np.zeros(len(samples)), labels, groups))
    return {groups[index] for index in held_out}


def _check(samples: Iterable[Sample], data: Path) -> None:
    sides: dict[str, Sample] = {}
    labels: dict[str, set[str]] = {}
    for sample in samples:
        labels.setdefault(sample.split, set()).add(sample.label)
        first = sides.setdefault(sample.group, sample)
        if first.split != sample.split:
            raise DatasetError(
                f"{_place(sample, data)} is in {sample.split!r}, but {_place(first, data)}, of the "
                f"same patient, is in {first.split!r}; keep each patient on one side"
            )
    for split, found in labels.items():
        if len(found) < 2:
            where = f" in the split {split!r}" if split else ""
            raise DatasetError(
                f"{data}: only one class, {found.pop()!r}{where}; a classifier needs two"
            )


def _place(sample: Sample, data: Path) -> str:
    return str(sample.path) if sample.row is None else f"{data}, row {sample.row}"
