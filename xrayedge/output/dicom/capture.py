"""The overlay as Secondary Capture."""

from __future__ import annotations

from pathlib import Path

from ...result import Screening
from .source import identity_of, lacking
from .writing import (
    DISCLAIMER,
    MANUFACTURER,
    DicomObject,
    Uids,
    finished,
    long_string,
    placeholder,
)

_SERIES = 9902  # far from the series numbers of a unit, and not the reports'


def secondary_capture(screening: Screening, source: Path, *, revision: str = "") -> DicomObject:
    """The overlay of a screening made with ``heatmap=True``, as a colour Secondary Capture in JPEG.

    Parameters, result and errors as for `structured_report`.
    """
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset
    from pydicom.uid import JPEGBaseline8Bit

    if screening.heatmap is None:
        raise ValueError("screen with heatmap=True")
    identity = identity_of(screening, source)
    uids = Uids(identity, screening, "sc", revision)
    original = placeholder()
    try:
        capture = SCImage.from_ref_dataset(
            ref_dataset=original,
            pixel_array=screening.heatmap[:, :, ::-1].copy(),
            photometric_interpretation="YBR_FULL_422",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            series_instance_uid=uids.derive("series"),
            series_number=_SERIES,
            sop_instance_uid=uids.derive("instance"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            transfer_syntax_uid=JPEGBaseline8Bit,
        )
        reference = Dataset()
        reference.ReferencedSOPClassUID = original.SOPClassUID
        reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
        capture.SourceImageSequence = [reference]
        capture.BodyPartExamined = "CHEST"  # which the frontal check has seen
        capture.SeriesDescription = long_string(f"{MANUFACTURER} {screening.model}")
        capture.DerivationDescription = (
            f"Evidence for {screening.label} by {screening.model} {screening.version}. {DISCLAIMER}"
        )
        capture.BurnedInAnnotation = "NO"
        capture.LossyImageCompression = "01"
        capture["PixelData"].VR = "OB"  # encapsulated (PS3.5, A.4)
        capture.LossyImageCompressionMethod = "ISO_10918_1"
        ratio = screening.heatmap.nbytes / len(capture.PixelData)
        capture.LossyImageCompressionRatio = f"{ratio:.1f}"
        return finished(capture, identity)
    except (AttributeError, KeyError, LookupError, TypeError, ValueError) as error:
        raise lacking(source, error) from None
