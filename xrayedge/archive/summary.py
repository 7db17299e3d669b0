"""Totals over an archive's parts, added up part by part: one of them is in memory at a time.

Images are named by their part and row, never by their files: names can hold patient data.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..deadline import STAGES
from ..errors import ResultsError
from .plan import MANIFEST, Plan
from .rows import CRASHED, made_by
from .shard import part_path

#: Of scores, as `reference.histogram` makes them.
BINS = 20
#: More folders than this are likely patients rather than places; later ones are counted together.
MOST_FOLDERS = 100
_MOST_MONTHS = 1200
#: The group of the others.
OTHERS = "(others)"
#: The group of images directly in the archive's folder, and of those without a date.
NONE = "(none)"
_LONGEST_LIST = 10
_MOST_CRASHED = 100

#: Edges of the bins of times, 0.1 ms to 1,000 s, 20 to a decade: a quantile is right to 6 %.
_TIMES = np.logspace(-1, 6, 141)
_COLUMNS = [
    "source", "status", "reason", "label", "certain", "probabilities", "frontal_score",
    "timings_ms", "size", "modified", "detail",
]  # fmt: skip


class Groups:
    """Counts and histograms of groups of images.

    Parameters
    ----------
    classes
        Of the model.
    most
        Groups; those that come later are one, `OTHERS`.
    """

    def __init__(self, classes: tuple[str, ...], most: int) -> None:
        size = most + 1
        self._most = most
        self._classes = pa.array(classes, pa.string())
        self._numbers: dict[str, int] = {}
        #: Images; those screened; those of them that are uncertain. ``int64 [groups, 3]``.
        self.images = np.zeros((size, 3), np.int64)
        #: Screened images by label. ``int64 [groups, classes]``.
        self.labels = np.zeros((size, len(classes)), np.int64)
        #: Of each class's probability. ``int64 [groups, classes, BINS]``.
        self.histograms = np.zeros((size, len(classes), BINS), np.int64)
        #: Of the frontal score. ``int64 [groups, BINS]``.
        self.frontal = np.zeros((size, BINS), np.int64)

    @property
    def names(self) -> dict[str, int]:
        """The groups' rows in the arrays, by name."""
        others = {OTHERS: self._most} if self.images[self._most, 0] else {}
        return self._numbers | others

    def add(self, names: pa.Array, table: pa.Table) -> None:
        """Count rows, each in the group of its name."""
        encoded = names.dictionary_encode()
        numbers = np.array([self._number(name) for name in encoded.dictionary.to_pylist()])
        groups = numbers[encoded.indices.to_numpy(zero_copy_only=False)]
        screened = _flags(pc.equal(table["status"], "screened"))
        uncertain = _flags(pc.equal(table["certain"], False))
        for column, chosen in enumerate((np.ones_like(screened), screened, uncertain)):
            self.images[:, column] += np.bincount(groups[chosen], minlength=len(self.images))
        labels = pc.index_in(table["label"], self._classes).to_numpy()[screened].astype(np.int64)
        np.add.at(self.labels, (groups[screened], labels), 1)
        probabilities = table["probabilities"].combine_chunks()
        for column, name in enumerate(self._classes.to_pylist()):
            values = probabilities.field(name).to_numpy(zero_copy_only=False)[screened]
            np.add.at(self.histograms[:, column], (groups[screened], _bins(values)), 1)
        scores = table["frontal_score"].to_numpy()
        known = ~np.isnan(scores)
        np.add.at(self.frontal, (groups[known], _bins(scores[known])), 1)

    def _number(self, name: str) -> int:
        if name not in self._numbers and len(self._numbers) < self._most:
            self._numbers[name] = len(self._numbers)
        return self._numbers.get(name, self._most)


@dataclass(frozen=True, order=True)
class Slow:
    """A slow image.

    Parameters
    ----------
    total
        Milliseconds.
    part, row
        Where it is.
    size
        Of its file, in bytes.
    stages
        Milliseconds of each stage that was reached.
    """

    total: float
    part: int
    row: int
    size: int | None = field(compare=False)
    stages: dict[str, float] = field(compare=False)


@dataclass(frozen=True)
class Crash:
    """An image that ended the process which screened it: where it is, and how."""

    part: int
    row: int
    size: int | None
    detail: str


