"""DICOM to grey pixels, in the order that the standard gives (PS3.3 C.11 and C.7.6.3).

Modality LUT, then VOI LUT or window, then presentation. Each step is a function of the stored
value alone, so they are worked out once on every value that a pixel can hold, and the picture is
looked up in that table. Needs the extra ``dicom``; this module imports without it, so that the
error can name the remedy.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
import zlib
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError, TooLargeError, UnreadableError
from .headers import codestream_shape, jpeg_scans
from .picture import Picture, every_value, look_up, scale, to_grey
from .tags import AcquisitionTags

if TYPE_CHECKING:
    from .reading import Limits

_PREAMBLE = 128
# A data set stored without preamble begins with group 0002 or 0008, little endian or big.
_HEADERLESS_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
#: Reads that a header may take, at least one for each element and sequence item: a radiograph's
#: takes a few thousand, and each costs memory.
_MAX_READS = 100_000
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_RAW_BYTES_PER_PIXEL = 4  # 16 bits of a picture, or 8 of each colour, and some

_ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")

# Group and element.
_PIXEL_DATA = 0x7FE0_0010
_META_GROUP = 0x0002


def has_mark(start: bytes) -> bool:
    """Whether a file's first bytes have DICOM's mark behind the preamble."""
    return start[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def begins_headerless(start: bytes) -> bool:
    """Whether the bytes begin like a DICOM data set stored without preamble and mark."""
    return start[:2] in _HEADERLESS_STARTS


def decode(stream: BinaryIO, name: str, limits: Limits) -> Picture:
    """Decode a DICOM file's one picture, bones bright, overlays left out.

    Raises
    ------
    UnreadableError
        Damaged, without pixels, with several frames (reason ``multi-frame``), or the extra
        ``dicom`` is not installed (reason ``dicom-not-installed``).
    TooLargeError
        The declared size is over the limit.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UnreadableError(
            f"{name}: reading DICOM needs pydicom; pip install 'xrayedge[dicom]'",
            reason="dicom-not-installed",
        ) from error
    try:
        with _quiet():
            dataset = _read(stream, name, limits)
            return Picture(_to_grey(dataset, name), name, _tags(dataset))
    except PictureError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    # pydicom and its decoders raise every kind on damaged files; pylibjpeg-rle panics, which is
    # no Exception.
    except BaseException as error:
        raise UnreadableError(
            f"{name}: the DICOM file is damaged or its encoding is not supported "
            f"({type(error).__name__})"
        ) from None


_DECODERS = ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle")
_thread = threading.local()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the decoders' warnings and log in this thread back: they quote the patient's data."""
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_DECODERS)})(\.|$)")
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in _DECODERS:
            logging.getLogger(name).addFilter(_let_pass)  # adds it once
    _thread.quiet = True
    try:
        yield
    finally:
        _thread.quiet = False


def _let_pass(_record: logging.LogRecord) -> bool:
    return not getattr(_thread, "quiet", False)


class _CountedStream:
    """A file that refuses to be read in too many pieces."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._reads = 0
        self.seek = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise UnreadableError(f"{self._name}: the DICOM header has too many elements")
        return self._stream.read(size)


