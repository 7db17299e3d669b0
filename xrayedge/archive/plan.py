"""`Plan`: an archive's folder, its manifest, and which of its shards are still to be screened."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ArchiveError, ResultsError
from ..files import remove_temporary, writing_atomically
from ..output.results import one_line
from .rows import METADATA_KEY, made_by
from .settings import Settings
from .shard import Shard, part_path
from .sources import Input, LeftOut, Listed

MANIFEST = "manifest.parquet"
SHARD_SIZE = 500  # images, some seconds of work and some 100 kB of rows

_LOCK = ".lock"
_PART = re.compile(r"part-(\d{6,})\.parquet")
#: Images of a row group of the manifest, about: what is in memory at once.
_GROUP = 50_000

#: Of the manifest.
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Plan:
    """What an archive's folder contains; it never changes.

    Parameters
    ----------
    folder
        Of the manifest and of the parts.
    input
        As it was given.
    settings
        What makes the rows.
    shard_size
        Images of a shard; the last one may have fewer.
    images
        In the manifest.
    """

    folder: Path
    input: str
    settings: Settings
    shard_size: int
    images: int

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.images // self.shard_size)

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """The plan of a folder.

        Raises
        ------
        ArchiveError
            There is none, or it is damaged.
        """
        path = folder / MANIFEST
        if not path.exists():
            raise ArchiveError(f"{folder}: no archive; it has no {MANIFEST}")
        try:
            values = made_by(path)
            return cls(
                folder=folder,
                input=str(values["input"]),
                settings=Settings.from_dict(values["settings"]),
                shard_size=int(values["shard_size"]),
                images=pq.read_metadata(path).num_rows,
            )
        except (ResultsError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{path}: damaged, or of another release ({error})") from error

    @classmethod
    def make(
        cls,
        folder: Path,
        found: Input,
        settings: Settings,
        shard_size: int,
        listed: Callable[[int], object],
    ) -> tuple[Plan, LeftOut]:
        """List an input and write the manifest; see `open_plan`."""
        left_out = LeftOut()
        images = found.listed(left_out)
        metadata: dict[str, Any] = {
            "settings": settings.to_dict(),
            "input": found.name,
            "shard_size": shard_size,
        }
        schema = MANIFEST_SCHEMA.with_metadata({METADATA_KEY: json.dumps(metadata)})
        shards_at_once = max(1, _GROUP // shard_size)
        count = 0
        path = folder / MANIFEST
        try:
            with (
                writing_atomically(path) as stream,
                pq.ParquetWriter(stream, schema, compression="zstd") as writer,
            ):
                while group := list(islice(images, shards_at_once * shard_size)):
                    columns = [
                        [(count + index) // shard_size for index in range(len(group))],
                        [one_line(one.source) for one in group],
                        [one.size for one in group],
                    ]
                    arrays = map(pa.array, columns, schema.types)
                    writer.write_table(pa.Table.from_arrays(list(arrays), schema=schema))
                    count += len(group)
                    listed(count)
                if not count:
                    raise ArchiveError(f"{found.name}: no image found")
        except OSError as error:
            raise ArchiveError(f"{path}: can't be written ({error.strerror})") from error
        return cls(folder, found.name, settings, shard_size, count), left_out

    def check(self, found: Input, settings: Settings, shard_size: int | None) -> None:
        """Refuse to resume with another input, model or setting.

        Raises
        ------
        ArchiveError
            Something has changed.
        """
        differences = list(self.settings.differences(settings))
        if found.name != self.input:
            differences.insert(0, f"input {self.input}, now {found.name}")
        if shard_size not in (None, self.shard_size):
            differences.append(f"shard size {self.shard_size}, now {shard_size}")
        if differences:
            raise ArchiveError(
                f"{self.folder}: an archive of other settings ({'; '.join(differences)}); "
                "give the same again, or another folder"
            )

    def finished(self) -> frozenset[int]:
        """The shards whose parts exist."""
        folder = part_path(self.folder, 0).parent
        if not folder.is_dir():
            return frozenset()
        found = (_PART.fullmatch(path.name) for path in folder.iterdir())
        return frozenset(int(match[1]) for match in found if match)

    def size_of(self, number: int) -> int:
        """Images of a shard."""
        return min(self.shard_size, self.images - number * self.shard_size)

    def pending(self, finished: frozenset[int]) -> Iterator[Shard]:
        """The other shards, in order; only a piece of the manifest is in memory at a time."""
        with pq.ParquetFile(self.folder / MANIFEST) as manifest:
            first = 0
            for group in range(manifest.num_row_groups):
                rows = manifest.metadata.row_group(group).num_rows
                numbers = range(first, first + -(-rows // self.shard_size))
                first = numbers.stop
                if finished.issuperset(numbers):
                    continue
                table = manifest.read_row_group(group)
                for number in numbers:
                    if number not in finished:
                        start = (number - numbers.start) * self.shard_size
                        yield Shard(number, _images(table.slice(start, self.shard_size)))

    def clean(self) -> None:
        """Remove what killed processes left behind, once all parts exist."""
        remove_temporary(self.folder)
        remove_temporary(part_path(self.folder, 0).parent)


def open_plan(
    folder: Path,
    found: Input,
    settings: Settings,
    *,
    shard_size: int | None = None,
    listed: Callable[[int], object] = lambda _: None,
) -> tuple[Plan, LeftOut | None]:
    """The plan of a folder, created from an input if there is none.

    Parameters
    ----------
    folder
        Where the archive is, or is to be.
    found
        The input.
    settings
        The settings that the rows are to have.
    shard_size
        Images of a shard; without it that of the plan, or `SHARD_SIZE`.
    listed
        Called now and then with the number of images listed so far.

    Returns
    -------
    The plan, and what was left out if it is new.

    Raises
    ------
    ArchiveError
        The plan is of another input or other settings; the input can't be listed or has no image;
        or the manifest can't be written.
    """
    if (folder / MANIFEST).exists():
        plan = Plan.load(folder)
        plan.check(found, settings, shard_size)
        return plan, None
    return Plan.make(folder, found, settings, shard_size or SHARD_SIZE, listed)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from screening into a folder, which is created if needed.

    Raises
    ------
    ArchiveError
        One does so already, or the folder can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / _LOCK).open("wb")
    except OSError as error:
        raise ArchiveError(f"{folder}: can't be written to ({error.strerror})") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveError(
                f"{folder}: another process is screening into it; wait for it or give another one"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield


def _images(table: pa.Table) -> tuple[Listed, ...]:
    names, sizes = (table.column(name).to_pylist() for name in ("source", "size"))
    return tuple(Listed(_source(name), size) for name, size in zip(names, sizes, strict=True))


def _source(line: str) -> str:
    """The source that `one_line` encoded."""
    if "\\" not in line:
        return line
    source: str = json.loads(f'"{line}"')
    return source
