"""Metrics of scores, by class and of healthy against ill, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import OperatingPoint
from ..data import HEALTHY, NON_CLASSES, Sample
from ..errors import DatasetError
from .bootstrap import Metric, Weights, auc, intervals, share
from .metrics import class_metrics


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model on one set of images.

    Parameters
    ----------
    images, patients
        How many there were; ``patients`` is ``None`` where the data don't say whose an image is,
        and intervals then take each image for a patient.
    metrics
        Of the images of a class: ``accuracy``, ``balanced_accuracy``, ``calibration_error``;
        ``macro_`` ``precision``, ``f1``, ``specificity`` and ``auc``; and of each class
        ``precision/CLASS``, ``recall/CLASS``, ``f1/CLASS``, ``specificity/CLASS`` and
        ``auc/CLASS`` (one against the rest). Where a class is ``healthy``, of all images, those
        labelled with one of `NON_CLASSES` among the ill: ``healthy_called_healthy``,
        ``ill_not_called_healthy`` and ``auc/ill_v_healthy``; ``not_called_healthy/LABEL`` of each
        of `NON_CLASSES`; and ``auc/CLASS_v_healthy`` of those two classes alone. A metric that
        the images give no meaning, such as an AUC where all are of one class, is not there.
    confusion
        ``confusion[true][predicted]``, counts of images; rows of `NON_CLASSES` come last.
    operating_points
        By name: what labels are worth at an operating point; see `at_operating_point`.
    localisation
        Whether places are found; see `localisation.localise`.
    unreadable
        How many more images could not be read; they count nowhere else.
    """

    images: int
    patients: int | None
    metrics: dict[str, Metric]
    confusion: dict[str, dict[str, int]]
    operating_points: dict[str, dict[str, Metric]] = field(default_factory=dict)
    localisation: dict[str, Metric] = field(default_factory=dict)
    unreadable: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON values."""
        return asdict(self)


def check_labels(samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Whether images can be compared by class; cheap, so ask before they are scored.

    Raises
    ------
    DatasetError
        A label that the model does not know, or fewer than two classes in the data.
    """
    labels = {sample.label for sample in samples}
    for label in sorted(labels - set(classes)):
        raise DatasetError(f"the model knows no class {label!r}; it knows {', '.join(classes)}")
    if len(labels) < 2:
        raise DatasetError("the images to compare are of one class only; their metrics need two")


def patient_count(samples: Sequence[Sample]) -> int | None:
    """How many patients the images are of; ``None`` where the data don't say."""
    if not all(sample.patient_known for sample in samples):
        return None
    return len({sample.group for sample in samples})


def evaluate(
    samples: Sequence[Sample],
    classes: Sequence[str],
    scores: NDArray[np.float64],
    points: Sequence[OperatingPoint] = (),
) -> Evaluation:
    """Compare scores with labels.

    Parameters
    ----------
    samples
        The images; their labels must be among ``classes``, which may hold more, or `NON_CLASSES`.
    classes
        Class names, in the order of the scores' columns.
    scores
        Probabilities, ``float64 [N, classes]``.
    points
        Operating points to judge labels at.
    """
    labels = _indices(samples, classes)
    known = labels >= 0

    def statistic(weights: Weights) -> Mapping[str, NDArray[np.float64]]:
        found: dict[str, NDArray[np.float64]] = {}
        if known.any():
            found |= class_metrics(labels[known], scores[known], classes, weights[:, known])
        return found | _healthy_metrics(samples, classes, scores, weights)

    patients = [sample.group for sample in samples]
    predicted = scores.argmax(axis=1)
    confusion = {}
    for label in (*classes, *NON_CLASSES):
        chosen = np.array([sample.label == label for sample in samples])
        if chosen.any():
            counts = np.bincount(predicted[chosen], minlength=len(classes)).tolist()
            confusion[label] = dict(zip(classes, counts, strict=True))
    return Evaluation(
        len(samples),
        patient_count(samples),
        intervals(statistic, patients),
        confusion,
        {point.name: at_operating_point(samples, classes, scores, point) for point in points},
    )


def at_operating_point(
    samples: Sequence[Sample],
    classes: Sequence[str],
    scores: NDArray[np.float64],
    point: OperatingPoint,
) -> dict[str, Metric]:
    """What the labels of an operating point are worth; parameters as of `evaluate`.

    Returns
    -------
    ``recall/CLASS`` of each other class; ``healthy_called_healthy`` and
    ``ill_not_called_healthy``, those labelled with one of `NON_CLASSES` among the ill; and
    ``certain``, the share of images about which the point does not abstain.
    """
    weighted = scores * np.array([point.weights[name] for name in classes])
    shares = weighted / weighted.sum(axis=1, keepdims=True)
    labels = _indices(samples, classes)
    predicted = shares.argmax(axis=1)

    def statistic(weights: Weights) -> Mapping[str, NDArray[np.float64]]:
        found = {
            f"recall/{classes[index]}": _share_of(labels == index, predicted == index, weights)
            for index in np.unique(labels[labels >= 0])
            if classes[index] != HEALTHY
        }
        healthy = _healthy_metrics(samples, classes, shares, weights)
        found |= {name: value for name, value in healthy.items() if "called_healthy" in name}
        return {**found, "certain": share(shares.max(axis=1) >= point.abstain_below, weights)}

    return intervals(statistic, [sample.group for sample in samples])


def _healthy_metrics(
    samples: Sequence[Sample],
    classes: Sequence[str],
    scores: NDArray[np.float64],
    weights: Weights,
) -> dict[str, NDArray[np.float64]]:
    """Of the decision between healthy and ill; see `Evaluation`."""
    if HEALTHY not in classes:
        return {}
    column = list(classes).index(HEALTHY)
    truly = np.array([sample.label for sample in samples])
    healthy = truly == HEALTHY
    called = scores.argmax(axis=1) == column
    found = {
        "healthy_called_healthy": _share_of(healthy, called, weights),
        "ill_not_called_healthy": _share_of(~healthy, ~called, weights),
        "auc/ill_v_healthy": auc(~healthy, -scores[:, column], weights),
    }
    for label in NON_CLASSES:
        found[f"not_called_healthy/{label}"] = _share_of(truly == label, ~called, weights)
    for index, name in enumerate(classes):
        if name != HEALTHY:
            pair = healthy | (truly == name)
            odds = scores[pair, index] / np.maximum(
                scores[pair, index] + scores[pair, column], np.finfo(np.float64).tiny
            )
            found[f"auc/{name}_v_healthy"] = auc(truly[pair] == name, odds, weights[:, pair])
    return found


def _share_of(
    of: NDArray[np.bool_], chosen: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    return share(chosen[of], weights[:, of])


def _indices(samples: Sequence[Sample], classes: Sequence[str]) -> NDArray[np.int_]:
    """Index of each sample's class; -1 for one of `NON_CLASSES`."""
    names = list(classes)
    return np.array([-1 if s.label in NON_CLASSES else names.index(s.label) for s in samples])


def evaluate_by(
    column: str,
    samples: Sequence[Sample],
    classes: Sequence[str],
    scores: NDArray[np.float64],
    points: Sequence[OperatingPoint] = (),
) -> dict[str, Evaluation]:
    """One evaluation for each value of a manifest's column, such as ``source`` or ``view``.

    Raises
    ------
    DatasetError
        The data have no such column.
    """
    return {
        value: evaluate([samples[row] for row in rows], classes, scores[rows], points)
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
