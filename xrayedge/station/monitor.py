"""What the station measures of its images and of itself, and whether the images changed.

Each unit's images are compared with its own first ones, `records.REFERENCE_IMAGES` of them. The
bundle's histograms would be a worse reference: they pool many hospitals, and no single one spreads
as they do. They are shown beside, and told apart in a note.

It says "images changed" and nothing of how good results are, which no station can know.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import xrayedge

from ..bundle import ModelBundle
from ..errors import StationError
from ..manifest import ReferenceHistograms
from . import charts, exposition
from .config import ScreenConfig
from .drift import LEAST_IMAGES, Stability, stability
from .measures import LATENCY, LATENCY_EDGES, OF_THE_STATION, OUTCOME, OUTCOMES, carried, measures
from .records import REFERENCE_IMAGES, Unit
from .store import TOTAL_SECONDS, Store

_DAYS_SHOWN = 30
_LATENCY_DAYS = 7
_PERCENTILES = (50, 95, 99)
_MB = 1_000_000
_REFUSED = ("screened", "refused")  # what is compared of the outcomes
_EVENT = "monitor"
_BINS_A_BUCKET = 4  # one bucket to a doubling is enough for Prometheus


@dataclass(frozen=True)
class Reference:
    """What the model and the hospital's profile bring to compare with.

    Parameters
    ----------
    model
        Name and version.
    classes
        Of the classifier.
    bundle
        Histograms that the bundle carries; `None` where it has none.
    """

    model: str
    classes: tuple[str, ...]
    bundle: ReferenceHistograms | None


def reference_of(config: ScreenConfig) -> Reference:
    """The reference of the model that is installed now.

    Raises
    ------
    BundleError
        The model can't be read.
    """
    bundle = ModelBundle.load(config.model)
    return Reference(f"{bundle.name} {bundle.version}", bundle.classifier.classes, bundle.reference)


@dataclass(frozen=True)
class Compared:
    """One measure of one unit.

    Parameters
    ----------
    name, title
        See `measures.Measure`.
    labels
        Of the bins where they are no numbers.
    edges
        Of the bins, one more than there are bins; empty where they have labels.
    reference, recent
        Images in each bin, of the unit's first ones and of its last.
    bundle
        Images in each bin where the model was made; `None` where the bundle does not tell.
    change
        From the reference to the recent images; `None`: too few images.
    from_bundle
        From the bundle's images to the unit's, its first and last together.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    edges: tuple[float, ...]
    reference: tuple[int, ...]
    recent: tuple[int, ...]
    bundle: tuple[int, ...] | None
    change: Stability | None
    from_bundle: Stability | None


def compare(unit: Unit, reference: Reference) -> list[Compared]:
    """Every measure that tells of a unit's images, its outcomes last."""
    found = []
    for measure in measures(reference.classes):
        bins = len(measure.edges) - 1
        first, last = (_counts(side, measure.name, bins) for side in (unit.reference, unit.recent))
        counts = carried(reference.bundle, measure)
        found.append(
            Compared(
                name=measure.name,
                title=measure.title,
                labels=(),
                edges=tuple(measure.edges),
                reference=first,
                recent=last,
                bundle=None if counts is None else tuple(counts),
                change=stability(first, last),
                from_bundle=None
                if counts is None
                else stability(counts, [a + b for a, b in zip(first, last, strict=True)]),
            )
        )
    return [*found, _outcomes(unit)]


def _outcomes(unit: Unit) -> Compared:
    sides = []
    for rows in (unit.reference, unit.recent):
        counts = _counts(rows, OUTCOME, len(OUTCOMES))
        ours = sum(counts[OUTCOMES.index(reason)] for reason in OF_THE_STATION)
        sides.append((counts[0], sum(counts[1:]) - ours))
    first, last = sides
    return Compared(
        name=OUTCOME,
        title="Images refused",
        labels=_REFUSED,
        edges=(),
        reference=first,
        recent=last,
        bundle=None,
        change=stability(first, last, join=False),
        from_bundle=None,
    )


