import shutil
import subprocess

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from xrayedge import Screener, read
from xrayedge.errors import ResultsError
from xrayedge.output.dicom import DISCLAIMER, secondary_capture, structured_report


@pytest.fixture(scope="module")
def screening(chest):
    return Screener().screen(chest, heatmap=True)


@pytest.fixture
def original(chest):
    return pydicom.dcmread(chest)


def written(content, path):
    path.write_bytes(content)
    return pydicom.dcmread(path)


def texts(dataset):
    """Every text, number and meaning in a report."""
    for item in dataset.get("ContentSequence", []):
        meaning = (
            item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
        )
        if item.ValueType == "NUM":
            yield meaning, float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "CODE":
            yield meaning, item.ConceptCodeSequence[0].CodeMeaning
        elif item.ValueType == "TEXT":
            yield meaning, item.TextValue
        yield from texts(item)


def test_the_report_holds_label_scores_model_and_disclaimer(screening, chest, original, tmp_path):
    report = written(structured_report(screening, chest), tmp_path / "report.dcm")
    assert report.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    assert report.StudyInstanceUID == original.StudyInstanceUID
    assert report.PatientID == original.PatientID
    said = dict(texts(report))
    assert said["Finding"] == screening.label
    for name, probability in screening.probabilities.items():
        assert said[f"Probability of {name}"] == pytest.approx(probability, abs=1e-5)
    assert screening.model in said["Device Observer Model Name"]
    assert screening.version in said["Device Observer Model Name"]
    assert said["Comment"] == DISCLAIMER
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID


def test_the_capture_shows_the_overlay(screening, chest, original, tmp_path):
    capture = written(secondary_capture(screening, chest), tmp_path / "capture.dcm")
    assert capture.StudyInstanceUID == original.StudyInstanceUID
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert np.array_equal(capture.pixel_array, screening.heatmap[:, :, ::-1])


@pytest.mark.parametrize("write", [structured_report, secondary_capture])
def test_dciodvfy_finds_no_error(screening, chest, tmp_path, write):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    path = tmp_path / "out.dcm"
    path.write_bytes(write(screening, chest))
    run = subprocess.run([validator, "-new", path], capture_output=True, text=True, check=False)
    assert "Error" not in run.stdout + run.stderr
    assert run.returncode == 0


def test_a_source_with_gaps_and_invalid_values_is_completed(screening, chest, tmp_path):
    gaps = pydicom.dcmread(chest)
    del gaps.AccessionNumber, gaps.StudyID
    gaps["PatientAge"] = pydicom.DataElement(
        "PatientAge", "AS", "62", validation_mode=pydicom.config.IGNORE
    )
    path = tmp_path / "gaps.dcm"
    gaps.save_as(path)
    report = written(structured_report(screening, path), tmp_path / "report.dcm")
    assert not report.get("PatientAge")
    assert report.StudyID is None or report.StudyID == ""


def test_a_source_that_is_no_dicom_has_no_dicom_results(chest, tmp_path):
    screening = Screener().screen(read(chest).pixels, heatmap=True)
    for write in (structured_report, secondary_capture):
        with pytest.raises(ResultsError, match="not a DICOM file"):
            write(screening, tmp_path / "chest.png")


def test_a_source_of_no_study_is_named_without_its_values(screening, chest, tmp_path, recwarn):
    orphan = pydicom.dcmread(chest)
    del orphan.StudyInstanceUID
    orphan.PatientName = "CANARY"
    path = tmp_path / "orphan.dcm"
    orphan.save_as(path)
    for write in (structured_report, secondary_capture):
        with pytest.raises(ResultsError, match=r"orphan\.dcm: lacks") as caught:
            write(screening, path)
        assert "CANARY" not in str(caught.value)
    assert not any("CANARY" in str(warning.message) for warning in recwarn)
