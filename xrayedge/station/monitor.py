"""What the station reports on its images and itself: for the console, the events and Prometheus.

`judging` says whether images changed; here it is put into words, numbers and charts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import xrayedge

from ..errors import StationError
from . import charts, exposition
from .drift import LEAST_IMAGES
from .judging import (
    ADVICE,
    Compared,
    Reference,
    compare,
    has_changed,
    note,
    reference_of,
    sentence,
    state_of,
)
from .measures import LATENCY, LATENCY_EDGES, OUTCOME, OUTCOMES, measures
from .records import REFERENCE_IMAGES, Unit
from .store import Store
from .store.measures import TOTAL_SECONDS

__all__ = ["accept", "metrics", "note_changes", "plot", "plots", "reference_of", "summary"]

#: Days of counts that the console shows.
DAYS_SHOWN = 30
_LATENCY_DAYS = 7
_MB = 1_000_000
_EVENT = "monitor"
_BINS_A_BUCKET = 4  # one bucket per doubling is enough for Prometheus


def note_changes(store: Store, reference: Reference, today: date) -> bool:
    """Write an event if images changed, at most once a day; returns whether one was written."""
    sentences = [sentence(unit, compare(unit, reference)) for unit in store.measures.units()]
    said = " ".join(filter(None, sentences))
    return bool(said) and store.events.note_once_a_day(_EVENT, said, today)


def accept(store: Store, unit: str, who: str) -> None:
    """Make a unit's recent images its reference from now on; the audit records who did.

    Raises
    ------
    StationError
        There is no such unit, or it has too few recent images.
    """
    if not store.measures.accept_images(unit, who, LEAST_IMAGES):
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
    units = store.measures.units()
    compared = {one.name: compare(one, reference) for one in units}
    told = {one.name: sentence(one, compared[one.name]) for one in units}
    shown = _shown(units, told, unit)
    today = date.today()
    days = store.measures.daily(OUTCOME, _before(today, DAYS_SHOWN - 1), today.isoformat())
    of_today = _by_reason(days.get(today.isoformat(), {}))
    images = sum(of_today.values())
    counts = store.jobs.counts()
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
                "note": note(compared[one.name]),
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
        "latency_ms": _latency(_latency_bins(store, today)),
        "disk_free_mb": _disk_free(store) // _MB,
        "queue": counts.get("received", 0) + counts.get("screening", 0),
        "set_aside": counts.get("set-aside", 0),
        "to_send": _sends(store, "queued"),
        "failed": _sends(store, "failed"),
    }


def _as_json(store: Store, one: Compared, unit: Unit, today: date) -> dict[str, Any]:
    day = today.isoformat()
    counted = store.measures.histograms(day, day, unit.name).get(one.name, {})
    bins = [counted.get(number, 0) for number in range(len(one.edges) - 1)]
    if one.name == OUTCOME:
        bins = [counted.get(0, 0), sum(n for number, n in counted.items() if number)]
    return {
        "name": one.name,
        "title": one.title,
        "psi": None if one.change is None else round(one.change.index, 4),
        "limit": None if one.change is None else round(one.change.limit, 4),
        "changed": has_changed(one),
        "count": sum(one.recent),
        "labels": list(one.labels),
        "edges": list(one.edges),
        "reference": list(one.reference),
        "recent": list(one.recent),
        "today": bins,
        "bundle": None if one.bundle is None else list(one.bundle),
        "psi_bundle": None if one.from_bundle is None else round(one.from_bundle.index, 4),
    }


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
    """A chart as SVG, to be embedded in a page: it takes the page's text colour.

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
        days = store.measures.daily(OUTCOME, _before(today, DAYS_SHOWN - 1), today.isoformat())
        return charts.days({day: (sum(b.values()), b.get(0, 0)) for day, b in days.items()})
    if measure == LATENCY:
        bins = _latency_bins(store, today)
        return charts.latency(bins, LATENCY_EDGES, _LATENCY_DAYS)
    if measure not in plots(reference):
        raise StationError(f"{measure}: no such chart; there are {', '.join(plots(reference))}")
    units = store.measures.units()
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
    counted = store.measures.histograms(first, today.isoformat()).get(LATENCY, {})
    return [counted.get(number, 0) for number in range(len(LATENCY_EDGES) + 1)]


def _latency(bins: Sequence[int]) -> dict[str, float | None]:
    """Latency percentiles of the last days in milliseconds, to the bins' precision of a fifth."""
    return {
        f"p{one}": charts.percentile(bins, LATENCY_EDGES, one / 100.0) for one in charts.PERCENTILES
    }


def _by_reason(bins: Mapping[int, int]) -> dict[str, int]:
    return {
        OUTCOMES[number] if number < len(OUTCOMES) else "other": count
        for number, count in bins.items()
    }


def _sends(store: Store, state: str) -> int:
    return sum(n for (_, of), n in store.sends.counts().items() if of == state)


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
    totals = store.measures.totals()
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
        [({"state": state}, n) for state, n in sorted(store.jobs.counts().items())],
    )
    text.gauge(
        "xrayedge_sends",
        "Objects for each destination in each state.",
        [
            ({"destination": name, "state": state}, n)
            for (name, state), n in sorted(store.sends.counts().items())
        ],
    )
    oldest = store.jobs.oldest_waiting()
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
    units = store.measures.units()
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
        [({"unit": name}, int(any(map(has_changed, found)))) for name, found in compared.items()],
    )
    return str(text)


def _buckets(bins: Sequence[int]) -> list[int]:
    """Latency bins merged so that every `_BINS_A_BUCKET`-th edge remains."""
    inner = range(1, len(bins) - 1, _BINS_A_BUCKET)
    return [bins[0], *(sum(bins[first : first + _BINS_A_BUCKET]) for first in inner), bins[-1]]
