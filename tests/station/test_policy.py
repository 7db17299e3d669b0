"""Age and device as the tags say them."""

import pytest

pydicom = pytest.importorskip("pydicom")

import numpy as np
from conftest import dicom_bytes, dicom_dataset

from xrayedge.station.config import ScreenConfig
from xrayedge.station.policy import age, check


def judged(tmp_path, config=None, **tags):
    path = tmp_path / "image.dcm"
    path.write_bytes(dicom_bytes(dicom_dataset(np.zeros((8, 8), np.uint8), **tags)))
    return check(path, config or ScreenConfig())


@pytest.mark.parametrize(
    ("tags", "reason", "warning"),
    [
        ({"PatientAge": "011M"}, "too-young", None),
        ({"PatientAge": "040W"}, "too-young", None),
        ({"PatientAge": "012M"}, None, None),
        ({"PatientAge": "062Y"}, None, None),
        ({"PatientBirthDate": "20260105", "StudyDate": "20260301"}, "too-young", None),
        ({"PatientBirthDate": "20250301", "StudyDate": "20260301"}, None, None),
        # One of the two is wrong: the lower one counts.
        (
            {"PatientAge": "062Y", "PatientBirthDate": "20260105", "StudyDate": "20260301"},
            "too-young",
            None,
        ),
        ({}, None, "age-unknown"),
        ({"PatientBirthDate": "20260105"}, None, "age-unknown"),
    ],
)
def test_children_under_a_year_are_not_screened_in_silence(tmp_path, tags, reason, warning):
    verdict = judged(tmp_path, **tags)
    assert (verdict.reason, verdict.warning) == (reason, warning)


def test_devices_may_be_named(tmp_path):
    config = ScreenConfig(manufacturers=("ACME",), station_names=("UNIT1",), min_age=0)
    assert judged(tmp_path, config, Manufacturer="Acme", StationName="UNIT1").reason is None
    for tags in (
        {"Manufacturer": "Acme"},
        {"Manufacturer": "Other", "StationName": "UNIT1"},
        {},
    ):
        assert judged(tmp_path, config, **tags).reason == "device-not-allowed"


def test_what_is_no_dicom_says_nothing(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    assert check(path, ScreenConfig()).reason is None
    assert age({"PatientAge": "old", "PatientBirthDate": "19999999"}) is None
