"""The progress of an archive, from its manifest and the metadata of its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .plan import Plan
from .rows import made_by
from .shard import part_path


@dataclass(frozen=True)
class Status:
    """The progress of an archive.

    Parameters
    ----------
    plan
        What is to be done.
    finished
        Shards whose parts exist.
    statuses, reasons
        Images in them by status, and those that were not screened by reason.
    """

    plan: Plan
    finished: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]

    @property
    def images(self) -> int:
        """Images with a row."""
        return sum(self.statuses.values())


def status(folder: Path) -> Status:
    """The progress of the archive in a folder, which another process may be writing.

    Raises
    ------
    ArchiveError
        There is no archive.
    ResultsError
        A part is damaged.
    """
    plan = Plan.load(folder)
    finished = sorted(plan.finished())
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for number in finished:
        made = made_by(part_path(folder, number))
        statuses.update(made["statuses"])
        reasons.update(made["reasons"])
    return Status(plan, len(finished), statuses, reasons)
