"""Leave one source out: the honest estimate for a hospital that training never saw."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import Dataset, Sample, model_inputs
from ..errors import DatasetError
from ..evaluation import Evaluation, evaluate
from ..lungs import LungFiles
from .recipe import Recipe
from .run import MODEL, RunRecord, as_seen, lungs_of
from .scoring import predict
from .train import Progress, train


@dataclass(frozen=True)
class LeftOut:
    """The evaluation on one source of a model that never saw it."""

    source: str
    evaluation: Evaluation


def leave_one_source_out(
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    data_name: dict[str, Any],
    weights: Path | None = None,
    start: Path | None = None,
    lungs: LungFiles | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Iterator[LeftOut]:
    """For each source: train without its images, then score them.

    A source without which a class would have no image is skipped. The `test` split is
    never touched, so what is chosen by these metrics can still be tested.

    Parameters
    ----------
    dataset, recipe, data_name, weights, start, lungs
        As for `train.train`.
    out
        Holds a run folder per source; finished ones are reused.
    progress
        Gives the callback of `train.train` for a source.

    Raises
    ------
    DatasetError
        No source can be left out.
    """
    learnt = [sample for sample in dataset.samples if sample.split != "test"]
    sources = [
        source
        for source in sorted({sample.source for sample in learnt})
        if _classes(learnt, "train", without=source) == set(dataset.classes)
    ]
    if not sources:
        raise DatasetError("no source can be left out: a class would have no images")
    for source in sources:
        rest = tuple(sample for sample in learnt if sample.source != source)
        held_out = [sample for sample in learnt if sample.source == source]
        folder = out / _folder_name(source)
        if not RunRecord.is_finished(folder):
            train(
                replace(dataset, samples=rest),
                recipe,
                folder,
                data_name={**data_name, "without": source},
                weights=weights,
                start=start,
                lungs=lungs,
                progress=progress(source) if progress else None,
            )
        seen = as_seen(replace(dataset, samples=tuple(held_out)), lungs_of(folder))
        inputs = model_inputs(seen.samples, recipe.preprocessing)
        scores = predict(folder / MODEL, inputs, RunRecord.read(folder).temperature)
        yield LeftOut(source, evaluate(held_out, dataset.classes, scores))


def _classes(samples: list[Sample], split: str, without: str) -> set[str]:
    return {
        sample.label for sample in samples if sample.split == split and sample.source != without
    }


def _folder_name(source: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-").lower()[:40] or "unnamed"
