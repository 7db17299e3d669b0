"""Real pictures for every test: chest DICOM from PyPI's pydicom-data, and the data set if there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DATA = Path(os.environ.get("XRAYEDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def dicom_file(name: str) -> Path:
    """A file of pydicom or pydicom-data."""
    data = pytest.importorskip("pydicom.data")
    path = data.get_testdata_file(name)
    assert path is not None, f"{name} is in neither pydicom nor pydicom-data"
    return Path(path)


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
    """A magnetic resonance picture of a shoulder."""
    return dicom_file("MR2_UNCR.dcm")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The labelled radiographs; tests that want them skip where there are none."""
    if not (_DATA / "manifest.csv").is_file():
        pytest.skip("no labelled radiographs: set XRAYEDGE_DATA to a folder with manifest.csv")
    return _DATA
