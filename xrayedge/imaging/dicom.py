"""DICOM to grey pixels: check the header, decode the pixel data, apply the grey transforms.

Uncompressed and deflated files are read by the core install; compressed ones need the extra
``dicom`` (see `decoders`).
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableError
from . import decoders
from .decoders import DECODERS, Frame
from .display import WINDOW_FUNCTIONS, Display, Table, Window
from .elements import Element, Elements, Encoding
from .image import Image, look_up, scale, to_grey
from .limits import Limits
from .tags import AcquisitionTags

_PREAMBLE = 128
_MARK = b"DICM"
# A dataset stored without preamble begins with group 0002 or 0008, little endian or big.
_HEADERLESS_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_META_END = 0x0002_FFFF

_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _DEFLATED, _BIG_ENDIAN)

# Group and element (PS3.6).
_TRANSFER_SYNTAX = 0x0002_0010
_MODALITY, _BODY_PART, _VIEW_POSITION = 0x0008_0060, 0x0018_0015, 0x0018_5101
_SAMPLES, _PHOTOMETRIC, _PLANAR = 0x0028_0002, 0x0028_0004, 0x0028_0006
_FRAMES, _ROWS, _COLUMNS = 0x0028_0008, 0x0028_0010, 0x0028_0011
_BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT = 0x0028_0100, 0x0028_0101, 0x0028_0102
_REPRESENTATION = 0x0028_0103
_PADDING, _PADDING_LIMIT = 0x0028_0120, 0x0028_0121
_CENTRE, _WIDTH, _FUNCTION = 0x0028_1050, 0x0028_1051, 0x0028_1056
_INTERCEPT, _SLOPE = 0x0028_1052, 0x0028_1053
_MODALITY_LUTS, _VOI_LUTS = 0x0028_3000, 0x0028_3010
_LUT_DESCRIPTOR, _LUT_DATA = 0x0028_3002, 0x0028_3006
_PALETTE_DESCRIPTORS = (0x0028_1101, 0x0028_1102, 0x0028_1103)
_PALETTES = (0x0028_1201, 0x0028_1202, 0x0028_1203)
_SEGMENTED_PALETTES = (0x0028_1221, 0x0028_1222, 0x0028_1223)
_LUT_SHAPE = 0x2050_0020
_PIXEL_DATA = 0x7FE0_0010
_WANTED = frozenset(
    (
        *(_MODALITY, _BODY_PART, _VIEW_POSITION, _SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES, _ROWS),
        *(_COLUMNS, _BITS_ALLOCATED, _BITS_STORED, _HIGH_BIT, _REPRESENTATION, _PADDING),
        *(_PADDING_LIMIT, _CENTRE, _WIDTH, _FUNCTION, _INTERCEPT, _SLOPE, _MODALITY_LUTS),
        *(_VOI_LUTS, *_PALETTE_DESCRIPTORS, *_PALETTES, *_SEGMENTED_PALETTES, _LUT_SHAPE),
        _PIXEL_DATA,
    )
)

#: Bytes of a text or number that are looked at; the longest that is asked for has 64 (a UID).
_LONGEST_VALUE = 64
_UID = re.compile(r"[0-9.]+")
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

_GREY = ("MONOCHROME1", "MONOCHROME2")
_LUMA_FIRST = ("YBR_FULL", "YBR_FULL_422")
_COLOUR = ("RGB", "YBR_RCT", "YBR_ICT", *_LUMA_FIRST)


def has_mark(start: bytes) -> bool:
    """Whether a file's first bytes have DICOM's mark behind the preamble."""
    return start[_PREAMBLE : _PREAMBLE + len(_MARK)] == _MARK


def begins_headerless(start: bytes) -> bool:
    """Whether the bytes begin like a DICOM dataset stored without preamble and mark."""
    return start[:2] in _HEADERLESS_STARTS


def decode(data: bytes, name: str, limits: Limits, threads: int = 1) -> Image:
    """Decode a DICOM file's one image, bones bright, overlays left out.

    Raises
    ------
    UnreadableError
        Damaged, without pixels, with several frames (reason ``multi-frame``), or compressed and
        the extra ``dicom`` is not installed (reason ``dicom-not-installed``).
    TooLargeError
        The declared size is over the limit.
    """
    header = _read(data, name, limits)
    frame = _frame(header, limits)
    pixels = _pixels(header, frame, limits, threads)
    if frame.photometric in _GREY:
        display = _display(header, frame)
        try:
            grey = display.apply(pixels)
        except ValueError as error:
            raise header.unreadable(str(error)) from None
    elif frame.photometric == "PALETTE COLOR":
        grey = look_up(pixels, _palette(header, pixels.dtype))
    elif frame.photometric in _LUMA_FIRST:
        grey = to_grey(pixels[:, :, 0], name)
    else:
        grey = to_grey(pixels, name)
    return Image(grey, name, _tags(header))


@dataclass(frozen=True)
class _Header:
    """The elements that are needed, and their values where those are short and single."""

    elements: Elements
    found: dict[int, Element]
    syntax: str
    order: str

    def __contains__(self, tag: int) -> bool:
        return tag in self.found

    def unreadable(self, what: str, reason: str | None = None) -> UnreadableError:
        return UnreadableError(f"{self.elements.name}: {what}", reason=reason)

    def raw(self, tag: int) -> bytes:
        """The bytes of a value, empty where it is missing."""
        one = self.found.get(tag)
        return self.elements.data[one.start : one.end] if one else b""

    def cells(self, tag: int, bits: int) -> NDArray[Any]:
        """A value as an array, not copied: ``uint8 [N]`` of its bytes, in the order stored.

        In big endian words two cells of 8 bits change places (PS3.5, 8.1.2).
        """
        one = self.found[tag]
        raw = np.frombuffer(self.elements.data, np.uint8, one.end - one.start, one.start)
        if bits > 8 or one.vr != b"OW" or one.encoding.order == "<":
            return raw
        return np.frombuffer(raw[: len(raw) // 2 * 2].view("<u2").byteswap().tobytes(), np.uint8)

    def _short(self, tag: int) -> bytes:
        one = self.found.get(tag)
        if one is not None and one.end - one.start > _LONGEST_VALUE:
            raise self.unreadable(f"the header's element {_written(tag)} is too long")
        return self.raw(tag)

    def integer(self, tag: int, default: int | None = None, *, signed: bool = False) -> int | None:
        """One binary number of 16 bits."""
        raw = self._short(tag)
        if not raw:
            return default
        if len(raw) != 2:
            raise self.unreadable(f"the header's element {_written(tag)} is not one number")
        (value,) = struct.unpack(self.order + ("h" if signed else "H"), raw)
        return int(value)

    def text(self, tag: int) -> str:
        """A code, without the spaces and zeros that fill it up."""
        return self._short(tag).decode("latin-1").strip(" \0")

    def decimal(self, tag: int, default: float | None = None) -> float | None:
        """One number written as text."""
        return self._decimal(tag, self.text(tag), default)

    def first_decimal(self, tag: int) -> float | None:
        """The first of several."""
        one = self.found.get(tag)
        if one is None:
            return None
        start = self.elements.data[one.start : min(one.end, one.start + _LONGEST_VALUE)]
        return self._decimal(tag, start.decode("latin-1").split("\\")[0].strip(" \0"), None)

    def _decimal(self, tag: int, text: str, default: float | None) -> float | None:
        if not text:
            return default
        if not _DECIMAL.fullmatch(text):
            raise self.unreadable(f"the header's element {_written(tag)} is not one number")
        return float(text)


def _written(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _read(data: bytes, name: str, limits: Limits) -> _Header:
    """Find the elements, up to the pixel data."""
    elements = Elements(data, name)
    start = _PREAMBLE + len(_MARK) if has_mark(data) else 0
    meta, position = elements.find(
        (_TRANSFER_SYNTAX,), start, len(data), Encoding(True, "<"), last=_META_END
    )
    syntax = _Header(elements, meta, "", "<").text(_TRANSFER_SYNTAX)
    if syntax == _DEFLATED:
        elements = Elements(_inflate(data, position, name, limits), name)
        position = 0
    begin = elements.data[position : position + 2]
    order = ">" if syntax == _BIG_ENDIAN or (not syntax and begin == b"\x00\x08") else "<"
    encoding = elements.encoding(position, order)
    found, _ = elements.find(_WANTED, position, len(elements.data), encoding, last=_PIXEL_DATA)
    header = _Header(elements, found, syntax or _UNCOMPRESSED[0], order)
    if _PIXEL_DATA not in header or _ROWS not in header or _COLUMNS not in header:
        raise header.unreadable("the DICOM file holds no image")
    if header.syntax not in (*_UNCOMPRESSED, *DECODERS):
        known = syntax if _UID.fullmatch(syntax) else "unknown"
        raise header.unreadable(
            f"transfer syntax {known} is not read; export it as Explicit VR Little Endian"
        )
    return header


def _inflate(data: bytes, position: int, name: str, limits: Limits) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(memoryview(data)[position:], limits.max_stored + 1)
    except zlib.error:
        raise UnreadableError(f"{name}: the DICOM file is damaged") from None
    limits.check_stored(len(inflated), name)
    return inflated


def _frame(header: _Header, limits: Limits) -> Frame:
    """What the header says of the pixels, checked."""
    rows, columns = header.integer(_ROWS, 0) or 0, header.integer(_COLUMNS, 0) or 0
    limits.check_pixels(columns, rows, header.elements.name)
    if (header.decimal(_FRAMES, 1.0) or 1.0) > 1:
        raise header.unreadable("several frames; screen one frame at a time", "multi-frame")
    allocated = header.integer(_BITS_ALLOCATED) or 0
    if rows < 1 or columns < 1 or allocated not in (1, 8, 16):
        raise header.unreadable(
            f"{columns} x {rows} pixels of {allocated} bits; images of 8 to 16 bits are read"
        )
    stored = header.integer(_BITS_STORED, allocated) or 0
    high = header.integer(_HIGH_BIT, stored - 1)
    if not 1 <= stored <= allocated or high != stored - 1:  # PS3.5, 8.1.1
        raise header.unreadable(
            f"{stored} bits stored in {allocated} up to bit {high} contradict each other"
        )
    samples = header.integer(_SAMPLES, 1) or 0
    photometric = header.text(_PHOTOMETRIC)
    grey = samples == 1 and photometric in (*_GREY, "PALETTE COLOR")
    if not grey and not (samples == 3 and photometric in _COLOUR and allocated > 1):
        raise header.unreadable("unknown photometric interpretation; export it again")
    return Frame(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        by_plane=header.integer(_PLANAR) == 1,
        allocated=allocated,
        stored=stored,
        signed=header.integer(_REPRESENTATION) == 1,
    )


def _pixels(header: _Header, frame: Frame, limits: Limits, threads: int) -> NDArray[Any]:
    """The cells as they are stored, ``uint8|uint16``, ``[H, W]`` or ``[H, W, 3]``."""
    name = header.elements.name
    element = header.found[_PIXEL_DATA]
    if header.syntax in DECODERS:
        if not element.delimited:
            raise header.unreadable("the compressed image is not encapsulated")
        stream = header.elements.fragments(element)
        pixels = decoders.decode(stream, header.syntax, frame, name, limits, threads)
        return pixels.view(f"u{pixels.itemsize}") if frame.samples == 1 else pixels
    if element.delimited:
        raise header.unreadable("the file is compressed, and its header says that it is not")
    limits.check_stored(element.end - element.start, name)
    count = frame.rows * frame.columns
    raw = header.cells(_PIXEL_DATA, frame.allocated)
    if frame.allocated == 1:  # PS3.5, 8.1.1: the first pixel in the lowest bit
        bits = np.unpackbits(_cut(raw, (count + 7) // 8, header), bitorder="little")
        return bits[:count].reshape(frame.shape)
    if frame.photometric == "YBR_FULL_422":  # PS3.3 C.7.6.3.1.2: Y, Y, Cb, Cr of two pixels
        if frame.columns % 2 or frame.allocated != 8:
            raise header.unreadable(
                f"colour halved across needs an even number of columns of 8 bits, not "
                f"{frame.columns} of {frame.allocated}"
            )
        pairs = _cut(raw, 2 * count, header).reshape(frame.rows, -1, 4)
        luma = pairs[:, :, :2].reshape(frame.rows, -1)
        return luma[:, :, np.newaxis]
    size = frame.allocated // 8
    cells = _cut(raw, count * frame.samples * size, header).view(f"{header.order}u{size}")
    native = cells.astype(f"=u{size}", copy=False)
    if frame.samples > 1 and frame.by_plane:
        planes = native.reshape(frame.samples, frame.rows, frame.columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return native.reshape(frame.shape)


def _cut(raw: NDArray[np.uint8], length: int, header: _Header) -> NDArray[np.uint8]:
    if len(raw) < length:
        raise header.unreadable("the DICOM file is damaged or cut off")
    return raw[:length]


def _display(header: _Header, frame: Frame) -> Display:
    tables = {tag: _table(header, tag, frame.signed) for tag in (_MODALITY_LUTS, _VOI_LUTS)}
    slope, intercept = header.decimal(_SLOPE, 1.0), header.decimal(_INTERCEPT, 0.0)
    assert slope is not None
    assert intercept is not None
    return Display(
        stored=frame.stored,
        signed=frame.signed,
        padding=_padding(header, frame),
        modality=tables[_MODALITY_LUTS] or (slope, intercept),
        voi=tables[_VOI_LUTS] or _window(header),
        # PS3.3 C.7.6.3.1.2 and C.11.6: low values are shown bright.
        inverted=frame.photometric == "MONOCHROME1" or header.text(_LUT_SHAPE) == "INVERSE",
    )


def _padding(header: _Header, frame: Frame) -> tuple[int, int] | None:
    """One value, or all up to a limit on either side; some write signed ones as unsigned."""
    value = header.integer(_PADDING, signed=frame.signed)
    if value is None:
        return None
    limit = header.integer(_PADDING_LIMIT, value, signed=frame.signed)
    assert limit is not None
    return min(value, limit), max(value, limit)


def _window(header: _Header) -> Window | None:
    """The first window, if the file has one that can be applied."""
    centre, width = header.first_decimal(_CENTRE), header.first_decimal(_WIDTH)
    if centre is None or width is None:
        return None
    function = header.text(_FUNCTION).upper() or "LINEAR"
    if function not in WINDOW_FUNCTIONS:
        raise header.unreadable("unknown window function; export it again")
    least = 1.0 if function == "LINEAR" else np.finfo(float).tiny
    if not np.isfinite(centre) or not least <= width < np.inf:
        return None
    return Window(centre, width, function)


def _table(header: _Header, sequence: int, signed: bool) -> Table | None:
    """The first lookup table of a sequence.

    Entries of any bits, whose lists pydicom 3.0 refuses or wraps: units write 10 and 12.
    """
    if sequence not in header:
        return None
    found = header.elements.first_item(header.found[sequence], (_LUT_DESCRIPTOR, _LUT_DATA))
    if not found:
        return None
    item = _Header(header.elements, found, header.syntax, header.order)
    return _lookup_table(item, _LUT_DESCRIPTOR, _LUT_DATA, signed)


def _lookup_table(header: _Header, descriptor: int, data: int, signed: bool) -> Table:
    raw = header.raw(descriptor)
    if len(raw) != 6:
        raise header.unreadable("a lookup table is not as long as it says")
    order = header.found[descriptor].encoding.order
    entries, first, bits = struct.unpack(order + "HHH", raw)
    entries = entries or 1 << 16
    if first >= 1 << 15 and (signed or header.found[descriptor].vr == b"SS"):
        first -= 1 << 16
    length = len(header.raw(data))
    size = 1 if length in (entries, entries + 1) and entries > 1 else 2
    if length < size * entries or not 1 <= bits <= 16:
        raise header.unreadable("a lookup table is not as long as it says")
    content = header.cells(data, 8 * size)[: size * entries]
    return Table(content.view(f"{order}u{size}"), first, bits)


def _palette(header: _Header, cells: np.dtype[Any]) -> NDArray[np.uint8]:
    """Grey of every value of a cell, by the three tables of a palette (PS3.3 C.7.9)."""
    if any(tag in header for tag in _SEGMENTED_PALETTES):
        # Segments that refer to each other expand without end, and no radiograph has them.
        raise header.unreadable("a palette in segments is not read; export it in grey")
    colours = [
        _lookup_table(header, *tags, signed=False)
        for tags in zip(_PALETTE_DESCRIPTORS, _PALETTES, strict=True)
    ]
    every = np.arange(1 << 8 * cells.itemsize)
    top = 2.0 ** colours[0].bits - 1.0
    parts = [scale(colour(every), 0.0, top) for colour in colours]
    (grey,) = to_grey(np.stack(parts, axis=-1)[np.newaxis], header.elements.name)
    return np.asarray(grey, np.uint8)


def _tags(header: _Header) -> AcquisitionTags:
    return AcquisitionTags(*(_code(header, tag) for tag in (_MODALITY, _BODY_PART, _VIEW_POSITION)))


def _code(header: _Header, tag: int) -> str | None:
    raw = header.raw(tag)
    text = raw.decode("latin-1").rstrip("\0") if len(raw) <= _LONGEST_VALUE else ""
    return text.strip() or None if _CODE.fullmatch(text) else None
