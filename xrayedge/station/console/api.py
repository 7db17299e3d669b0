"""`Api`: the console's routes, who may use them, and their answers.

docs/station.md describes it. Everything that takes time runs in a thread of a few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ...errors import StationError
from ...output.dicom import DISCLAIMER
from .. import exposition, judging, monitor
from ..config import StationConfig
from ..records import Job
from ..state import StateFolder
from ..store import Store
from ..worker import Worker
from . import views
from .asking import instant, last_event, number, texts
from .auth import Auth
from .events import Events
from .guard import Refusal, not_found
from .images import Images
from .sessions import Sessions
from .uploads import Uploads

_T = TypeVar("_T")

STATIC = Path(__file__).parent / "static"
#: Content types of the page's files only; the machine's own table may list scripts as text.
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

_MOST_JOBS = 200  # of one answer
_AUDIT_PAGE = 100
_RESULTS = ("uncertain", "refused")
_EXAMPLE = "RG1_UNCR.dcm"  # a frontal chest radiograph of pydicom-data
_NO_EXAMPLE = "Install it: pip install pydicom-data"


@dataclass(frozen=True)
class Parts:
    """What the console works with.

    Parameters
    ----------
    config
        The station's.
    state
        Where new images go.
    store
        The console's own connection, so that a long search does not block the worker.
    worker
        What screens.
    auth
        Who may do what.
    """

    config: StationConfig
    state: StateFolder
    store: Store
    worker: Worker
    auth: Auth


class Api:
    """One method for each address.

    Parameters
    ----------
    parts
        What it is about.
    """

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        self._config, self._state, self._store = config, parts.state, parts.store
        self._worker, self._auth = parts.worker, parts.auth
        self._point = config.screen.operating_point
        self._sessions = Sessions(parts.auth, parts.store, secure=config.console.cert is not None)
        self._destinations = [one.name for one in config.destinations]
        self._static = {
            path.relative_to(STATIC).as_posix(): path
            for path in STATIC.rglob("*")
            if path.suffix in _MEDIA_TYPES
        }
        self._example = _example()
        self._images = Images(parts.state, parts.store)
        self._uploads = Uploads(parts.state, config.console.max_bytes, self._point)
        #: Those who listen.
        self.events = Events(
            parts.store,
            screening=self._screening_by_number,
            queue=self._queue,
            operating_point=self._operating_points,
        )

    def routes(self) -> list[Route]:
        """Every address."""
        api, one = "/api/v1", "/api/v1/screenings/{id}"
        sessions = self._sessions
        return [
            Route("/", self.page),
            Route("/static/{name:path}", self.static),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route(f"{api}/session", sessions.session),
            Route(f"{api}/session", sessions.log_in, methods=["POST"]),
            Route(f"{api}/session", sessions.log_out, methods=["DELETE"]),
            Route(f"{api}/station", self.station),
            Route(f"{api}/example", self.example, methods=["POST"]),
            Route(f"{api}/screenings", self.screenings),
            Route(f"{api}/screenings", self.upload, methods=["POST"]),
            Route(f"{api}/screenings.csv", self.screenings_csv),
            Route(one, self.screening),
            Route(f"{one}/image.png", self.image),
            Route(f"{one}/heatmap.png", self.heatmap),
            Route(f"{api}/operating-point", self.operating_point),
            Route(f"{api}/operating-point", self.change_operating_point, methods=["PUT"]),
            Route(f"{api}/queue", self.queue),
            Route(f"{api}/queue/{{send:int}}/retry", self.retry, methods=["POST"]),
            Route(f"{api}/audit", self.audit),
            Route(f"{api}/audit/verify", self.verify_audit),
            Route(f"{api}/events", self.listen),
            Route(f"{api}/monitor", self.monitor),
            Route(f"{api}/monitor/accept", self.accept_images, methods=["POST"]),
            Route(f"{api}/monitor/{{measure}}.svg", self.plot),
            Route("/metrics", self.metrics),
        ]

    # The page

    async def page(self, _request: Request) -> Response:
        """The page itself; it asks for the session."""
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        """A file of the page: one of those that were there at the start, by its exact name."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        path = self._static.get(name)
        if path is None:
            raise not_found()
        # A few kilobytes from the page cache: faster than starting a thread.
        return Response(path.read_bytes(), media_type=_MEDIA_TYPES[path.suffix])

    # Health

    async def live(self, _request: Request) -> Response:
        """Whether the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, _request: Request) -> Response:
        """Whether images are received and screened."""
        ready = self._worker.is_alive() and self._state.has_room()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    # What

    async def station(self, request: Request) -> Response:
        """The station's release, model and settings."""
        self._sessions.require(request, "reader")
        screener = self._worker.screener
        return JSONResponse(
            {
                "version": version("xrayedge"),
                "model": screener.bundle.name,
                "model_version": screener.bundle.version,
                "precision": screener.precision,
                "engine": screener.engine,
                "operating_point": await run_in_threadpool(self._current_point),
                "disclaimer": DISCLAIMER,
                "example": self._example is not None,
                "destinations": self._destinations,
                "max_bytes": self._config.console.max_bytes,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Receive an image."""
        user = self._sessions.require(request, "operator").user
        return _accepted(*await self._uploads.take(request, user))

    async def example(self, request: Request) -> Response:
        """Receive the example image."""
        user = self._sessions.require(request, "operator").user
        if self._example is None:
            raise Refusal(404, "There is no example.", _NO_EXAMPLE)
        return _accepted(*await self._uploads.take_example(self._example, user))

    async def screenings(self, request: Request) -> Response:
        """The history, newest first."""
        self._sessions.require(request, "reader")
        limit = number(request, "limit", 50, 1, _MOST_JOBS)
        search = self._search(request)
        before = request.query_params.get("before")

        def answer() -> dict[str, Any]:
            last = None if before is None else self._job(before).id
            jobs = self._store.jobs.search(before=last, limit=limit + 1, **search)
            shown = jobs[:limit]
            following = views.public_id(shown[-1]) if len(jobs) > limit else None
            return {"screenings": views.with_sends(self._store, shown), "next": following}

        return JSONResponse(await run_in_threadpool(answer))

    async def screenings_csv(self, request: Request) -> Response:
        """The history as a table."""
        self._sessions.require(request, "reader")
        lines: Iterator[str] = views.csv_lines(self._store, **self._search(request))
        return StreamingResponse(
            lines,
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": 'attachment; filename="screenings.csv"'},
        )

    async def screening(self, request: Request) -> Response:
        """One image."""
        job = await self._asked_job(request)
        (view,) = await run_in_threadpool(views.with_sends, self._store, [job])
        return JSONResponse(view)

    async def image(self, request: Request) -> Response:
        """Its pixels."""
        job = await self._asked_job(request)
        return Response(await self._images.image(job), media_type="image/png")

    async def heatmap(self, request: Request) -> Response:
        """Its heatmap, as a layer over it."""
        job = await self._asked_job(request)
        return Response(await self._images.heatmap(job), media_type="image/png")

    async def operating_point(self, request: Request) -> Response:
        """The operating point, and what each costs."""
        self._sessions.require(request, "reader")
        return JSONResponse(await run_in_threadpool(self._operating_points))

    async def change_operating_point(self, request: Request) -> Response:
        """Change it for images that arrive from now on."""
        user = self._sessions.require(request, "admin").user
        name = (await texts(request, "name"))["name"]
        if name not in {
            one.name for one in self._worker.screener.bundle.classifier.operating_points
        }:
            raise Refusal(
                422, "The model has no such operating point.", "Choose one of those listed."
            )
        await run_in_threadpool(
            self._store.settings.change, "operating_point", name, user, self._point
        )
        return JSONResponse(await run_in_threadpool(self._operating_points))

    async def queue(self, request: Request) -> Response:
        """What waits, and what failed."""
        self._sessions.require(request, "reader")
        return JSONResponse(await run_in_threadpool(self._queue))

    async def retry(self, request: Request) -> Response:
        """Send again what a destination refused."""
        user = self._sessions.require(request, "operator").user
        send: int = request.path_params["send"]

        def retry() -> bool:
            # A click on an outdated page must not send an object twice.
            if not self._store.sends.retry(send, states=("failed",)):
                return False
            self._store.audit.record(user, f"queued again S{send}")
            return True

        if not await run_in_threadpool(retry):
            raise Refusal(404, "No send with this number has failed.", "Look at the queue again.")
        return JSONResponse(await run_in_threadpool(self._queue))

    async def audit(self, request: Request) -> Response:
        """Who changed what, newest first."""
        self._sessions.require(request, "admin")
        before = number(request, "before", 2**62, 1, 2**62)
        entries = await run_in_threadpool(self._store.audit.newest, before, _AUDIT_PAGE + 1)
        shown = entries[:_AUDIT_PAGE]
        return JSONResponse(
            {
                "entries": [views.audit_entry(one) for one in shown],
                "next": shown[-1].id if len(entries) > _AUDIT_PAGE else None,
            }
        )

    async def verify_audit(self, request: Request) -> Response:
        """Whether the audit is unaltered."""
        self._sessions.require(request, "admin")
        found = await run_in_threadpool(self._store.audit.check)
        return JSONResponse(
            {"ok": found.first_bad is None, "first_bad": found.first_bad, "entries": found.entries}
        )

    async def listen(self, request: Request) -> Response:
        """Events as they happen."""
        self._sessions.require(request, "reader")
        token = self._sessions.token(request)
        self.events.check_room()
        return StreamingResponse(
            self.events.listen(
                last_event(request),
                # Listening alone does not keep a session alive.
                lambda: self._auth.identity(token, touch=False) is not None,
            ),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    # What changed in the images

    async def monitor(self, request: Request) -> Response:
        """Whether a unit's images changed, and the state of the station."""
        self._sessions.require(request, "reader")
        unit = request.query_params.get("unit")
        return JSONResponse(await run_in_threadpool(self._monitored, monitor.summary, unit))

    async def plot(self, request: Request) -> Response:
        """One of the monitor's charts."""
        self._sessions.require(request, "reader")
        measure, unit = request.path_params["measure"], request.query_params.get("unit")
        chart = await run_in_threadpool(self._monitored, monitor.plot, measure, unit)
        return Response(chart, media_type="image/svg+xml")

    async def accept_images(self, request: Request) -> Response:
        """Make a unit's recent images its reference."""
        user = self._sessions.require(request, "admin").user
        unit = (await texts(request, "unit"))["unit"]
        await run_in_threadpool(self._accept_images, unit, user)
        return JSONResponse(await run_in_threadpool(self._monitored, monitor.summary, unit))

    async def metrics(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        await self._sessions.require_program(request)
        text = await run_in_threadpool(self._monitored, monitor.metrics)
        return Response(text, media_type=exposition.CONTENT_TYPE)

    def _monitored(self, made: Callable[..., _T], *asked: str | None) -> _T:
        reference = judging.reference_of(self._config.screen)
        try:
            return made(self._store, reference, *asked)
        except StationError as error:
            raise _not_measured(error) from None

    def _accept_images(self, unit: str, user: str) -> None:
        try:
            monitor.accept(self._store, unit, user)
        except StationError as error:
            raise _not_measured(error) from None

    # What these share

    def _job(self, public: str) -> Job:
        job = views.job_of(self._store, public)
        if job is None:
            raise Refusal(
                404, "There is no such image.", "It may have been deleted since; look again."
            )
        return job

    async def _asked_job(self, request: Request) -> Job:
        self._sessions.require(request, "reader")
        return await run_in_threadpool(self._job, request.path_params["id"])

    def _screening_by_number(self, job: int) -> dict[str, Any] | None:
        found = self._store.jobs.get(job)
        return None if found is None else views.with_sends(self._store, [found])[0]

    def _queue(self) -> dict[str, Any]:
        return views.queue(self._store, self._destinations)

    def _current_point(self) -> str:
        return self._state.operating_point(self._point)

    def _operating_points(self) -> dict[str, Any]:
        bundle = self._worker.screener.bundle
        return views.operating_points(bundle, self._current_point(), self._config.screen)

    def _search(self, request: Request) -> dict[str, Any]:
        asked = request.query_params.get("result", "")
        results = tuple(part for part in asked.split(",") if part)
        known = (*self._worker.screener.bundle.classifier.classes, *_RESULTS)
        for one in results:
            if one not in known:
                raise Refusal(400, "There is no such result.", f"Choose from {', '.join(known)}.")
        return {
            "since": instant(request, "since"),
            "until": instant(request, "until"),
            "results": results,
        }


def _not_measured(error: StationError) -> Refusal:
    return Refusal(404, f"{error}.", "Look at the monitor again.")


def _accepted(job: Job, new: bool) -> Response:
    return JSONResponse({"id": views.public_id(job), "new": new}, 202)


def _example() -> Path | None:
    """The genuine chest radiograph of pydicom-data, where that is installed."""
    from pydicom.data import get_testdata_file

    found = get_testdata_file(_EXAMPLE, download=False)
    return None if found is None else Path(str(found))
