"""What is counted for each image, and in which bins: nothing that identifies the patient.

The bins never change, so that days can be added up and an older release's counts stay right; a new
reason goes to the end of `OUTCOMES`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ..manifest import Histogram, ReferenceHistograms
from ..result import Screening
from .policy import DEVICE_NOT_ALLOWED, TOO_YOUNG
from .records import Measured

#: What became of an image: the bins of ``outcome``.
OUTCOMES = (
    "screened",
    "other",
    "not-frontal",
    "turned",
    "inverted",
    "too-small",
    "unreadable",
    "too-large",
    "multi-frame",
    "timeout",
    "dicom-not-installed",
    TOO_YOUNG,
    DEVICE_NOT_ALLOWED,
)
#: Outcomes that say something about the station, not about the image.
OF_THE_STATION = ("timeout", "dicom-not-installed")

OUTCOME, LATENCY = "outcome", "latency"
FRONTAL, GREY_MEAN, GREY_CONTRAST = "frontal-score", "grey-mean", "grey-contrast"
_PROBABILITY = "probability-"
_BINS = 20  # as of the histograms that a bundle carries; see `reference.histogram`
#: Upper edges in milliseconds: four bins per doubling, from 1 ms to 65.5 s, and one for what is
#: longer.
LATENCY_EDGES = tuple(2.0 ** (step / 4.0) for step in range(65))


@dataclass(frozen=True)
class Measure:
    """A number that is counted for each image.

    Parameters
    ----------
    name
        In the store, in addresses and for Prometheus.
    title
        For people.
    low, high
        Edges of its equal bins; what lies beyond counts in the first and last.
    unit
        Of its values, where they have one.
    """

    name: str
    title: str
    low: float
    high: float
    unit: str = ""

    @property
    def edges(self) -> list[float]:
        """Of the bins, from the first's lower to the last's upper one."""
        return [self.low + (self.high - self.low) * step / _BINS for step in range(_BINS + 1)]

    def bin(self, value: float) -> int:
        """The bin of a value."""
        return min(max(bisect_right(self.edges, value) - 1, 0), _BINS - 1)


def measures(classes: Sequence[str]) -> tuple[Measure, ...]:
    """Every measure with equal bins, for a model of these classes."""
    return (
        *(Measure(_PROBABILITY + name, f"Probability of {name}", 0.0, 1.0) for name in classes),
        Measure(FRONTAL, "Frontal score", 0.0, 1.0),
        Measure(GREY_MEAN, "Brightness", 0.0, 255.0, "mean grey value"),
        Measure(GREY_CONTRAST, "Contrast", 0.0, 128.0, "standard deviation of the grey values"),
    )


def measured(screening: Screening, station: str) -> Measured:
    """What is counted for one result.

    Scores and grey values are of images that were screened, as those of the histograms that a
    bundle carries; refused ones count by their reason.

    Parameters
    ----------
    screening
        Screened with ``grey=True``.
    station
        What the unit is called that sent the image.
    """
    reason = "screened" if screening.ok else screening.reason
    bins = {OUTCOME: OUTCOMES.index(reason if reason in OUTCOMES else "other")}
    if screening.probabilities is not None:
        values = {_PROBABILITY + name: p for name, p in screening.probabilities.items()}
        if screening.frontal_score is not None:
            values[FRONTAL] = screening.frontal_score
        if screening.grey is not None:
            values[GREY_MEAN], values[GREY_CONTRAST] = screening.grey
        known = measures(tuple(screening.probabilities))
        bins |= {one.name: one.bin(values[one.name]) for one in known if one.name in values}
    total = screening.timings_ms.get("total")
    if total is not None:
        bins[LATENCY] = bisect_right(LATENCY_EDGES, total)
    return Measured(station, f"{screening.model} {screening.version}", bins, total or 0.0)


def carried(histograms: ReferenceHistograms | None, measure: Measure) -> list[int] | None:
    """A measure's counts in the bundle's histograms; `None` if these have no such bins."""
    if histograms is None:
        return None
    if measure.name.startswith(_PROBABILITY):
        found = histograms.probabilities.get(measure.name.removeprefix(_PROBABILITY))
    else:
        found = {
            FRONTAL: histograms.frontal_score,
            GREY_MEAN: histograms.grey_mean,
            GREY_CONTRAST: histograms.grey_contrast,
        }[measure.name]
    fits = found is not None and _fits(found, measure)
    return list(found.counts) if found is not None and fits else None


def _fits(histogram: Histogram, measure: Measure) -> bool:
    bins = (histogram.low, histogram.high, len(histogram.counts))
    return bins == (measure.low, measure.high, _BINS)
