"""`WatchedFolder`: files that a unit puts into a folder become jobs, each once.

A file is taken when it has not changed between two scans and can be read as an image. One that
can't be read counts as a stalled upload until it has not changed for ``patience`` seconds; until
then it stays where it is, so that its sender can continue.

To survive a power failure at any moment, a file is first renamed in its folder to a hidden random
name, then copied under that name. At the next start, a file with such a name is taken unless a job
has that name.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import ImageError, StationError
from ...imaging import read
from ..config import FolderConfig
from ..state import StateFolder, random_name

_TAKEN = re.compile(r"\.xrayedge-([0-9a-f]{32}\.dcm)")


@dataclass(frozen=True)
class _Seen:
    """A file's size and time, and since when they are the same, by a clock that can't be set."""

    size: int
    changed_ns: int
    inode: int
    since: float
    readable: bool | None = None


class WatchedFolder(threading.Thread):
    """Scans the folder repeatedly until `stop` is called.

    Parameters
    ----------
    config
        The folder and the file names.
    state
        Takes the images.
    operating_point
        The configured operating point.

    Raises
    ------
    StationError
        The folder can't be created or read.
    """

    def __init__(self, config: FolderConfig, state: StateFolder, operating_point: str) -> None:
        super().__init__(name="watched-folder", daemon=True)
        self._config, self._state, self._operating_point = config, state, operating_point
        self._seen: dict[str, _Seen] = {}
        self._halt = threading.Event()
        self._trouble: str | None = None
        #: The error that ended the thread, if it was not `stop`.
        self.failure: BaseException | None = None
        try:
            config.path.mkdir(parents=True, exist_ok=True)
            list(config.path.iterdir())
        except OSError as error:
            raise StationError(
                f"[folder] {config.path}: can't be used ({error.strerror})"
            ) from None

    def run(self) -> None:
        """Scan until stopped; an error with the folder is logged once, and scanning goes on."""
        try:
            while not self._halt.is_set():
                self._look_past_trouble()
                self._halt.wait(self._config.every)
        except BaseException as error:
            self.failure = error

    def _look_past_trouble(self) -> None:
        try:
            self.look()
            self._trouble = None
        except OSError as error:
            if error.strerror != self._trouble:
                self._trouble = error.strerror
                self._state.store.events.warn(
                    f"the watched folder can't be used ({error.strerror})"
                )

    def stop(self) -> None:
        """End after the current file."""
        self._halt.set()

    def look(self) -> None:
        """Take the files that are ready."""
        for path in sorted(self._config.path.iterdir()):
            taken = _TAKEN.fullmatch(path.name)
            if taken:
                self._take_in(path, taken[1])
        now = time.monotonic()
        seen = {}
        for name, found in self._files(now):
            before = self._seen.get(name)
            if before is None or not _is_same(before, found):
                seen[name] = found
                continue
            if self._halt.is_set() or not self._state.has_room():
                seen[name] = before
                continue
            path = self._config.path / name
            readable = before.readable if before.readable is not None else _can_be_read(path)
            if readable or now - before.since >= self._config.patience:
                self._take(path)
            else:
                same = (before.size, before.changed_ns, before.inode, before.since)
                seen[name] = _Seen(*same, readable=readable)
        self._seen = seen

    def _files(self, now: float) -> Iterator[tuple[str, _Seen]]:
        for entry in os.scandir(self._config.path):
            if entry.name.startswith(".") or not fnmatch.fnmatch(entry.name, self._config.pattern):
                continue
            with suppress(FileNotFoundError):  # renamed by its sender in the meantime
                if entry.is_file(follow_symlinks=False):
                    info = entry.stat(follow_symlinks=False)
                    yield entry.name, _Seen(info.st_size, info.st_mtime_ns, info.st_ino, now)

    def _take(self, path: Path) -> None:
        name = random_name()
        hidden = path.with_name(f".xrayedge-{name}")
        try:
            path.rename(hidden)
        except FileNotFoundError:
            return
        self._take_in(hidden, name)

    def _take_in(self, hidden: Path, name: str) -> None:
        if not self._state.store.jobs.has_file(name):
            temporary = self._state.tmp / name
            shutil.copyfile(hidden, temporary)
            self._state.take_in(
                temporary,
                origin="folder",
                sender="folder",
                sop_instance_uid=sop_instance_uid(temporary),
                operating_point=self._state.operating_point(self._operating_point),
                name=name,
            )
        hidden.unlink()


def _is_same(before: _Seen, now: _Seen) -> bool:
    return (before.size, before.changed_ns, before.inode) == (now.size, now.changed_ns, now.inode)


def _can_be_read(path: Path) -> bool:
    try:
        read(path)
    except ImageError as error:
        # Other reasons, such as too-large, are permanent.
        return error.reason != "unreadable"
    return True


def sop_instance_uid(path: Path) -> str | None:
    """Of a DICOM file; `None` for others and for damaged ones."""
    from pydicom import dcmread

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        return str(header.SOPInstanceUID) or None
    except Exception:  # pydicom raises many kinds of errors on other files
        return None
