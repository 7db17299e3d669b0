"""Pictures of realistic size, and the time of each stage from a file to its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import BenchmarkError
from ..imaging import read
from .cases import Case
from .report import StageRow
from .statistics import Estimate, estimate

STAGES = ("read", "frontal", "preprocess", "classify", "heatmap", "total")
#: Shorter sides, in pixels: a storage-phosphor plate and a flat panel, both 43 cm long.
SHORTER_SIDES = (2048, 3072)
_RADIOGRAPH = "RG1_UNCR.dcm"  # chest, PA, 1841 x 1955 pixels, 15 bits
_REMEDY = "pip install pydicom-data 'xrayedge[dicom]', or name your own pictures with --picture"


def realistic_pictures(folder: Path) -> tuple[Path, ...]:
    """Write pydicom-data's chest radiograph as DICOM and as JPEG in realistic sizes.

    It is a real one of about 1900 pixels, enlarged; the DICOM files are uncompressed, 16 bits.

    Raises
    ------
    BenchmarkError
        pydicom or pydicom-data is not installed.
    """
    try:
        import pydicom
        from pydicom.data import get_testdata_file

        path = get_testdata_file(_RADIOGRAPH, download=False)
    except ImportError:
        path = None
    if path is None:
        raise BenchmarkError(f"the stages need a picture: {_REMEDY}")
    grey = read(path).pixels
    written = []
    for side in SHORTER_SIDES:
        scale = side / min(grey.shape)
        size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
        dataset = pydicom.dcmread(path)
        stored = cv2.resize(dataset.pixel_array, size, interpolation=cv2.INTER_CUBIC)
        highest = 2**dataset.BitsStored - 1
        dataset.PixelData = np.clip(stored, 0, highest).astype(np.uint16).tobytes()
        dataset.Rows, dataset.Columns = stored.shape
        dicom, jpeg = folder / f"{side}.dcm", folder / f"{side}.jpg"
        dataset.save_as(dicom)
        cv2.imwrite(str(jpeg), cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC))
        written += [dicom, jpeg]
    return tuple(written)


def stage_cases(cases: Sequence[Case]) -> list[Case]:
    """Of each model the case that a device would run: int8 if it is there, in its first engine."""
    models = dict.fromkeys(case.folder for case in cases)
    per_model = [[case for case in cases if case.folder == folder] for folder in models]
    return [min(one, key=lambda case: case.precision != "int8") for one in per_model]


def stage_row(case: Case, picture: Path, rounds: Sequence[dict[str, Any]]) -> StageRow:
    """Medians over the rounds that `worker.measure_stages` gave."""
    medians: dict[str, Estimate] = {
        stage: estimate([float(np.median([run[stage] for run in one["runs"]])) for one in rounds])
        for stage in STAGES
    }
    kind = picture.suffix.lstrip(".").upper() or "no ending"
    return StageRow(
        model=case.model,
        precision=case.precision,
        engine=case.engine,
        threads=case.threads,
        picture=f"{kind}, {rounds[0]['width']} x {rounds[0]['height']}",
        read=medians["read"].value,
        frontal=medians["frontal"].value,
        preprocess=medians["preprocess"].value,
        classify=medians["classify"].value,
        heatmap=medians["heatmap"].value,
        total=medians["total"].value,
        total_interval=medians["total"].interval,
    )
