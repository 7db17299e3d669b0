"""`Events`: sends what happens to every page that listens (server-sent events).

The store's events are read a few times a second while anybody listens: other processes, such as
``station queue --retry``, write them too. A listener that comes back says which event it had last
(``Last-Event-ID``) and gets what happened since, even across a restart.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool

from ...errors import StationError
from ..records import Event
from ..store import Store
from .guard import Refusal

MOST_LISTENERS = 64
HEARTBEAT_SECONDS = 10.0
_LOOK_SECONDS = 0.25
#: Events read at once; a page that is further behind reloads the history.
_MOST_EVENTS = 500
#: Messages that wait for a slow listener before it is dropped; it reconnects.
_MOST_WAITING = 1000
_RETRY_MS = 2000  # after which a browser connects again

_OF_A_JOB = (
    *("received", "screening", "screened", "refused", "set-aside"),
    *("queued", "sent", "committed", "failed"),
)
_OF_THE_QUEUE = (*_OF_A_JOB, "waiting", "deleted")
_POINT = "operating_point = "


class Events:
    """Listeners, and the task that reads for all of them.

    Parameters
    ----------
    store
        Whose events.
    screening
        What is said of a job, by its id; `None` of one that is gone.
    queue, operating_point
        What is said of these.
    """

    def __init__(
        self,
        store: Store,
        *,
        screening: Callable[[int], dict[str, Any] | None],
        queue: Callable[[], dict[str, Any]],
        operating_point: Callable[[], dict[str, Any]],
    ) -> None:
        self._store = store
        self._screening, self._queue, self._operating_point = screening, queue, operating_point
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._last = 0
        self._stopped = False

    def stop(self) -> None:
        """End every stream; to be called in the loop's thread."""
        self._stopped = True
        for one in self._listeners:
            _put(one, None)

    def check_room(self) -> None:
        """Raise `Refusal` if too many listen already."""
        if self._stopped or len(self._listeners) >= MOST_LISTENERS:
            raise Refusal(
                503, "Too many pages are open.", "Close one, or try again.", retry_after=30
            )

    async def listen(
        self, last_seen: int | None, may_listen: Callable[[], bool]
    ) -> AsyncIterator[str]:
        """Messages from now on, or since the event that was seen last.

        Ends when `may_listen` says no, asked before each message and heartbeat.
        """
        if self._stopped or len(self._listeners) >= MOST_LISTENERS:
            return
        waiting: asyncio.Queue[str | None] = asyncio.Queue(_MOST_WAITING)
        self._listeners.add(waiting)
        try:
            async with self._starting:
                if self._task is None or self._task.done():
                    self._last = await run_in_threadpool(self._store.events.last)
                    self._task = asyncio.create_task(self._read())
                now = self._last
            # An id alone is not shown to the page, and kept by the browser.
            yield f"retry: {_RETRY_MS}\nid: {now}\n\n{await self._missed(last_seen, now)}"
            while not self._stopped:
                try:
                    message = await asyncio.wait_for(waiting.get(), HEARTBEAT_SECONDS)
                except asyncio.TimeoutError:
                    message = ": heartbeat\n\n"
                if message is None or not may_listen():
                    return
                yield message
        finally:
            self._listeners.discard(waiting)

    async def _missed(self, last_seen: int | None, now: int) -> str:
        # A number beyond the newest event comes from another state folder.
        if last_seen is None or not now - _MOST_EVENTS <= last_seen < now:
            return ""
        events = await run_in_threadpool(self._store.events.read, last_seen, now - last_seen)
        return await run_in_threadpool(self._told, events)

    async def _read(self) -> None:
        try:
            while self._listeners and not self._stopped:
                await asyncio.sleep(_LOOK_SECONDS)
                events = await run_in_threadpool(self._store.events.read, self._last, _MOST_EVENTS)
                told = await run_in_threadpool(self._told, events)
                if events:
                    self._last = events[-1].id
                for one in self._listeners if told else ():
                    _put(one, told)
        except Exception as error:
            if not isinstance(error, StationError):
                line = f"the console failed on events ({type(error).__name__})"
                await run_in_threadpool(self._store.events.warn, line)
        finally:
            for one in self._listeners:  # they come back
                _put(one, None)

    def _told(self, events: Sequence[Event]) -> str:
        """The current state of each job that changed, once, and whatever else changed."""
        last_of = {one.job: one.id for one in events if one.kind in _OF_A_JOB and one.job}
        told = []
        for job, event in sorted(last_of.items(), key=lambda item: item[1]):
            view = self._screening(job)
            if view is not None:  # deleted meanwhile
                told.append(_message("screening", event, view))
        if any(one.kind in _OF_THE_QUEUE for one in events):
            told.append(_message("queue", events[-1].id, self._queue()))
        if any(one.kind == "setting" and one.detail.startswith(_POINT) for one in events):
            told.append(_message("operating-point", events[-1].id, self._operating_point()))
        changes = [one for one in events if one.kind == "monitor"]
        told += [_message("monitor", one.id, {"sentence": one.detail}) for one in changes[-1:]]
        return "".join(told)


def _put(waiting: asyncio.Queue[str | None], message: str | None) -> None:
    try:
        waiting.put_nowait(message)
    except asyncio.QueueFull:
        while not waiting.empty():
            waiting.get_nowait()
        waiting.put_nowait(None)


def _message(kind: str, id_: int, data: dict[str, Any]) -> str:
    return f"id: {id_}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
