"""A finished run with the data that it was trained on: what a conversion begins with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xrayedge.data import Dataset
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
    """

    folder: Path
    record: RunRecord
    dataset: Dataset

    @classmethod
    def open(cls, folder: Path, data: Path) -> TrainedRun:
        """Check that the run is finished and that ``data`` are those that it was trained on."""
        record = RunRecord.read(folder)
        if not record.finished:
            raise RunError(f"{folder}: the run is not finished; train on with the same command")
        return cls(folder, record, record.load_data(data))
