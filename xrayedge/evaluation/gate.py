"""Evaluation of a frontal check: what it passes and what it rejects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Sample
from ..errors import DatasetError
from .bootstrap import Metric, patient_numbers
from .classes import patient_count


@dataclass(frozen=True)
class GateEvaluation:
    """What a frontal check passes and rejects on one set of images.

    Parameters
    ----------
    images, patients
        How many there were; ``patients`` is ``None`` where the data don't say.
    threshold
        Least score that passes.
    metrics
        ``sensitivity``, the share of frontal images that pass; ``specificity``, the share of all
        others that are refused; and ``refused/KIND`` for each kind of them.
    confusion
        ``confusion[kind][class]``, counts of images by most probable class.
    passed
        ``passed[kind]``, counts of images.
    """

    images: int
    patients: int | None
    threshold: float
    metrics: dict[str, Metric]
    confusion: dict[str, dict[str, int]]
    passed: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON values."""
        return asdict(self)


def evaluate_gate(
    samples: Sequence[Sample],
    classes: Sequence[str],
    scores: NDArray[np.float64],
    gate: tuple[str, float],
) -> GateEvaluation:
    """Compare a frontal check's decisions with labels, by kind of image.

    Parameters
    ----------
    samples
        The images; their labels need not be among ``classes``.
    classes, scores
        As for `evaluate`.
    gate
        The label that may pass, and the least score that does.

    Raises
    ------
    DatasetError
        No image that ought to pass, or none that ought not.
    """
    label, threshold = gate
    kinds = [f"{s.label}/{s.source}" if s.drawn else s.label for s in samples]
    passed = scores[:, classes.index(label)] >= threshold
    frontal = np.array([sample.label == label for sample in samples])
    if frontal.all() or not frontal.any():
        raise DatasetError(f"evaluating the check needs images that are {label}, and others")
    patients = patient_numbers([sample.group for sample in samples])
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
        patient_count(samples),
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
) -> Metric:
    """Share of the chosen images that are right, with Wilson's interval (1927).

    Patients count, not images; and resampling would give none where all are right.
    """
    from scipy.stats import binomtest  # the only use of scipy: other metrics do without

    share, count = float(right[chosen].mean()), len(np.unique(patients[chosen]))
    interval = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return Metric(share, float(interval.low), float(interval.high))
