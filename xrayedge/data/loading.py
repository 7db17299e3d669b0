"""From folders and manifests to one dataset, split by patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from .artificial import KINDS
from .folder import read_folder
from .manifest import read_manifest, split_name
from .samples import (
    ARTIFICIAL_LABEL,
    INVERTED_LABEL,
    NON_CLASSES,
    SPLITS,
    TURNED_LABEL,
    Dataset,
    Sample,
)
from .splits import check_sides, check_trainable, complete_splits

#: Drawn images of each kind of `artificial.KINDS`, per split.
_ARTIFICIAL = {"train": 40, "val": 10, "test": 10}


def load_dataset(
    data: Path | Sequence[Path],
    where: Sequence[tuple[str, str]] = (),
    *,
    seed: int = 0,
    complete: bool = True,
    with_val: bool = True,
    turned_of: str | None = None,
    classes: Collection[str] | None = None,
    non_classes: bool = False,
) -> Dataset:
    """Load labelled images.

    Parameters
    ----------
    data
        One or several of: a manifest CSV with the columns ``file`` (relative to the CSV) and
        ``label``, and where there are any ``split``, ``group_id`` or ``patient_id``, ``source``,
        ``opacity_boxes`` (a JSON list of [left, top, right, bottom] in fractions of width and
        height; ``[]`` where somebody looked and found none, empty where nobody looked) and
        ``lung_box`` (one such box); a folder with a folder per class, or with
        ``train``/``val``/``test`` folders of those. An id names one patient in all of them.
    where
        ``(column, value)`` pairs; an image is used if it matches one value of each column. A
        folder has the columns ``split`` and ``label``.
    seed
        Chooses the patients of a split that the data don't bring.
    complete
        To train: missing splits are made out of the patients that there are, and each split must
        hold two classes.
    with_val
        Whether a missing ``val`` is among them.
    turned_of
        A class whose images also appear on their side or upside down, as a class ``turned``,
        and with dark bones, as ``inverted``; drawn images join as ``artificial``. See
        `Recipe.turned_label`.
    classes
        The classes that there may be; ``None`` makes a class of every label.
    non_classes
        Whether images labelled with one of `NON_CLASSES` are among the samples. Such a label is
        never a class; images that are left out for it are counted in `Dataset.left_out`.

    Raises
    ------
    DatasetError
        A file is missing, a row is not as it should be, a patient is on two sides, or there is
        one class to train on; the message names the file and the row.
    """
    paths = [data] if isinstance(data, Path) else list(data)
    named = ", ".join(map(str, paths))
    samples = [sample for path in paths for sample in _read(path, where, classes, len(paths) > 1)]
    if not samples:
        raise DatasetError(
            f"{named}: no images found; expected a folder per class or a manifest"
            if not where
            else f"{named}: no image matches {' '.join('='.join(pair) for pair in where)}"
        )
    left_out: Counter[str] = Counter()
    if not non_classes:
        left_out.update(sample.label for sample in samples if sample.label in NON_CLASSES)
        samples = [sample for sample in samples if sample.label not in NON_CLASSES]
    if not samples:
        raise DatasetError(f"{named}: all images are labelled {' or '.join(left_out)}: no class")
    try:
        if complete:
            samples = complete_splits(samples, seed, with_val)
        check_sides(samples)
        if complete:
            check_trainable(samples)
    except DatasetError as error:
        raise DatasetError(f"{named}: {error}") from error
    samples = _of_splits(samples, {value for column, value in where if column == "split"})
    if turned_of is not None:
        samples = samples + _varied(samples, turned_of, seed) + _drawn(samples)
    found = {sample.label for sample in samples} - set(NON_CLASSES)
    return Dataset(tuple(samples), tuple(sorted(found)), dict(left_out))


def _read(
    path: Path,
    where: Sequence[tuple[str, str]],
    classes: Collection[str] | None,
    of_several: bool,
) -> list[Sample]:
    if path.is_dir():
        for column in sorted({column for column, _ in where} - {"split", "label"}):
            raise DatasetError(
                f"{path}: a folder has no column {column!r} to filter; use a manifest CSV"
            )
        labels = {value for column, value in where if column == "label"}
        samples = read_folder(path, classes)
        return [sample for sample in samples if not labels or sample.label in labels]
    if path.is_file():
        samples = read_manifest(path, where, classes)
        if of_several:  # without an id the file's name is the group; another manifest may have it
            return [one if one.patient_known else _alone(one) for one in samples]
        return samples
    raise DatasetError(f"{path}: no such folder or manifest CSV")


def _alone(sample: Sample) -> Sample:
    return replace(sample, group=str(sample.path))


def _of_splits(samples: list[Sample], wanted: set[str]) -> list[Sample]:
    if not wanted:
        return samples
    for sample in samples:
        if not sample.split:
            raise DatasetError(
                f"{sample.place}: has no split to filter; put the images into train, val and test "
                "folders, or use a manifest CSV with a column split"
            )
    names = {split_name(one) or one for one in wanted}
    found = [sample for sample in samples if sample.split in names]
    if not found:
        raise DatasetError(f"no image is in the split {' or '.join(sorted(wanted))}")
    return found


def _varied(samples: list[Sample], label: str, seed: int) -> list[Sample]:
    """Each image of one class turned at random, and inverted, in its original's split and group.

    Every second inverted image is turned as well.
    """
    rng = np.random.default_rng(seed)
    chosen = [sample for sample in samples if sample.label == label]
    if not chosen:
        raise DatasetError(f"the data hold no image labelled {label!r}")
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
    """Artificial images for each split that there is."""
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
