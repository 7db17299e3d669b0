"""Where an archive's images are: what an input lists, and the bytes of one source."""

from __future__ import annotations

import csv
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from ..batch import walk
from ..errors import ArchiveError, UnreadableError
from ..imaging import IMAGE_SUFFIXES, Limits
from .reading import is_object, is_url
from .rows import File

if TYPE_CHECKING:
    from .stores import Stores

#: Names that the column of a list may have, in order of preference.
COLUMNS = ("source", "path", "url")

_ROWS_AT_ONCE = 10_000  # of a Parquet list


@dataclass(frozen=True)
class Listed:
    """One image of an input.

    Parameters
    ----------
    source
        An absolute path, or a URL.
    size
        In bytes, where the input knows it.
    """

    source: str
    size: int | None = None


@dataclass
class LeftOut:
    """What an input contains but does not list; counted while it is listed.

    Parameters
    ----------
    not_images
        Files whose names are not those of images.
    unreadable
        Folders that could not be listed, each with the reason.
    """

    not_images: int = 0
    unreadable: list[str] = field(default_factory=list)


class Input(Protocol):
    """Lists any number of images."""

    @property
    def name(self) -> str:
        """The input's name in the archive: an absolute path, or a URL."""

    def listed(self, left_out: LeftOut) -> Iterator[Listed]:
        """The images; what is left out is counted in ``left_out``.

        Raises
        ------
        ArchiveError
            The input can't be listed.
        """


def open_input(text: str) -> Input:
    """The input that an argument of the command line names.

    Raises
    ------
    ArchiveError
        It is not a folder, a list or a bucket.
    """
    if is_object(text):
        return ObjectPrefix(text)
    path = Path(os.path.abspath(text))  # noqa: PTH100 (links stay as they are)
    if path.is_dir():
        return Folder(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return CsvList(path)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return ParquetList(path)
    raise ArchiveError(f"{text}: no folder, no .csv or .parquet list of images, and no s3:// URL")


@dataclass(frozen=True)
class Folder:
    """The images in a folder; see `batch.find_images`."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def listed(self, left_out: LeftOut) -> Iterator[Listed]:
        def cannot_list(error: OSError) -> None:
            left_out.unreadable.append(f"{error.filename}: can't be listed ({error.strerror})")

        for file, is_image in walk(self.path, cannot_list):
            if is_image:
                yield Listed(str(file), _size(file))
            else:
                left_out.not_images += 1


@dataclass(frozen=True)
class CsvList:
    """The sources in a column of a CSV file; paths start at the file's folder."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def listed(self, left_out: LeftOut) -> Iterator[Listed]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as stream:
                reader = csv.DictReader(stream)
                column = _column(self.path, reader.fieldnames or ())
                yield from _placed(self.path.parent, (row[column] for row in reader))
        except (OSError, ValueError, csv.Error) as error:
            raise _bad_list(self.path, error) from error


@dataclass(frozen=True)
class ParquetList:
    """The sources in a column of a Parquet file; paths start at the file's folder."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def listed(self, left_out: LeftOut) -> Iterator[Listed]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                column = _column(self.path, file.schema_arrow.names)
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[column]):
                    yield from _placed(self.path.parent, batch.column(0).to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise _bad_list(self.path, error) from error


@dataclass(frozen=True)
class ObjectPrefix:
    """The images under ``s3://bucket/prefix``, by their names as in a folder."""

    url: str

    @property
    def name(self) -> str:
        return self.url

    def listed(self, left_out: LeftOut) -> Iterator[Listed]:
        def images() -> Iterator[Listed]:
            for source, size in _stores().list(self.url):
                path = PurePosixPath(source)
                if any(part.startswith(".") for part in path.parts) or source.endswith("/"):
                    continue
                if path.suffix.lower() in IMAGE_SUFFIXES | {""}:
                    yield Listed(source, size)
                else:
                    left_out.not_images += 1

        return _checked(images())


def read_source(source: str, limits: Limits) -> tuple[File, bytes]:
    """The bytes of a source and what is known about it.

    Raises
    ------
    ImageError
        This source can't be read; the others may.
    ArchiveError
        None of its store can be read.
    """
    if is_url(source):
        data, changed = _stores().read(source, limits)
        return File(source, len(data), hashlib.sha256(data).hexdigest(), changed), data
    path = Path(source)
    try:
        # Opening a fifo or a device could block for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError(f"{source}: not a regular file")
        with path.open("rb") as stream:
            facts = os.fstat(stream.fileno())
            limits.check_bytes(facts.st_size, source)
            data = stream.read(facts.st_size)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"{source}: can't be opened ({why})") from error
    modified = datetime.fromtimestamp(facts.st_mtime, timezone.utc)
    return File(source, len(data), hashlib.sha256(data).hexdigest(), modified), data


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # a link to nowhere: its row says so
        return None


def _column(path: Path, names: Iterable[str]) -> str:
    there = set(names)
    for name in COLUMNS:
        if name in there:
            return name
    raise ArchiveError(f"{path}: has no column {' or '.join(COLUMNS)}")


def _placed(folder: Path, sources: Iterable[str | None]) -> Iterator[Listed]:
    found = (
        Listed(source if is_url(source) else str(folder / source)) for source in sources if source
    )
    return _checked(found)


def _checked(images: Iterable[Listed]) -> Iterator[Listed]:
    """Pass images on, and check on the way that the stores of their URLs deliver images."""
    check = None
    for one in images:
        if is_url(one.source):
            if check is None:
                from .stores import Check

                check = Check(_stores())
            check.see(one.source)
        yield one
    if check is not None:
        check.end()


@cache
def _stores() -> Stores:
    """The connections of this process; opened lazily, since few archives need the packages."""
    from .stores import Stores

    return Stores()


def _bad_list(path: Path, error: Exception) -> ArchiveError:
    return ArchiveError(f"{path}: not a list of images that can be read ({error})")
