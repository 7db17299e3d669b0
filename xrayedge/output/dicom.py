"""Results as DICOM for an archive: a structured report, and the overlay as Secondary Capture.

Both belong to the study of the picture that was screened and refer to it. Needs the extra
``dicom-out``.
"""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ResultsError
from ..result import Screening

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DISCLAIMER = "Research software, not a medical device. Must not be used for diagnosis."

_MANUFACTURER = "xrayedge"
_SCHEME = "99XRAYEDGE"  # 99: a private coding scheme (PS3.3, 8.2)
# Series numbers far from those of a unit, one for reports and one for overlays.
_SR_SERIES, _SC_SERIES = 9901, 9902
_CODE_LENGTH, _MEANING_LENGTH = 16, 64  # value representations SH and LO (PS3.5, 6.2)
# Of type 2 in the patient's and the study's modules (PS3.3, C.7.1.1 and C.7.2.1).
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def require() -> None:
    """Raise `ResultsError` where the extra ``dicom-out`` is not installed."""
    if find_spec("highdicom") is None:
        raise ResultsError("writing DICOM needs highdicom; pip install 'xrayedge[dicom-out]'")


def structured_report(screening: Screening, source: Path) -> bytes:
    """A Comprehensive SR with label, scores, model version and disclaimer.

    Parameters
    ----------
    screening
        Of status ``screened``.
    source
        The DICOM file that it was made from.

    Raises
    ------
    ResultsError
        The source is not DICOM, or lacks what ties a report to its study.
    """
    from highdicom.sr import ComprehensiveSR

    original = _original(screening, source)
    try:
        report = ComprehensiveSR(
            evidence=[original],
            content=_content(screening, original),
            series_instance_uid=_new_uid(),
            series_number=_SR_SERIES,
            sop_instance_uid=_new_uid(),
            instance_number=1,
            manufacturer=_MANUFACTURER,
            series_description=f"{_MANUFACTURER} {screening.model}"[:_MEANING_LENGTH],
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise _lacking(source, error) from None
    return _to_bytes(report)


def secondary_capture(screening: Screening, source: Path) -> bytes:
    """The overlay of a screening made with ``heatmap=True``, as a colour Secondary Capture.

    Parameters and errors as for `structured_report`.
    """
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset

    assert screening.heatmap is not None, "screen with heatmap=True"
    original = _original(screening, source)
    try:
        capture = SCImage.from_ref_dataset(
            ref_dataset=original,
            pixel_array=screening.heatmap[:, :, ::-1].copy(),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            series_instance_uid=_new_uid(),
            series_number=_SC_SERIES,
            sop_instance_uid=_new_uid(),
            instance_number=1,
            manufacturer=_MANUFACTURER,
        )
        reference = Dataset()
        reference.ReferencedSOPClassUID = original.SOPClassUID
        reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
    except (AttributeError, TypeError, ValueError) as error:
        raise _lacking(source, error) from None
    capture.SourceImageSequence = [reference]
    capture.BodyPartExamined = "CHEST"  # which the frontal check has seen
    capture.SeriesDescription = f"{_MANUFACTURER} {screening.model}"[:_MEANING_LENGTH]
    capture.DerivationDescription = (
        f"Evidence for {screening.label} by {screening.model} {screening.version}. {DISCLAIMER}"
    )
    return _to_bytes(capture)


def _content(screening: Screening, original: Dataset) -> Dataset:
    from highdicom.sr import (
        CodeContentItem,
        ContainerContentItem,
        ContentSequence,
        ImageContentItem,
        NumContentItem,
        RelationshipTypeValues,
        TextContentItem,
    )
    from pydicom.sr.coding import Code

    assert screening.label is not None, "only a screened picture has a report"
    assert screening.probabilities is not None
    assert screening.frontal_score is not None
    contains = RelationshipTypeValues.CONTAINS
    context = RelationshipTypeValues.HAS_OBS_CONTEXT
    no_unit = Code("1", "UCUM", "no units")

    def number(code: str, meaning: str, value: float) -> NumContentItem:
        return NumContentItem(_local(code, meaning), round(value, 6), no_unit, None, contains)

    finding = CodeContentItem(
        Code("121071", "DCM", "Finding"), _local(screening.label, screening.label), contains
    )
    finding.ContentSequence = ContentSequence(
        [
            ImageContentItem(
                Code("121112", "DCM", "Source of Measurement"),
                original.SOPClassUID,
                original.SOPInstanceUID,
                relationship_type=RelationshipTypeValues.INFERRED_FROM,
            )
        ]
    )
    findings = ContainerContentItem(Code("121070", "DCM", "Findings"), relationship_type=contains)
    findings.ContentSequence = ContentSequence(
        [
            finding,
            *(
                number(name, f"Probability of {name}", value)
                for name, value in screening.probabilities.items()
            ),
            number(
                "frontal", "Probability of a frontal chest view", screening.frontal_score or 0.0
            ),
        ]
    )
    model = f"{screening.model} {screening.version} ({screening.precision}, {screening.engine})"
    root: Dataset = ContainerContentItem(Code("18748-4", "LN", "Diagnostic Imaging Report"))
    root.ContentSequence = ContentSequence(
        [
            CodeContentItem(
                Code("121049", "DCM", "Language of Content Item and Descendants"),
                Code("en", "RFC5646", "English"),
                RelationshipTypeValues.HAS_CONCEPT_MOD,
            ),
            CodeContentItem(
                Code("121005", "DCM", "Observer Type"), Code("121007", "DCM", "Device"), context
            ),
            TextContentItem(Code("121013", "DCM", "Device Observer Name"), _MANUFACTURER, context),
            TextContentItem(Code("121015", "DCM", "Device Observer Model Name"), model, context),
            findings,
            TextContentItem(Code("121106", "DCM", "Comment"), DISCLAIMER, contains),
        ]
    )
    return root


def _local(code: str, meaning: str) -> Any:
    from pydicom.sr.coding import Code

    return Code(code[:_CODE_LENGTH], _SCHEME, meaning[:_MEANING_LENGTH])


def _original(screening: Screening, source: Path) -> Dataset:
    """The source's header, completed with empty values and rid of invalid ones."""
    import pydicom
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if screening.tags is None:
        raise ResultsError(f"{source}: not a DICOM file, so no DICOM is written for it")
    # Their warnings quote the patient's name.
    warnings.filterwarnings("ignore", module=r"(highdicom|pydicom)(\.|$)")
    original: Dataset = pydicom.dcmread(source, stop_before_pixels=True, force=True)
    for keyword in _MAY_BE_EMPTY:
        if keyword not in original:
            setattr(original, keyword, None)
    for element in list(original):
        try:
            validate_value(element.VR, element.value, RAISE)
        except ValueError:
            element.value = None
    return original


def _lacking(source: Path, error: Exception) -> ResultsError:
    """Without the error's text, which may hold the patient's data."""
    return ResultsError(
        f"{source}: lacks what a DICOM result needs of its study ({type(error).__name__}); "
        "no DICOM is written for it"
    )


def _new_uid() -> str:
    from highdicom import UID

    return str(UID())


def _to_bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
