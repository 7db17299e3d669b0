"""What has to be on the disk before the next step may begin."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file, and wait until the disk has it."""
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a slot: out of the way by one rename first, so that no half of it has its name."""
    if not folder.exists():
        return
    doomed = folder
    if not folder.name.startswith("."):
        doomed = folder.with_name(f".removed-{secrets.token_hex(4)}")
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
