"""Which images a model has learnt from, recognised when they are met again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .loading import load_dataset
from .samples import Dataset, Sample


@dataclass(frozen=True)
class TrainingData:
    """What is recorded of the data that trained a model.

    Parameters
    ----------
    digest
        `Dataset.digest` of them.
    where
        The filter that chose them.
    leave_out
        What was left out of them; see `Dataset.without`.
    seed, with_val
        How splits that they lack were made; see `load_dataset`.
    turned_of
        The class of which turned copies joined them; see `load_dataset`.
    """

    digest: str
    where: tuple[tuple[str, str], ...]
    leave_out: tuple[tuple[str, str], ...]
    seed: int
    with_val: bool
    turned_of: str | None

    @classmethod
    def from_record(cls, data: Mapping[str, Any], recipe: Mapping[str, Any]) -> TrainingData | None:
        """From the entries of a run's record or a bundle's provenance; ``None`` without any."""
        if "digest" not in data:
            return None
        return cls(
            str(data["digest"]),
            _pairs(data.get("where", ())),
            _pairs(data.get("leave_out", ())),
            int(data.get("seed", recipe.get("seed", 0))),
            bool(data.get("with_val", recipe.get("keep", "best") == "best")),
            recipe.get("turned_label"),
        )

    def recognise(self, data: Path | Sequence[Path]) -> Dataset | None:
        """The dataset that trained the model, with its splits; ``None`` if ``data`` are others."""
        for non_classes in (False, True):
            try:
                dataset = load_dataset(
                    data,
                    self.where,
                    seed=self.seed,
                    with_val=self.with_val,
                    turned_of=self.turned_of,
                    non_classes=non_classes,
                )
                left = dataset.without(self.leave_out)
            except (DatasetError, OSError, ImportError):
                # Other data, which evaluate as well; or no scikit-learn, which makes the splits.
                return None
            if left.digest() == self.digest:
                return left
            if not dataset.left_out:
                return None
        return None


def _pairs(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    parts = (text.partition("=") for text in texts)
    return tuple((column, value) for column, _, value in parts)


def load_to_evaluate(
    data: Path | Sequence[Path],
    where: Sequence[tuple[str, str]],
    trained_on: TrainingData | None,
    **options: Any,
) -> tuple[tuple[Sample, ...], int]:
    """Images to evaluate a model on, and how many of them it has learnt from.

    Data without splits that trained the model have those of its training, so that
    ``("split", "test")`` in ``where`` leaves what it has not seen.

    Parameters
    ----------
    data, where, options
        As for `load_dataset`.
    trained_on
        What the model learnt from, if that is known.
    """
    trained = trained_on.recognise(data) if trained_on is not None else None
    if trained is None:
        return load_dataset(data, where, complete=False, **options).samples, 0
    splits = {sample.path: sample.split for sample in trained.samples}
    others = [pair for pair in where if pair[0] != "split"]
    everything = load_dataset(data, others, complete=False, **options).samples
    if any(sample.split for sample in everything):
        samples = load_dataset(data, where, complete=False, **options).samples
    else:
        wanted = {value for column, value in where if column == "split"}
        placed = [replace(one, split=splits.get(one.path, "")) for one in everything]
        samples = tuple(one for one in placed if not wanted or one.split in wanted)
        if not samples:
            raise DatasetError(f"no image is in the split {' or '.join(sorted(wanted))}")
    seen = sum(splits.get(sample.path) in ("train", "val") for sample in samples)
    return samples, seen
