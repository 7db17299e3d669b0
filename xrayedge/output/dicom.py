"""Results as DICOM objects: a structured report, and the overlay as Secondary Capture.

Both belong to the study of the image that was screened and refer to it. What identifies the
patient and the study is copied as the bytes that came, never interpreted: an odd identifier or
character set is left to the archive, and can't be garbled, blanked or logged here. So highdicom
builds each object around a `_placeholder`, whose elements are replaced by the source's before the
object is written. Needs the extra ``dicom-out``.

A long file, because the report and the capture share these rules and the source's elements.
"""

from __future__ import annotations

import io
import struct
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import ResultsError
from ..result import Screening

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DISCLAIMER = "Research software, not a medical device. Must not be used for diagnosis."

_MANUFACTURER = "xrayedge"
_SCHEME = "99XRAYEDGE"  # 99: a private coding scheme (PS3.3, 8.2)
# Series numbers far from those of a unit, one for reports and one for overlays.
_SR_SERIES, _SC_SERIES = 9901, 9902
_MEANING_LENGTH = 64  # value representation LO (PS3.5, 6.2)
#: Makes our derived UIDs ours: a version 5 UUID of this name space (PS3.5, B.2; RFC 4122, 4.3).
_UID_SPACE = uuid.UUID("0b4a3c52-7b4e-5a58-9f29-5d1de2c0a7d1")

# Of type 2 in the patient's and the study's modules (PS3.3, C.7.1.1 and C.7.2.1): empty where the
# source lacks them.
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
# What is copied: patient, patient's study and study modules (PS3.3, C.7.1.1, C.7.2.2, C.7.2.1).
_CHARACTER_SET = "SpecificCharacterSet"
_IDENTITY = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyInstanceUID",
    "StudyID",
)
_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MAX_VALUE_BYTES = 10_240  # the maximum length of a text element (PS3.5, 6.2: LT)

#: (value, scheme, meaning) of each class that a standard vocabulary knows. A radiograph can
#: raise the suspicion of COVID-19 and can't confirm it.
_FINDINGS = {
    "covid": ("840544004", "SCT", "Suspected disease caused by SARS-CoV-2"),
    "healthy": ("17621005", "SCT", "Normal"),
    "pneumonia": ("233604007", "SCT", "Pneumonia"),
}
_CHEST_XRAY = ("399208008", "SCT", "Plain chest X-ray")
_LUNG = ("39607008", "SCT", "Lung")
_FINDING = ("121071", "DCM", "Finding")
_NO_UNIT = ("1", "UCUM", "no units")

# Of rejected images only: nothing in an unreadable file is trusted.
_NO_REPORT = ("unreadable", "too-large", "dicom-not-installed")


@dataclass(frozen=True)
class DicomObject:
    """A DICOM object.

    Parameters
    ----------
    content
        The whole file.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        What a sender has to know about it.
    """

    content: bytes
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def require() -> None:
    """Raise `ResultsError` where the extra ``dicom-out`` is not installed."""
    if find_spec("highdicom") is None:
        raise ResultsError("writing DICOM needs highdicom; pip install 'xrayedge[dicom-out]'")


def prepare() -> None:
    """Load what objects are made with, and keep no more of it than that.

    For a process that runs for long: the first object then waits for no import, and some 40 MB of
    highdicom's table of every module's attributes are given up for those of our objects.
    """
    import highdicom.sr  # noqa: F401
    from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

    try:
        from highdicom import _standard_utils as standard

        attributes = standard.get_module_attribute_map()
        kinds, modules = standard.get_sop_class_iod_map(), standard.get_iod_module_map()
        ours = (_placeholder().SOPClassUID, ComprehensiveSRStorage, SecondaryCaptureImageStorage)
        needed = {one["key"] for uid in ours for one in modules[kinds[str(uid)]]}
    except (ImportError, AttributeError, KeyError):  # a release that has other tables
        return
    for name in attributes.keys() - needed:
        del attributes[name]


