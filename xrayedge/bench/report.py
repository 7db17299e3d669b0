"""The result of a benchmark, and its JSON: what is saved, compared and published."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import BenchmarkError
from .statistics import Interval

FORMAT_VERSION = 1
_NOT_A_REPORT = "not a report of `xrayedge bench --json`"

Key = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Row:
    """One case. What was not measured is `None`; every interval is at `statistics.CONFIDENCE`.

    Parameters
    ----------
    model, version, format, precision, engine, threads, size_bytes
        The case.
    provider
        The kernels that ran it, as the engine reports them.
    rounds, runs
        Processes, and timed runs in all of them.
    load_ms
        From a file on disk to a model ready to run, its sha256 checked.
    first_result_ms
        From the start of Python to the first result; the file may be in the system's cache.
    p50_ms
        Of one image through the classifier: median over the rounds' medians.
    p90_ms, p95_ms, p99_ms
        Over all runs.
    pictures_per_second
        One after another.
    peak_rss_mb
        The most memory that the process ever held, in 10^6 bytes.
    energy_mj_per_picture
        Of the processor package, in millijoules.
    speed_vs_float32
        How many times faster than float32 of the same model in the same rounds.
    accuracy, balanced_accuracy, macro_auc, covid_sensitivity
        On the labelled images; the interval by resampling patients.
    agreement_with_float32
        Share of the images with the label that the model's float32 file gives.
    error
        Why the case was not measured.
    """

    model: str
    version: str
    format: str
    precision: str
    engine: str
    threads: int
    size_bytes: int
    provider: str | None = None
    rounds: int = 0
    runs: int = 0
    load_ms: float | None = None
    load_ms_interval: Interval | None = None
    first_result_ms: float | None = None
    first_result_ms_interval: Interval | None = None
    p50_ms: float | None = None
    p50_ms_interval: Interval | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    pictures_per_second: float | None = None
    peak_rss_mb: float | None = None
    peak_rss_mb_interval: Interval | None = None
    energy_mj_per_picture: float | None = None
    speed_vs_float32: float | None = None
    speed_vs_float32_interval: Interval | None = None
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    balanced_accuracy: float | None = None
    macro_auc: float | None = None
    covid_sensitivity: float | None = None
    agreement_with_float32: float | None = None
    error: str | None = None

    @property
    def key(self) -> Key:
        """What names the same row in another report."""
        return self.model, self.format, self.precision, self.engine, self.threads

    @property
    def title(self) -> str:
        """For a person."""
        return f"{self.model} {self.precision} {self.engine}, threads {self.threads}"


@dataclass(frozen=True)
class StageRow:
    """From a file to its result and heatmap, stage by stage; medians in milliseconds.

    Parameters
    ----------
    model, precision, engine, threads
        What screened it.
    picture
        Kind of file and size in pixels; never its name, which may be a patient's.
    read, frontal, preprocess, classify, heatmap, total
        The stages and their sum.
    total_interval
        Of ``total``.
    error
        Why it was not measured.
    """

    model: str
    precision: str
    engine: str
    threads: int
    picture: str
    read: float | None = None
    frontal: float | None = None
    preprocess: float | None = None
    classify: float | None = None
    heatmap: float | None = None
    total: float | None = None
    total_interval: Interval | None = None
    error: str | None = None


@dataclass(frozen=True)
class Report:
    """A benchmark's result.

    Parameters
    ----------
    machine
        Facts of `machine.describe`, and `machine.readings` ``before`` and ``after``.
    settings
        Rounds, warm-up runs and number of labelled images.
    rows, stages
        The measurements.
    interrupted
        Whether it was stopped early; then some rows have fewer rounds than asked.
    """

    machine: dict[str, Any]
    settings: dict[str, int]
    rows: tuple[Row, ...]
    stages: tuple[StageRow, ...]
    interrupted: bool

    @property
    def errors(self) -> list[str]:
        """Why rows were not measured."""
        return [
            *(row.error for row in self.rows if row.error),
            *(row.error for row in self.stages if row.error),
        ]

    def under(self, min_agreement: float) -> list[Row]:
        """Rows that agree with float32 too seldom, or whose agreement is not known."""
        return [
            row
            for row in self.rows
            if row.agreement_with_float32 is None or row.agreement_with_float32 < min_agreement
        ]

    def to_json(self) -> str:
        """The JSON object of the command line's contract, and more."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a saved report.

        Raises
        ------
        BenchmarkError
            The file is not a report, or one of another format version.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BenchmarkError(f"{path}: can't be read ({error.strerror})") from error
        except ValueError as error:
            raise BenchmarkError(f"{path}: {_NOT_A_REPORT}") from error
        if not isinstance(values, dict) or "format_version" not in values:
            raise BenchmarkError(f"{path}: {_NOT_A_REPORT}")
        if values["format_version"] != FORMAT_VERSION:
            raise BenchmarkError(
                f"{path}: report format {values['format_version']!r}; this xrayedge reads format "
                f"{FORMAT_VERSION}; run the benchmark again"
            )
        try:
            return cls(
                machine=dict(values["machine"]),
                settings=dict(values["settings"]),
                rows=tuple(Row(**_with_intervals(row)) for row in values["rows"]),
                stages=tuple(StageRow(**_with_intervals(row)) for row in values["stages"]),
                interrupted=bool(values["interrupted"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BenchmarkError(f"{path}: damaged report ({error})") from error


def _with_intervals(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if name.endswith("_interval") and value is not None else value
        for name, value in row.items()
    }
