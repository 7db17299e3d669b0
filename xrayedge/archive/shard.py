"""One shard: rows of the manifest in, a part out. Knows nothing of Dask."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from ..errors import ArchiveError
from ..files import write_atomically
from .rows import Row, part
from .settings import Settings
from .sources import Listed


class Screens(Protocol):
    """Makes the rows: a `process.ScreeningProcess`, or what takes its place."""

    def screen(self, images: Sequence[Listed]) -> list[Row]:
        """A row for each image."""


@dataclass(frozen=True)
class Shard:
    """Some images of the manifest, one after another.

    Parameters
    ----------
    number
        From 0.
    images
        In the manifest's order.
    """

    number: int
    images: tuple[Listed, ...]


@dataclass(frozen=True)
class Done:
    """The outcome of a shard.

    Parameters
    ----------
    number, images
        Of the shard, and how many images it has.
    counts
        Images by status: those of this run, none if the part already existed.
    seconds
        That it took.
    """

    number: int
    images: int
    counts: Mapping[str, int]
    seconds: float


def part_path(folder: Path, number: int) -> Path:
    """The part of a shard in an archive's folder."""
    return folder / "parts" / f"part-{number:06d}.parquet"


def screen_shard(shard: Shard, folder: Path, settings: Settings, screens: Screens) -> Done:
    """Screen a shard into its part, unless that exists.

    The part gets its name when it is complete and on the disk, so it exists whole or not at all,
    however often the shard is started and wherever it was killed.

    Raises
    ------
    ArchiveError
        The part can't be written, or nothing can be screened here.
    """
    path = part_path(folder, shard.number)
    if path.exists():
        return Done(shard.number, len(shard.images), {}, 0.0)
    started, since = _now(), time.monotonic()
    rows = screens.screen(shard.images)
    statuses = Counter(one["status"] for one in rows)
    made = {
        "shard": shard.number,
        "host": socket.gethostname(),
        "started": started,
        "finished": _now(),
        "statuses": dict(statuses),
        "reasons": dict(Counter(one["reason"] for one in rows if one["reason"])),
    }
    try:
        write_atomically(path, part(rows, settings, made))
    except OSError as error:
        raise ArchiveError(f"{path}: can't be written ({error.strerror})") from error
    return Done(shard.number, len(rows), dict(statuses), time.monotonic() - since)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