def _counts(rows: Iterable[Mapping[str, int]], name: str, bins: int) -> tuple[int, ...]:
    counts = [0] * bins
    for row in rows:
        number = row.get(name)
        if number is not None and 0 <= number < bins:
            counts[number] += 1
    return tuple(counts)


# What is said


def state_of(unit: Unit, compared: Sequence[Compared]) -> str:
    """``learning``, ``waiting``, ``steady`` or ``changed``."""
    if any(one.change is not None and one.change.changed for one in compared):
        return "changed"
    if len(unit.reference) < REFERENCE_IMAGES:
        return "learning"
    return "waiting" if len(unit.recent) < LEAST_IMAGES else "steady"


def sentence(unit: Unit, compared: Sequence[Compared]) -> str | None:
    """What an operator is told where a unit's images changed."""
    changed = [one.title[0].lower() + one.title[1:] for one in compared if _has_changed(one)]
    if not changed:
        return None
    return (
        f"Images changed: the last {len(unit.recent)} images of {unit.name} differ from its first "
        f"{len(unit.reference)} in {_listed(changed)}."
    )


#: What an operator reads in each state, after the sentence.
ADVICE = {
    "learning": "The station is learning what the images of this unit look like.",
    "waiting": "The station has learned what the images of this unit look like. It compares them "
    f"when {LEAST_IMAGES} more have come.",
    "steady": "The last images look as the first ones did.",
    "changed": "Look at some of the newest images beside older ones. Was the unit, its detector, "
    "its exposure or its export changed? Do other patients come? Mend what is wrong. If the images "
    "are as they should be, take them as the new reference. Scores may mean something else on "
    "changed images; whether results are still right, only a comparison with diagnoses can say.",
}


def _has_changed(one: Compared) -> bool:
    return one.change is not None and one.change.changed


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def note_changes(store: Store, reference: Reference, today: date) -> bool:
    """Write an event where images changed, once a day at most; whether one was written."""
    sentences = [sentence(unit, compare(unit, reference)) for unit in store.units()]
    said = " ".join(filter(None, sentences))
    return bool(said) and store.note_once_a_day(_EVENT, said, today)


def accept(store: Store, unit: str, who: str) -> None:
    """Take a unit's recent images as its reference from now on; the audit says who did.

    Raises
    ------
    StationError
        There is no such unit, or it has too few recent images.
    """
    if not store.accept_images(unit, who, LEAST_IMAGES):
        raise StationError(
            f"{unit}: no unit with {LEAST_IMAGES} images after those of its reference; "
            "wait for more images"
        )


# For the console


def summary(store: Store, reference: Reference, unit: str | None = None) -> dict[str, Any]:
    """The JSON object of the console's monitor.

    Parameters
    ----------
    store
        Of the station.
    reference
        See `reference_of`.
    unit
        Whose measures to show; by default one whose images changed, or that sent the last image.
    """
    units = store.units()
    compared = {one.name: compare(one, reference) for one in units}
    told = {one.name: sentence(one, compared[one.name]) for one in units}
    shown = _shown(units, told, unit)
    today = date.today()
    days = store.daily(OUTCOME, _before(today, _DAYS_SHOWN - 1), today.isoformat())
    of_today = _by_reason(days.get(today.isoformat(), {}))
    images = sum(of_today.values())
    counts = store.job_counts()
    return {
        "sentence": " ".join(filter(None, told.values())) or None,
        "model": reference.model,
        "unit": None if shown is None else shown.name,
        "units": [
            {
                "name": one.name,
                "state": (state := state_of(one, compared[one.name])),
                "sentence": told[one.name],
                "advice": ADVICE[state],
                "note": _note(compared[one.name]),
                "reference_images": len(one.reference),
                "reference_wanted": REFERENCE_IMAGES,
                "recent_images": len(one.recent),
                "recent_wanted": LEAST_IMAGES,
            }
            for one in units
        ],
        "days": [
            {
                "day": day,
                "images": sum(bins.values()),
                "refused": sum(bins.values()) - bins.get(0, 0),
            }
            for day, bins in days.items()
        ],
        "measures": []
        if shown is None
        else [_as_json(store, one, shown, today) for one in compared[shown.name]],
        "plots": list(plots(reference)),
        "reject_rate": 1.0 - of_today.get("screened", 0) / images if images else None,
        "rejects": {reason: n for reason, n in of_today.items() if reason != "screened"},
        "latency_ms": _latency(store, today),
        "disk_free_mb": _disk_free(store) // _MB,
        "queue": {
            "waiting": counts.get("received", 0) + counts.get("screening", 0),
            "set_aside": counts.get("set-aside", 0),
            "to_send": _sends(store, "queued"),
            "failed": _sends(store, "failed"),
        },
    }


