"""Latency against accuracy, with the Pareto front. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from ..errors import BenchmarkError
from .report import Report, Row
from .statistics import Interval


def check_matplotlib() -> None:
    """Raise `BenchmarkError` where matplotlib is missing; cheap, so ask before measuring."""
    if find_spec("matplotlib") is None:
        raise BenchmarkError("a figure needs matplotlib; pip install matplotlib")


@dataclass(frozen=True)
class Point:
    """A row in the picture."""

    row: Row
    latency_ms: float
    accuracy: float


def points(rows: Sequence[Row]) -> list[Point]:
    """The rows that have both figures."""
    return [
        Point(row, row.p50_ms, row.accuracy)
        for row in rows
        if row.p50_ms is not None and row.accuracy is not None
    ]


def pareto_front(candidates: Sequence[Point]) -> list[Point]:
    """The points that no faster one equals in accuracy, fastest first."""
    front: list[Point] = []
    for point in sorted(candidates, key=lambda point: (point.latency_ms, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def latency_accuracy_figure(report: Report, file_format: str) -> bytes:
    """The picture as a file's bytes, ``png``, ``svg`` or ``pdf``.

    Raises
    ------
    BenchmarkError
        No row has both figures, or matplotlib has no such format.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    drawn = points(report.rows)
    if not drawn:
        raise BenchmarkError("no case has both a latency and an accuracy: nothing to draw")
    front = pareto_front(drawn)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.step(
        [point.latency_ms for point in front],
        [point.accuracy for point in front],
        where="post",
        color="0.6",
        zorder=1,
        label="Pareto front",
    )
    for point in drawn:
        row = point.row
        axes.errorbar(
            [point.latency_ms],
            [point.accuracy],
            xerr=_bars(point.latency_ms, row.p50_ms_interval),
            yerr=_bars(point.accuracy, row.accuracy_interval),
            fmt="o",
            color="C0" if point in front else "0.5",
            markerfacecolor="C0" if point in front else "white",
            capsize=2,
            linewidth=0.8,
        )
        axes.annotate(
            f"{row.model} {row.precision}\n{row.engine}, {row.threads} thr.",
            (point.latency_ms, point.accuracy),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7,
        )
    latencies = [point.latency_ms for point in drawn]
    axes.set_xscale("log")
    axes.set_xlim(min(latencies) / 1.5, max(latencies) * 2.0)  # room for the last label
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency of one picture, median (ms)")
    axes.set_ylabel("accuracy")
    axes.set_title(
        f"{report.machine['cpu'] or report.machine['architecture']}; "
        f"n = {report.settings['labelled_pictures']} pictures, 95 % intervals",
        fontsize=10,
    )
    axes.legend(loc="lower right")
    stream = io.BytesIO()
    try:
        figure.savefig(stream, format=file_format, dpi=150)
    except ValueError as error:
        raise BenchmarkError(f"can't draw a figure as {file_format!r}: {error}") from error
    return stream.getvalue()


def _bars(value: float, interval: Interval | None) -> list[list[float]] | None:
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
