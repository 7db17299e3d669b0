"""Images of realistic size in each encoding, and the time of each stage from file to heatmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import BenchmarkError
from ..imaging import read
from .cases import Case
from .report import StageRow
from .statistics import Estimate, estimate

STAGES = ("read", "frontal", "preprocess", "classify", "heatmap", "total")
#: Shorter sides, in pixels: a storage-phosphor plate and a flat panel, both 43 cm long.
SHORTER_SIDES = (2048, 3072)
_RADIOGRAPH = "RG1_UNCR.dcm"  # chest, PA, 1841 x 1955 pixels, 15 bits
_REMEDY = "pip install pydicom-data 'xrayedge[dicom]', or name your own images with --image"


def realistic_images(folder: Path) -> tuple[Path, ...]:
    """Write pydicom-data's chest radiograph in realistic sizes, as DICOM and as JPEG.

    It is a real one of about 1900 pixels, enlarged. The smaller size comes in each transfer syntax
    of `ENCODERS` as well, where the extra ``dicom`` is installed, which brings the codecs.

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
        raise BenchmarkError(f"the stages need an image: {_REMEDY}")
    grey = read(path).pixels
    written = []
    for side in SHORTER_SIDES:
        scale = side / min(grey.shape)
        size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
        dataset = pydicom.dcmread(path)
        enlarged = cv2.resize(dataset.pixel_array, size, interpolation=cv2.INTER_CUBIC)
        stored = np.clip(enlarged, 0, 2**dataset.BitsStored - 1).astype(np.uint16)
        dataset.PixelData = stored.tobytes()
        dataset.Rows, dataset.Columns = stored.shape
        dicom, jpeg = folder / f"{side}.dcm", folder / f"{side}.jpg"
        dataset.save_as(dicom)
        cv2.imwrite(str(jpeg), cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC))
        written += [dicom, jpeg]
        if side == SHORTER_SIDES[0]:
            written += _in_each_syntax(dataset, stored, folder)
    return tuple(written)


def _in_each_syntax(dataset: Any, stored: NDArray[np.uint16], folder: Path) -> list[Path]:
    """The DICOM image in each syntax of `ENCODERS`; none without their codecs."""
    if find_spec("imagecodecs") is None:
        return []
    import pydicom
    from pydicom.encaps import encapsulate

    written = []
    for number, (uid, encode) in enumerate(ENCODERS.items()):
        dataset.PixelData = encapsulate([encode(stored)])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(uid)
        path = folder / f"syntax-{number}.dcm"
        dataset.save_as(path)
        written.append(path)
    return written


def _jpeg_lossless(stored: NDArray[np.uint16]) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=16))


def _jpeg_ls(stored: NDArray[np.uint16]) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpegls_encode(stored))


def _jpeg_2000(stored: NDArray[np.uint16]) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpeg2k_encode(stored, codecformat="j2k", reversible=True))


def _high_throughput(stored: NDArray[np.uint16]) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.htj2k_encode(stored, reversible=True))


def _rle(stored: NDArray[np.uint16]) -> bytes:
    """Planes of high and of low bytes, each row packed (PS3.5, annex G)."""
    import imagecodecs

    planes = []
    for shift in (8, 0):
        rows = (stored >> shift).astype(np.uint8)
        packed = b"".join(bytes(imagecodecs.packbits_encode(row)) for row in rows)
        planes.append(packed + bytes(len(packed) % 2))
    header = np.zeros(16, "<u4")
    header[:3] = len(planes), header.nbytes, header.nbytes + len(planes[0])
    return header.tobytes() + b"".join(planes)


#: Of each transfer syntax, an encoder of 16-bit grey values without loss.
ENCODERS: dict[str, Callable[[NDArray[np.uint16]], bytes]] = {
    "1.2.840.10008.1.2.4.70": _jpeg_lossless,
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.90": _jpeg_2000,
    "1.2.840.10008.1.2.4.201": _high_throughput,
    "1.2.840.10008.1.2.5": _rle,
}
#: Of each transfer syntax (PS3.6, annex A), a name that fits a table.
_SYNTAXES = {
    "1.2.840.10008.1.2": "uncompressed",
    "1.2.840.10008.1.2.1": "uncompressed",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.2": "big endian",
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS lossy",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000 lossy",
    "1.2.840.10008.1.2.4.201": "HTJ2K",
    "1.2.840.10008.1.2.4.202": "HTJ2K",
    "1.2.840.10008.1.2.4.203": "HTJ2K lossy",
    "1.2.840.10008.1.2.5": "RLE",
}


def kind(image: Path) -> str:
    """What a file is, without its name: its ending, and a DICOM file's transfer syntax."""
    ending = image.suffix.lstrip(".").upper() or "no ending"
    try:
        from pydicom.filereader import read_file_meta_info

        syntax = str(read_file_meta_info(image).TransferSyntaxUID)
    except Exception:  # no pydicom, or no DICOM file with a header: its ending has to do
        return ending
    return f"{ending} {_SYNTAXES.get(syntax, '')}".strip()


def stage_cases(cases: Sequence[Case]) -> list[Case]:
    """For each model the case that a device would run: int8 if available, in its first engine."""
    models = dict.fromkeys(case.folder for case in cases)
    per_model = [[case for case in cases if case.folder == folder] for folder in models]
    return [min(one, key=lambda case: case.precision != "int8") for one in per_model]


def stage_row(case: Case, image: Path, rounds: Sequence[dict[str, Any]]) -> StageRow:
    """Medians over the rounds that `worker.measure_stages` gave."""
    medians: dict[str, Estimate] = {
        stage: estimate([float(np.median([run[stage] for run in one["runs"]])) for one in rounds])
        for stage in STAGES
    }
    return StageRow(
        model=case.model,
        precision=case.precision,
        engine=case.engine,
        threads=case.threads,
        picture=f"{kind(image)}, {rounds[0]['width']} x {rounds[0]['height']}",
        read=medians["read"].value,
        frontal=medians["frontal"].value,
        preprocess=medians["preprocess"].value,
        classify=medians["classify"].value,
        heatmap=medians["heatmap"].value,
        total=medians["total"].value,
        total_interval=medians["total"].interval,
    )
