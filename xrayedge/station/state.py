"""`StateFolder`: the files of a station, under random names, and the database beside them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..errors import StationError
from ..files import sync_folder, write_atomically
from .records import Job, NewJob, Origin, Receipt
from .store import Store

DATABASE = "station.db"
_FOLDERS = ("tmp", "incoming", "outbox", "set-aside")
_CHUNK = 1 << 20
_MB = 1_000_000


@dataclass(frozen=True)
class Digest:
    """SHA-256 in hexadecimal, and bytes, of a file."""

    sha256: str
    size: int


class StateFolder:
    """The state of one station, open in one process at a time. A context manager.

    Opening it ends what an earlier process left half done: its temporary files are deleted, files
    that no row knows of too (nobody was told that they are here), and a job that was in work is
    received again, or set aside if that ended the process too often.

    Parameters
    ----------
    path
        The folder; made where there is none.
    free_mb
        Megabytes of the disk under which nothing more is taken in.

    Raises
    ------
    StationError
        It can't be used, another process has it, or its database is missing while images are not.
    """

    def __init__(self, path: Path, *, free_mb: int = 0) -> None:
        self.path = path
        self._free = free_mb * _MB
        try:
            for name in _FOLDERS:
                (path / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (path / "lock").open("w")
        except OSError as error:
            raise StationError(f"{path}: can't be used ({error.strerror})") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StationError(f"{path}: another station is running on this folder") from None
        try:
            self.store = Store(path / DATABASE)
            self._end_what_was_begun()
        except BaseException:
            self._lock.close()
            raise
        self.wakers: list[Callable[[], None]] = []

    @property
    def tmp(self) -> Path:
        """For files that are being written; emptied at each start."""
        return self.path / "tmp"

    @property
    def incoming(self) -> Path:
        """Images of jobs."""
        return self.path / "incoming"

    @property
    def outbox(self) -> Path:
        """Objects that are sent, or were."""
        return self.path / "outbox"

    @property
    def set_aside(self) -> Path:
        """Images that repeatedly crashed the process."""
        return self.path / "set-aside"

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.store.close()
        self._lock.close()

    def use_as_temporary_folder(self) -> None:
        """Make ``tmp`` the folder for all temporary files of this process."""
        tempfile.tempdir = str(self.tmp)

    def has_room(self) -> bool:
        """Whether the disk has more free space than must be kept free."""
        return shutil.disk_usage(self.path).free >= self._free

    def image(self, job: Job) -> Path:
        """Where a job's image lies."""
        path = self.incoming / job.file
        return path if path.exists() else self.set_aside / job.file

    def operating_point(self, default: str) -> str:
        """The operating point for images that arrive now: the console's, or the default."""
        return self.store.settings.get("operating_point") or default

    def take_in(
        self,
        temporary: Path,
        *,
        origin: Origin,
        sender: str,
        sop_instance_uid: str | None,
        operating_point: str,
        name: str | None = None,
        digest: Digest | None = None,
    ) -> Receipt:
        """Make a job of a file in ``tmp``; when this is back, both are on the disk.

        Parameters
        ----------
        temporary
            Is moved, or deleted where the same instance was received before.
        origin, sender, sop_instance_uid
            See `records.NewJob`.
        operating_point
            That it is to be screened at.
        name
            A random name that the caller noted before, so that it can tell after a power cut
            whether this was done.
        digest
            Of the file, where the caller has it.
        """
        name = name or random_name()
        digest = digest or _digest(temporary)
        final = self.incoming / name
        temporary.replace(final)
        try:
            # In this order a journal has both to write only once.
            _sync(final)
            sync_folder(self.incoming)
            new = NewJob(name, origin, sender, sop_instance_uid, digest.sha256, digest.size)
            receipt = self.store.jobs.receive(new, operating_point)
        except BaseException:
            final.unlink(missing_ok=True)
            raise
        if not receipt.new:
            final.unlink(missing_ok=True)
        for wake in self.wakers:
            wake()
        return receipt

    def keep_object(self, content: bytes) -> str:
        """Write an object for a destination to ``outbox``; its random name."""
        name = random_name()
        write_atomically(self.outbox / name, content)
        return name

    def discard_object(self, file: str) -> None:
        """Delete an object that no row refers to."""
        _delete([self.outbox / file])

    def forget_old(self, days: int) -> int:
        """Delete delivered jobs older than this; returns how many. See `Store`."""
        old = self.store.retention.forget_old(days, time.time())
        _delete(self.incoming / name for name in old.images)
        _delete(self.outbox / name for name in old.objects)
        return len(old.jobs)

    def tidy(self) -> None:
        """Delete files that no row refers to, and move each image to where its job's state says.

        Only while nothing is taken in: it comes before its row.
        """
        known = self.store.retention.known_files()
        aside = {job.file for job in self.store.jobs.search(states=("set-aside",), limit=2**31)}
        for folder in (self.incoming, self.set_aside):
            for path in folder.iterdir():
                right = self.set_aside if path.name in aside else self.incoming
                if path.name not in known:
                    _delete([path])
                elif folder != right:
                    path.replace(right / path.name)
        _delete(path for path in self.outbox.iterdir() if path.name not in known)

    def _end_what_was_begun(self) -> None:
        _delete(self.tmp.iterdir())
        images = sum(1 for folder in (self.incoming, self.set_aside) for _ in folder.iterdir())
        if images and self.store.is_new:
            self.store.close()
            (self.path / DATABASE).unlink()
            raise StationError(
                f"{self.path}: {DATABASE} is missing, and {images} images are here; "
                "put it back, or move them to a watched folder"
            )
        self.store.jobs.recover()
        self.tidy()


def _digest(path: Path) -> Digest:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Digest(digest.hexdigest(), size)


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def random_name() -> str:
    """A random file name, which reveals nothing."""
    return f"{secrets.token_hex(16)}.dcm"
