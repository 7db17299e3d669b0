"""How long an image takes, and how long it may take."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakSet

from .errors import ImageError

if TYPE_CHECKING:
    from concurrent.futures import Future

_Result = TypeVar("_Result")

STAGES = ("read", "frontal", "preprocess", "classify")


class Clock:
    """Milliseconds of each stage and in total since it was created, and the time left."""

    def __init__(self, source: str, timeout: float | None) -> None:
        self._source = source
        self._timeout = timeout
        self._started = time.perf_counter()
        self._stages: dict[str, float | None] = dict.fromkeys(STAGES)
        self._stopped = False

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        if self.left() == 0.0:
            raise self.timed_out()
        try:
            yield
        finally:
            self._stages[name] = _milliseconds(started)

    def stop(self) -> None:
        """End the time now: nobody waits for the result any more."""
        self._stopped = True

    def left(self) -> float | None:
        """Seconds until the timeout; ``None`` without one."""
        if self._stopped:
            return 0.0
        if self._timeout is None:
            return None
        return max(0.0, self._started + self._timeout - time.perf_counter())

    def timings(self) -> dict[str, float | None]:
        return {**self._stages, "total": _milliseconds(self._started)}

    def timed_out(self) -> ImageError:
        """The timeout error."""
        message = f"{self._source}: not screened within {self._timeout or 0.0:g} seconds"
        return ImageError(message, reason="timeout")


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000.0, 3)


#: Seconds that a process waits at its end for work that was given up.
_GRACE = 10.0

_threads: WeakSet[threading.Thread] = WeakSet()


class TimedWork(Generic[_Result]):
    """Does work in a thread and waits for it no longer than its clock allows.

    What is given up ends in the background, at the latest after the stage that it is in; the next
    work waits for it, within its own time, so that nothing piles up.
    """

    def __init__(self) -> None:
        self._given_up: set[Future[_Result]] = set()

    def run(self, work: Callable[[], _Result], clock: Clock) -> _Result:
        """What the work gives or raises, or the error that the time is over."""
        from concurrent.futures import Future, wait  # it brings logging and more

        if wait(self._given_up.copy(), clock.left()).not_done:
            raise clock.timed_out()
        future: Future[_Result] = Future()

        def do() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        # A daemon: native code that never comes back must not keep the process from ending.
        thread = threading.Thread(target=do, name="xrayedge-screen", daemon=True)
        _threads.add(thread)
        thread.start()
        try:
            late = bool(wait([future], clock.left()).not_done)
        except BaseException:  # Ctrl-C
            clock.stop()
            raise
        if late:
            self._given_up.add(future)
            future.add_done_callback(self._given_up.discard)
            raise clock.timed_out()
        return future.result()


def wait_for_threads(seconds: float = _GRACE) -> bool:
    """Wait for work that was given up; whether all of it has ended.

    Native code that comes back while Python ends aborts the process (SIGABRT).
    """
    until = time.monotonic() + seconds
    for thread in list(_threads):
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in _threads)


atexit.register(wait_for_threads)
