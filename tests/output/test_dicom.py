"""Structured reports and captures: whose they are, what they say, and that others can read them."""

import logging
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from xrayedge import Screener, read
from xrayedge.errors import ResultsError
from xrayedge.opacities import Opacity
from xrayedge.output.dicom import DISCLAIMER, secondary_capture, structured_report

WRITERS = pytest.mark.parametrize("write", [structured_report, secondary_capture])


@pytest.fixture(scope="module")
def screening(chest):
    with Screener() as screener:
        return screener.screen(chest, heatmap=True)


@pytest.fixture
def original(chest):
    return pydicom.dcmread(chest)


def written(made, path):
    path.write_bytes(made.content)
    return pydicom.dcmread(path)


def raw(dataset, keyword, value):
    """Put an element of these very bytes, whatever pydicom thinks of them."""
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    vr = pydicom.datadict.dictionary_VR(tag)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def save_raw(dataset, values, path):
    """Save with these bytes as values, written as they are."""
    for keyword, value in values.items():
        raw(dataset, keyword, value)
    implicit, little = dataset.original_encoding
    dataset.set_original_encoding(implicit, little, dataset._character_set)
    dataset.save_as(path, enforce_file_format=False)
    return path


def items(dataset):
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from items(item)


def said(report):
    """The values of every text, number and code in a report, by their meanings."""
    found = {}
    for item in items(report):
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "NUM":
            found[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "CODE":
            found.setdefault(name, item.ConceptCodeSequence[0])
        elif item.ValueType == "TEXT":
            found.setdefault(name, []).append(item.TextValue)
    return found


def test_the_report_holds_finding_probabilities_model_and_disclaimer(
    screening, chest, original, tmp_path
):
    found_covid = replace(screening, label="covid")
    report = written(structured_report(found_covid, chest), tmp_path / "report.dcm")
    assert report.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert report.StudyInstanceUID == original.StudyInstanceUID
    assert report.PatientID == original.PatientID
    found = said(report)
    assert found["Finding"].CodeValue == "840544004"
    assert found["Finding"].CodeMeaning.startswith("Suspected")
    for name, probability in screening.probabilities.items():
        assert found[f"Probability of {name}"] == pytest.approx(probability, abs=1e-5)
    # Of the finding, and again of each opacity.
    assert set(found["Algorithm Name"]) == {screening.model}
    assert set(found["Algorithm Version"]) == {screening.version}
    assert DISCLAIMER in found["Algorithm Parameters"]
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == original.StudyInstanceUID
    series = evidence.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == original.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID


def test_each_opacity_is_a_region_of_the_source(screening, chest, original, tmp_path):
    boxes = ((10.0, 20.5, 300.0, 400.0), (500.0, 20.0, 600.0, 400.0))
    opacities = tuple(map(Opacity, boxes, (0.9, 0.8)))
    with_opacities = replace(screening, opacities=opacities)
    report = written(structured_report(with_opacities, chest), tmp_path / "report.dcm")
    regions = [item for item in items(report) if item.ValueType == "SCOORD"]
    assert len(regions) == 2
    assert list(regions[0].GraphicData) == [10, 20.5, 300, 20.5, 300, 400, 10, 400, 10, 20.5]
    source = regions[0].ContentSequence[0].ReferencedSOPSequence[0]
    assert source.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert said(report)["Probability of an opacity"] == 0.8
    assert_valid(tmp_path / "report.dcm")


def test_the_capture_shows_the_overlay_in_little_space(screening, chest, original, tmp_path):
    capture = written(secondary_capture(screening, chest), tmp_path / "capture.dcm")
    assert capture.StudyInstanceUID == original.StudyInstanceUID
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert capture.LossyImageCompression == "01"
    shown = pydicom.pixels.pixel_array(capture).astype(int)
    overlay = screening.heatmap[:, :, ::-1].astype(int)
    assert np.abs(shown - overlay).mean() < 4
    assert len(capture.PixelData) < overlay.size / 10


def test_a_refused_image_gets_a_report_that_says_why(screening, chest, tmp_path):
    refused = replace(
        screening, status="rejected", reason="not-frontal", probabilities=None, opacities=()
    )
    report = written(structured_report(refused, chest), tmp_path / "report.dcm")
    found = said(report)
    assert found["Not screened, because"].CodeMeaning == "Not frontal"
    assert not [name for name in found if name.startswith("Probability")]
    assert_valid(tmp_path / "report.dcm")
    unreadable = replace(screening, status="failed", reason="unreadable")
    with pytest.raises(ResultsError, match="unreadable, so no DICOM"):
        structured_report(unreadable, chest)


def assert_valid(path):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    run = subprocess.run([validator, "-new", path], capture_output=True, text=True, check=False)
    assert "Error" not in run.stdout + run.stderr
    assert run.returncode == 0


@WRITERS
def test_dciodvfy_finds_no_error(screening, chest, tmp_path, write):
    written(write(screening, chest), tmp_path / "out.dcm")
    assert_valid(tmp_path / "out.dcm")


def test_uids_follow_from_what_an_object_is_of(screening, chest):
    def uid(made):
        return made.sop_instance_uid

    first = uid(structured_report(screening, chest))
    assert uid(structured_report(screening, chest)) == first
    others = [
        uid(secondary_capture(screening, chest)),
        uid(structured_report(screening, chest, revision="other bytes")),
        uid(structured_report(replace(screening, version="9.9.9"), chest)),
        uid(structured_report(replace(screening, operating_point="sensitive"), chest)),
        uid(structured_report(replace(screening, status="rejected", reason="turned"), chest)),
    ]
    assert len({first, *others}) == 6


ODD = {
    "SpecificCharacterSet": b"\\ISO 2022 IR 87 ",
    "PatientName": b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
    "PatientID": b"1\\2 " + b"L" * 90,
    "PatientBirthDate": b"1962-03-05",
    "PatientSex": b"female",
    "PatientAge": b"62",
    "AccessionNumber": b"A" * 40,
    "StudyID": b"S" * 40,
    "StudyInstanceUID": b"1.2.007.3\0",
    "SeriesInstanceUID": b"1.2.007.4\0",
    "SOPInstanceUID": b"1.2.007.5\0",
    "SOPClassUID": b"1.3.46.670589.99.1\0\0"[:18],
}


@WRITERS
def test_identity_is_copied_as_the_bytes_that_came(screening, original, tmp_path, write):
    path = save_raw(original, ODD, tmp_path / "odd.dcm")
    made = write(screening, path).content
    header = pydicom.dcmread(path)
    (tmp_path / "made.dcm").write_bytes(made)
    copy = pydicom.dcmread(tmp_path / "made.dcm", stop_before_pixels=True)
    for keyword, value in ODD.items():
        if keyword == "SeriesInstanceUID":
            assert (value.rstrip(b"\0") in made) == (write is structured_report)
        elif keyword in ("SOPInstanceUID", "SOPClassUID"):
            assert value.rstrip(b"\0") in made  # in a reference
        elif keyword != "SpecificCharacterSet":
            assert copy.get_item(keyword).value.rstrip(b" ") == value.rstrip(b" "), keyword
    assert copy.SpecificCharacterSet == header.SpecificCharacterSet == ["", "ISO 2022 IR 87"]
    assert str(copy.PatientName.ideographic) == "山田^太郎"


@WRITERS
@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_source_of_no_study_is_refused_without_its_values(
    screening, original, tmp_path, write, missing
):
    del original[missing]
    original.PatientName = "CANARY"
    path = tmp_path / "orphan.dcm"
    original.save_as(path, enforce_file_format=False)
    with pytest.raises(ResultsError, match=rf"orphan\.dcm: lacks {missing}") as caught:
        write(screening, path)
    assert "CANARY" not in str(caught.value)


@WRITERS
def test_no_value_is_logged_or_warned_of(screening, original, tmp_path, write, caplog, recwarn):
    names = ("PatientName", "PatientBirthDate", "PatientAge", "StudyInstanceUID", "StudyID")
    values = dict.fromkeys(names, b"CANARY\xff" * 20)
    path = save_raw(original, values, tmp_path / "canary.dcm")
    recwarn.clear()
    with caplog.at_level(logging.DEBUG):
        assert b"CANARY" in write(screening, path).content
    assert "CANARY" not in caplog.text
    assert not [one for one in recwarn if "CANARY" in str(one.message)]


def test_a_source_with_gaps_has_empty_values(screening, original, tmp_path):
    del original.AccessionNumber, original.StudyID
    path = tmp_path / "gaps.dcm"
    original.save_as(path)
    report = written(structured_report(screening, path), tmp_path / "report.dcm")
    assert report.StudyID == report.AccessionNumber == ""
    assert "PatientWeight" not in report
    assert_valid(tmp_path / "report.dcm")


def test_a_source_that_is_no_dicom_has_no_dicom_results(chest, tmp_path):
    with Screener() as screener:
        screening = screener.screen(read(chest).pixels, heatmap=True)
    for write in (structured_report, secondary_capture):
        with pytest.raises(ResultsError, match="not a DICOM file"):
            write(screening, tmp_path / "chest.png")