class Summary:
    """What the parts of an archive say.

    Parameters
    ----------
    plan
        Of the archive. Parts may be missing; the summary covers those that exist.
    """

    def __init__(self, plan: Plan) -> None:
        classes = plan.settings.classes
        self.plan = plan
        self.root = common_folder(plan.folder / MANIFEST)
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.bytes = 0
        self.folders = Groups(classes, MOST_FOLDERS)
        self.months = Groups(classes, _MOST_MONTHS)
        self.times = np.zeros(len(_TIMES) + 1, np.int64)
        #: Sum in milliseconds and number of images, by stage.
        self.stages = {name: np.zeros(2) for name in (*STAGES, "total")}
        self.slowest: list[Slow] = []
        self.crashed: list[Crash] = []
        self.hosts: Counter[str] = Counter()
        #: Of each part: start and end, in seconds since 1970, and its images. ``float64 [3]``.
        self.runs: list[tuple[float, float, int]] = []

    def add(self, number: int) -> None:
        """Add a part.

        Raises
        ------
        ResultsError
            It is damaged.
        """
        path = part_path(self.plan.folder, number)
        made = made_by(path)
        try:
            table = pq.read_table(path, columns=_COLUMNS)
            self._add(number, table, made)
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise ResultsError(f"{path}: damaged, or of another release; remove it") from error

    def quantile(self, share: float) -> float:
        """Milliseconds that this share of the images takes at most, to 6 %."""
        cumulative = np.cumsum(self.times)
        if not cumulative[-1]:
            return float("nan")
        place = int(np.searchsorted(cumulative, share * cumulative[-1]))
        return float(_TIMES[min(place, len(_TIMES) - 1)])

    def _add(self, number: int, table: pa.Table, made: dict[str, Any]) -> None:
        rows = table.num_rows
        begun, ended = (datetime.fromisoformat(made[key]) for key in ("started", "finished"))
        self.runs.append((begun.timestamp(), ended.timestamp(), rows))
        self.hosts[made["host"]] += rows
        statuses = table["status"].to_pylist()
        reasons = table["reason"].to_pylist()
        self.statuses.update(statuses)
        self.reasons.update(
            (status, reason) for status, reason in zip(statuses, reasons, strict=True) if reason
        )
        self.bytes += pc.sum(table["size"]).as_py() or 0
        self.folders.add(_folders(table["source"], len(self.root)), table)
        self.months.add(_months(table["modified"]), table)
        self._add_times(number, table)
        if CRASHED in reasons:
            self._add_crashed(number, table)

    def _add_times(self, number: int, table: pa.Table) -> None:
        timings = table["timings_ms"].combine_chunks()
        stages = {
            name: timings.field(name).to_numpy(zero_copy_only=False).astype(np.float64)
            for name in self.stages
        }
        for name, values in stages.items():
            known = values[~np.isnan(values)]
            self.stages[name] += (known.sum(), len(known))
        totals = np.nan_to_num(stages["total"], nan=-1.0)
        bins = np.searchsorted(_TIMES, totals[totals >= 0])
        self.times += np.bincount(bins, minlength=len(self.times))
        for row in np.argsort(-totals)[:_LONGEST_LIST]:
            if totals[row] >= 0:
                reached = {
                    name: float(values[row])
                    for name, values in stages.items()
                    if name != "total" and not np.isnan(values[row])
                }
                size = table["size"][int(row)].as_py()
                self.slowest.append(Slow(float(totals[row]), number, int(row), size, reached))
        self.slowest = heapq.nlargest(_LONGEST_LIST, self.slowest)

    def _add_crashed(self, number: int, table: pa.Table) -> None:
        for row in np.flatnonzero(_flags(pc.equal(table["reason"], CRASHED))):
            if len(self.crashed) >= _MOST_CRASHED:
                return
            source, detail, size = (
                table[name][int(row)].as_py() for name in ("source", "detail", "size")
            )
            said = (detail or "").removeprefix(f"{source}: ")
            self.crashed.append(Crash(number, int(row), size, said))


def summarise(folder: Path) -> Summary:
    """Add up the parts of an archive; it may be screened into meanwhile.

    Raises
    ------
    ArchiveError
        There is no archive.
    ResultsError
        A part is damaged.
    """
    summary = Summary(Plan.load(folder))
    for number in sorted(summary.plan.finished()):
        summary.add(number)
    return summary


def common_folder(manifest: Path) -> str:
    """The deepest folder, with its slash, that all sources are in; of row groups' statistics."""
    with pq.ParquetFile(manifest) as file:
        column = file.schema_arrow.get_field_index("source")
        ends: list[str] = []
        for group in range(file.num_row_groups):
            found = file.metadata.row_group(group).column(column).statistics
            if found is None or not found.has_min_max:  # sources of many kilobytes
                return ""
            ends += (found.min, found.max)
    prefix = os.path.commonprefix(ends)  # noqa: RUF071 - URLs too, so cut at a slash
    return prefix[: prefix.rfind("/") + 1]


def _folders(sources: pa.ChunkedArray, root: int) -> pa.Array:
    """The first folder below the common one."""
    below = pc.utf8_slice_codeunits(sources, start=root)
    first = pc.replace_substring_regex(below, "(?s)/.*", "")
    found = pc.if_else(pc.match_substring(below, "/"), first, NONE)
    return found.combine_chunks()


def _months(modified: pa.ChunkedArray) -> pa.Array:
    months = pc.strftime(modified, format="%Y-%m")
    return pc.fill_null(months, NONE).combine_chunks()


def _bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bins of values from 0 to 1, as `reference.histogram` counts them."""
    return np.clip((values * BINS).astype(np.int64), 0, BINS - 1)


def _flags(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False).to_numpy(), np.bool_)
