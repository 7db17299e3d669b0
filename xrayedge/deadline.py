"""The time that one picture takes, and the time that it may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import PictureError

STAGES = ("read", "frontal", "preprocess", "classify")


class Clock:
    """Milliseconds of each stage, and of the whole from its making; and the time that is left."""

    def __init__(self, source: str, timeout: float | None) -> None:
        self._source = source
        self._timeout = timeout
        self._started = time.perf_counter()
        self._stages: dict[str, float | None] = dict.fromkeys(STAGES)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        if self.left() == 0.0:
            raise self.timed_out()
        try:
            yield
        finally:
            self._stages[name] = _milliseconds(started)

    def left(self) -> float | None:
        """Seconds until the time is over; None where there is no timeout."""
        if self._timeout is None:
            return None
        return max(0.0, self._started + self._timeout - time.perf_counter())

    def timings(self) -> dict[str, float | None]:
        return {**self._stages, "total": _milliseconds(self._started)}

    def timed_out(self) -> PictureError:
        """The error that the time is over."""
        message = f"{self._source}: not screened within {self._timeout:g} seconds"
        return PictureError(message, reason="timeout")


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000.0, 3)
