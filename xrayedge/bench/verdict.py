"""Which of the measured files a device should run.

The rule: of the files that are as accurate as the best, the fastest; where times can't be told
apart, the smallest. As accurate is a file whose interval of accuracy on the labelled images reaches
the best file's accuracy; without labelled images, one that kept the float model's labels when it
was converted (`converters.parity.FLOORS`). Times can't be told apart where the intervals of their
medians overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .report import Key, Row


def choose(rows: Sequence[Row], under_floor: Collection[Key] = ()) -> Row | None:
    """The file to ship by the module's rule; ``None`` where no file is fit.

    Parameters
    ----------
    rows
        What was measured.
    under_floor
        Files that lost too much when they were converted, and were written all the same.
    """
    fit = [row for row in rows if is_fit(row, rows, under_floor)]
    if not fit:
        return None
    fastest = min(fit, key=_latency)
    alike = [row for row in fit if not _slower(row, fastest)]
    return min(alike, key=lambda row: (row.size_bytes, row.threads, _latency(row)))


def is_fit(row: Row, rows: Sequence[Row], under_floor: Collection[Key]) -> bool:
    """Whether a file runs and is as accurate as the best of all."""
    if row.p50_ms is None or row.error is not None:
        return False
    accuracies = [one.accuracy for one in rows if one.accuracy is not None]
    if not accuracies:
        return row.key not in under_floor
    if row.accuracy is None:
        return False
    high = row.accuracy if row.accuracy_interval is None else row.accuracy_interval[1]
    return high >= max(accuracies)


def ranked(rows: Sequence[Row], under_floor: Collection[Key] = ()) -> list[Row]:
    """The file to ship, then the other fit ones, then the rest; each by time."""
    chosen = choose(rows, under_floor)
    return sorted(
        rows,
        key=lambda row: (row is not chosen, not is_fit(row, rows, under_floor), _latency(row)),
    )


def sentence(rows: Sequence[Row], under_floor: Collection[Key] = ()) -> str:
    """The verdict for a person, in one line."""
    chosen = choose(rows, under_floor)
    if chosen is None:
        return "Ship: nothing; no file ran and is accurate enough"
    threads = f", {chosen.threads} threads" if chosen.threads > 1 else ""
    return (
        f"Ship: {chosen.model} {chosen.precision} {chosen.engine}{threads}: "
        f"{_latency(chosen):.2f} ms, {chosen.size_bytes / 1e6:.1f} MB, {_accuracy(chosen, rows)}"
    )


def _accuracy(chosen: Row, rows: Sequence[Row]) -> str:
    if chosen.accuracy is None:
        return "accuracy as float32 when converted"
    reference = [
        row.accuracy
        for row in rows
        if row.model == chosen.model and row.precision == "float32" and row.accuracy is not None
    ]
    if chosen.precision == "float32" or not reference:
        return f"accuracy {chosen.accuracy:.3f}"
    low, high = chosen.accuracy_interval or (chosen.accuracy, chosen.accuracy)
    if low <= reference[0] <= high:
        return f"accuracy as float32 ({chosen.accuracy:.3f})"
    return f"accuracy {chosen.accuracy:.3f} (float32: {reference[0]:.3f})"


def _latency(row: Row) -> float:
    return float("inf") if row.p50_ms is None else row.p50_ms


def _slower(row: Row, fastest: Row) -> bool:
    """Whether the times of two files can be told apart."""
    if row.p50_ms_interval is None or fastest.p50_ms_interval is None:
        return _latency(row) > _latency(fastest)
    return row.p50_ms_interval[0] > fastest.p50_ms_interval[1]
