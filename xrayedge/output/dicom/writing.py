"""What the report and the capture share: their UIDs, and how they are written.

highdicom would interpret what is copied from the source. So it builds each object around a
`placeholder`, whose elements `finished` replaces by the source's bytes before it writes the object.
"""

from __future__ import annotations

import io
import struct
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ...errors import ResultsError
from ...result import Screening
from .source import CHARACTER_SET, IDENTITY, REFERENCES

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DISCLAIMER = "Research software, not a medical device. Must not be used for diagnosis."
MANUFACTURER = "xrayedge"
_LONG_STRING = 64  # characters of value representation LO (PS3.5, 6.2)
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
        ours = (placeholder().SOPClassUID, ComprehensiveSRStorage, SecondaryCaptureImageStorage)
        needed = {one["key"] for uid in ours for one in modules[kinds[str(uid)]]}
    except (ImportError, AttributeError, KeyError):  # a release that has other tables
        return
    for name in attributes.keys() - needed:
        del attributes[name]


class Uids:
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
        """The UID of a part of the object: its series, its instance, one of its findings."""
        return uid_of(*self._parts, what)


def uid_of(*parts: str) -> str:
    """The UID of these very parts: a version 5 UUID in decimal, after 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(_UID_SPACE, repr(parts)).int}"


def long_string(text: str) -> str:
    """As much of the text as a name, a code's meaning or a series' description holds."""
    return text[:_LONG_STRING]


# Reserved for examples of the standard (PS3.5, 9.1): in no file that a unit makes.
_PLACEHOLDERS = {name: f"1.2.840.999999.{number}" for number, name in enumerate(REFERENCES, 1)}


def placeholder() -> Dataset:
    """A source of nobody, which `finished` puts the real one in place of."""
    from pydicom.dataset import Dataset
    from pydicom.uid import ComputedRadiographyImageStorage

    source = Dataset()
    for keyword in IDENTITY:
        setattr(source, keyword, None)
    for keyword, value in _PLACEHOLDERS.items():
        setattr(source, keyword, value)
    # highdicom looks up which attributes this class has.
    source.SOPClassUID = ComputedRadiographyImageStorage
    source.Rows = source.Columns = 1
    source.Modality = "CR"
    return source


def finished(made: Any, identity: dict[str, bytes]) -> DicomObject:
    """The object with the source's own elements, as a file."""
    for keyword in IDENTITY:
        if keyword in identity:
            element = _raw(keyword, identity[keyword])
            made[element.tag] = element
        elif keyword in made and keyword not in _MAY_BE_EMPTY:
            del made[keyword]
    _refer(made, identity)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    content = stream.getvalue()
    if CHARACTER_SET in identity:
        content = _with_character_set(content, identity[CHARACTER_SET])
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
    stand_in = placeholder()
    real = {str(stand_in[keyword].value): identity[keyword] for keyword in REFERENCES}
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
