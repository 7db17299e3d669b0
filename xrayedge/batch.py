"""Many pictures: files and folders as a list, and their screenings in its order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .imaging import PICTURE_SUFFIXES
from .result import Screening
from .streams import in_order

_AHEAD = 2  # pictures in work at once: one is decoded while another is classified


@dataclass(frozen=True)
class Found:
    """What a set of files and folders holds.

    Parameters
    ----------
    pictures
        Files to screen: those named, and those in folders that look like pictures by name.
    skipped
        Number of files in folders passed over for their name.
    """

    pictures: tuple[Path, ...]
    skipped: int


def find_pictures(paths: Iterable[Path]) -> Found:
    """List the pictures of files and folders, folders in sorted order with all their levels.

    A file that is named is always listed, whatever its name; one in a folder if its ending is a
    picture's or if it has none, as many DICOM files. Hidden files and linked folders are left out.
    """
    pictures: list[Path] = []
    skipped = 0
    for path in paths:
        if not path.is_dir():
            pictures.append(path)
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in names if not name.startswith(".")):
                if Path(name).suffix.lower() in PICTURE_SUFFIXES | {""}:
                    pictures.append(Path(folder) / name)
                else:
                    skipped += 1
    return Found(tuple(pictures), skipped)


def unique_names(pictures: Iterable[Path]) -> list[str]:
    """A name for what is written for each picture: its own, numbered where two have the same."""
    taken: set[str] = set()
    names = []
    for picture in pictures:
        name, number = picture.name, 1
        while name in taken:
            number += 1
            name = f"{picture.name}-{number}"
        taken.add(name)
        names.append(name)
    return names


def screen_in_order(
    screen: Callable[[Path], Screening], pictures: Iterable[Path], *, parallel: bool
) -> Iterator[Screening]:
    """Screen one picture after another, in order.

    Parameters
    ----------
    screen
        `Screener.screen`, or a function around it.
    pictures
        Files.
    parallel
        Whether one picture is read while the one before is classified.
    """
    return in_order(screen, pictures, at_once=_AHEAD) if parallel else map(screen, pictures)
