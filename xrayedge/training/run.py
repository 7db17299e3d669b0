"""A run folder: a trained model and the record of how it was made.

lungs/            what frames the lungs, for a classifier that sees only those
run.json          recipe, data digest and counts, versions, history, best epoch, temperature
checkpoint.keras  model and optimiser after the last finished epoch; removed when done
model.keras       the model kept so far, float32; present from the first epoch on
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from ..data import Dataset, Sample, framing, load_dataset
from ..errors import RunError
from ..files import write_atomically
from ..lungs import DESCRIPTION, LungFiles
from .recipe import UNTAUGHT, Recipe

RECORD = "run.json"
MODEL = "model.keras"
CHECKPOINT = "checkpoint.keras"
LUNGS = "lungs"


@dataclass(frozen=True)
class Epoch:
    """The metrics of one epoch."""

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
        File name of the dataset's root or manifest, filter, how splits that it lacks were made,
        digest, and images per split.
    versions
        Of Python, xrayedge, Keras, its backend and NumPy.
    start
        The record of the run that training started from, if any.
    bundle
        Name, version and float file's sha256 of the bundle that the run was made from. The record
        then names its training data, but training can continue on any data of its classes.
    averaged
        The records of the runs whose weights were averaged to make the model, if any.
    shares
        The share of each of those runs in the average; empty if they are equal.
    fraction
        Pruned runs: the share of the operations of ``start`` to keep, at the same input size.
    teachers
        Distilled runs: the records of the teachers' runs.
    views
        Pruned and distilled runs: the number of augmented views of each image.
    blended
        Distilled runs: the share of the views that are blends of two images.
    disguise
        Distilled runs: the augmentation of what the student saw and the teachers did not.
    lungs
        `LungFiles.digest` of what framed the images; ``None``: the network saw whole images.
    history
        One entry for each finished epoch.
    finished
        Whether all epochs are done.
    temperature
        Divides the logits before the softmax (Guo et al. 2017); fitted on `val`.
    threshold
        Frontal runs: the lowest score that passes, chosen on `val`.
    doubts
        Doubts about the finished model, in sentences; see `calibration.doubts`.
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
    teachers: tuple[dict[str, Any], ...] = ()
    views: int | None = None
    blended: float | None = None
    disguise: dict[str, Any] | None = None
    lungs: str | None = None
    history: tuple[Epoch, ...] = ()
    finished: bool = False
    temperature: float = 1.0
    threshold: float | None = None
    doubts: tuple[str, ...] = ()

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
        """Whether these data trained the model, or the model came without its data."""
        return self.bundle is not None or dataset.digest() == self.data["digest"]

    def data_of(self, dataset: Dataset) -> dict[str, Any]:
        """How a run that continues from this one records its data."""
        if self.bundle is None:
            return self.data
        return {
            "name": "",
            "where": [],
            "seed": self.recipe.seed,
            "with_val": True,
            "digest": dataset.digest(),
            "images": dataset.summary(),
        }

    def load_data(self, data: Path | Sequence[Path]) -> Dataset:
        """The dataset that the run was trained on, with the same splits.

        For a run made from a bundle, any data of its classes.

        Raises
        ------
        RunError
            ``data`` holds other images, or other classes than the bundle's.
        DatasetError
            See `load_dataset`.
        """
        dataset = self._load(data, non_classes=self.recipe.uses_non_classes)
        if not self.goes_on_with(dataset):
            raise RunError(f"{_names(data)}: other data than the run was trained on")
        if not set(dataset.classes) <= set(self.classes):
            raise RunError(
                f"{_names(data)}: the data hold the classes {', '.join(dataset.classes)}; "
                f"the model knows {', '.join(self.classes)}"
            )
        return replace(dataset, classes=self.classes)

    def load_held_out(self, data: Path | Sequence[Path]) -> tuple[Sample, ...]:
        """Images that the model was not trained on: `val`, including labels that are not classes.

        Without a split ``val``, the training images, for want of others.
        """
        non_classes = self.recipe.turned_label is None
        dataset = self._load(data, non_classes=non_classes)
        return dataset.split("val") or dataset.split("train")

    def _load(self, data: Path | Sequence[Path], *, non_classes: bool) -> Dataset:
        # A bundle's record describes other people's data.
        known = self.data if self.bundle is None else {}
        dataset = load_dataset(
            data,
            _pairs(known.get("where", ())),
            seed=known.get("seed", self.recipe.seed),
            with_val=known.get("with_val", self.bundle is not None or self.recipe.keep == "best"),
            turned_of=self.recipe.turned_label,
            non_classes=non_classes,
        )
        dataset = dataset.without(_pairs(known.get("leave_out", ())))
        return dataset.with_lung_boxes() if self.recipe.finds_lungs else dataset

    def continued(self, recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
        """The recipe to continue from this run's model on data with these classes.

        The data may lack some classes. The loss then compares only those present, so that the model
        keeps what it knows about the others. Without boxes, a channel of opacities is kept but not
        trained, and none is made.
        """
        if set(dataset.classes) < set(self.classes):
            # One source, and the loss within it: a missing class is never a rival.
            samples = tuple(replace(sample, source="") for sample in dataset.samples)
            dataset = replace(dataset, samples=samples, classes=self.classes)
            recipe = replace(recipe, within_source=1.0)
        boxes = any(sample.opacity_boxes for sample in dataset.split("train"))
        if not (recipe.opacity and boxes):
            recipe = replace(recipe, opacity=UNTAUGHT if self.recipe.opacity else 0.0)
        return recipe.for_network_of(self.recipe), dataset

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
        """Read ``run.json``; `RunError` if there is none or it is damaged."""
        path = folder / RECORD
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values.pop("best_epoch")
            values["recipe"] = Recipe.from_dict(values["recipe"])
            values["classes"] = tuple(values["classes"])
            values["averaged"] = tuple(values.get("averaged", ()))
            values["teachers"] = tuple(values.get("teachers", ()))
            values["shares"] = tuple(values.get("shares", ()))
            values["doubts"] = tuple(values.get("doubts", ()))
            values["history"] = tuple(Epoch(**epoch) for epoch in values["history"])
            return cls(**values)
        except FileNotFoundError as error:
            raise RunError(f"{folder}: no {RECORD}; not a training run") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: damaged, or written by another version") from error


def lungs_of(run: Path) -> LungFiles | None:
    """What frames the images of a run's network; ``None``: it sees whole images."""
    folder = run / LUNGS
    return LungFiles.load(folder) if (folder / DESCRIPTION).exists() else None


