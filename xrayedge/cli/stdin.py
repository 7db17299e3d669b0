"""What comes on standard input: an image, or the paths of images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

_DESCRIPTOR = 0
_CHUNK = 1 << 16
_START = 132  # bytes that tell what a file is: DICOM's preamble and mark
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")


def read_stdin(max_bytes: int) -> bytes | Iterator[Path]:
    """The image on standard input, or the paths, each as soon as it is there.

    Parameters
    ----------
    max_bytes
        Of an image that are read; one byte more shows that it is larger.
    """
    # Not sys.stdin: a thread that waits in its buffer would abort the process at its end.
    start = b""
    while len(start) < _START and not (b"\n" in start or b"\x00" in start[1:]):
        more = os.read(_DESCRIPTOR, _CHUNK)
        if not more:
            break
        start += more
    if not _begins_image(start):
        return _paths(start)
    parts, size = [start], len(start)
    while size <= max_bytes and (more := os.read(_DESCRIPTOR, _CHUNK)):
        parts.append(more)
        size += len(more)
    return b"".join(parts)


def _begins_image(start: bytes) -> bool:
    bitmap = start.startswith(b"BM") and start[6:10] == bytes(4)  # reserved; a path holds no zeros
    dicom = start[128:132] == b"DICM" or start[:1] in (b"\x00", b"\x02", b"\x08")
    return start.startswith(_SIGNATURES) or bitmap or dicom


def _paths(start: bytes) -> Iterator[Path]:
    separator = b"\x00" if b"\x00" in start else b"\n"
    rest = start
    while True:
        *whole, rest = rest.split(separator)
        yield from (_path(line) for line in whole if line.strip())
        more = os.read(_DESCRIPTOR, _CHUNK)
        if not more:
            break
        rest += more
    if rest.strip():
        yield _path(rest)


def _path(line: bytes) -> Path:
    """A name may hold a line feed: in a JSON string."""
    text = os.fsdecode(line.removesuffix(b"\r"))
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        text = value if isinstance(value, str) else text
    return Path(text)
