"""`SiteProfile`: an operating point for one hospital, from a few of its healthy people.

Scores mean different things at different hospitals: healthy and ill may be told apart as well as
anywhere, and still most of the healthy lie beyond the threshold. So the profile moves one number,
the weight on ``healthy``, until the share of the local healthy that was asked for is called
healthy. The scores themselves, and with them the ROC curve, stay as they are.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import (
    HEALTHY,
    Interval,
    ModelBundle,
    Network,
    OperatingPoint,
    ReferenceHistograms,
    ValCurve,
)
from .errors import SiteError
from .files import write_atomically
from .reference import illness_scores, measure
from .schema import decode

FORMAT_VERSION = 1
#: Fewer say too little about the share of the healthy beyond any threshold.
MIN_HEALTHY = 10
#: The bundle's own healthy weigh as much as so many local ones.
PRIOR_IMAGES = 2
#: At the specific point the model calls 0.95 of its own healthy healthy. Where it calls less than
#: this share so, or where the ill would be found less often than this, the images are doubtful.
DOUBTFUL = 0.5

_CONFIDENCE = 0.95
#: A bundle without a val curve has all its healthy within so much of its threshold, in logits.
_STEP = 1e-6
_MAX_BYTES = 1_000_000
_LONGEST_NAME = 60


@dataclass(frozen=True)
class SiteProfile:
    """An operating point fitted at one hospital, and what it was fitted on.

    Parameters
    ----------
    name
        Of the site; results say ``site:NAME``.
    model, version, digest
        The bundle that it is for; see `bundle.ModelBundle.digest`.
    point
        The operating point; its specificity is that of the local healthy, with an exact interval,
        its sensitivity that of the local ill where there were some.
    asked_specificity
        Share of the healthy that should be called healthy.
    healthy, ill
        Local images used.
    before
        The bundle's own first point on the same images.
    val_sensitivity
        Share of the ill of the bundle's `val` that are called ill, before and after; ``None`` where
        the bundle does not know, as those of format 1.
    histograms
        How scores and grey values of the local healthy spread, for a monitor.
    warnings
        What speaks against using it, in sentences.
    """

    name: str
    model: str
    version: str
    digest: str
    point: OperatingPoint
    asked_specificity: float
    healthy: int
    ill: int
    before: OperatingPoint
    val_sensitivity: tuple[float, float] | None
    histograms: ReferenceHistograms
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (0 < len(self.name) <= _LONGEST_NAME and self.name.isprintable()):
            raise ValueError(f"a site's name is {self.name[:_LONGEST_NAME]!r}")
        if self.point.name != f"site:{self.name}":
            raise ValueError(f"the operating point of {self.name} is {self.point.name!r}")
        if set(self.point.weights) != set(self.before.weights):
            raise ValueError("the two operating points weigh other classes")
        if self.val_sensitivity is not None and len(self.val_sensitivity) != 2:
            raise ValueError("val_sensitivity: before and after")

    @classmethod
    def load(cls, path: str | Path) -> SiteProfile:
        """Read a profile that `save` wrote.

        Raises
        ------
        SiteError
            There is none, or it is damaged or of another format.
        """
        try:
            with Path(path).open("rb") as stream:
                content = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise SiteError(f"{path}: can't be read ({error.strerror})") from error
        try:
            if len(content) > _MAX_BYTES:
                raise ValueError("too large")
            values = json.loads(content)
            if not isinstance(values, dict) or values.pop("format_version", 0) != FORMAT_VERSION:
                raise ValueError(f"not of format {FORMAT_VERSION}")
            return decode(cls, values, "profile")
        except (ValueError, RecursionError) as error:
            raise SiteError(
                f"{path}: no site profile that this xrayedge reads ({error}); make it again with "
                "`xrayedge calibrate`"
            ) from error

    def save(self, path: str | Path) -> None:
        """Write it as JSON, atomically; `SiteError` where that can't be done."""
        values = {"format_version": FORMAT_VERSION, **asdict(self)}
        text = json.dumps(values, indent=2, allow_nan=False)
        try:
            write_atomically(Path(path), (text + "\n").encode())
        except OSError as error:
            raise SiteError(f"{path}: can't be written ({error.strerror})") from error

    def point_for(self, bundle: ModelBundle) -> OperatingPoint:
        """The operating point, for a bundle.

        A `RuntimeWarning` says so where the profile was made for another model.

        Raises
        ------
        SiteError
            The bundle has other classes.
        """
        if set(self.point.weights) != set(bundle.classifier.classes):
            raise SiteError(
                f"the profile of {self.name} weighs {', '.join(sorted(self.point.weights))}, and "
                f"{bundle.name} has {', '.join(sorted(bundle.classifier.classes))}; calibrate again"
            )
        if self.digest != bundle.digest():
            warnings.warn(
                f"the profile of {self.name} was made for {self.model} {self.version}, and its "
                f"threshold means something else for this {bundle.name} {bundle.version}; "
                "calibrate again",
                RuntimeWarning,
                stacklevel=3,
            )
        return self.point


