"""Many images: what folders hold, and a batch that writes its results and can be resumed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import cv2

from .errors import ResultsError
from .files import write_atomically
from .imaging import IMAGE_SUFFIXES
from .output import dicom
from .output.results import ResultsFile
from .result import Screening
from .screening import Screener
from .streams import in_order

_Result = TypeVar("_Result")

_AHEAD = 2  # images in work at once: one is decoded while another is classified

#: Reasons that are due to the installation, the machine or the options, not to the image: such an
#: image is screened again when the batch is resumed.
RETRIED = frozenset({"dicom-not-installed", "timeout", "too-large"})

#: Bytes of a file's name that are kept in the names of what is made of it. File systems take 255;
#: the rest is for a number and an ending.
_LONGEST_NAME = 220

_DICOM_SUFFIXES = frozenset({"", ".dcm", ".dicom", ".ima"})


@dataclass(frozen=True)
class Found:
    """The images in a set of files and folders.

    Parameters
    ----------
    images
        Files to screen, each once: those named, and those in folders that look like images by name.
    skipped
        Number of files in folders that were skipped because of their names.
    unreadable
        Folders that could not be listed, each with the reason; what is in them is missing.
    """

    images: tuple[Path, ...]
    skipped: int
    unreadable: tuple[str, ...] = ()


def find_images(paths: Iterable[Path]) -> Found:
    """List the images among files and in folders, recursively and in sorted order.

    A file given by name is always listed; a file in a folder only if it has an image's extension,
    or none, like many DICOM files. Hidden files and linked folders are left out.
    """
    images: dict[str, Path] = {}  # by absolute path: a file may be named twice, or in two ways
    skipped = 0
    unreadable: list[str] = []

    def add(path: Path) -> None:
        images.setdefault(os.path.abspath(path), path)  # noqa: PTH100 (links stay as they are)

    def cannot_list(error: OSError) -> None:
        unreadable.append(f"{error.filename}: can't be listed ({error.strerror})")

    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for a name that is too long)
            add(path)
            continue
        for file, is_image in walk(path, cannot_list):
            if is_image:
                add(file)
            else:
                skipped += 1
    return Found(tuple(images.values()), skipped, tuple(unreadable))


def walk(folder: Path, cannot_list: Callable[[OSError], object]) -> Iterator[tuple[Path, bool]]:
    """The files in a folder, recursively and in sorted order, and which are images by name.

    Hidden files and linked folders are left out.

    Parameters
    ----------
    folder
        Where to begin.
    cannot_list
        Told of each folder that can't be listed.
    """
    for at, folders, names in os.walk(folder, onerror=cannot_list):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            yield Path(at) / name, Path(name).suffix.lower() in IMAGE_SUFFIXES | {""}


class UniqueNames:
    """Names for the outputs of images: the image's own, numbered if two have the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, image: Path) -> str:
        """The next image's name; a very long one is cut and gets a hash of the whole."""
        stem = image.name
        encoded = os.fsencode(stem)
        if len(encoded) > _LONGEST_NAME:
            digest = hashlib.sha256(encoded).hexdigest()[:16]
            start = encoded[: _LONGEST_NAME - len(digest) - 1].decode(errors="ignore")
            stem = f"{start}-{digest}"
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return name


@dataclass(frozen=True)
class Outputs:
    """What a batch writes; each output whose path is given.

    Parameters
    ----------
    results
        A ``.csv`` or ``.jsonl`` file; see `output.results.ResultsFile`.
    heatmaps
        Folder of overlays, ``NAME.png``.
    reports
        Folder of DICOM structured reports, ``NAME.sr.dcm``; for DICOM files.
    captures
        Folder of overlays as DICOM Secondary Capture, ``NAME.sc.dcm``; for DICOM files.
    """

    results: Path | None = None
    heatmaps: Path | None = None
    reports: Path | None = None
    captures: Path | None = None

    def files(self, name: str, image: Path) -> list[Path]:
        """The outputs of a screened image, apart from its row."""
        found = [] if self.heatmaps is None else [self.heatmaps / f"{name}.png"]
        if image.suffix.lower() in _DICOM_SUFFIXES:
            found += [] if self.reports is None else [self.reports / f"{name}.sr.dcm"]
            found += [] if self.captures is None else [self.captures / f"{name}.sc.dcm"]
        return found


@dataclass(frozen=True)
class Item:
    """One image of a batch.

    Parameters
    ----------
    image
        The file.
    screening
        Its result.
    problems
        Outputs that could not be made, in sentences, such as DICOM objects of a file that is not
        DICOM.
    """

    image: Path
    screening: Screening
    problems: tuple[str, ...] = ()