def _as_json(store: Store, one: Compared, unit: Unit, today: date) -> dict[str, Any]:
    day = today.isoformat()
    counted = store.histograms(day, day, unit.name).get(one.name, {})
    bins = [counted.get(number, 0) for number in range(len(one.edges) - 1)]
    if one.name == OUTCOME:
        bins = [counted.get(0, 0), sum(n for number, n in counted.items() if number)]
    return {
        "name": one.name,
        "title": one.title,
        "psi": None if one.change is None else round(one.change.index, 4),
        "limit": None if one.change is None else round(one.change.limit, 4),
        "changed": _has_changed(one),
        "count": sum(one.recent),
        "labels": list(one.labels),
        "edges": list(one.edges),
        "reference": list(one.reference),
        "recent": list(one.recent),
        "today": bins,
        "bundle": None if one.bundle is None else list(one.bundle),
        "psi_bundle": None if one.from_bundle is None else round(one.from_bundle.index, 4),
    }


def _note(compared: Sequence[Compared]) -> str | None:
    """How the unit's images differ from those that the model was made from."""
    if all(one.bundle is None for one in compared):
        return "no reference: the model does not tell what its own images looked like."
    unlike = [one for one in compared if one.from_bundle is not None and one.from_bundle.changed]
    if not unlike:
        return None
    titles = _listed([one.title[0].lower() + one.title[1:] for one in unlike])
    return (
        f"Unlike the images that the model was made from in {titles}. That is usual at a new "
        "hospital; `xrayedge calibrate` fits the model to it."
    )


def _shown(units: Sequence[Unit], told: Mapping[str, str | None], name: str | None) -> Unit | None:
    if name is not None:
        for one in units:
            if one.name == name:
                return one
        raise StationError(f"{name}: no unit of this name has sent images")
    changed = [one for one in units if told[one.name]]
    return next(iter([*changed, *units]), None)


def plots(reference: Reference) -> tuple[str, ...]:
    """Names that `plot` knows."""
    return (*(one.name for one in measures(reference.classes)), OUTCOME, LATENCY, "days")


def plot(store: Store, reference: Reference, measure: str, unit: str | None = None) -> str:
    """A chart as SVG, to be put into a page: it takes the page's colour of text.

    Parameters
    ----------
    store, reference, unit
        As of `summary`.
    measure
        One of `plots`.

    Raises
    ------
    StationError
        There is no such chart or unit.
    """
    today = date.today()
    if measure == "days":
        days = store.daily(OUTCOME, _before(today, _DAYS_SHOWN - 1), today.isoformat())
        return charts.days({day: (sum(b.values()), b.get(0, 0)) for day, b in days.items()})
    if measure == LATENCY:
        bins = _latency_bins(store, today)
        return charts.latency(bins, LATENCY_EDGES, _latency(store, today))
    if measure not in plots(reference):
        raise StationError(f"{measure}: no such chart; there are {', '.join(plots(reference))}")
    units = store.units()
    if unit is None:
        told = {one.name: sentence(one, compare(one, reference)) for one in units}
        shown = _shown(units, told, None) or Unit("", reference.model, (), ())
    else:
        shown = _shown(units, {}, unit) or Unit("", reference.model, (), ())
    for one in compare(shown, reference):
        if one.name == measure:
            return charts.compared(one)
    raise AssertionError(measure)


