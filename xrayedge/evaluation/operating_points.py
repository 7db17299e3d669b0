"""Operating points: the one place that says how probabilities become a label, and what that costs.

At a point each class's probability is multiplied by the point's weight, and the largest product is
the label. With ``h`` the weight on `HEALTHY`, an image is called healthy where
``h * p(healthy)`` exceeds every other class's probability: ``h`` moves along the ROC curve of
healthy against ill, and which illness it is stays the most probable one.

Points are fitted on `val` of all sources together. A label that is no class says that the patient
is ill, which is all that the points need to know. Sources weigh alike, whatever their size, so that
no hospital decides for the others; one of fewer than `FULL_WEIGHT` images of a kind weighs less, in
proportion, because so few say little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..bundle import Interval, OperatingPoint
from ..data import HEALTHY, Sample
from .bootstrap import intervals, share

#: The class that the point ``sensitive`` must find, and how often.
SENSITIVE_TO, SENSITIVITY = "covid", 0.95
#: How often ``specific`` must call healthy people healthy.
SPECIFICITY = 0.95
#: A label with less of the weighted probability than all others together is uncertain.
ABSTAIN_BELOW = 0.5
#: From so many ill or healthy images on, a source weighs as much as any other.
FULL_WEIGHT = 10

_LEAST_PROBABILITY = 1e-12
#: Beyond the outermost image a threshold has no middle to lie in: so far out, in log weight.
_BEYOND = 1e-3


@dataclass(frozen=True, eq=False)
class Scored:
    """Scored images with labels.

    Parameters
    ----------
    classes
        Class names, in the order of the probabilities.
    probabilities
        ``float64 [N, classes]``.
    labels
        Of each image; one that is not among ``classes`` says that the patient is ill.
    sources
        Which hospital or detector each image is from.
    groups
        Whose image it is; intervals resample patients.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    labels: Sequence[str]
    sources: Sequence[str]
    groups: Sequence[str]

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[Sample],
        classes: tuple[str, ...],
        probabilities: NDArray[np.float64],
    ) -> Scored:
        """Scores of samples, in the same order: ``float64 [N, classes]``."""
        return cls(
            classes,
            probabilities,
            labels=[sample.label for sample in samples],
            sources=[sample.source for sample in samples],
            groups=[sample.group for sample in samples],
        )

    def of(self, label: str) -> NDArray[np.bool_]:
        """Which images have this label, ``bool [N]``."""
        return np.array([one == label for one in self.labels], bool)

    def called(self, weights: Mapping[str, float]) -> NDArray[np.int_]:
        """The label of each image under these weights: ``int [N]``, indices of ``classes``."""
        factors = np.array([weights[name] for name in self.classes])
        return np.asarray((self.probabilities * factors).argmax(axis=1))

    def weights_of(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each chosen image counts, ``float64 [N]``, zero for the others: see the module."""
        counts: dict[str, int] = {}
        for source, is_chosen in zip(self.sources, chosen, strict=True):
            counts[source] = counts.get(source, 0) + int(is_chosen)
        each = [1.0 / max(counts[source], FULL_WEIGHT) for source in self.sources]
        return np.where(chosen, each, 0.0)


def fit_operating_points(scored: Scored) -> tuple[OperatingPoint, ...]:
    """The points ``balanced``, ``sensitive`` and ``specific`` of a classifier, fitted on `val`.

    ``balanced``: the weight on `HEALTHY` at which as large a share of the ill is called ill as of
    the healthy is called healthy (equal error rate). ``sensitive``: ``balanced`` with the smallest
    weight on `SENSITIVE_TO`, at least 1, at which `SENSITIVITY` of its images are called so.
    ``specific``: the smallest weight on `HEALTHY`, at least that of ``balanced``, at which
    `SPECIFICITY` of the healthy are called healthy.

    A classifier without the class that a point is about lacks the point; its ``balanced`` takes
    the most probable class.
    """
    even = dict.fromkeys(scored.classes, 1.0)
    balanced = OperatingPoint("balanced", even, ABSTAIN_BELOW)
    healthy = scored.of(HEALTHY)
    told_apart = HEALTHY in scored.classes and healthy.any() and not healthy.all()
    if told_apart:
        curve = _Curve.of(scored)
        balanced = replace(balanced, weights={**even, HEALTHY: curve.equal_error()})
    points = [balanced]
    if SENSITIVE_TO in scored.classes and scored.of(SENSITIVE_TO).any():
        factor = _smallest_factor(scored, balanced.weights)
        weights = {**balanced.weights, SENSITIVE_TO: factor * balanced.weights[SENSITIVE_TO]}
        points.append(OperatingPoint("sensitive", weights, ABSTAIN_BELOW))
    if told_apart:
        weight = max(curve.weight_for(SPECIFICITY), balanced.weights[HEALTHY])
        points.append(OperatingPoint("specific", {**even, HEALTHY: weight}, ABSTAIN_BELOW))
        points = [with_rates(point, scored) for point in points]
    return tuple(points)


def with_rates(point: OperatingPoint, scored: Scored) -> OperatingPoint:
    """The point with the sensitivity and specificity that it has on these images.

    See `sensitivity` and `specificity`.
    """
    return replace(
        point,
        sensitivity=sensitivity(point.weights, scored),
        specificity=specificity(point.weights, scored),
    )


def sensitivity(weights: Mapping[str, float], scored: Scored) -> Interval:
    """The share of the ill, of whatever illness, that are not called `HEALTHY`."""
    ill = ~scored.of(HEALTHY)
    called_ill = scored.called(weights) != scored.classes.index(HEALTHY)
    return _share(called_ill, ill, scored)


def specificity(weights: Mapping[str, float], scored: Scored) -> Interval:
    """The share of the healthy that are called `HEALTHY`."""
    return recall(HEALTHY, weights, scored)


def recall(label: str, weights: Mapping[str, float], scored: Scored) -> Interval:
    """The share of a class's images that are called so."""
    right = scored.called(weights) == scored.classes.index(label)
    return _share(right, scored.of(label), scored)


def health_evidence(
    classes: Sequence[str], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far each image speaks for `HEALTHY`: ``float64 [N]``.

    The logarithm of p(healthy) over the largest other probability. An image is called healthy where
    this exceeds ``-log(h)``, ``h`` the point's weight on `HEALTHY`.
    """
    column = list(classes).index(HEALTHY)
    others = np.delete(probabilities, column, axis=1).max(axis=1)
    return np.asarray(
        np.log(np.maximum(probabilities[:, column], _LEAST_PROBABILITY))
        - np.log(np.maximum(others, _LEAST_PROBABILITY))
    )


@dataclass(frozen=True, eq=False)
class _Curve:
    """Sensitivity and specificity at every threshold on `health_evidence`, rising thresholds.

    A threshold lies in the middle between two images, as far as can be from where quantisation
    would turn one of them.
    """

    thresholds: NDArray[np.float64]
    gaps: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]

    @classmethod
    def of(cls, scored: Scored) -> _Curve:
        evidence = health_evidence(scored.classes, scored.probabilities)
        healthy = scored.of(HEALTHY)
        edges = np.unique(evidence)
        edges = np.concatenate([[edges[0] - _BEYOND], edges, [edges[-1] + _BEYOND]])
        thresholds = (edges[:-1] + edges[1:]) / 2.0
        order = np.argsort(evidence)
        below = np.searchsorted(evidence[order], thresholds, side="right")

        def share_below(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
            weights = scored.weights_of(chosen)[order]
            cumulative = np.concatenate([[0.0], np.cumsum(weights)])
            return np.asarray(cumulative[below] / weights.sum())

        return cls(thresholds, np.diff(edges), share_below(~healthy), 1.0 - share_below(healthy))

    def equal_error(self) -> float:
        """The weight at which sensitivity and specificity differ least; of several, the safest."""
        apart = np.abs(self.sensitivity - self.specificity)
        best = np.flatnonzero(apart <= apart.min() + 1e-9)
        return self._weight(int(best[np.argmax(self.gaps[best])]))

    def weight_for(self, specificity: float) -> float:
        """The smallest weight with at least this specificity."""
        return self._weight(int(np.flatnonzero(self.specificity >= specificity - 1e-9)[-1]))

    def _weight(self, index: int) -> float:
        return float(np.exp(-self.thresholds[index]))


def _smallest_factor(scored: Scored, weights: Mapping[str, float]) -> float:
    """What `SENSITIVE_TO` must be multiplied by, at least 1, to be called often enough."""
    chosen = scored.of(SENSITIVE_TO)
    column = scored.classes.index(SENSITIVE_TO)
    products = scored.probabilities * np.array([weights[name] for name in scored.classes])
    products = np.maximum(products[chosen], _LEAST_PROBABILITY)
    needed = np.log(np.delete(products, column, axis=1).max(axis=1)) - np.log(products[:, column])
    order = np.argsort(needed)
    needed, shares = needed[order], scored.weights_of(chosen)[chosen][order]
    reached = np.cumsum(shares) / shares.sum()
    last = int(np.flatnonzero(reached >= SENSITIVITY - 1e-9)[0])
    beyond = needed[last + 1] if last + 1 < len(needed) else needed[last] + _BEYOND
    return float(np.exp(max(0.0, (needed[last] + beyond) / 2.0)))


def _share(right: NDArray[np.bool_], chosen: NDArray[np.bool_], scored: Scored) -> Interval:
    """The weighted share of the chosen images that are right; see the module."""
    each = scored.weights_of(chosen)[chosen]
    groups = [group for group, one in zip(scored.groups, chosen, strict=True) if one]
    found = intervals(lambda times: {"share": share(right[chosen], times * each)}, groups)["share"]
    # A bundle holds intervals that contain their value, as a bootstrap's all but always do.
    return Interval(found.value, min(found.low, found.value), max(found.high, found.value))
