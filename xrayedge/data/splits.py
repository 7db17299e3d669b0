"""Training, validation and test splits: each patient is in one only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..errors import DatasetError
from .samples import NON_CLASSES, SPLITS, Sample

_FOLDS = 6  # one fold of six, about 17 %, becomes a missing `val`, and another a missing `test`


def complete_splits(samples: list[Sample], seed: int, with_val: bool) -> list[Sample]:
    """Give a split to what has none: all of it, or a `val` out of `train`."""
    unsplit = [sample for sample in samples if not sample.split]
    if unsplit and len(unsplit) < len(samples):
        with_split = next(sample for sample in samples if sample.split)
        raise DatasetError(
            f"{unsplit[0].place} has no split but {with_split.place} has; give all or none"
        )
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
    patients = Counter(label for label, _ in dict.fromkeys(zip(labels, groups, strict=True)))
    smallest, count = min(
        ((label, count) for label, count in patients.items() if label not in NON_CLASSES),
        key=lambda pair: pair[1],
    )
    if count < _FOLDS:
        raise DatasetError(f"class {smallest!r} has {count} patients; {_FOLDS} are needed to split")
    folds = StratifiedGroupKFold(n_splits=_FOLDS, shuffle=True, random_state=seed)
    _, held_out = next(folds.split(np.zeros(len(samples)), labels, groups))
    return {groups[index] for index in held_out}


def check_sides(samples: Iterable[Sample]) -> None:
    """Raise `DatasetError` if images of one patient are in two splits."""
    sides: dict[str, Sample] = {}
    for sample in samples:
        first = sides.setdefault(sample.group, sample)
        if first.split != sample.split:
            whose = "of the same patient" if sample.patient_known else "a copy of it"
            raise DatasetError(
                f"{sample.place} is in {sample.split!r}, but {first.place}, {whose}, is in "
                f"{first.split!r}; keep each patient on one side"
            )


def check_trainable(samples: Iterable[Sample]) -> None:
    """Raise `DatasetError` if a split holds only one class, or one that is not trained on."""
    labels: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        if sample.label not in NON_CLASSES:
            labels.setdefault(sample.split, {}).setdefault(sample.label, sample)
    for split in sorted(labels, key=SPLITS.index):
        found = labels[split]
        if len(found) < 2:
            raise DatasetError(
                f"only one class, {next(iter(found))!r} in the split {split!r}; a classifier "
                "needs two"
            )
        for label in sorted(found.keys() - labels.get("train", found).keys()):
            raise DatasetError(
                f"{found[label].place}: no image of its class {label!r} is in 'train', which "
                f"holds {', '.join(sorted(labels['train']))}; is it misspelt?"
            )
