"""Average the weights of runs: one model, no cost on the device (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..data import Dataset, model_inputs
from ..errors import RunError
from .network import ARCHITECTURES
from .run import LUNGS, MODEL, RECORD, RunRecord, as_seen, lungs_of
from .sampling import source_targets
from .train import build_float32, finish, save, versions


def average(
    runs: Sequence[Path],
    dataset: Dataset,
    out: Path,
    shares: Sequence[float] | None = None,
    *,
    size: int | None = None,
) -> RunRecord:
    """Write the mean of finished runs' weights as a new run.

    Useful for runs that were started from one another: the loss has no barrier between those, and
    the mean of a model that knows its hospitals well and one that was trained to ignore their style
    keeps much of both.

    Parameters
    ----------
    runs
        Two or more, of the same layers and classes. The average has the first run's architecture,
        with the last pooling or without, and sees what the first one sees: the lungs alone or whole
        images, equalised as for it. Inputs may differ in size, too: a convolution fits any.
    dataset
        What the first run was trained on; the temperature is fitted on its split ``val``.
    out
        A folder that holds no run yet.
    shares
        Weight of each run in the mean, above 0, divided by their sum; equal by default.
    size
        Side of the average's input, in pixels; the first run's by default.

    Raises
    ------
    RunError
        The runs don't fit each other or the data, or ``out`` holds a run.
    """
    if len(runs) < 2:
        raise RunError("an average needs at least two runs")
    if shares is not None and (len(shares) != len(runs) or not all(one > 0 for one in shares)):
        raise RunError(f"an average of {len(runs)} runs needs as many shares, each above 0")
    if (out / RECORD).exists():
        raise RunError(f"{out}: holds a run; give another folder")
    records = [RunRecord.read(run) for run in runs]
    first = records[0]
    for run, record in zip(runs, records, strict=True):
        if not record.finished:
            raise RunError(f"{run}: not finished")
        if _kind(record) != _kind(first):
            raise RunError(f"{run}: other layers, preprocessing or classes than {runs[0]}")
    if dataset.digest() != first.data["digest"] or not dataset.labelled("val"):
        raise RunError(f"an average needs the data of {runs[0]}, with a split val")
    recipe = replace(first.recipe, name="average").adjusted(size=size)
    models = [keras.saving.load_model(run / MODEL, compile=False) for run in runs]
    together = zip(*(model.get_weights() for model in models), strict=True)
    model = build_float32(recipe, len(first.classes))
    model.set_weights([np.average(weights, axis=0, weights=shares) for weights in together])
    record = RunRecord(
        recipe=recipe,
        classes=first.classes,
        data=first.data,
        versions=versions(),
        averaged=tuple(record.to_dict() for record in records),
        shares=tuple(shares or ()),
        lungs=first.lungs,
    )
    out.mkdir(parents=True, exist_ok=True)
    lungs = lungs_of(runs[0])
    if lungs is not None:
        lungs.copy_to(out / LUNGS)
    save(model, out / MODEL)
    samples = as_seen(dataset, lungs).labelled("val")
    inputs = model_inputs(samples, recipe.preprocessing)
    return finish(record, out, (inputs, source_targets(samples, dataset.classes)))


def _kind(record: RunRecord) -> tuple[Any, ...]:
    recipe = record.recipe
    channels = (record.classes, recipe.opacity > 0.0)
    architecture = ARCHITECTURES[recipe.architecture]
    layers = recipe.widths or architecture.blocks
    return layers, architecture.input_scale, recipe.preprocessing.fit, channels
