"""Width and height out of the first bytes of a raster file, before any pixel is decoded."""

from __future__ import annotations

import struct

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
BMP_MAGIC = b"BM"
TIFF_MAGICS = {b"II*\x00": "<", b"MM\x00*": ">"}

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_SHORT, _TIFF_LONG = 3, 4
# Start-of-frame markers of JPEG (ITU-T T.81, table B.1): C0-CF but for C4, C8 and CC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}


def is_raster(data: bytes) -> bool:
    """Whether the bytes begin like a PNG, JPEG, BMP or TIFF file."""
    return data.startswith((PNG_MAGIC, JPEG_MAGIC, BMP_MAGIC)) or data[:4] in TIFF_MAGICS


def raster_size(data: bytes) -> tuple[int, int] | None:
    """``(width, height)`` as declared by the header; ``None`` where the header is damaged."""
    try:
        if data.startswith(PNG_MAGIC):
            width, height = struct.unpack(">II", data[16:24])
            return width, height
        if data.startswith(JPEG_MAGIC):
            return _jpeg_size(data)
        if data.startswith(BMP_MAGIC):
            width, height = struct.unpack("<ii", data[18:26])
            return abs(width), abs(height)
        if data[:4] in TIFF_MAGICS:
            return _tiff_size(data, TIFF_MAGICS[data[:4]])
    except (struct.error, IndexError):
        return None
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position < len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_STANDALONE:
            position += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        else:
            position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None


def _tiff_size(data: bytes, order: str) -> tuple[int, int] | None:
    (directory,) = struct.unpack(order + "I", data[4:8])
    (entries,) = struct.unpack(order + "H", data[directory : directory + 2])
    found: dict[int, int] = {}
    for index in range(entries):
        start = directory + 2 + 12 * index
        tag, kind, _count = struct.unpack(order + "HHI", data[start : start + 8])
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT) and kind in (_TIFF_SHORT, _TIFF_LONG):
            code, length = ("H", 2) if kind == _TIFF_SHORT else ("I", 4)
            (found[tag],) = struct.unpack(order + code, data[start + 8 : start + 8 + length])
    if _TIFF_WIDTH in found and _TIFF_HEIGHT in found:
        return found[_TIFF_WIDTH], found[_TIFF_HEIGHT]
    return None
