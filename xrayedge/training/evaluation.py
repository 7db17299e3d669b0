"""How good is a model on labelled pictures? Figures by scikit-learn, intervals over patients."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    recall_score,
    roc_auc_score,
)

from ..bundle import ModelBundle, Precision
from ..classifier import Classifier
from ..engines import EngineName, preferred_engine
from ..errors import DatasetError
from ..preprocessing import Preprocessing
from ..scores import softmax
from .batches import read_sample
from .data import Sample
from .run import MODEL, RunRecord

BOOTSTRAP_ROUNDS = 2000
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval over patients, by resampling them with replacement."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one set of pictures.

    Parameters
    ----------
    pictures, patients
        How many there were.
    figures
        ``accuracy``, ``balanced_accuracy``, ``macro_auc``, and for each class
        ``recall/CLASS`` and ``auc/CLASS`` (one against the rest).
    confusion
        ``confusion[true][predicted]``, counts of pictures.
    """

    pictures: int
    patients: int
    figures: dict[str, Figure]
    confusion: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class GateEvaluation:
    """What a frontal check lets pass and refuses on one set of pictures.

    Parameters
    ----------
    pictures, patients
        How many there were.
    threshold
        Least score that passes.
    figures
        ``sensitivity``, the share of frontal pictures that pass; ``specificity``, the share of all
        others that are refused; and ``refused/KIND`` for each kind of them.
    confusion
        ``confusion[kind][class]``, counts of pictures by most probable class.
    passed
        ``passed[kind]``, counts of pictures.
    """

    pictures: int
    patients: int
    threshold: float
    figures: dict[str, Figure]
    confusion: dict[str, dict[str, int]]
    passed: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ScoringModel:
    """A trained model of either side of the line, ready to score samples.

    Parameters
    ----------
    classes
        In the order of the scores.
    preprocessing
        What makes its input.
    predict
        From an input ``uint8 [1, size, size, 1]`` to probabilities ``float64 [classes]``.
    gate
        A frontal check's label that may pass, and the least score that does.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
    gate: tuple[str, float] | None = None

    @classmethod
    def from_run(cls, folder: Path) -> ScoringModel:
        """The Keras model of a run folder."""
        import keras

        record = RunRecord.read(folder)
        model = keras.saving.load_model(folder / MODEL, compile=False)

        def predict(inputs: NDArray[np.uint8]) -> NDArray[np.float64]:
            logits = np.asarray(model.predict_on_batch(inputs))[0]
            return softmax(logits / record.temperature)

        label, threshold = record.recipe.turned_label, record.threshold
        gate = (label, threshold) if label is not None and threshold is not None else None
        return cls(record.classes, record.recipe.preprocessing, predict, gate)

    @classmethod
    def from_bundle(
        cls, folder: str | Path, precision: Precision, engine: EngineName | None, *, frontal: bool
    ) -> ScoringModel:
        """A bundle's classifier or frontal check, in the engine that a device would use."""
        bundle = ModelBundle.load(folder)
        network = bundle.frontal.network if frontal else bundle.classifier
        threads = os.cpu_count() or 1
        classifier = Classifier.open(
            bundle, network, precision, engine or preferred_engine(), threads
        )

        def predict(inputs: NDArray[np.uint8]) -> NDArray[np.float64]:
            return np.asarray(list(classifier.classify(inputs)[0].values()))

        gate = (bundle.frontal.label, bundle.frontal.threshold) if frontal else None
        return cls(network.classes, network.preprocessing, predict, gate)

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Probabilities, ``float64 [classes]``."""
        inputs = self.preprocessing.apply(read_sample(sample))[np.newaxis]
        return self.predict(inputs)


def evaluate(
    samples: Sequence[Sample], classes: Sequence[str], scores: NDArray[np.float64]
) -> Evaluation:
    """Compare scores with labels.

    Parameters
    ----------
    samples
        The pictures; their labels must be among ``classes``, which may hold more.
    classes
        Class names, in the order of the scores' columns.
    scores
        Probabilities, ``float64 [N, classes]``.

    Raises
    ------
    DatasetError
        A label that the model does not know, or fewer than two classes in the data.
    """
    unknown = sorted({sample.label for sample in samples} - set(classes))
    if unknown:
        raise DatasetError(
            f"the model knows no class {unknown[0]!r}; it knows {', '.join(classes)}"
        )
    labels = np.array([classes.index(sample.label) for sample in samples])
    if len(np.unique(labels)) < 2:
        raise DatasetError("the pictures to evaluate are of one class only; figures need two")
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(index)
    figures = _figures(labels, scores, classes)
    rounds = _bootstrap(labels, scores, classes, list(groups.values()))
    intervals = {
        name: Figure(value, *map(float, np.percentile([one[name] for one in rounds], _LEVEL)))
        for name, value in figures.items()
    }
    matrix = confusion_matrix(labels, scores.argmax(axis=1), labels=range(len(classes)))
    confusion = {
        true: dict(zip(classes, map(int, matrix[row]), strict=True))
        for row, true in enumerate(classes)
        if row in labels
    }
    return Evaluation(len(samples), len(groups), intervals, confusion)


def evaluate_gate(
    samples: Sequence[Sample],
    classes: Sequence[str],
    scores: NDArray[np.float64],
    gate: tuple[str, float],
) -> GateEvaluation:
    """Compare a frontal check's decisions with labels, by kind of picture.

    Parameters
    ----------
    samples
        The pictures; their labels need not be among ``classes``.
    classes, scores
        As for `evaluate`.
    gate
        The label that may pass, and the least score that does.

    Raises
    ------
    DatasetError
        No picture that ought to pass, or none that ought not.
    """
    label, threshold = gate
    kinds = [f"{s.label}/{s.source}" if s.drawn else s.label for s in samples]
    passed = scores[:, classes.index(label)] >= threshold
    frontal = np.array([sample.label == label for sample in samples])
    if frontal.all() or not frontal.any():
        raise DatasetError(f"evaluating the check needs pictures that are {label}, and others")
    groups = {group: row for row, group in enumerate({sample.group for sample in samples})}
    patients = np.array([groups[sample.group] for sample in samples])
    members = {"sensitivity": frontal, "specificity": ~frontal}
    members |= {
        f"refused/{kind}": np.array([other == kind for other in kinds])
        for kind in sorted(set(kinds) - {label})
    }
    predicted = scores.argmax(axis=1)
    rows = {kind: np.flatnonzero([other == kind for other in kinds]) for kind in sorted(set(kinds))}
    confusion = {
        kind: dict(
            zip(classes, np.bincount(predicted[row], minlength=len(classes)).tolist(), strict=True)
        )
        for kind, row in rows.items()
    }
    return GateEvaluation(
        len(samples),
        len(groups),
        threshold,
        {
            name: _rate(passed == (name == "sensitivity"), chosen, patients)
            for name, chosen in members.items()
        },
        confusion,
        {kind: int(passed[row].sum()) for kind, row in rows.items()},
    )


def _rate(
    right: NDArray[np.bool_], chosen: NDArray[np.bool_], patients: NDArray[np.int_]
) -> Figure:
    """Share of the chosen pictures that are right, with Wilson's interval (1927).

    Patients count, not pictures; and resampling would give none where all are right.
    """
    share, count = float(right[chosen].mean()), len(np.unique(patients[chosen]))
    interval = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return Figure(share, float(interval.low), float(interval.high))


def _figures(
    labels: NDArray[np.int_], scores: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, float]:
    predicted = scores.argmax(axis=1)
    present = np.unique(labels)
    recalls = recall_score(labels, predicted, labels=present, average=None, zero_division=0.0)
    aucs = [roc_auc_score(labels == index, scores[:, index]) for index in present]
    figures = {
        "accuracy": accuracy_score(labels, predicted),
        "balanced_accuracy": recalls.mean(),
        "macro_auc": np.mean(aucs),
    }
    for index, recall, auc in zip(present, recalls, aucs, strict=True):
        figures[f"recall/{classes[index]}"] = recall
        figures[f"auc/{classes[index]}"] = auc
    return {name: float(value) for name, value in figures.items()}


def _bootstrap(
    labels: NDArray[np.int_],
    scores: NDArray[np.float64],
    classes: Sequence[str],
    groups: list[list[int]],
) -> list[dict[str, float]]:
    """Figures of resampled sets of patients that hold every class of the whole set."""
    rng = np.random.default_rng(0)
    present = len(np.unique(labels))
    rounds: list[dict[str, float]] = []
    while len(rounds) < BOOTSTRAP_ROUNDS:
        drawn = rng.integers(0, len(groups), len(groups))
        index = np.concatenate([groups[group] for group in drawn])
        if len(np.unique(labels[index])) == present:
            rounds.append(_figures(labels[index], scores[index], classes))
    return rounds
