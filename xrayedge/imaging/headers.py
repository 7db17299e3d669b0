"""Width and height out of the first bytes of a raster file, before any pixel is decoded."""

from __future__ import annotations

import struct

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
BMP_MAGIC = b"BM"
TIFF_MAGICS = {b"II*\x00": "<", b"MM\x00*": ">"}

_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS = 256, 257, 258
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323
_TIFF_SHORT, _TIFF_LONG = 3, 4
_TIFF_READABLE_BITS = (1, 4, 8, 16)
#: A tile may be larger than a small picture, not than a large one: a decoder makes room for it.
_TIFF_TILE_PIXELS = 1 << 20
# Start-of-frame markers of JPEG (ITU-T T.81, table B.1): C0-CF but for C4, C8 and CC; and
# JPEG-LS' (ITU-T T.87).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_JPEG_SCAN = b"\xff\xda"
_JPEG2000_START = b"\xff\x4f\xff\x51"
_JP2_BOX = b"jP  "
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
            shape = _jpeg_shape(data)
            return shape[:2] if shape else None
        if data.startswith(BMP_MAGIC):
            width, height = struct.unpack("<ii", data[18:26])
            return abs(width), abs(height)
        if data[:4] in TIFF_MAGICS:
            return _tiff_size(data, TIFF_MAGICS[data[:4]])
    except (struct.error, IndexError):
        return None
    return None


def is_whole(data: bytes) -> bool:
    """Whether a PNG is a still one whose chunks fit into the file; true of other types.

    A decoder makes room for a chunk of the length that is declared.
    """
    if not data.startswith(PNG_MAGIC):
        return True
    position = len(PNG_MAGIC)
    chunks: list[bytes] = []
    while position + 12 <= len(data) and chunks[-1:] != [b"IEND"]:
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        position += length + 12
        chunks.append(kind)
    return (
        position <= len(data)
        and chunks[:1] == [b"IHDR"]
        and chunks[-1] == b"IEND"
        and chunks.count(b"IHDR") == 1
        and b"fcTL" not in chunks
    )


def codestream_shape(data: bytes) -> tuple[int, int, int] | None:
    """``(width, height, components)`` of a JPEG, JPEG-LS or JPEG 2000 stream.

    ``None`` where its header is damaged.
    """
    try:
        if data[4:8] == _JP2_BOX:
            data = data[data.index(_JPEG2000_START) :]
        if data.startswith(_JPEG2000_START):
            # ITU-T T.800, A.5.1: size and offset of the reference grid, and Csiz.
            right, bottom, left, top = struct.unpack(">IIII", data[8:24])
            (components,) = struct.unpack(">H", data[40:42])
            return right - left, bottom - top, components
        return _jpeg_shape(data) if data.startswith(JPEG_MAGIC) else None
    except (struct.error, IndexError, ValueError):
        return None


def jpeg_scans(data: bytes) -> int:
    """How often a JPEG decoder goes over the picture, at most; 1 for other files."""
    return max(1, data.count(_JPEG_SCAN)) if data.startswith(JPEG_MAGIC) else 1


def _jpeg_shape(data: bytes) -> tuple[int, int, int] | None:
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
            height, width, components = struct.unpack(">HHB", data[position + 5 : position + 10])
            return width, height, components
        else:
            position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None


def _tiff_size(data: bytes, order: str) -> tuple[int, int] | None:
    (directory,) = struct.unpack(order + "I", data[4:8])
    (entries,) = struct.unpack(order + "H", data[directory : directory + 2])
    found: dict[int, int] = {}
    for index in range(entries):
        start = directory + 2 + 12 * index
        tag, kind, count = struct.unpack(order + "HHI", data[start : start + 8])
        if kind in (_TIFF_SHORT, _TIFF_LONG):
            code, length = ("H", 2) if kind == _TIFF_SHORT else ("I", 4)
            place = start + 8
            if count * length > 4:
                (place,) = struct.unpack(order + "I", data[place : place + 4])
            value = data[place : place + length]
            if len(value) == length:
                (found[tag],) = struct.unpack(order + code, value)
    if _TIFF_WIDTH not in found or _TIFF_HEIGHT not in found:
        return None
    width, height = found[_TIFF_WIDTH], found[_TIFF_HEIGHT]
    tile = found.get(_TIFF_TILE_WIDTH, 0) * found.get(_TIFF_TILE_HEIGHT, 0)
    if tile > max(_TIFF_TILE_PIXELS, 2 * width * height):
        return None
    return (width, height) if found.get(_TIFF_BITS, 1) in _TIFF_READABLE_BITS else None
