"""A finished run with its training data: the start of a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xrayedge.data import Dataset, Sample
from xrayedge.errors import RunError
from xrayedge.lungs import LungFiles
from xrayedge.training.run import RunRecord, lungs_of


@dataclass(frozen=True)
class TrainedRun:
    """A finished run and the data that it was trained on.

    Parameters
    ----------
    folder
        The run folder.
    record
        The record of how it was trained.
    dataset
        The same data, checked by digest.
    held_out
        Images to choose and fit with: `val`, including labels that are not classes.
    lungs
        What frames the images for the network, if anything does; see `data.framing.as_seen`.
    """

    folder: Path
    record: RunRecord
    dataset: Dataset
    held_out: tuple[Sample, ...]
    lungs: LungFiles | None = None

    @classmethod
    def open(cls, folder: Path, data: Path | Sequence[Path]) -> TrainedRun:
        """Check that the run is finished and that it was trained on ``data``.

        Raises
        ------
        RunError
            There is no run, it is not finished, or it was trained on other data.
        DatasetError
            ``data`` can't be read; see `load_dataset`.
        """
        record = RunRecord.read(folder)
        if not record.finished:
            raise RunError(f"{folder}: the run is not finished; resume it with the same command")
        dataset, held_out = record.load_data(data), record.load_held_out(data)
        return cls(folder, record, dataset, held_out, lungs_of(folder))
