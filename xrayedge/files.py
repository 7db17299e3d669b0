"""Write files atomically, so that neither a reader nor a power cut ever leaves half of one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: The errors of a file system that can't sync a folder.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
_TEMPORARY = ".xrayedge-"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file's content by `writing_atomically`."""
    with writing_atomically(path) as stream:
        stream.write(content)


@contextmanager
def writing_atomically(path: Path) -> Iterator[BinaryIO]:
    """Write to a temporary name in the same folder, sync, rename, and sync the folder.

    The folder is made where there is none.

    Raises
    ------
    OSError
        The disk is full or the folder is read-only; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not made of the file's name: that may be as long as the file system allows.
    temporary = path.with_name(f"{_TEMPORARY}{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_temporary(folder: Path) -> None:
    """Remove what processes that were killed while they wrote left in a folder.

    Nobody may be writing there now.
    """
    for left in folder.glob(f"{_TEMPORARY}*.tmp"):
        left.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk; without that a power cut may undo a rename."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # may be written to and not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
