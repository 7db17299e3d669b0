"""Named steps of a conversion, each announced before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable

from xrayedge.machine import memory_mb

Progress = Callable[[str], None]


class Steps:
    """Counts the steps of a job and announces each before it begins.

    Parameters
    ----------
    total
        Number of steps.
    progress
        Called with one line of text.
    """

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = total
        self._progress = progress
        self._number = 0
        self._started = time.perf_counter()

    def begin(self, name: str) -> None:
        """Announce the next step, with the time since the first one and the peak memory so far."""
        self._number += 1
        line = f"[{self._number}/{self._total}] {name}"
        if self._number > 1:
            line += f"  ({self.spent()})"
        self._progress(line)

    def note(self, line: str) -> None:
        """Report what a step found."""
        self._progress(f"    {line}")

    def spent(self) -> str:
        """Time since the job began and the process's peak memory."""
        peak = memory_mb("VmHWM")
        memory = "" if peak is None else f", peak memory {peak / 1000:.1f} GB"
        return f"{time.perf_counter() - self._started:.0f} s{memory}"