def _read(stream: BinaryIO, name: str, limits: Limits) -> Any:
    """The header, checked, and then the pixel data."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset, read_partial, read_preamble
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    def at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
        return tag >= _PIXEL_DATA

    counted: Any = _CountedStream(stream, name)
    read_preamble(counted, force=True)
    meta = read_dataset(
        counted, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != _META_GROUP
    )
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        counted = _CountedStream(_inflate(stream, name, limits), name)
        dataset = read_dataset(counted, False, True, stop_when=at_pixels)
        dataset.file_meta = FileMetaDataset(meta)
    else:
        counted.seek(0)
        dataset = read_partial(counted, stop_when=at_pixels, force=True)
    _check_header(dataset, name, limits)
    implicit, little = map(bool, dataset.original_encoding)
    after: list[int] = []

    def beyond_pixels(tag: int, _vr: str | None, length: int) -> bool:
        if tag == _PIXEL_DATA and length != 0xFFFF_FFFF:
            _check_raw(length, name, limits)
        after.append(tag)
        return len(after) > 1

    dataset.update(read_dataset(counted, implicit, little, stop_when=beyond_pixels))
    if "PixelData" not in dataset:
        raise UnreadableError(f"{name}: the DICOM file holds no picture")
    if "TransferSyntaxUID" not in dataset.file_meta:
        if implicit:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        else:
            plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = plain
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_codestream(dataset, name, limits)
        # Always the same decoders, whatever else is installed; pydicom's own for RLE decodes
        # without end what says so.
        dataset.pixel_array_options(decoding_plugin="pylibjpeg")
    return dataset


def _inflate(stream: BinaryIO, name: str, limits: Limits) -> BinaryIO:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    most = _RAW_BYTES_PER_PIXEL * limits.max_pixels
    inflated = inflater.decompress(stream.read(), most + 1)
    _check_raw(len(inflated), name, limits)
    return io.BytesIO(inflated)


def _check_raw(size: int, name: str, limits: Limits) -> None:
    if size > _RAW_BYTES_PER_PIXEL * limits.max_pixels:
        raise TooLargeError(
            f"{name}: more than {_RAW_BYTES_PER_PIXEL} bytes for each of {limits.max_pixels} "
            "pixels; export a smaller picture or raise Limits.max_pixels"
        )


def _check_header(dataset: Any, name: str, limits: Limits) -> None:
    if "Rows" not in dataset or "Columns" not in dataset:
        raise UnreadableError(f"{name}: the DICOM file holds no picture")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    limits.check_pixels(columns, rows, name)
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise UnreadableError(
            f"{name}: several frames; screen one frame at a time", reason="multi-frame"
        )
    allocated = int(dataset.BitsAllocated)
    if rows < 1 or columns < 1 or allocated not in (1, 8, 16):
        raise UnreadableError(
            f"{name}: {columns} x {rows} pixels of {allocated} bits; "
            "pictures of 8 to 16 bits are read"
        )
    photometric = dataset.PhotometricInterpretation
    if dataset.SamplesPerPixel == 1 and photometric not in _ONE_SAMPLE:
        raise UnreadableError(f"{name}: unknown photometric interpretation; export it again")


def _check_codestream(dataset: Any, name: str, limits: Limits) -> None:
    """Compressed data say their size again, and a decoder believes them and not the header."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    if dataset.file_meta.TransferSyntaxUID == RLELossless:  # does not say it again
        return
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if codestream_shape(frame) != (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel):
        raise UnreadableError(
            f"{name}: the compressed picture is damaged or of another size than the header's"
        )
    limits.check_scans(jpeg_scans(frame), dataset.Columns, dataset.Rows, name)