@dataclass(frozen=True, eq=False)
class SiteScores:
    """What the model makes of a site's images.

    Parameters
    ----------
    probabilities
        ``float [N, classes]``, in the order of the bundle's classes.
    frontal_scores
        ``float [N]``.
    greys
        ``float [N, 2]``; see `reference.grey`.
    """

    probabilities: NDArray[np.floating]
    frontal_scores: NDArray[np.floating]
    greys: NDArray[np.floating]


def open_site(site: SiteProfile | str | Path) -> SiteProfile:
    """A profile as it is, or read from a file."""
    return site if isinstance(site, SiteProfile) else SiteProfile.load(site)


def fit(
    bundle: ModelBundle,
    name: str,
    healthy: SiteScores,
    *,
    specificity: float,
    ill: NDArray[np.floating] | None = None,
    concerns: Sequence[str] = (),
) -> SiteProfile:
    """Fit a site's operating point to the scores of its healthy.

    Parameters
    ----------
    bundle
        Whose probabilities they are.
    name
        Of the site.
    healthy
        Of people known to be healthy.
    specificity
        Share of the healthy to be called healthy, more than 0 and less than 1.
    ill
        The probabilities of local ill, whatever they have: they measure the sensitivity and change
        nothing.
    concerns
        Sentences to add to the profile's warnings.

    Raises
    ------
    SiteError
        Fewer than `MIN_HEALTHY` healthy, or the bundle has no class ``healthy``.
    """
    network = bundle.classifier
    check(network, specificity)
    probabilities = healthy.probabilities
    if len(probabilities) < MIN_HEALTHY:
        raise SiteError(
            f"{len(probabilities)} usable images of healthy people; at least {MIN_HEALTHY} are "
            "needed, and 30 are better"
        )
    base = network.operating_points[0]
    scores = illness_scores(probabilities, network.classes, base)
    of_ill = None if ill is None else illness_scores(ill, network.classes, base)
    threshold = local_threshold(scores, specificity, bundle.val_curve)
    weights = {**base.weights, HEALTHY: base.weights[HEALTHY] * float(np.exp(threshold))}
    curve = bundle.val_curve
    expected = None
    if curve is not None:
        expected = (sensitivity_at(curve, 0.0), sensitivity_at(curve, threshold))
    doubts = [*concerns, *_doubts(network, probabilities, expected)]
    return SiteProfile(
        name=name,
        model=bundle.name,
        version=bundle.version,
        digest=bundle.digest(),
        point=_with_rates(f"site:{name}", weights, base, scores, of_ill, threshold),
        asked_specificity=specificity,
        healthy=len(probabilities),
        ill=0 if ill is None else len(ill),
        before=_with_rates(base.name, base.weights, base, scores, of_ill, 0.0),
        val_sensitivity=expected,
        histograms=measure(probabilities, network.classes, healthy.frontal_scores, healthy.greys),
        warnings=tuple(doubts),
    )


def check(network: Network, specificity: float) -> None:
    """Raise `SiteError` where no profile can be fitted; cheap, so ask before screening."""
    if HEALTHY not in network.classes:
        raise SiteError(f"the model has no class {HEALTHY!r} that a site could weigh")
    if not 0.0 < specificity < 1.0:
        raise SiteError(f"the specificity must lie between 0 and 1, not be {specificity}")


def local_threshold(
    scores: NDArray[np.floating], specificity: float, curve: ValCurve | None
) -> float:
    """The threshold on the illness score up to which a share of the local healthy lies.

    The quantile of the mean of two distributions, the local healthy's and, as if they were
    `PRIOR_IMAGES` more images, that of the healthy of the bundle's `val`: the mean of a Dirichlet
    process with that base (Ferguson 1973, "A Bayesian analysis of some nonparametric problems").
    So a few images can't overdo it. A new image of the site lies up to the ``k``-th smallest of
    ``N`` with probability ``k / (N + 1)``, whatever the distribution; linear in between.

    Parameters
    ----------
    scores
        Illness scores of the local healthy, ``float [N]``; see `reference.illness_scores`.
    specificity
        Share of the healthy up to the threshold.
    curve
        Of the bundle; without one its own threshold, 0, stands for all of its healthy.
    """
    local = np.sort(np.asarray(scores, np.float64))
    ranks = np.arange(1, len(local) + 1) / (len(local) + 1.0)
    if curve is None:
        prior, shares = np.array([-_STEP, 0.0]), np.array([0.0, 1.0])
    else:
        prior, shares = np.asarray(curve.thresholds), np.asarray(curve.specificity)
    knots = np.union1d(local, prior)
    own = (len(local) + 1.0) * np.interp(knots, local, ranks, left=0.0)
    reached = (own + PRIOR_IMAGES * np.interp(knots, prior, shares)) / (
        len(local) + 1.0 + PRIOR_IMAGES
    )
    # Beyond all that was seen anywhere there is nothing to interpolate.
    furthest = max(float(local[-1]), float(np.interp(specificity, shares, prior)))
    return min(float(np.interp(specificity, reached, knots)), furthest)


