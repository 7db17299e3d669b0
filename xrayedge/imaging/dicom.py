"""DICOM to grey pixels, in the order that the standard gives (PS3.3 C.11 and C.7.6.3).

Modality LUT, then VOI LUT or window, then the photometric interpretation. Needs the extra
``dicom``; this module imports without it, so that the error can name the remedy.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError, UnreadableError
from .picture import scale_to_bytes, to_grey

if TYPE_CHECKING:
    from .reading import Limits

_PREAMBLE = 128
# A data set stored without preamble begins with group 0002 or 0008, little endian.
_HEADERLESS_STARTS = (b"\x02\x00", b"\x08\x00")


def has_mark(data: bytes) -> bool:
    """Whether the bytes have DICOM's mark behind the preamble."""
    return data[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def begins_headerless(data: bytes) -> bool:
    """Whether the bytes begin like a DICOM data set stored without preamble and mark."""
    return data[:2] in _HEADERLESS_STARTS


def decode(data: bytes, name: str, limits: Limits) -> NDArray[np.uint8]:
    """Decode a DICOM file's one picture to ``uint8 [H, W]``, bones bright.

    Raises
    ------
    UnreadableError
        Damaged, without pixels, with several frames (reason ``multi-frame``), or the extra
        ``dicom`` is not installed (reason ``dicom-not-installed``).
    TooLargeError
        The declared size is over the limit.
    """
    try:
        import pydicom
    except ImportError as error:
        raise UnreadableError(
            f"{name}: reading DICOM needs pydicom; pip install 'xrayedge[dicom]'",
            reason="dicom-not-installed",
        ) from error
    # pydicom's warnings quote values of the file, which may be the patient's.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            return _to_grey(dataset, name, limits)
        except PictureError:
            raise
        except Exception as error:  # pydicom and its decoders raise every kind on damaged files
            raise UnreadableError(
                f"{name}: the DICOM file is damaged or its encoding is not supported "
                f"({type(error).__name__})"
            ) from None


def _to_grey(dataset: Any, name: str, limits: Limits) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
    from pydicom.uid import ImplicitVRLittleEndian

    if "PixelData" not in dataset:
        raise UnreadableError(f"{name}: the DICOM file holds no picture")
    limits.check_pixels(int(dataset.Columns), int(dataset.Rows), name)
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnreadableError(
            f"{name}: several frames; screen one frame at a time", reason="multi-frame"
        )
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    pixels = dataset.pixel_array
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        return to_grey(pixels, name)
    values = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
    grey = scale_to_bytes(values, name)
    return 255 - grey if _is_inverted(dataset) else grey


def _is_inverted(dataset: Any) -> bool:
    """Whether low values are meant to be shown bright (PS3.3 C.7.6.3.1.2 and C.11.6)."""
    return bool(
        dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )
