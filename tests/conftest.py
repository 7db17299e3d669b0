"""Real images for every test: chest DICOM from PyPI's pydicom-data, and the dataset if there."""

from __future__ import annotations

import io
import os
import signal
import struct
from pathlib import Path

import numpy as np
import pytest

# Whatever is installed on this machine is not under test.
os.environ["XRAYEDGE_MODELS"] = os.devnull
# A shell lets pytest ignore Ctrl-C in the background, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: In the checkout, whether or not its distribution is installed.
VGG16 = Path(__file__).parents[1] / "distributions" / "vgg16" / "xrayedge_vgg16" / "vgg16"

_DATA = Path(os.environ.get("XRAYEDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def dicom_file(name: str) -> Path:
    """A file of pydicom or pydicom-data."""
    data = pytest.importorskip("pydicom.data")
    path = data.get_testdata_file(name)
    assert path is not None, f"{name} is in neither pydicom nor pydicom-data"
    return Path(path)


def grey_noise(spread: int, shape: tuple[int, int], *, marker: bool = False) -> np.ndarray:
    """Noise around one grey level, ``uint8``, with a bright marker in the corner if asked for."""
    pixels = np.random.default_rng(spread).normal(100, spread, shape)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    if marker:
        pixels[:8, :40] = 255
    return pixels


#: Folders whose files share slow fixtures: under xdist one process runs all of a folder.
_TOGETHER = ("tests/converters",)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """``--dist loadfile``, with the files of `_TOGETHER` as one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            folder = file.rpartition("/")[0]
            return folder if folder in _TOGETHER else file

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def chest() -> Path:
    """A genuine frontal chest radiograph, MONOCHROME1, 15 bits."""
    return dicom_file("RG1_UNCR.dcm")


@pytest.fixture(scope="session")
def leg() -> Path:
    """A radiograph of a lower leg."""
    return dicom_file("RG3_UNCR.dcm")


@pytest.fixture(scope="session")
def shoulder_mr() -> Path:
    """A magnetic resonance image of a shoulder."""
    return dicom_file("MR2_UNCR.dcm")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The labelled radiographs; tests that want them skip where there are none."""
    if not (_DATA / "manifest.csv").is_file():
        pytest.skip("no labelled radiographs: set XRAYEDGE_DATA to a folder with manifest.csv")
    return _DATA


def dicom_dataset(pixels: np.ndarray, syntax: str = "1.2.840.10008.1.2.1", **attributes: object):
    """A DICOM radiograph of these pixels, ``uint8|uint16|int16 [H, W]``, with these attributes."""
    pydicom = pytest.importorskip("pydicom")
    uid = pydicom.uid
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.SOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = "1.2.3.4", "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.5"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    return dataset


def dicom_bytes(dataset: object) -> bytes:
    """A dataset as the bytes of a file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def tiff(pixels: np.ndarray, *, photometric: int = 1, compression: int = 1, then: int = 0) -> bytes:
    """A TIFF of one strip, ``uint8|uint16 [H, W]``; ``then`` is where its next page should be."""
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    height, width = pixels.shape
    fields = {
        256: width,
        257: height,
        258: 8 * pixels.itemsize,
        259: compression,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
        279: len(content),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", then)
    return b"II*\x00" + struct.pack("<I", 8 + len(content)) + content + directory
