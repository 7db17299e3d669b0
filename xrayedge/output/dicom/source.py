"""What an object copies from its source, the image that was screened: patient, study, UIDs.

Copied as the bytes that came, never interpreted: an odd identifier or character set is left to the
archive, and can't be garbled, blanked or logged here.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ...errors import ResultsError
from ...result import Screening

CHARACTER_SET = "SpecificCharacterSet"
#: What is copied: patient, patient's study and study modules (PS3.3, C.7.1.1, C.7.2.2, C.7.2.1).
IDENTITY = (
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
#: What an object refers to its source by.
REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MAX_VALUE_BYTES = 10_240  # the maximum length of a text element (PS3.5, 6.2: LT)

# Of rejected images only: nothing in an unreadable file is trusted.
_NO_REPORT = ("unreadable", "too-large", "dicom-not-installed")


def identity_of(screening: Screening, source: Path) -> dict[str, bytes]:
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
        raise lacking(source, error) from None
    for keyword, value in found.items():
        if len(value) > _MAX_VALUE_BYTES:
            raise ResultsError(f"{source}: {keyword} is too long; no DICOM is written for it")
    for keyword in REFERENCES:
        if not found.get(keyword, b"").strip(b"\0 "):
            raise ResultsError(f"{source}: lacks {keyword}; no DICOM is written for it")
    return found


def _raw_values(stream: BinaryIO) -> dict[str, bytes]:
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword

    tags = {
        keyword: tag_for_keyword(keyword) for keyword in (CHARACTER_SET, *IDENTITY, *REFERENCES)
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


def lacking(source: Path, error: Exception) -> ResultsError:
    """What is raised for an error while an object is made.

    Without the error's text, which may hold the patient's data.
    """
    return ResultsError(
        f"{source}: lacks what a DICOM result needs of its study ({type(error).__name__}); "
        "no DICOM is written for it"
    )