class Batch:
    """Screens many images and writes the requested outputs; resumes where an earlier batch stopped.

    ::

        with Screener() as screener, Batch(screener, Outputs(results=Path("all.csv"))) as batch:
            for item in batch.screen(batch.pending(find_images([folder]).images)):
                print(item.image, item.screening.label)

    Parameters
    ----------
    screener
        Makes the results.
    outputs
        Where they are written.

    Raises
    ------
    ResultsError
        An output can't be written, or the results file belongs to another model.
    """

    def __init__(self, screener: Screener, outputs: Outputs | None = None) -> None:
        outputs = outputs or Outputs()
        self._outputs = outputs
        if outputs.reports or outputs.captures:
            dicom.require()
        self._screener = screener
        self._unique = UniqueNames()
        self._names: dict[Path, str] = {}
        for folder in (outputs.heatmaps, outputs.reports, outputs.captures):
            if folder is not None:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise _cannot_write(folder, error) from error
        path = outputs.results
        self._results = None if path is None else ResultsFile(path, screener)

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._results is not None:
            self._results.__exit__(kind, error, traceback)

    def status(self, image: Path) -> str | None:
        """The status of an image in the results file, if it is there."""
        return self._results.status(str(image)) if self._results else None

    def pending(self, images: Iterable[Path]) -> list[Path]:
        """The images that are still to be screened.

        Those without a row; those whose row gives a reason of `RETRIED`, which is then removed; and
        those that were screened but whose heatmap or DICOM object is missing.
        """
        images = list(images)
        for image in images:
            self._names[image] = self._unique.name(image)
        if self._results is None:
            return images
        self._results.withdraw(
            [str(image) for image in images if self._results.reason(str(image)) in RETRIED]
        )
        return [image for image in images if not self._is_done(image)]

    def screen(self, images: Iterable[Path], *, parallel: bool = False) -> Iterator[Item]:
        """Screen images in order; each is written before it is returned.

        Parameters
        ----------
        images
            May be endless, and may block.
        parallel
            Whether one image is read while the one before is classified.

        Raises
        ------
        ResultsError
            An output can't be written. Finished outputs are kept, including this image's row unless
            that failed; resuming makes the rest.
        """
        heatmap = self._outputs.heatmaps is not None or self._outputs.captures is not None
        work = partial(self._screen_one, heatmap=heatmap)
        for image, screening in screen_in_order(work, images, parallel=parallel):
            problems: list[str] = []
            failure = None
            for path, content in self._files_of(screening, image, problems):
                try:
                    write_atomically(path, content)
                except OSError as error:
                    failure = _cannot_write(path, error)
                    break
            if self._results is not None and self.status(image) is None:
                self._results.write(screening)
            yield Item(image, screening, tuple(problems))
            if failure is not None:
                raise failure

    def _screen_one(self, image: Path, *, heatmap: bool) -> tuple[Path, Screening]:
        return image, self._screener.screen(image, heatmap=heatmap)

    def _is_done(self, image: Path) -> bool:
        status = self.status(image)
        if status != "screened":
            return status is not None
        return all(path.exists() for path in self._outputs.files(self._names[image], image))

    def _files_of(
        self, screening: Screening, image: Path, problems: list[str]
    ) -> Iterator[tuple[Path, bytes]]:
        if not screening.ok:
            return
        outputs = self._outputs
        name = self._names.get(image) or self._unique.name(image)
        if outputs.heatmaps is not None and screening.heatmap is not None:
            _, png = cv2.imencode(".png", screening.heatmap)
            yield outputs.heatmaps / f"{name}.png", png.tobytes()
        try:
            if outputs.reports is not None:
                report = dicom.structured_report(screening, image)
                yield outputs.reports / f"{name}.sr.dcm", report.content
            if outputs.captures is not None:
                capture = dicom.secondary_capture(screening, image)
                yield outputs.captures / f"{name}.sc.dcm", capture.content
        except ResultsError as error:
            problems.append(str(error))


def _cannot_write(path: Path, error: OSError) -> ResultsError:
    return ResultsError(f"{path}: can't be written ({error.strerror})")


def screen_in_order(
    screen: Callable[[Path], _Result], images: Iterable[Path], *, parallel: bool
) -> Iterator[_Result]:
    """Screen one image after another, in order.

    Parameters
    ----------
    screen
        `Screener.screen`, or a function around it.
    images
        Files.
    parallel
        Whether one image is read while the one before is classified.
    """
    return in_order(screen, images, at_once=_AHEAD) if parallel else map(screen, images)