def structured_report(screening: Screening, source: Path, *, revision: str = "") -> DicomObject:
    """A Comprehensive SR by TID 1500: the finding, a probability for each class, the opacities.

    For a screening that is not ``screened`` it gives the reason.

    Parameters
    ----------
    screening
        Its result.
    source
        The DICOM file that it was made from.
    revision
        Distinguishes sources that wrongly share one SOP instance UID.

    Returns
    -------
    DicomObject
        Its UIDs are derived from the source's SOP instance, model, version, operating point and
        kind: made again, it is the same object to an archive.

    Raises
    ------
    ResultsError
        The source is not DICOM, or lacks what ties a report to its study.
    """
    from highdicom.sr import ComprehensiveSR

    identity = _identity(screening, source)
    uids = _Uids(identity, screening, "sr" if screening.ok else "refusal", revision)
    try:
        report = ComprehensiveSR(
            evidence=[_placeholder()],
            content=_report(screening, uids),
            series_instance_uid=uids.derive("series"),
            series_number=_SR_SERIES,
            sop_instance_uid=uids.derive("instance"),
            instance_number=1,
            manufacturer=_MANUFACTURER,
            manufacturer_model_name=_long(screening.model),
            software_versions=_long(screening.version),
            is_complete=True,
            series_description=_long(f"{_MANUFACTURER} {screening.model}"),
        )
        return _finished(report, identity)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise _lacking(source, error) from None


def secondary_capture(screening: Screening, source: Path, *, revision: str = "") -> DicomObject:
    """The overlay of a screening made with ``heatmap=True``, as a colour Secondary Capture in JPEG.

    Parameters, result and errors as for `structured_report`.
    """
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset
    from pydicom.uid import JPEGBaseline8Bit

    if screening.heatmap is None:
        raise ValueError("screen with heatmap=True")
    identity = _identity(screening, source)
    uids = _Uids(identity, screening, "sc", revision)
    original = _placeholder()
    try:
        capture = SCImage.from_ref_dataset(
            ref_dataset=original,
            pixel_array=screening.heatmap[:, :, ::-1].copy(),
            photometric_interpretation="YBR_FULL_422",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            series_instance_uid=uids.derive("series"),
            series_number=_SC_SERIES,
            sop_instance_uid=uids.derive("instance"),
            instance_number=1,
            manufacturer=_MANUFACTURER,
            transfer_syntax_uid=JPEGBaseline8Bit,
        )
        reference = Dataset()
        reference.ReferencedSOPClassUID = original.SOPClassUID
        reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
        capture.SourceImageSequence = [reference]
        capture.BodyPartExamined = "CHEST"  # which the frontal check has seen
        capture.SeriesDescription = _long(f"{_MANUFACTURER} {screening.model}")
        capture.DerivationDescription = (
            f"Evidence for {screening.label} by {screening.model} {screening.version}. {DISCLAIMER}"
        )
        capture.BurnedInAnnotation = "NO"
        capture.LossyImageCompression = "01"
        capture["PixelData"].VR = "OB"  # encapsulated (PS3.5, A.4)
        capture.LossyImageCompressionMethod = "ISO_10918_1"
        ratio = screening.heatmap.nbytes / len(capture.PixelData)
        capture.LossyImageCompressionRatio = f"{ratio:.1f}"
        return _finished(capture, identity)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise _lacking(source, error) from None


class _Uids:
    """UIDs that follow from what an object is of, so that it is never made twice."""

    def __init__(
        self, identity: dict[str, bytes], screening: Screening, kind: str, revision: str
    ) -> None:
        self._parts = (
            identity["SOPInstanceUID"].decode("latin-1").rstrip("\0 "),
            screening.model,
            screening.version,
            screening.operating_point,
            kind,
            revision,
        )

    def derive(self, what: str) -> str:
        return _uid(*self._parts, what)


def _uid(*parts: str) -> str:
    # 2.25: a UID made of a UUID (PS3.5, B.2).
    return f"2.25.{uuid.uuid5(_UID_SPACE, repr(parts)).int}"


def _report(screening: Screening, uids: _Uids) -> Any:
    """The content tree of TID 1500."""
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.coding import Code

    point = f"operating point {screening.operating_point}"
    algorithm = AlgorithmIdentification(
        name=screening.model,
        version=screening.version,
        parameters=[point, f"{screening.precision}, {screening.engine}", DISCLAIMER],
    )
    device = DeviceObserverIdentifyingAttributes(
        uid=_uid(screening.model, screening.version),
        name=_MANUFACTURER,
        manufacturer_name=_MANUFACTURER,
        model_name=f"{screening.model} {screening.version}",
    )
    groups = [_result(screening, uids, algorithm) if screening.ok else _refusal(screening, uids)]
    groups += _opacities(screening, uids, algorithm)
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(CodedConcept("121007", "DCM", "Device"), device)
        ),
        procedure_reported=Code(*_CHEST_XRAY),
        imaging_measurements=groups,
    )


