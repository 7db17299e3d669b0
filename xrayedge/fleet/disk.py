"""Writes that are on the disk before the next step begins."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file, and wait until it is on the disk."""
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def remove(folder: Path) -> None:
    """Remove a slot. It is renamed first, so that its name never means half of it."""
    if not folder.exists():
        return
    doomed = folder
    if not folder.name.startswith("."):
        doomed = folder.with_name(f".removed-{secrets.token_hex(4)}")
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
