"""A run folder: a trained model and the record of how it was made.

run.json          recipe, data digest and counts, versions, history, best epoch, temperature
checkpoint.keras  model and optimiser after the last finished epoch; removed when done
model.keras       the model that is kept so far, float32; present from the first epoch on
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data import Dataset, load_dataset
from ..errors import RunError
from ..files import write_atomically
from .recipe import Recipe

RECORD = "run.json"
MODEL = "model.keras"
CHECKPOINT = "checkpoint.keras"


@dataclass(frozen=True)
class Epoch:
    """What one epoch reached."""

    phase: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class RunRecord:
    """How a model was made.

    Parameters
    ----------
    recipe
        The recipe, overrides included.
    classes
        Class names, in the order of the model's scores.
    data
        File name of the data set's root or manifest, filter, how splits that it lacks were made,
        digest, and pictures per split.
    versions
        Of Python, xrayedge, Keras, its backend and NumPy.
    start
        The record of the run whose model training began with, if there was one.
    bundle
        Name, version and float file's sha256 of the bundle that the run was made of: it then
        knows what data taught it, but any data of its classes serve to go on with.
    averaged
        The records of the runs whose weights were averaged, where no training made the model.
    shares
        Of each of those runs in the average; empty where they are equal.
    fraction
        Pruned runs: what was to be kept of the operations of ``start``, at their input's size.
    views
        Pruned runs: how many varied views of each picture were learnt from.
    history
        One entry a finished epoch.
    finished
        Whether all epochs are done.
    temperature
        What divides the logits before the softmax (Guo et al. 2017), fitted on `val`.
    threshold
        Frontal runs: the score from which a picture passes, chosen on `val`.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    data: dict[str, Any]
    versions: dict[str, str]
    start: dict[str, Any] | None = None
    bundle: dict[str, str] | None = None
    averaged: tuple[dict[str, Any], ...] = ()
    shares: tuple[float, ...] = ()
    fraction: float | None = None
    views: int | None = None
    history: tuple[Epoch, ...] = ()
    finished: bool = False
    temperature: float = 1.0
    threshold: float | None = None

    @property
    def best_epoch(self) -> int | None:
        """Index into the history of the epoch that is kept: see `Recipe.keep`."""
        if not self.history:
            return None
        losses = [epoch.val_loss for epoch in self.history]
        if self.recipe.keep == "last" or None in losses:
            return len(losses) - 1
        return losses.index(min(loss for loss in losses if loss is not None))

    def goes_on_with(self, dataset: Dataset) -> bool:
        """Whether these are the data that trained the model, or it came without them."""
        return self.bundle is not None or dataset.digest() == self.data["digest"]

    def data_of(self, dataset: Dataset) -> dict[str, Any]:
        """How a run that goes on with this one records its data."""
        if self.bundle is None:
            return self.data
        return {
            "name": "",
            "where": [],
            "seed": self.recipe.seed,
            "with_val": True,
            "digest": dataset.digest(),
            "pictures": dataset.summary(),
        }

    def load_data(self, data: Path) -> Dataset:
        """The data set that the run was trained on, with the same splits.

        For a run that was made of a bundle, any data of its classes.

        Raises
        ------
        RunError
            ``data`` hold other pictures than those, or other classes than the bundle's.
        DatasetError
            See `load_dataset`.
        """
        if self.bundle is not None:
            dataset = load_dataset(data, seed=self.recipe.seed, turned_of=self.recipe.turned_label)
            if dataset.classes != self.classes:
                raise RunError(
                    f"{data}: holds the classes {', '.join(dataset.classes)}; "
                    f"{self.bundle['name']} knows {', '.join(self.classes)}"
                )
            return dataset
        where = [pair.split("=", 1) for pair in self.data.get("where", ())]
        dataset = load_dataset(
            data,
            [(column, value) for column, value in where],
            seed=self.data.get("seed", self.recipe.seed),
            with_val=self.data.get("with_val", self.recipe.keep == "best"),
            turned_of=self.recipe.turned_label,
        )
        if not self.goes_on_with(dataset):
            raise RunError(f"{data}: other data than those that the run was trained on")
        return dataset

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**plain, "best_epoch": self.best_epoch}

    def write(self, folder: Path) -> None:
        """Write ``run.json``, atomically."""
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        write_atomically(folder / RECORD, text.encode())

    @classmethod
    def is_finished(cls, folder: Path) -> bool:
        """Whether the folder holds a finished run."""
        return (folder / RECORD).exists() and cls.read(folder).finished

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read ``run.json``; `RunError` where there is none or it is damaged."""
        path = folder / RECORD
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values.pop("best_epoch")
            values["recipe"] = Recipe.from_dict(values["recipe"])
            values["classes"] = tuple(values["classes"])
            values["averaged"] = tuple(values.get("averaged", ()))
            values["shares"] = tuple(values.get("shares", ()))
            values["history"] = tuple(Epoch(**epoch) for epoch in values["history"])
            return cls(**values)
        except FileNotFoundError as error:
            raise RunError(f"{folder}: no {RECORD}; not a training run") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: damaged, or written by another version") from error
