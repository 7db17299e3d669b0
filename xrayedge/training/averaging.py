"""Average the weights of runs: one model, at no cost on the device (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..errors import RunError
from .batches import model_inputs
from .calibration import fit_temperature
from .data import Dataset
from .run import MODEL, RunRecord
from .train import save, versions


def average(
    runs: Sequence[Path], dataset: Dataset, out: Path, *, data_name: dict[str, Any]
) -> RunRecord:
    """Write the mean of finished runs' weights as a run of its own.

    Worth trying with runs that began with one another: between those the loss has no ridge, and
    the mean of a model that knows its hospitals well and of one that was made to forget their
    styles keeps much of both.

    Parameters
    ----------
    runs
        Two or more, of one architecture, size, preprocessing and classes.
    dataset
        Pictures with the split ``val``, on which the temperature is fitted.
    out
        A folder that holds no run yet.
    data_name
        How the data set was named, for the record.

    Raises
    ------
    RunError
        The runs don't fit each other or the data, or ``out`` holds a run.
    """
    if len(runs) < 2:
        raise RunError("an average needs two runs at least")
    if (out / "run.json").exists():
        raise RunError(f"{out}: holds a run; give another folder")
    records = [RunRecord.read(run) for run in runs]
    first = records[0]
    for run, record in zip(runs, records, strict=True):
        if not record.finished:
            raise RunError(f"{run}: not finished")
        if _kind(record) != _kind(first):
            raise RunError(f"{run}: another architecture, preprocessing or classes than {runs[0]}")
    samples = dataset.split("val")
    if dataset.classes != first.classes or not samples:
        raise RunError("the temperature is fitted on the runs' own classes in the split val")
    models = [keras.saving.load_model(run / MODEL, compile=False) for run in runs]
    together = zip(*(model.get_weights() for model in models), strict=True)
    model = models[0]
    model.set_weights([np.mean(weights, axis=0) for weights in together])
    inputs = model_inputs(samples, first.recipe.preprocessing)
    logits = np.asarray(model.predict(inputs, batch_size=first.recipe.batch_size, verbose=0))
    labels = np.array([dataset.classes.index(sample.label) for sample in samples])
    record = RunRecord(
        recipe=replace(first.recipe, name="average"),
        classes=first.classes,
        data={**data_name, "digest": dataset.digest(), "pictures": dataset.summary()},
        versions=versions(),
        averaged=tuple(record.to_dict() for record in records),
        finished=True,
        temperature=fit_temperature(logits, labels),
    )
    out.mkdir(parents=True, exist_ok=True)
    save(model, out / MODEL)
    record.write(out)
    return record


def _kind(record: RunRecord) -> tuple[Any, ...]:
    recipe = record.recipe
    return recipe.architecture, recipe.widths, recipe.preprocessing, record.classes