def _latency_bins(store: Store, today: date) -> list[int]:
    first = _before(today, _LATENCY_DAYS - 1)
    counted = store.histograms(first, today.isoformat()).get(LATENCY, {})
    return [counted.get(number, 0) for number in range(len(LATENCY_EDGES) + 1)]


def _latency(store: Store, today: date) -> dict[str, Any]:
    """Percentiles of the last days, as exact as the bins: to a fifth."""
    bins = _latency_bins(store, today)
    found: dict[str, Any] = {
        f"p{one}": charts.percentile(bins, LATENCY_EDGES, one / 100.0) for one in _PERCENTILES
    }
    return {**found, "images": sum(bins), "days": _LATENCY_DAYS}


def _by_reason(bins: Mapping[int, int]) -> dict[str, int]:
    return {
        OUTCOMES[number] if number < len(OUTCOMES) else "other": count
        for number, count in bins.items()
    }


def _sends(store: Store, state: str) -> int:
    return sum(n for (_, of), n in store.send_counts().items() if of == state)


def _disk_free(store: Store) -> int:
    return shutil.disk_usage(store.path.parent).free


def _before(today: date, days: int) -> str:
    return (today - timedelta(days=days)).isoformat()


# For Prometheus


def metrics(store: Store, reference: Reference) -> str:
    """The station's metrics in Prometheus' text format; counters outlive a restart."""
    text = exposition.Text()
    text.gauge(
        "xrayedge_info",
        "Release and model in use.",
        [({"version": xrayedge.__version__, "model": reference.model}, 1)],
    )
    totals = store.totals()
    by_outcome = totals.get(OUTCOME, {})
    text.counter(
        "xrayedge_images_total",
        "Images by what became of them.",
        [
            ({"outcome": reason}, by_outcome.get(number, 0))
            for number, reason in enumerate(OUTCOMES)
        ],
    )
    latency = totals.get(LATENCY, {})
    text.histogram(
        "xrayedge_screening_seconds",
        "Time to screen an image.",
        [edge / 1000.0 for edge in LATENCY_EDGES[::_BINS_A_BUCKET]],
        _buckets([int(latency.get(number, 0)) for number in range(len(LATENCY_EDGES) + 1)]),
        totals.get(TOTAL_SECONDS, {}).get(0, 0.0),
    )
    text.gauge(
        "xrayedge_jobs",
        "Jobs in each state.",
        [({"state": state}, n) for state, n in sorted(store.job_counts().items())],
    )
    text.gauge(
        "xrayedge_sends",
        "Objects for each destination in each state.",
        [
            ({"destination": name, "state": state}, n)
            for (name, state), n in sorted(store.send_counts().items())
        ],
    )
    oldest = store.oldest_waiting()
    waited = 0.0 if oldest is None else max(0.0, time.time() - oldest)
    text.gauge(
        "xrayedge_oldest_waiting_seconds",
        "Age of the oldest image that has not been screened.",
        [({}, waited)],
    )
    text.gauge(
        "xrayedge_disk_free_bytes",
        "Free space on the disk of the state folder.",
        [({}, _disk_free(store))],
    )
    units = store.units()
    compared = {unit.name: compare(unit, reference) for unit in units}
    text.gauge(
        "xrayedge_population_stability_index",
        "Change of a unit's recent images from its first ones.",
        [
            ({"unit": name, "measure": one.name}, one.change.index)
            for name, found in compared.items()
            for one in found
            if one.change is not None
        ],
    )
    text.gauge(
        "xrayedge_images_changed",
        "1 where a unit's images changed.",
        [({"unit": name}, int(any(map(_has_changed, found)))) for name, found in compared.items()],
    )
    return str(text)


def _buckets(bins: Sequence[int]) -> list[int]:
    """Bins of the latency joined, so that every `_BINS_A_BUCKET`-th edge is left."""
    inner = range(1, len(bins) - 1, _BINS_A_BUCKET)
    return [bins[0], *(sum(bins[first : first + _BINS_A_BUCKET]) for first in inner), bins[-1]]
