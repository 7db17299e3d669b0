"""How good is a model on labelled pictures? Figures by scikit-learn, intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from ..data import Sample
from ..errors import DatasetError

BOOTSTRAP_ROUNDS = 1000
CALIBRATION_BINS = 10
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval over patients, by resampling them with replacement."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one set of pictures.

    Parameters
    ----------
    pictures, patients
        How many there were.
    figures
        ``accuracy``, ``balanced_accuracy``, ``calibration_error``; ``macro_`` ``precision``,
        ``f1``, ``specificity`` and ``auc``; and of each class ``precision/CLASS``,
        ``recall/CLASS``, ``f1/CLASS``, ``specificity/CLASS`` and ``auc/CLASS`` (one against the
        rest). Of a single class only ``accuracy`` and its ``recall`` have a meaning.
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


def check_labels(samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Whether pictures can be evaluated at all; cheap, so ask before they are scored.

    Raises
    ------
    DatasetError
        A label that the model does not know, or fewer than two classes in the data.
    """
    labels = {sample.label for sample in samples}
    for label in sorted(labels - set(classes)):
        raise DatasetError(f"the model knows no class {label!r}; it knows {', '.join(classes)}")
    if len(labels) < 2:
        raise DatasetError("the pictures to evaluate are of one class only; figures need two")


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
    """
    labels = np.array([classes.index(sample.label) for sample in samples])
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(index)
    figures = point_figures(labels, scores, classes)
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


def evaluate_by(
    column: str,
    samples: Sequence[Sample],
    classes: Sequence[str],
    scores: NDArray[np.float64],
) -> dict[str, Evaluation]:
    """One evaluation for each value of a manifest's column, such as ``source`` or ``view``.

    Raises
    ------
    DatasetError
        The data have no such column.
    """
    return {
        value: evaluate([samples[row] for row in rows], classes, scores[rows])
        for value, rows in rows_by(column, samples).items()
    }


def rows_by(column: str, samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Where the samples of each value of a manifest's column are; `DatasetError` without one."""
    if any(column not in sample.columns for sample in samples):
        raise DatasetError(f"the data have no column {column!r}")
    values = [sample.columns[column] for sample in samples]
    return {
        value: [row for row, other in enumerate(values) if other == value]
        for value in sorted(set(values))
    }


@dataclass(frozen=True)
class CalibrationBin:
    """Pictures of like confidence: their mean confidence and the share that was right."""

    pictures: int
    confidence: float
    accuracy: float


def calibration_bins(
    labels: NDArray[np.integer], scores: NDArray[np.float64]
) -> list[CalibrationBin]:
    """Pictures in bins of equal width by the probability of their predicted class; none empty."""
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        CalibrationBin(
            int((bins == number).sum()),
            float(confidence[bins == number].mean()),
            float(right[bins == number].mean()),
        )
        for number in np.unique(bins)
    ]


def _calibration_error(labels: NDArray[np.integer], scores: NDArray[np.float64]) -> float:
    """Expected calibration error (Naeini et al. 2015)."""
    return sum(
        one.pictures / len(labels) * abs(one.confidence - one.accuracy)
        for one in calibration_bins(labels, scores)
    )


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


def point_figures(
    labels: NDArray[np.int_], scores: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, float]:
    """The figures of an `Evaluation`, without intervals; ``labels`` are indices of ``classes``."""
    predicted = scores.argmax(axis=1)
    present = np.unique(labels)
    precisions, recalls, f1s, _ = precision_recall_fscore_support(
        labels, predicted, labels=present, average=None, zero_division=0.0
    )
    accuracy = accuracy_score(labels, predicted)
    if len(present) == 1:
        return {"accuracy": float(accuracy), f"recall/{classes[present[0]]}": float(recalls[0])}
    specificities = [(predicted[labels != index] != index).mean() for index in present]
    aucs = [roc_auc_score(labels == index, scores[:, index]) for index in present]
    figures = {
        "accuracy": accuracy,
        "balanced_accuracy": recalls.mean(),
        "macro_precision": precisions.mean(),
        "macro_f1": f1s.mean(),
        "macro_specificity": np.mean(specificities),
        "macro_auc": np.mean(aucs),
        "calibration_error": _calibration_error(labels, scores),
    }
    for number, index in enumerate(present):
        name = classes[index]
        figures[f"precision/{name}"] = precisions[number]
        figures[f"recall/{name}"] = recalls[number]
        figures[f"f1/{name}"] = f1s[number]
        figures[f"specificity/{name}"] = specificities[number]
        figures[f"auc/{name}"] = aucs[number]
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
            rounds.append(point_figures(labels[index], scores[index], classes))
    return rounds
