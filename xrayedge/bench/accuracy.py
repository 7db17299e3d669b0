"""Scores of every case on the same labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundle import ModelBundle
from ..data import Sample, load_dataset
from ..errors import DatasetError, ImageError
from ..imaging import read
from ..lungs import LungFiles, open_finder, window_for
from ..preprocessing import Preprocessing
from .cases import Case
from .processes import run_job
from .statistics import Interval


def load_samples(data: Path, where: Sequence[tuple[str, str]]) -> tuple[Sample, ...]:
    """The labelled images of a folder or manifest; see `data.load_dataset`.

    Raises
    ------
    DatasetError
        The data can't be used as they are.
    """
    return load_dataset(data, where, complete=False).samples


class LabelledInputs:
    """Every image preprocessed once for each kind of model input, in files that workers read.

    Parameters
    ----------
    samples
        The images; those that can't be read are left out of its attribute ``samples``.
    bundles
        Whose preprocessing and classes are wanted.
    folder
        Where the files go.

    Raises
    ------
    DatasetError
        A label that a model does not know, or no image can be read.
    """

    def __init__(
        self, samples: Sequence[Sample], bundles: Sequence[ModelBundle], folder: Path
    ) -> None:
        from ..evaluation import check_labels

        for bundle in bundles:
            check_labels(samples, bundle.classifier.classes)
        wanted = {_made_by(bundle): LungFiles.of(bundle) for bundle in bundles}
        finders = {made_by: open_finder(files) for made_by, files in wanted.items()}
        self._files = {
            made_by: folder / f"inputs-{number}.npy" for number, made_by in enumerate(wanted)
        }
        arrays = {}
        for made_by, path in self._files.items():
            size = made_by[0].size
            arrays[made_by] = np.lib.format.open_memmap(
                path, mode="w+", dtype=np.uint8, shape=(len(samples), size, size, 1)
            )
        readable: list[Sample] = []
        for sample in samples:
            try:
                pixels = read(sample.path).pixels
            except ImageError:
                continue
            for made_by, array in arrays.items():
                seen = window_for(finders[made_by], pixels).cut(pixels)
                array[len(readable)] = made_by[0].apply(seen)
            readable.append(sample)
        if not readable:
            raise DatasetError(f"none of the {len(samples)} labelled images can be read")
        self.samples: tuple[Sample, ...] = tuple(readable)
        for array in arrays.values():
            array.flush()

    def scores(self, case: Case, bundle: ModelBundle) -> NDArray[np.float64]:
        """A case's probabilities, ``float64 [N, classes]``."""
        inputs = self._files[_made_by(bundle)]
        count = len(self.samples)
        return np.asarray(run_job("score", case, inputs=str(inputs), count=count)["probabilities"])


def _made_by(bundle: ModelBundle) -> tuple[Preprocessing, str | None]:
    """What the classifier's inputs depend on."""
    files = LungFiles.of(bundle)
    return bundle.classifier.preprocessing, None if files is None else files.digest()


@dataclass(frozen=True)
class AccuracyMetrics:
    """How good one case's scores are; see `report.Row`."""

    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    macro_auc: float
    covid_sensitivity: float | None


def accuracy_metrics(
    samples: Sequence[Sample], classes: Sequence[str], scores: NDArray[np.float64]
) -> AccuracyMetrics:
    """Compare scores with labels."""
    from ..evaluation import class_metrics, intervals

    labels = np.array([classes.index(sample.label) for sample in samples])
    found = intervals(
        lambda weights: class_metrics(labels, scores, classes, weights),
        [sample.group for sample in samples],
    )
    accuracy = found["accuracy"]
    covid = found.get("recall/covid")
    return AccuracyMetrics(
        accuracy=accuracy.value,
        accuracy_interval=(accuracy.low, accuracy.high),
        balanced_accuracy=found["balanced_accuracy"].value,
        macro_auc=found["macro_auc"].value,
        covid_sensitivity=covid.value if covid is not None else None,
    )


def agreement(scores: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Share of the images to which both give the same label."""
    return float((scores.argmax(axis=1) == reference.argmax(axis=1)).mean())
