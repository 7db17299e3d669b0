"""A finished run with its training data: the start of a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xrayedge.data import Dataset, Sample
from xrayedge.errors import RunError
from xrayedge.training.run import RunRecord


@dataclass(frozen=True)
class TrainedRun:
    """A finished run and the data that it was trained on.

    Parameters
    ----------
    folder
        The run folder.
    record
        How it was made.
    dataset
        The same data again, checked by digest.
    held_out
        What to choose and fit by: `val`, labels that are no classes included.
    """

    folder: Path
    record: RunRecord
    dataset: Dataset
    held_out: tuple[Sample, ...]

    @classmethod
    def open(cls, folder: Path, data: Path | Sequence[Path]) -> TrainedRun:
        """Check that the run is finished and that ``data`` are those that it was trained on."""
        record = RunRecord.read(folder)
        if not record.finished:
            raise RunError(f"{folder}: the run is not finished; train on with the same command")
        return cls(folder, record, record.load_data(data), record.load_held_out(data))
