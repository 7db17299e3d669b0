"""A bundle's file, ``NAME-VERSION.xeb``: a zip with exactly one valid encoding.

Entries are stored, not compressed, sorted by name, all with the same date, with nothing before,
between or after them. A reader rebuilds the file from what it read and compares: a path, a link, a
duplicate, a hidden entry, a bomb or a comment would give a different file, which is refused. The
same rule lets a device verify the signature of an unpacked bundle.
"""

from __future__ import annotations

import io
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..bundle import MANIFEST
from ..errors import FleetError

SUFFIX = ".xeb"
RELEASE = "release.json"
FORMAT_VERSION = 1

#: A bundle has at most about 60 MB; nothing larger is read from disk or network.
MAX_BYTES = 256_000_000
MAX_SERIAL = (1 << 63) - 1
_MAX_ENTRIES = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STORED, _SYSTEM_UNIX, _VERSION = 0, 3, 20
_EPOCH = (0, 1 << 5 | 1)  # 00:00 on 1 January 1980, the earliest date in a zip
_MODE = (stat.S_IFREG | 0o644) << 16
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")


@dataclass(frozen=True)
class Release:
    """Which release of which model a file holds.

    Parameters
    ----------
    name, version
        The bundle's.
    serial
        Increases with every release; a device goes to a lower one only by a rollback.
    """

    name: str
    version: str
    serial: int

    def __post_init__(self) -> None:
        for what in (self.name, self.version):
            if not _NAME.fullmatch(what):
                raise FleetError(
                    f"{what!r}: a released bundle's name and version are made of letters, digits, "
                    "full stops, hyphens and underscores"
                )
        if isinstance(self.serial, bool) or not 1 <= self.serial <= MAX_SERIAL:
            raise FleetError(f"serial {self.serial}: a whole number from 1 on")

    def to_bytes(self) -> bytes:
        """The content of the release's entry in the file."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Release:
        """Read the output of `to_bytes`; `FleetError` for anything else."""
        try:
            values: Any = json.loads(content)
            if values.pop("format_version") != FORMAT_VERSION:
                raise FleetError("the release is of a newer format: update xrayedge on the device")
            release = cls(str(values["name"]), str(values["version"]), int(values["serial"]))
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise FleetError(f"damaged {RELEASE}") from error
        if release.to_bytes() != content:
            raise FleetError(f"{RELEASE} is not as xrayedge writes it")
        return release


def pack(files: Mapping[str, bytes]) -> bytes:
    """Make the only valid zip of these files.

    Raises
    ------
    FleetError
        A file name contains a folder or special characters, or there are too many files or bytes.
    """
    body, directory = io.BytesIO(), io.BytesIO()
    if len(files) > _MAX_ENTRIES or sum(map(len, files.values())) > MAX_BYTES:
        raise FleetError(f"more than {_MAX_ENTRIES} files or {MAX_BYTES} bytes in one bundle")
    for name in sorted(files):
        if not _NAME.fullmatch(name):
            raise FleetError(f"{name!r} is not a plain file name")
        content, encoded = files[name], name.encode("ascii")
        about = (zlib.crc32(content), len(content), len(content), len(encoded), 0)
        offset = body.tell()
        body.write(_LOCAL.pack(b"PK\3\4", _VERSION, 0, _STORED, *_EPOCH, *about))
        body.write(encoded)
        body.write(content)
        made_by = _SYSTEM_UNIX << 8 | _VERSION
        directory.write(
            _CENTRAL.pack(
                *(b"PK\1\2", made_by, _VERSION, 0, _STORED, *_EPOCH, *about),
                *(0, 0, 0, _MODE, offset),
            )
        )
        directory.write(encoded)
    size, start = directory.tell(), body.tell()
    body.write(directory.getvalue())
    body.write(_END.pack(b"PK\5\6", 0, 0, len(files), len(files), size, start, 0))
    return body.getvalue()


def unpack(content: bytes) -> tuple[Release, dict[str, bytes]]:
    """The release, and the bundle's files by name.

    Raises
    ------
    FleetError
        It is not a file that `pack` could have written, or it does not hold a bundle.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            # Before anything is read: no entry can be larger than the file that contains it.
            if len(entries) > _MAX_ENTRIES or any(
                entry.compress_type != zipfile.ZIP_STORED
                or entry.file_size != entry.compress_size
                or entry.file_size > len(content)
                for entry in entries
            ):
                raise FleetError("not a bundle file: compressed, or too many entries")
            if sum(entry.file_size for entry in entries) > len(content):
                raise FleetError("not a bundle file: its entries overlap")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, OSError) as error:
        raise FleetError("not a bundle file, or a truncated one; fetch it again") from error
    except (EOFError, struct.error, UnicodeDecodeError) as error:
        raise FleetError("not a bundle file, or a truncated one; fetch it again") from error
    if pack(files) != content:
        raise FleetError("not a bundle file: written otherwise than `models sign` writes")
    release = Release.from_bytes(files.pop(RELEASE, b"null"))
    if MANIFEST not in files:
        raise FleetError(f"not a bundle file: no {MANIFEST}")
    return release, files