def _result(screening: Screening, uids: _Uids, algorithm: Any) -> Any:
    """The finding and its probabilities (TID 1501)."""
    from highdicom.sr import (
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
    )
    from pydicom.sr.coding import Code

    label = str(screening.label)
    evaluations = [QualitativeEvaluation(Code(*_FINDING), _finding(label))]
    if screening.certain is False:
        certainty = _local("certainty", "Certainty of the finding")
        evaluations.append(QualitativeEvaluation(certainty, _local("uncertain", "Uncertain")))
    numbers = {
        f"Probability of {name}": (f"probability-{name}", value)
        for name, value in (screening.probabilities or {}).items()
    }
    if screening.frontal_score is not None:
        numbers["Probability of a frontal chest view"] = ("frontal", screening.frontal_score)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uids, "result"),
        algorithm_id=algorithm,
        measurements=[
            Measurement(_local(code, meaning), round(value, 6), Code(*_NO_UNIT))
            for meaning, (code, value) in numbers.items()
        ],
        qualitative_evaluations=evaluations,
        source_images=[_source_of_group()],
    )


def _refusal(screening: Screening, uids: _Uids) -> Any:
    """Why the image was not screened (TID 1501)."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, QualitativeEvaluation

    reason = screening.reason or screening.status
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uids, "refusal"),
        qualitative_evaluations=[
            QualitativeEvaluation(
                _local("not-screened", "Not screened, because"),
                _local(reason, reason.replace("-", " ").capitalize()),
            )
        ],
        source_images=[_source_of_group()],
    )


def _opacities(screening: Screening, uids: _Uids, algorithm: Any) -> list[Any]:
    """One region of interest for each opacity (TID 1410), its box in the source's pixels."""
    import numpy as np
    from highdicom.sr import (
        FindingSite,
        ImageRegion,
        Measurement,
        PlanarROIMeasurementsAndQualitativeEvaluations,
        SourceImageForRegion,
    )
    from pydicom.sr.coding import Code

    original = _placeholder()
    groups = []
    for number, opacity in enumerate(screening.opacities, 1):
        left, top, right, bottom = opacity.box
        outline = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        region = ImageRegion(
            "POLYLINE",
            np.array(outline, np.float64),
            SourceImageForRegion(original.SOPClassUID, original.SOPInstanceUID),
        )
        groups.append(
            PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(uids, f"opacity {number}"),
                referenced_region=region,
                finding_type=_local("opacity", "Opacity"),
                finding_sites=[FindingSite(Code(*_LUNG))],
                algorithm_id=algorithm,
                measurements=[
                    Measurement(
                        _local("probability-opacity", "Probability of an opacity"),
                        round(float(opacity.score), 6),
                        Code(*_NO_UNIT),
                    )
                ],
            )
        )
    return groups


def _source_of_group() -> Any:
    from highdicom.sr import SourceImageForMeasurementGroup

    original = _placeholder()
    return SourceImageForMeasurementGroup(original.SOPClassUID, original.SOPInstanceUID)


def _tracking(uids: _Uids, name: str) -> Any:
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=uids.derive(name), identifier=name)


def _finding(label: str) -> Any:
    from pydicom.sr.coding import Code

    return Code(*_FINDINGS[label]) if label in _FINDINGS else _local(label, label)


