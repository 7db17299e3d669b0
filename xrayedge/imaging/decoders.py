"""Decoders of compressed pixel data, one for each kind, all under permissive licences.

Which reads what, why these, and how fast: docs/dicom.md. Needs the extra ``dicom`` but for 8-bit
grey JPEG, which the core install's OpenCV decodes; imports without it, so that the error can name
the remedy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UnreadableError
from .headers import Codestream, codestream, jpeg_scans
from .limits import Limits
from .stderr import silenced

_YBR = ("YBR_FULL", "YBR_FULL_422")


@dataclass(frozen=True)
class Frame:
    """What a DICOM header says about its pixels.

    Parameters
    ----------
    rows, columns, samples
        Size, and components of a pixel.
    photometric
        Photometric interpretation.
    by_plane
        Whether the components lie one behind the other.
    allocated, stored
        Bits of a sample's cell, and of its value.
    signed
        Whether values are in two's complement.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    by_plane: bool
    allocated: int
    stored: int
    signed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the decoded array."""
        return (self.rows, self.columns, self.samples)[: 2 if self.samples == 1 else 3]


def _jpeg(stream: bytes, header: Codestream | None, frame: Frame, _threads: int) -> NDArray[Any]:
    """Baseline, extended (8 and 12 bits) and lossless JPEG, components as they are stored."""
    assert header is not None
    if frame.samples == 1 and header.bits == 8 and not header.lossless:
        with silenced():
            pixels = cv2.imdecode(
                np.frombuffer(stream, np.uint8),
                cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
            )
        if pixels is None:
            raise ValueError("not decoded")
        return np.asarray(pixels)
    import imagecodecs

    colours = _colours(header, frame) if frame.samples == 3 else None
    return np.asarray(imagecodecs.jpeg8_decode(stream, colorspace=colours, outcolorspace=colours))


def _colours(header: Codestream, frame: Frame) -> str:
    """What the components are; Adobe's marker goes before the DICOM header."""
    if header.adobe_transform is not None:
        return "YCBCR" if header.adobe_transform else "RGB"
    return "YCBCR" if frame.photometric in _YBR else "RGB"


def _jpeg_ls(
    stream: bytes, _header: Codestream | None, _frame: Frame, _threads: int
) -> NDArray[Any]:
    import imagecodecs

    return np.asarray(imagecodecs.jpegls_decode(stream))


def _jpeg_2000(
    stream: bytes, _header: Codestream | None, _frame: Frame, threads: int
) -> NDArray[Any]:
    import imagecodecs

    return np.asarray(imagecodecs.jpeg2k_decode(stream, planar=False, numthreads=threads))


_RLE_HEADER = 64  # PS3.5, annex G.5: the number of segments, and where up to 15 of them begin


def _rle(stream: bytes, _header: Codestream | None, frame: Frame, _threads: int) -> NDArray[Any]:
    """Planes of bytes (PS3.5, annex G), each packed: of each component, the high bytes first."""
    import imagecodecs

    size = frame.allocated // 8
    count, *starts = struct.unpack_from("<16I", stream)
    if size < 1 or count != size * frame.samples:
        raise ValueError("planes")
    ends = [*starts[1:count], len(stream)]
    planes = np.empty((count, frame.rows, frame.columns), np.uint8)
    for plane, start, end in zip(planes, starts, ends, strict=False):
        if not _RLE_HEADER <= start < end <= len(stream):
            raise ValueError("offsets")
        room = bytearray(plane.size)
        found = imagecodecs.packbits_decode(stream[start:end], out=room)
        if len(found) < plane.size:
            raise ValueError("short")
        plane[:] = np.frombuffer(room, np.uint8).reshape(plane.shape)
    samples = planes.reshape(frame.samples, size, frame.rows, frame.columns)
    pixels = np.ascontiguousarray(samples.transpose(2, 3, 0, 1)).view(f">u{size}")
    return pixels.reshape(frame.shape).astype(f"=u{size}", copy=False)


Decoder = Callable[[bytes, "Codestream | None", Frame, int], NDArray[Any]]

RLE_LOSSLESS = "1.2.840.10008.1.2.5"
#: Of each transfer syntax (PS3.6, annex A).
DECODERS: dict[str, Decoder] = {
    "1.2.840.10008.1.2.4.50": _jpeg,  # baseline
    "1.2.840.10008.1.2.4.51": _jpeg,  # extended
    "1.2.840.10008.1.2.4.57": _jpeg,  # lossless
    "1.2.840.10008.1.2.4.70": _jpeg,  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": _jpeg_ls,  # lossless
    "1.2.840.10008.1.2.4.81": _jpeg_ls,  # near-lossless
    "1.2.840.10008.1.2.4.90": _jpeg_2000,  # lossless
    "1.2.840.10008.1.2.4.91": _jpeg_2000,
    "1.2.840.10008.1.2.4.201": _jpeg_2000,  # high throughput, lossless
    "1.2.840.10008.1.2.4.202": _jpeg_2000,  # the same with RPCL options
    "1.2.840.10008.1.2.4.203": _jpeg_2000,  # high throughput
    RLE_LOSSLESS: _rle,
}


def decode(
    stream: bytes, syntax: str, frame: Frame, name: str, limits: Limits, threads: int = 1
) -> NDArray[Any]:
    """Decode the codestream of one frame.

    Parameters
    ----------
    stream
        All its fragments.
    syntax
        Transfer syntax, one of `DECODERS`.
    frame
        What the header says of it.
    name, limits
        For errors, and what the image may cost.
    threads
        Processor threads for a decoder that can use several: that of JPEG 2000.

    Returns
    -------
    ``uint8|uint16|int16``, ``[H, W]`` or ``[H, W, 3]``.

    Raises
    ------
    UnreadableError
        Damaged, of another size than the header's, or its decoder is not installed.
    TooLargeError
        It makes its decoder go over it too often.
    """
    header = None
    if syntax != RLE_LOSSLESS:
        # A codestream says its size again, and its decoder believes it and not DICOM's header.
        header = codestream(stream)
        declared = header and (header.height, header.width, header.components)
        if header is None or declared != (frame.rows, frame.columns, frame.samples):
            raise UnreadableError(
                f"{name}: the compressed image is damaged or of another size than the header's"
            )
        limits.check_scans(jpeg_scans(stream), frame.columns, frame.rows, name)
    try:
        pixels = DECODERS[syntax](stream, header, frame, threads)
    except ImportError as error:
        raise UnreadableError(
            f"{name}: reading compressed DICOM needs imagecodecs; pip install 'xrayedge[dicom]'",
            reason="dicom-not-installed",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # each library has its own, and they may quote what they read
        raise UnreadableError(
            f"{name}: the compressed image is damaged or its encoding is not supported "
            f"({type(error).__name__})"
        ) from None
    if pixels.shape != frame.shape or pixels.dtype.kind not in "ui" or pixels.itemsize > 2:
        raise UnreadableError(f"{name}: the compressed image is not what the header says")
    return pixels
