"""What the headers of raster files and codestreams declare, before any pixel is decoded.

Each is gone through in a bounded number of steps, whatever the file's length.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
BMP_MAGIC = b"BM"
TIFF_MAGICS = {b"II*\x00": "<", b"MM\x00*": ">"}

#: Chunks of a PNG: libpng writes 8 kB in each, so 100 megapixels of 16 bits have 25,000.
_MAX_CHUNKS = 50_000
#: Marker segments ahead of a JPEG's frame: a colour profile of 16 MB has 256.
_MAX_SEGMENTS = 2_000

# TIFF 6.0, section 8, and the tags of its sections 15 and 19.
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS = 256, 257, 258
_TIFF_COMPRESSION, _TIFF_PHOTOMETRIC = 259, 262
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323
_TIFF_SAMPLE_FORMAT = 339
_TIFF_SHORT, _TIFF_LONG = 3, 4
_TIFF_READABLE_BITS = (1, 4, 8, 16)
_TIFF_SIGNED = 2
_TIFF_WHITE_IS_ZERO = 0
#: None, LZW, Deflate under its two numbers, PackBits: other codecs would bring their own holes.
_TIFF_COMPRESSIONS = (1, 5, 8, 32_946, 32_773)
#: A tile may be larger than a small image, not than a large one: a decoder makes room for it.
_TIFF_TILE_PIXELS = 1 << 20

# Start-of-frame markers of JPEG (ITU-T T.81, table B.1): C0-CF but for C4, C8 and CC; and
# JPEG-LS' (ITU-T T.87).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_JPEG_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_JPEG_SCAN = b"\xff\xda"
_JPEG_STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}
_JPEG_ADOBE = 0xEE
_FILL = re.compile(rb"\xff*")
_JPEG2000_START = b"\xff\x4f\xff\x51"
_JP2_BOX = b"jP  "


@dataclass(frozen=True)
class RasterHeader:
    """What a raster file declares.

    Parameters
    ----------
    width, height
        In pixels.
    fault
        Why the file is not decoded, where that is already clear.
    pages
        Images in the file; more than one says no more than that.
    inverted
        Whether the decoder gives dark for bright: it leaves that to its caller for 16 bits.
    """

    width: int
    height: int
    fault: str | None = None
    pages: int = 1
    inverted: bool = False


@dataclass(frozen=True)
class Codestream:
    """What a JPEG, JPEG-LS or JPEG 2000 stream declares.

    Parameters
    ----------
    width, height, components
        Of the whole image.
    bits
        Of a component, in a JPEG or JPEG-LS.
    lossless
        Whether it is a JPEG without discrete cosine transform.
    adobe_transform
        Colour transform of Adobe's marker (ITU-T T.872, 6.5.3): 0 none, 1 YCbCr.
    """

    width: int
    height: int
    components: int
    bits: int | None = None
    lossless: bool = False
    adobe_transform: int | None = None


def is_raster(data: bytes) -> bool:
    """Whether the bytes begin like a PNG, JPEG, BMP or TIFF file."""
    return data.startswith((PNG_MAGIC, JPEG_MAGIC, BMP_MAGIC)) or data[:4] in TIFF_MAGICS


def raster_header(data: bytes) -> RasterHeader | None:
    """The header of a raster file; ``None`` where it is damaged."""
    try:
        if data.startswith(PNG_MAGIC):
            width, height = struct.unpack(">II", data[16:24])
            return RasterHeader(width, height, fault=_png_fault(data))
        if data.startswith(JPEG_MAGIC):
            stream = _jpeg(data)
            return RasterHeader(stream.width, stream.height) if stream else None
        if data.startswith(BMP_MAGIC):
            width, height = struct.unpack("<ii", data[18:26])
            return RasterHeader(abs(width), abs(height))
        if data[:4] in TIFF_MAGICS:
            return _tiff(data, TIFF_MAGICS[data[:4]])
    except (struct.error, IndexError):
        return None
    return None


def codestream(data: bytes) -> Codestream | None:
    """The header of a JPEG, JPEG-LS or JPEG 2000 stream; ``None`` where it is damaged."""
    try:
        if data[4:8] == _JP2_BOX:
            data = data[data.index(_JPEG2000_START) :]
        if data.startswith(_JPEG2000_START):
            # ITU-T T.800, A.5.1: size and offset of the reference grid, and Csiz.
            right, bottom, left, top = struct.unpack(">IIII", data[8:24])
            (components,) = struct.unpack(">H", data[40:42])
            return Codestream(right - left, bottom - top, components)
        return _jpeg(data) if data.startswith(JPEG_MAGIC) else None
    except (struct.error, IndexError, ValueError):
        return None


def jpeg_scans(data: bytes) -> int:
    """How often a JPEG decoder goes over the image, at most; 1 for other files."""
    return max(1, data.count(_JPEG_SCAN)) if data.startswith(JPEG_MAGIC) else 1


def _png_fault(data: bytes) -> str | None:
    """Why a PNG is no still image whose chunks fit into the file.

    A decoder makes room for a chunk of the length that is declared.
    """
    position = len(PNG_MAGIC)
    for number in range(_MAX_CHUNKS):
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        position += length + 12
        if position > len(data) or not kind.isalpha() or (kind == b"IHDR") != (number == 0):
            return "cut off or damaged"
        if kind == b"fcTL":
            return "an animation"
        if kind == b"IEND":
            return None
    return "cut into too many chunks"


def _jpeg(data: bytes) -> Codestream | None:
    position = 2
    adobe: int | None = None
    for _ in range(_MAX_SEGMENTS):
        if data[position] != 0xFF:
            return None
        fill = _FILL.match(data, position)
        assert fill is not None
        position = fill.end()
        marker = data[position]
        if marker in _JPEG_STANDALONE:
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 1)
        if length < 2:
            return None
        if marker in _JPEG_FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", data, position + 3)
            return Codestream(width, height, components, bits, marker in _JPEG_LOSSLESS, adobe)
        segment = data[position + 3 : position + 1 + length]
        if marker == _JPEG_ADOBE and segment.startswith(b"Adobe") and len(segment) >= 12:
            adobe = segment[11]
        position += 1 + length
    return None


def _tiff(data: bytes, order: str) -> RasterHeader | None:
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    found: dict[int, int] = {}
    for index in range(entries):
        start = directory + 2 + 12 * index
        tag, kind, count = struct.unpack_from(order + "HHI", data, start)
        if kind in (_TIFF_SHORT, _TIFF_LONG):
            code, length = ("H", 2) if kind == _TIFF_SHORT else ("I", 4)
            place = start + 8
            if count * length > 4:
                (place,) = struct.unpack_from(order + "I", data, place)
            if place + length <= len(data):
                (found[tag],) = struct.unpack_from(order + code, data, place)
    if _TIFF_WIDTH not in found or _TIFF_HEIGHT not in found:
        return None
    width, height = found[_TIFF_WIDTH], found[_TIFF_HEIGHT]
    bits = found.get(_TIFF_BITS, 1)
    tile = found.get(_TIFF_TILE_WIDTH, 0) * found.get(_TIFF_TILE_HEIGHT, 0)
    if tile > max(_TIFF_TILE_PIXELS, 2 * width * height) or bits not in _TIFF_READABLE_BITS:
        return None
    fault = None
    if found.get(_TIFF_COMPRESSION, 1) not in _TIFF_COMPRESSIONS:
        fault = "compressed in a way that is not read in a TIFF"
    # A reduced copy or a mask is a page as well; which one is the radiograph can't be told.
    after = directory + 2 + 12 * entries
    following = data[after : after + 4]
    raw = bits == 16 or found.get(_TIFF_SAMPLE_FORMAT) == _TIFF_SIGNED
    return RasterHeader(
        width,
        height,
        fault=fault,
        pages=2 if len(following) == 4 and any(following) else 1,
        inverted=raw and found.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO,
    )
