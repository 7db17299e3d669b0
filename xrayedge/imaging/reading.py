"""`read`: any supported source to an `Image`, or one typed error."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import TooLargeError, UnreadableError
from . import dicom, raster
from .headers import is_raster
from .image import Image, to_grey
from .limits import Limits

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any]"

#: File name endings taken from a folder; a name without an ending may be DICOM and is taken too.
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".ima"}
)

_START = 132  # bytes that tell what a file is: DICOM's preamble and mark


def source_name(source: Source) -> str:
    """What a source is called in results and errors: its path, ``<bytes>`` or ``<array>``."""
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    return os.fsdecode(source)


def read(
    source: Source, limits: Limits | None = None, *, name: str | None = None, threads: int = 1
) -> Image:
    """Read one image.

    Parameters
    ----------
    source
        A path or the bytes of a PNG, JPEG, BMP, TIFF (8 or 16 bit) or DICOM file, or an array:
        ``[H, W]`` or ``[H, W, 1|3|4]`` of any number type, bones bright; colours as red, green,
        blue and, ignored, alpha.
    limits
        Largest file and image accepted.
    name
        What bytes or an array are called in errors, instead of `source_name`.
    threads
        Processor threads for a decoder that can use several: that of JPEG 2000.

    Raises
    ------
    UnreadableError
        The source is missing, damaged or of a kind that is not supported.
    TooLargeError
        The source is over the limits.
    """
    limits = limits or Limits()
    name = name or source_name(source)
    if isinstance(source, np.ndarray):
        if source.ndim >= 2:
            limits.check_pixels(source.shape[1], source.shape[0], name)
        return Image(to_grey(source, name), name)
    try:
        if isinstance(source, (bytes, bytearray, memoryview)):
            size = source.nbytes if isinstance(source, memoryview) else len(source)
            limits.check_bytes(size, name)
            return _decode(bytes(source), name, limits, threads)
        return _decode(_content(Path(os.fsdecode(source)), limits), name, limits, threads)
    except MemoryError as error:
        raise TooLargeError(f"{name}: too large for this machine's memory") from error


def _content(path: Path, limits: Limits) -> bytes:
    """The bytes of a file that is an image by its beginning, else only that."""
    try:
        with _open(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            limits.check_bytes(size, str(path))
            start = stream.read(_START)
            if not _is_image(start):
                return start
            stream.seek(0)
            return stream.read(size)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"{path}: can't be opened ({why})") from error


def _open(path: Path) -> BinaryIO:
    # To open a fifo or a device may wait for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise UnreadableError(f"{path}: not a regular file")
    return path.open("rb")


def _is_image(start: bytes) -> bool:
    return dicom.has_mark(start) or is_raster(start) or dicom.begins_headerless(start)


def _decode(data: bytes, name: str, limits: Limits, threads: int) -> Image:
    start = data[:_START]
    # First, since a DICOM file's preamble may make it a TIFF file too (PS3.10, 7.1).
    if dicom.has_mark(start) or (not is_raster(start) and dicom.begins_headerless(start)):
        return dicom.decode(data, name, limits, threads)
    if is_raster(start):
        return Image(raster.decode(data, name, limits), name)
    raise UnreadableError(f"{name}: not a PNG, JPEG, BMP, TIFF or DICOM file")
