"""A report as text: tables for a terminal or in Markdown, and CSV with every value."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .report import Key, Report, Row, StageRow
from .stages import STAGES
from .statistics import CONFIDENCE, MIN_ROUNDS, Interval
from .verdict import ranked

NOT_AVAILABLE = "not available"
_ABSENT = "-"
#: Load of an idle machine, averaged over the last minute.
IDLE_LOAD = 0.5

#: Heading, cell, and the field without which the column is left out.
_Column = tuple[str, Callable[[Row], str], str | None]


@dataclass(frozen=True)
class TextTable:
    """Headings, and as many cells in each row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """As a Markdown table."""
        lines = [self.headings, ("---",) * len(self.headings), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rows_table(report: Report) -> TextTable:
    """One line per case; columns of accuracy and energy only where something was measured."""
    return _table(_COLUMNS, report.rows)


def summary_table(report: Report, under_floor: Collection[Key] = ()) -> TextTable:
    """What decides, a line a case, the one to ship first; see `verdict`. Fits 80 columns."""
    columns: list[_Column] = [
        ("model", lambda row: row.model, None),
        ("precision", lambda row: row.precision, None),
        ("engine", lambda row: row.engine, None),
        ("thr.", lambda row: str(row.threads), None),
        ("ms", lambda row: _with_interval(row.p50_ms, row.p50_ms_interval, 2), None),
        ("MB", lambda row: f"{row.size_bytes / 1e6:.1f}", None),
        ("RAM MB", lambda row: _number(row.peak_rss_mb, 0), None),
        ("accuracy", lambda row: _number(row.accuracy, 3), "accuracy"),
    ]
    return _table(columns, ranked(report.rows, under_floor))


def stages_summary(report: Report) -> list[tuple[str, TextTable]]:
    """Of each model a title and its stages, milliseconds; fits 80 columns."""
    found: dict[str, list[StageRow]] = {}
    for row in report.stages:
        threads = f"{row.threads} thread" + ("s" if row.threads > 1 else "")
        title = f"{row.model} {row.precision} {row.engine}, {threads}: milliseconds of each stage"
        found.setdefault(title, []).append(row)
    return [
        (
            title,
            TextTable(
                ("image", *STAGES),
                tuple(
                    (row.picture, *(_number(getattr(row, stage)) for stage in STAGES))
                    for row in rows
                ),
            ),
        )
        for title, rows in found.items()
    ]


def machine_line(report: Report) -> str:
    """What was measured on, in one line."""
    machine = report.machine
    cores, load = machine.get("usable_cores"), machine["before"]["load"]
    parts = [str(machine.get("cpu") or machine.get("architecture") or "machine unknown")]
    parts += [f"{cores} cores"] if cores else []
    return ", ".join([*parts, f"load {load:.1f} before"])


def stages_table(report: Report) -> TextTable:
    """One line per model and image, milliseconds."""
    return TextTable(
        ("model", "precision", "engine", "threads", "image", *STAGES),
        tuple(_stage_cells(row) for row in report.stages),
    )


def machine_table(report: Report) -> TextTable:
    """The machine's facts, its readings before and after; what it does not tell is said so."""
    facts = {name: value for name, value in report.machine.items() if name not in _READ_TWICE}
    before, after = (report.machine[name] for name in _READ_TWICE)
    lines = [(_LABELS.get(name, name), _fact(value)) for name, value in facts.items()]
    for name in before:
        both = f"{_fact(before[name])} before, {_fact(after[name])} after"
        known = before[name] is not None or after[name] is not None
        lines.append((_LABELS.get(name, name), both if known else NOT_AVAILABLE))
    if all(row.energy_mj_per_picture is None for row in report.rows):
        lines.append(("energy counter", NOT_AVAILABLE))
    return TextTable(("machine", ""), tuple(lines))


def notes(report: Report) -> list[str]:
    """Notes: how it was measured, and what is missing and why."""
    rounds = report.settings["rounds"]
    lines = [
        f"Medians over {rounds} rounds, each case in a new process every round, "
        f"{report.settings['warmup']} runs of warm-up; "
        + (
            f"in brackets the interval of the median at {CONFIDENCE:.0%}."
            if rounds >= MIN_ROUNDS
            else f"intervals need {MIN_ROUNDS} rounds."
        )
    ]
    if report.settings["labelled_pictures"]:
        point = ", at a site's operating point" if report.settings.get("at_site") else ""
        lines.append(f"Accuracy on {report.settings['labelled_pictures']} labelled images{point}.")
    if report.settings.get("unreadable_images"):
        count = report.settings["unreadable_images"]
        lines.append(f"{count} labelled images can't be read and are left out.")
    load = report.machine["before"]["load"]
    if load > IDLE_LOAD:
        lines.append(f"The machine was not idle before (load {load:.1f}): repeat when it is.")
    if report.interrupted:
        lines.append("Interrupted: some cases have fewer rounds.")
    return lines + report.errors


def to_markdown(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [machine_table(report).to_markdown(), rows_table(report).to_markdown()]
    if report.stages:
        parts.append(stages_table(report).to_markdown())
    parts.append("".join(f"- {note}\n" for note in notes(report)))
    return "\n".join(parts)


def to_csv(report: Report) -> str:
    """Every value of every case; intervals in two columns."""
    stream = io.StringIO()
    names = [name for field in fields(Row) for name in _csv_names(field.name)]
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    for row in report.rows:
        writer.writerow(
            {
                name: value
                for field, found in asdict(row).items()
                for name, value in zip(_csv_names(field), _csv_values(field, found), strict=True)
            }
        )
    return stream.getvalue()


_READ_TWICE = ("before", "after")
_LABELS = {
    "cpu_features": "CPU features",
    "cpu": "CPU",
    "usable_cores": "cores for this process",
    "memory_mb": "memory (MB)",
    "clock_mhz": "clock (MHz)",
    "temperature_c": "temperature (C)",
    "power_w": "power (W)",
    "load": "load (1 minute)",
}


def _table(columns: Sequence[_Column], rows: Sequence[Row]) -> TextTable:
    """A line a row; without the columns of which no row has what they need."""
    shown = [
        (heading, cell)
        for heading, cell, needed in columns
        if needed is None or any(getattr(row, needed) is not None for row in rows)
    ]
    return TextTable(
        tuple(heading for heading, _ in shown),
        tuple(tuple(cell(row) for _, cell in shown) for row in rows),
    )


def _csv_names(field: str) -> tuple[str, ...]:
    return (f"{field}_low", f"{field}_high") if field.endswith("_interval") else (field,)


def _csv_values(field: str, value: Any) -> tuple[Any, ...]:
    if not field.endswith("_interval"):
        return (value,)
    return (None, None) if value is None else tuple(value)


def _fact(value: Any) -> str:
    if value is None or value == []:
        return NOT_AVAILABLE
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float | None, decimals: int = 1) -> str:
    return _ABSENT if value is None else f"{value:.{decimals}f}"


def _with_interval(value: float | None, interval: Interval | None, decimals: int = 1) -> str:
    if value is None or interval is None:
        return _number(value, decimals)
    return f"{value:.{decimals}f} ({interval[0]:.{decimals}f}-{interval[1]:.{decimals}f})"


def _stage_cells(row: StageRow) -> tuple[str, ...]:
    times = (_number(getattr(row, stage)) for stage in STAGES[:-1])
    total = _with_interval(row.total, row.total_interval)
    return (row.model, row.precision, row.engine, str(row.threads), row.picture, *times, total)


_COLUMNS: Sequence[_Column] = (
    ("model", lambda row: row.model, None),
    ("format", lambda row: row.format, None),
    ("precision", lambda row: row.precision, None),
    ("engine", lambda row: row.engine, None),
    ("provider", lambda row: row.provider or _ABSENT, None),
    ("threads", lambda row: str(row.threads), None),
    ("MB", lambda row: f"{row.size_bytes / 1e6:.2f}", None),
    ("load ms", lambda row: _number(row.load_ms, 0), None),
    ("first result ms", lambda row: _number(row.first_result_ms, 0), None),
    ("p50 ms", lambda row: _with_interval(row.p50_ms, row.p50_ms_interval, 2), None),
    ("p90 ms", lambda row: _number(row.p90_ms, 2), None),
    ("p99 ms", lambda row: _number(row.p99_ms, 2), None),
    ("images/s", lambda row: _number(row.pictures_per_second), None),
    ("peak MB", lambda row: _number(row.peak_rss_mb, 0), None),
    ("mJ/image", lambda row: _number(row.energy_mj_per_picture), "energy_mj_per_picture"),
    (
        "x float32",
        lambda row: _with_interval(row.speed_vs_float32, row.speed_vs_float32_interval, 2),
        None,
    ),
    (
        "accuracy",
        lambda row: _with_interval(row.accuracy, row.accuracy_interval, 3),
        "accuracy",
    ),
    ("balanced", lambda row: _number(row.balanced_accuracy, 3), "accuracy"),
    ("macro AUC", lambda row: _number(row.macro_auc, 3), "accuracy"),
    ("COVID sensitivity", lambda row: _number(row.covid_sensitivity, 3), "covid_sensitivity"),
    ("agreement", lambda row: _number(row.agreement_with_float32, 4), "accuracy"),
)
