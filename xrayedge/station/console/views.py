"""What the console says about a job, the queue and the operating points, as JSON values.

No patient's data, no file name and no UID is among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from ...bundle import ModelBundle, OperatingPoint
from ...output.results import csv_row
from ...site import open_site
from ..config import ScreenConfig
from ..policy import DEVICE_NOT_ALLOWED, TOO_YOUNG
from ..records import AuditEntry, Job, Send
from ..store import Store

_ID = re.compile(r"[0-9a-f]{32}")
_SUFFIX = ".dcm"  # of `state.random_name`
_PAGE = 500  # jobs read at once while the history is exported
_MOST_FAILED = 200  # sends that are listed

_ORIGINS = {"console": "browser", "example": "browser"}
_REMEDIES = {
    "not-frontal": "Send a frontal chest radiograph, upright and alone in its image.",
    "turned": "Export the image upright, and send it again.",
    "inverted": "Export the image with bones bright, and send it again.",
    "too-small": "Export the image in its full size, not its preview.",
    "unreadable": "Export the image again as DICOM, PNG or JPEG.",
    "too-large": "Export a smaller image.",
    "multi-frame": "Send one image at a time.",
    "timeout": "Send the image again; if that does not help, raise [screen] timeout.",
    "dicom-not-installed": "Install the station again: pip install 'xrayedge[station]'.",
    TOO_YOUNG: "Have it read without this software; [screen] min_age says who is too young.",
    DEVICE_NOT_ALLOWED: "If this unit may be screened, add it to [screen] manufacturers or "
    "station_names.",
}
_SET_ASIDE = "Update xrayedge, then try it again: xrayedge station queue --retry J{id}"
_POINTS = {
    "balanced": "The default: equal sensitivity and specificity where it was fitted.",
    "sensitive": "Misses fewer of the ill, and raises more false alarms.",
    "specific": "Raises fewer false alarms, and misses more of the ill.",
}
_CSV_COLUMNS = (
    *("id", "received", "origin", "state", "label", "certain"),
    *("probabilities", "opacities", "reason", "remedy"),
    *("frontal_score", "model", "version", "precision", "engine", "operating_point", "total_ms"),
    *("modality", "body_part", "view_position", "warnings", "corrections", "detail"),
)


def instant(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def public_id(job: Job) -> str:
    """A job's name on the console: random, and nothing else."""
    return job.file.removesuffix(_SUFFIX)


def job_of(store: Store, public: str) -> Job | None:
    """The job of a name that `public_id` gave, or `None`."""
    return store.jobs.of_file(public + _SUFFIX) if _ID.fullmatch(public) else None


def screening(job: Job, sends: Sequence[Send]) -> dict[str, Any]:
    """One image, and its result if there is one."""
    result = job.result
    return {
        "id": public_id(job),
        "received": instant(job.received_at),
        "origin": _ORIGINS.get(job.origin, job.origin),
        "state": job.state,
        "operating_point": job.operating_point,
        "result": result and {k: v for k, v in result.items() if k not in ("source", "fit")},
        "detail": job.detail,
        "remedy": _remedy(job),
        "deliveries": [
            {
                "destination": one.destination,
                "kind": one.kind,
                "state": one.state,
                "tries": one.refusals,
                "error": None if one.state in ("sent", "committed") else one.detail,
            }
            for one in sends
        ],
    }


def with_sends(store: Store, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """`screening` of each."""
    return [screening(job, store.sends.search(job=job.id)) for job in jobs]


def _remedy(job: Job) -> str | None:
    if job.state == "set-aside":
        return _SET_ASIDE.format(id=job.id)
    if job.state != "refused" or job.result is None:
        return None
    return _REMEDIES.get(job.result.get("reason") or "")


def queue(store: Store, destinations: Sequence[str]) -> dict[str, Any]:
    """What waits to be screened, and what waits or failed for each destination."""
    counts = store.jobs.counts()
    backlogs = {one.destination: one for one in store.sends.backlogs()}
    names = [*destinations, *(name for name in backlogs if name not in destinations)]
    return {
        "waiting": counts.get("received", 0) + counts.get("screening", 0),
        "destinations": [
            {
                "name": name,
                "waiting": found.waiting if found else 0,
                "failed": found.failed if found else 0,
                "oldest": instant(found.oldest_at) if found else None,
                "last_error": found.detail if found else None,
            }
            for name, found in ((name, backlogs.get(name)) for name in names)
        ],
        "failed": [
            {
                "send": one.id,
                "destination": one.destination,
                "kind": one.kind,
                "error": one.detail,
                "tries": one.refusals,
            }
            for one in store.sends.search(states=("failed",), limit=_MOST_FAILED)
        ],
    }


def operating_points(bundle: ModelBundle, current: str, screen: ScreenConfig) -> dict[str, Any]:
    """The operating point for images that arrive now, and the choices."""
    return {
        "current": current,
        "choices": [
            _choice(name, point, fitted)
            for name, point, fitted in (
                _as_used(one, bundle, screen) for one in bundle.classifier.operating_points
            )
        ],
    }


def _as_used(
    point: OperatingPoint, bundle: ModelBundle, screen: ScreenConfig
) -> tuple[str, OperatingPoint, bool]:
    """A point's name and what the screener uses under it, which may be the hospital's profile."""
    if screen.site is None or point.name != screen.operating_point:
        return point.name, point, False
    return point.name, open_site(screen.site).point_for(bundle), True


def _choice(name: str, point: OperatingPoint, fitted: bool) -> dict[str, Any]:
    rates = {"sensitivity": point.sensitivity, "specificity": point.specificity}
    usual = _POINTS.get(name, "A point of this model.")
    return {
        "name": name,
        **{
            kind: rate and {"value": rate.value, "low": rate.low, "high": rate.high}
            for kind, rate in rates.items()
        },
        "description": f"Fitted at this hospital ({point.name})." if fitted else usual,
    }


def audit_entry(entry: AuditEntry) -> dict[str, Any]:
    """One entry of the audit."""
    return {
        **{"id": entry.id, "when": entry.at, "who": entry.who, "what": entry.what},
        **{"old": entry.old, "new": entry.new},
    }


def csv_lines(
    store: Store, *, since: float | None, until: float | None, results: Sequence[str]
) -> Iterator[str]:
    """The history as CSV, newest first; a page of it is in memory at a time."""
    yield csv_row(_CSV_COLUMNS)
    before: int | None = None
    while jobs := store.jobs.search(
        before=before, limit=_PAGE, since=since, until=until, results=results
    ):
        yield "".join(csv_row(_csv_values(job)) for job in jobs)
        before = jobs[-1].id


def _csv_values(job: Job) -> list[Any]:
    result = job.result or {}
    values: dict[str, Any] = {
        **(result.get("tags") or {}),
        **result,
        **{"id": public_id(job), "received": instant(job.received_at), "state": job.state},
        "origin": _ORIGINS.get(job.origin, job.origin),
        "operating_point": result.get("operating_point", job.operating_point),
        "remedy": _remedy(job),
        "detail": job.detail,
        "total_ms": (result.get("timings_ms") or {}).get("total"),
        "probabilities": " ".join(
            f"{name}={value:.4f}" for name, value in (result.get("probabilities") or {}).items()
        ),
        "opacities": len(result.get("opacities") or ()),
        "warnings": " ".join(result.get("warnings") or ()),
        "corrections": " ".join(result.get("corrections") or ()),
    }
    return [values.get(column) for column in _CSV_COLUMNS]
