"""Latency against accuracy, with the Pareto front. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast

from ..errors import BenchmarkError
from .report import Report, Row
from .statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

_DPI = 150
_MARKER = 8.0  # pixels from a point's centre that no label may cover
#: Where a label may stand, in points from its point, the nearest first, and which end is there.
_PLACES: list[tuple[tuple[float, float], Literal["left", "right"]]] = [
    ((side * (6.0 + 3.0 * abs(step)), 9.0 * step), "left" if side > 0 else "right")
    for step in sorted(range(-30, 31), key=abs)
    for side in (1, -1)
]


def check_matplotlib() -> None:
    """Raise `BenchmarkError` if matplotlib is missing; cheap, so call it before measuring."""
    if find_spec("matplotlib") is None:
        raise BenchmarkError("a figure needs matplotlib; pip install matplotlib")


@dataclass(frozen=True)
class Point:
    """A row in the chart."""

    row: Row
    latency_ms: float
    accuracy: float


def points(rows: Sequence[Row]) -> list[Point]:
    """The rows that have both metrics."""
    return [
        Point(row, row.p50_ms, row.accuracy)
        for row in rows
        if row.p50_ms is not None and row.accuracy is not None
    ]


def pareto_front(candidates: Sequence[Point]) -> list[Point]:
    """The Pareto front: points that no faster one equals in accuracy, fastest first."""
    front: list[Point] = []
    for point in sorted(candidates, key=lambda point: (point.latency_ms, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def latency_accuracy_figure(report: Report, file_format: str) -> bytes:
    """The chart as a file's bytes, ``png``, ``svg`` or ``pdf``.

    Raises
    ------
    BenchmarkError
        No row has both metrics, or matplotlib has no such format.
    """
    figure = draw(report)[0]
    stream = io.BytesIO()
    try:
        figure.savefig(stream, format=file_format, dpi=_DPI)
    except ValueError as error:
        raise BenchmarkError(f"can't draw a figure as {file_format!r}: {error}") from error
    return stream.getvalue()


def draw(report: Report) -> tuple[Figure, list[Annotation]]:
    """The chart, and the label of each point."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    drawn = points(report.rows)
    if not drawn:
        raise BenchmarkError("no case has both a latency and an accuracy: nothing to draw")
    front = pareto_front(drawn)
    figure = Figure(figsize=(9, 6), dpi=_DPI)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.1, top=0.93)
    latencies = [point.latency_ms for point in drawn]
    axes.set_xscale("log")
    axes.set_xlim(min(latencies) / 2.0, max(latencies) * 3.0)  # room for labels
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
    axes.margins(y=0.15)
    low, _ = axes.get_ylim()
    slowest = axes.get_xlim()[1]
    # From below the fastest point to beyond the most accurate: a front of one point shows as well.
    axes.step(
        [front[0].latency_ms, *(point.latency_ms for point in front), slowest],
        [low, *(point.accuracy for point in front), front[-1].accuracy],
        where="post",
        color="C0",
        linewidth=1.5,
        alpha=0.5,
        zorder=1,
        label="Pareto front: no file is both faster and more accurate",
    )
    axes.set_ylim(bottom=low)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency of one image, median (ms)")
    axes.set_ylabel("accuracy")
    axes.set_title(
        f"{report.machine['cpu'] or report.machine['architecture']}; "
        f"n = {report.settings['labelled_pictures']} images, 95 % intervals",
        fontsize=10,
    )
    axes.legend(loc="lower right", fontsize=8)
    return figure, _label(axes, drawn)


def _label(axes: Axes, drawn: Sequence[Point]) -> list[Annotation]:
    """A name beside each point, where it lies on no other name and inside the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    canvas: Any = FigureCanvasAgg(cast("Figure", axes.get_figure()))
    renderer = canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    threads = len({point.row.threads for point in drawn}) > 1
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent(renderer)]
    for point in drawn:
        across, up = axes.transData.transform((point.latency_ms, point.accuracy))
        taken.append(Bbox.from_bounds(across - _MARKER, up - _MARKER, 2 * _MARKER, 2 * _MARKER))
    labels = []
    for point in sorted(drawn, key=lambda point: (-point.accuracy, point.latency_ms)):
        row = point.row
        name = f"{row.model} {row.precision} {row.engine}"
        label = axes.annotate(
            f"{name}, {row.threads} thr." if threads else name,
            (point.latency_ms, point.accuracy),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.3", "linewidth": 0.6},
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
            zorder=4,
        )
        for offset, side in _PLACES:
            label.set_position(offset)
            label.set_horizontalalignment(side)
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1
            inside = inside and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(Text.get_window_extent(label, renderer))
        labels.append(label)
    return labels


def _bars(value: float, interval: Interval | None) -> list[list[float]] | None:
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