def _to_grey(dataset: Any, name: str) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut

    pixels = dataset.pixel_array
    photometric = dataset.get("PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        return to_grey(apply_color_lut(pixels, dataset), name)
    if pixels.ndim == 3:
        return to_grey(pixels, name)
    if pixels.ndim != 2 or pixels.dtype.itemsize > 2:
        raise UnreadableError(f"{name}: the DICOM file does not hold one grey picture")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    stored = _stored_values(every_value(pixels.dtype), dataset)
    padding = _is_padding(stored, dataset)
    present = np.zeros(stored.shape, bool)
    present[pixels.view(f"u{pixels.dtype.itemsize}").ravel()] = True
    table = _display(stored, present & ~padding, dataset)
    if photometric == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        table = 255 - table  # PS3.3 C.7.6.3.1.2 and C.11.6: low values are shown bright
    table[padding] = 0
    return look_up(pixels, table)


def _stored_values(cells: NDArray[Any], dataset: Any) -> NDArray[np.int64]:
    """The value in the stored bits of each cell; old overlays live in the others."""
    bits = int(dataset.BitsStored)
    values = cells.astype(np.int64) & ((1 << bits) - 1)
    if int(dataset.get("PixelRepresentation") or 0) == 1:
        values = np.where(values >> (bits - 1) == 1, values - (1 << bits), values)
    return values


def _is_padding(stored: NDArray[np.int64], dataset: Any) -> NDArray[np.bool_]:
    """PS3.3 C.7.5.1.1.2: one value, or all up to a limit on either side."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _display(
    stored: NDArray[np.int64], present: NDArray[np.bool_], dataset: Any
) -> NDArray[np.uint8]:
    """Modality LUT and VOI LUT of stored values, 0 to 255.

    With a VOI LUT or a window the display's range is theirs; without, it is that of the values
    that are ``present``.
    """
    from pydicom.dataset import Dataset
    from pydicom.pixels.processing import apply_windowing

    if dataset.get("ModalityLUTSequence"):
        values: NDArray[Any] = _apply_lut(stored, dataset.ModalityLUTSequence[0], dataset)[0]
    else:
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        values = stored * (1.0 if slope is None else float(slope)) + float(intercept or 0.0)
    if dataset.get("VOILUTSequence"):
        looked_up, bits = _apply_lut(np.rint(values), dataset.VOILUTSequence[0], dataset)
        return scale(looked_up, 0.0, 2.0**bits - 1.0)
    window = _window(dataset)
    if window is not None:
        # pydicom gives the range of the stored bits: here those of a display.
        display = Dataset()
        display.PhotometricInterpretation = "MONOCHROME2"
        display.BitsStored, display.PixelRepresentation = 8, 0
        display.WindowCenter, display.WindowWidth, display.VOILUTFunction = window
        return np.asarray(np.rint(apply_windowing(values, display)), np.uint8)
    seen = values[present] if present.any() else values[:1]
    if not np.isfinite(seen).all():
        raise ValueError("the modality LUT gives infinite values")
    return scale(values, float(seen.min()), float(seen.max()))


def _apply_lut(values: NDArray[Any], item: Any, dataset: Any) -> tuple[NDArray[np.float64], int]:
    """Look values up in a LUT (PS3.3 C.11.1 and C.11.2): the entries, and their declared bits.

    By hand, since pydicom 3.0 wraps values over 255 where entries have 8 bits, and refuses
    entries of 10 to 12 bits in a modality LUT, which units write.
    """
    entries, first, bits = map(int, item.LUTDescriptor)
    entries = entries or 1 << 16
    if first >= 1 << 15 and int(dataset.get("PixelRepresentation") or 0) == 1:
        first -= 1 << 16  # signed, but read as unsigned
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        one_byte = len(data) in (entries, entries + 1) and entries > 1
        table = np.frombuffer(data, "u1" if one_byte else f"{order}u2")
    else:
        table = np.asarray(data).astype(np.uint16)
    table = table.ravel()[:entries]
    if len(table) != entries or not 1 <= bits <= 16:
        raise ValueError("the LUT is not as long as it says")
    index = np.clip(values - first, 0, entries - 1).astype(np.int64)
    return table[index].astype(np.float64), bits


def _window(dataset: Any) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, if the file has one that can be applied."""
    centre, width = (
        value[0] if isinstance(value, MutableSequence) else value
        for value in (dataset.get("WindowCenter"), dataset.get("WindowWidth"))
    )
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    least = 1.0 if function == "LINEAR" else np.finfo(float).tiny
    if not np.isfinite(float(centre)) or not least <= float(width) < np.inf:
        return None
    return float(centre), float(width), function


def _tags(dataset: Any) -> AcquisitionTags:
    return AcquisitionTags(
        *(_code(dataset.get(key)) for key in ("Modality", "BodyPartExamined", "ViewPosition"))
    )


def _code(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) and _CODE.fullmatch(value) else None
