"""Write files atomically, so that neither a reader nor a power cut ever leaves half of one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

#: The errors of a file system that can't sync a folder.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, sync, rename, and sync the folder.

    The folder is made where there is none.

    Raises
    ------
    OSError
        The disk is full or the folder is read-only; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not made of the file's name: that may be as long as the file system allows.
    temporary = path.with_name(f".xrayedge-{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


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
