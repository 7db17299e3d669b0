"""Compare two saved reports: which changes exceed the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .report import Key, Report, Row
from .statistics import Interval, ratio_interval
from .tables import TextTable

Verdict = Literal["better", "worse", "within noise", "no interval"]

#: Lower is better in each. A file's size and accuracy have no noise and are shown separately.
METRICS = ("p50_ms", "first_result_ms", "load_ms", "peak_rss_mb")


@dataclass(frozen=True)
class Change:
    """One metric of one case in both reports.

    Parameters
    ----------
    key
        The case.
    metric
        One of `METRICS`.
    ratio
        New over old.
    interval
        The ratios that both reports' intervals allow; `None` where one has no interval.
    """

    key: Key
    metric: str
    ratio: float
    interval: Interval | None

    @property
    def verdict(self) -> Verdict:
        """Whether the change is larger than the noise: its interval does not hold 1."""
        if self.interval is None:
            return "no interval"
        if self.interval[1] < 1.0:
            return "better"
        return "worse" if self.interval[0] > 1.0 else "within noise"


def changes(old: Report, new: Report) -> list[Change]:
    """Every metric that both reports have, in the new report's order."""
    before = {row.key: row for row in old.rows}
    return [
        change
        for row in new.rows
        if row.key in before
        for metric in METRICS
        if (change := _change(before[row.key], row, metric)) is not None
    ]


def changes_table(found: list[Change]) -> TextTable:
    """One line per change."""
    return TextTable(
        ("model", "format", "precision", "engine", "threads", "metric", "new / old", "verdict"),
        tuple(
            (*map(str, change.key), change.metric, _ratio(change), change.verdict)
            for change in found
        ),
    )


def differences(old: Report, new: Report) -> list[str]:
    """Differences without noise: rows in one report only, files, accuracy and the machine."""
    before = {row.key: row for row in old.rows}
    after = {row.key: row for row in new.rows}
    lines = [f"{_title(key)}: only in the old report" for key in before if key not in after]
    lines += [f"{_title(key)}: only in the new report" for key in after if key not in before]
    for key in (key for key in after if key in before):
        for field in _EXACT:
            then, now = getattr(before[key], field), getattr(after[key], field)
            if then != now:
                lines.append(f"{_title(key)}: {field} {then} -> {now}")
    for fact in new.machine:
        if fact not in ("before", "after") and new.machine[fact] != old.machine.get(fact):
            lines.append(f"machine: {fact} {old.machine.get(fact)} -> {new.machine[fact]}")
    return lines


_EXACT = (
    "version",
    "provider",
    "size_bytes",
    "accuracy",
    "balanced_accuracy",
    "macro_auc",
    "covid_sensitivity",
    "agreement_with_float32",
    "error",
)


def _change(old: Row, new: Row, metric: str) -> Change | None:
    then, now = getattr(old, metric), getattr(new, metric)
    if then is None or now is None:
        return None
    intervals = getattr(new, f"{metric}_interval"), getattr(old, f"{metric}_interval")
    interval = None if None in intervals else ratio_interval(*intervals)
    return Change(new.key, metric, now / then, interval)


def _ratio(change: Change) -> str:
    if change.interval is None:
        return f"{change.ratio:.3f}"
    return f"{change.ratio:.3f} ({change.interval[0]:.3f}-{change.interval[1]:.3f})"


def _title(key: Key) -> str:
    return " ".join(map(str, key))
