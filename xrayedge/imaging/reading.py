"""`read`: any supported source to a `Picture`, or one typed error."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import TooLargeError, UnreadableError
from . import dicom
from .headers import is_raster, is_whole, jpeg_scans, raster_size
from .picture import Picture, to_grey

Source: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[Any]"

#: File name endings taken from a folder; a name without an ending may be DICOM and is taken too.
PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".ima"}
)


_START = 132  # bytes that tell what a file is: DICOM's preamble and mark
_PASSES = 10  # over the largest picture allowed; smaller ones may have more


@dataclass(frozen=True)
class Limits:
    """What a picture may cost before it is refused, checked before its pixels are decoded.

    Parameters
    ----------
    max_bytes
        Size of the file.
    max_pixels
        Width times height.
    """

    max_bytes: int = 512_000_000
    max_pixels: int = 100_000_000

    def check_bytes(self, size: int, source: str) -> None:
        """Raise `TooLargeError` for a file of ``size`` bytes over the limit."""
        if size > self.max_bytes:
            raise TooLargeError(
                f"{source}: {size} bytes are more than the limit of {self.max_bytes}; "
                "export a smaller picture or raise Limits.max_bytes"
            )

    def check_pixels(self, width: int, height: int, source: str) -> None:
        """Raise `TooLargeError` for a declared size over the limit."""
        if width * height > self.max_pixels:
            raise TooLargeError(
                f"{source}: {width} x {height} pixels are more than the limit of "
                f"{self.max_pixels}; export a smaller picture or raise Limits.max_pixels"
            )

    def check_scans(self, scans: int, width: int, height: int, source: str) -> None:
        """Raise `TooLargeError` for a JPEG that makes its decoder go over it again and again."""
        if scans * width * height > _PASSES * self.max_pixels:
            raise TooLargeError(
                f"{source}: {scans} scans of {width} x {height} pixels take too long; "
                "export it again as a plain JPEG or PNG"
            )


def read(source: Source, limits: Limits | None = None) -> Picture:
    """Read one picture.

    Parameters
    ----------
    source
        A path or the bytes of a PNG, JPEG, BMP, TIFF (8 or 16 bit) or DICOM file, or an array:
        ``[H, W]`` or ``[H, W, 1|3|4]`` of any number type, bones bright.
    limits
        Largest file and picture accepted.

    Raises
    ------
    UnreadableError
        The source is missing, damaged or of a kind that is not supported.
    TooLargeError
        The source is over the limits.
    """
    limits = limits or Limits()
    if isinstance(source, np.ndarray):
        name = "<array>"
        if source.ndim >= 2:
            limits.check_pixels(source.shape[1], source.shape[0], name)
        return Picture(to_grey(source, name), name)
    if isinstance(source, bytes):
        limits.check_bytes(len(source), "<bytes>")
        return _decode(io.BytesIO(source), "<bytes>", limits)
    path = Path(source)
    with _open(path, limits) as stream:
        return _decode(stream, str(path), limits)


def _open(path: Path, limits: Limits) -> BinaryIO:
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # to open a fifo or a device may wait for ever
            raise UnreadableError(f"{path}: not a regular file")
        limits.check_bytes(info.st_size, str(path))
        return path.open("rb")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"{path}: can't be opened ({why})") from error


def _decode(stream: BinaryIO, name: str, limits: Limits) -> Picture:
    try:
        start = stream.read(_START)
        stream.seek(0)
        # First, since a DICOM file's preamble may make it a TIFF file too (PS3.10, 7.1).
        if dicom.has_mark(start) or (not is_raster(start) and dicom.begins_headerless(start)):
            return dicom.decode(stream, name, limits)
        if is_raster(start):
            return Picture(_decode_raster(stream.read(limits.max_bytes), name, limits), name)
    except MemoryError as error:
        raise TooLargeError(f"{name}: too large for this machine's memory") from error
    except OSError as error:
        raise UnreadableError(f"{name}: can't be read ({error.strerror})") from error
    raise UnreadableError(f"{name}: not a PNG, JPEG, BMP, TIFF or DICOM file")


def _decode_raster(data: bytes, name: str, limits: Limits) -> NDArray[np.uint8]:
    size = raster_size(data)
    if size is None or min(size) < 1:
        raise UnreadableError(f"{name}: the file's header is damaged; export it again")
    limits.check_pixels(*size, name)
    limits.check_scans(jpeg_scans(data), *size, name)
    if not is_whole(data):
        raise UnreadableError(f"{name}: the file is cut off or damaged; export it again")
    try:
        # Keeps 16 bits, turns colour to grey and follows the EXIF orientation.
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
        )
    except cv2.error as error:
        raise UnreadableError(f"{name}: the file is damaged; export it again") from error
    if pixels is None:
        raise UnreadableError(f"{name}: the file is damaged or its encoding is not supported")
    return to_grey(pixels, name)