def sensitivity_at(curve: ValCurve, threshold: float) -> float:
    """Share of the ill of `val` beyond a threshold on the illness score, interpolated."""
    return float(np.interp(threshold, curve.thresholds, curve.sensitivity))


def exact_interval(successes: int, trials: int, confidence: float = _CONFIDENCE) -> Interval:
    """A share and its exact interval (Clopper and Pearson 1934).

    The ends are the shares at which as many successes or more, and as many or fewer, happen with
    half of what the confidence leaves. Of a threshold that lies between the ``k``-th and the next
    of ``n`` images that it was fitted on, it is the interval of the specificity too: between their
    order statistics' quantiles, which follow beta distributions (David and Nagaraja 2003, 2.3).
    """
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else _share_with(tail, successes, trials, at_least=True)
    high = 1.0 if successes == trials else _share_with(tail, successes, trials, at_least=False)
    return Interval(successes / trials, low, high)


def _share_with(tail: float, successes: int, trials: int, *, at_least: bool) -> float:
    """The share at which so many successes, at least or at most, have this probability."""
    counts = np.arange(successes, trials + 1) if at_least else np.arange(successes + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    ways = factorials[trials] - factorials[counts] - factorials[trials - counts]
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        share = (low + high) / 2.0
        logs = ways + counts * np.log(share) + (trials - counts) * np.log1p(-share)
        probability = float(np.exp(logs).sum())
        # Successes get likelier with the share, and so do at least as many; at most as many don't.
        if (probability < tail) == at_least:
            low = share
        else:
            high = share
    return (low + high) / 2.0


def _with_rates(
    name: str,
    weights: Mapping[str, float],
    base: OperatingPoint,
    healthy: NDArray[np.floating],
    ill: NDArray[np.floating] | None,
    threshold: float,
) -> OperatingPoint:
    sensitivity = None
    if ill is not None and len(ill):
        sensitivity = exact_interval(int((ill > threshold).sum()), len(ill))
    return OperatingPoint(
        name=name,
        weights=dict(weights),
        abstain_below=base.abstain_below,
        sensitivity=sensitivity,
        specificity=exact_interval(int((healthy <= threshold).sum()), len(healthy)),
    )


def _doubts(
    network: Network, healthy: NDArray[np.floating], expected: tuple[float, float] | None
) -> list[str]:
    """What speaks against the images that were given as healthy, in sentences."""
    found = []
    specific = next((p for p in network.operating_points if p.name == "specific"), None)
    if specific is not None:
        share = float((illness_scores(healthy, network.classes, specific) <= 0.0).mean())
        if share < DOUBTFUL:
            found.append(
                f"even the bundle's point `specific` calls only {share:.0%} of these people "
                "healthy: is it the right folder?"
            )
    if expected is not None and expected[1] < DOUBTFUL:
        found.append(
            f"at this threshold only {expected[1]:.0%} of the ill of the bundle's val would be "
            "found: are these people healthy? If they are, the model is not for this hospital "
            "without training"
        )
    return found


def describe(profile: SiteProfile) -> list[tuple[str, str, str]]:
    """What changes, for a table: what, before, after."""
    before, after = profile.before, profile.point

    def cells(what: str, *values: Any) -> tuple[str, str, str]:
        one, two = ("unknown" if value is None else str(value) for value in values)
        return what, one, two

    costs = profile.val_sensitivity or (None, None)
    expected = [None if cost is None else f"{cost:.3f}" for cost in costs]
    rows = [
        cells("operating point", before.name, after.name),
        cells(f"weight on {HEALTHY}", *(f"{p.weights[HEALTHY]:.3g}" for p in (before, after))),
        cells("these healthy called healthy", before.specificity, after.specificity),
        cells("the bundle's ill found, on its val", *expected),
    ]
    if profile.ill:
        rows.append(cells("these ill found", before.sensitivity, after.sensitivity))
    return rows