def as_seen(dataset: Dataset, lungs: LungFiles | None) -> Dataset:
    """The dataset as a network sees it that `LungFiles` go with.

    Boxes move with the window, so `Dataset.digest` is another one.
    """
    return replace(dataset, samples=framing.as_seen(dataset.samples, lungs))


def _pairs(written: Sequence[str]) -> list[tuple[str, str]]:
    """Columns and values of ``COLUMN=VALUE``."""
    split = (pair.partition("=") for pair in written)
    return [(column, value) for column, _, value in split]


def _names(data: Path | Sequence[Path]) -> str:
    return str(data) if isinstance(data, Path) else ", ".join(map(str, data))


@contextmanager
def own_run(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process, creating it if needed.

    A run that fails or is interrupted before its first epoch is over leaves nothing behind.

    Raises
    ------
    RunError
        Another process has locked the folder, or it can't be created.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise RunError(f"{folder}: can't be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{folder}: another process is training into it") from error
        except OSError:
            pass  # a file system without locks
        try:
            yield
        except BaseException:
            _remove_unbegun(folder, made)
            raise
    finally:
        os.close(descriptor)


def _remove_unbegun(folder: Path, made: bool) -> None:
    with suppress(RunError):
        record = RunRecord.read(folder)
        if not record.history and not record.finished:
            (folder / RECORD).unlink()
    if made:
        if not (folder / RECORD).exists():
            rmtree(folder / LUNGS, ignore_errors=True)
        with suppress(OSError):  # it holds something
            folder.rmdir()