def _local(code: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    # A code of more than 16 characters becomes a LongCodeValue.
    return CodedConcept(code, _SCHEME, _long(meaning))


def _long(text: str) -> str:
    return text[:_MEANING_LENGTH]


# Reserved for examples of the standard (PS3.5, 9.1): in no file that a unit makes.
_PLACEHOLDERS = {name: f"1.2.840.999999.{number}" for number, name in enumerate(_REFERENCES, 1)}


def _placeholder() -> Dataset:
    """A source of nobody, which `_finished` puts the real one in place of."""
    from pydicom.dataset import Dataset
    from pydicom.uid import ComputedRadiographyImageStorage

    source = Dataset()
    for keyword in _IDENTITY:
        setattr(source, keyword, None)
    for keyword, value in _PLACEHOLDERS.items():
        setattr(source, keyword, value)
    # highdicom looks up which attributes this class has.
    source.SOPClassUID = ComputedRadiographyImageStorage
    source.Rows = source.Columns = 1
    source.Modality = "CR"
    return source


def _identity(screening: Screening, source: Path) -> dict[str, bytes]:
    """Keyword and bytes of what is copied.

    Raises
    ------
    ResultsError
        Not DICOM, not readable, or without what ties a result to its study.
    """
    if not screening.ok and screening.reason in _NO_REPORT:
        raise ResultsError(f"{source}: {screening.reason}, so no DICOM is written for it")
    if screening.ok and screening.tags is None:
        raise ResultsError(f"{source}: not a DICOM file, so no DICOM is written for it")
    try:
        with source.open("rb") as stream:
            found = _raw_values(stream)
    except OSError as error:
        raise ResultsError(f"{source}: can't be read ({error.strerror})") from None
    # pydicom's errors on damaged files are of every kind, and quote values.
    except Exception as error:
        raise _lacking(source, error) from None
    for keyword, value in found.items():
        if len(value) > _MAX_VALUE_BYTES:
            raise ResultsError(f"{source}: {keyword} is too long; no DICOM is written for it")
    for keyword in _REFERENCES:
        if not found.get(keyword, b"").strip(b"\0 "):
            raise ResultsError(f"{source}: lacks {keyword}; no DICOM is written for it")
    return found


def _raw_values(stream: BinaryIO) -> dict[str, bytes]:
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword

    tags = {
        keyword: tag_for_keyword(keyword) for keyword in (_CHARACTER_SET, *_IDENTITY, *_REFERENCES)
    }
    header = dcmread(
        stream,
        stop_before_pixels=True,
        force=True,
        specific_tags=[tag for tag in tags.values() if tag is not None],
    )
    found: dict[str, bytes] = {}
    for keyword, tag in tags.items():
        if tag is None or tag not in header:
            continue
        value = header.get_item(tag).value
        if isinstance(value, bytes):
            found[keyword] = value
        elif value is not None:  # the character set, which pydicom has to know to go on
            values = [value] if isinstance(value, str) else value
            found[keyword] = "\\".join(values).encode("ascii")
    return found


def _finished(made: Any, identity: dict[str, bytes]) -> DicomObject:
    """The object with the source's own elements, as a file."""
    for keyword in _IDENTITY:
        if keyword in identity:
            element = _raw(keyword, identity[keyword])
            made[element.tag] = element
        elif keyword in made and keyword not in _MAY_BE_EMPTY:
            del made[keyword]
    _refer(made, identity)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    content = stream.getvalue()
    if _CHARACTER_SET in identity:
        content = _with_character_set(content, identity[_CHARACTER_SET])
    return DicomObject(
        content=content,
        sop_class_uid=str(made.SOPClassUID),
        sop_instance_uid=str(made.SOPInstanceUID),
        transfer_syntax_uid=str(made.file_meta.TransferSyntaxUID),
    )


def _with_character_set(content: bytes, value: bytes) -> bytes:
    """Put the source's character set before the dataset, whose first element it is.

    Not through pydicom, which would decode the source's text and encode it anew. All that we say
    ourselves is ASCII, which every character set holds.
    """
    meta = 128 + 4 + 12  # preamble, mark and group length (PS3.10, 7.1)
    start = meta + int.from_bytes(content[meta - 4 : meta], "little")
    value += b" " * (len(value) % 2)
    header = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", len(value))
    return content[:start] + header + value + content[start:]


def _refer(dataset: Any, identity: dict[str, bytes]) -> None:
    """Put the source's UIDs in place of the placeholder's, through the whole tree."""
    placeholder = _placeholder()
    real = {str(placeholder[keyword].value): identity[keyword] for keyword in _REFERENCES}
    # As read from a file of this encoding: raw elements are then written as they are.
    dataset.set_original_encoding(False, True, "iso8859")
    own = ("SOPClassUID", "SOPInstanceUID")  # of the object that was made
    for element in [one for one in dataset.elements() if not one.is_raw]:
        if element.VR == "SQ":
            for item in element.value:
                _refer(item, identity)
        elif element.VR == "UI" and element.keyword not in own and element.value in real:
            dataset[element.tag] = _raw(element.keyword, real[element.value])


def _raw(keyword: str, value: bytes) -> Any:
    """An element of these very bytes, padded to an even length (PS3.5, 6.2)."""
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    tag = Tag(keyword)
    vr = dictionary_VR(tag)
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    return RawDataElement(tag, vr, len(value), value, 0, False, True)


def _lacking(source: Path, error: Exception) -> ResultsError:
    """Without the error's text, which may hold the patient's data."""
    return ResultsError(
        f"{source}: lacks what a DICOM result needs of its study ({type(error).__name__}); "
        "no DICOM is written for it"
    )
