"""A results file that grows image by image and can be resumed after a crash."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ResultsError
from ..files import sync_folder, write_atomically
from ..result import Screening
from ..screening import Screener

SUFFIXES = (".csv", ".jsonl")

_MADE_BY = ("model", "version", "precision", "engine", "operating_point")
#: What makes a spreadsheet take a cell for a formula (OWASP, CSV injection), and the mark itself.
_FORMULA_STARTS = ("=", "+", "-", "@", "'")


class ResultsFile:
    """Rows of screenings in ``.csv`` or ``.jsonl``, each on disk before the next one starts.

    An existing file is continued after its last complete row. While it is open no other
    can be opened on the same file, in this process or another.

    Parameters
    ----------
    path
        The file; its ending chooses the format.
    screener
        What makes the rows: one file holds results of one model, precision, engine
        and operating point.

    Raises
    ------
    ResultsError
        Another ending, a file that can't be read or written or that another process writes, or
        rows of another model or format.
    """

    def __init__(self, path: Path, screener: Screener) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise ResultsError(f"{path}: results are written to {' or '.join(SUFFIXES)} files")
        self._path = path
        self._columns = _columns(screener) if path.suffix.lower() == ".csv" else None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b", buffering=0)
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            self._lock()
            self._stream.seek(0)
            content = self._stream.read()
            whole = content[: content.rfind(b"\n") + 1]  # a crash may have left an incomplete row
            self._rows = self._take_up(whole, screener)
            self._size = len(whole)
            self._stream.truncate(self._size)
            if self._columns and not whole:
                self._append(csv_row(self._columns))
            sync_folder(path.parent)
        except OSError as error:
            self._stream.close()
            raise self._cannot_write(error) from error
        except ResultsError:
            self._stream.close()
            raise

    def status(self, source: str) -> str | None:
        """The status of a source that the file holds, if it does."""
        row = self._rows.get(one_line(source))
        return row[0] if row else None

    def reason(self, source: str) -> str | None:
        """Why a source that the file holds was not screened; `None` if it was."""
        row = self._rows.get(one_line(source))
        return row[1] if row else None

    def write(self, screening: Screening) -> None:
        """Append one row and wait until it is on the disk.

        Raises
        ------
        ResultsError
            The disk is full, ...; the file then ends with the row before.
        """
        if self._columns:
            flat = _flatten(screening)
            self._append(csv_row([flat.get(column) for column in self._columns]))
        else:
            self._append(json.dumps(screening.to_dict()) + "\n")
        self._rows[one_line(screening.source)] = (screening.status, screening.reason)

    def withdraw(self, sources: Collection[str]) -> None:
        """Take the rows of these sources out of the file, because they are screened again."""
        names = {one_line(source) for source in sources} & self._rows.keys()
        if not names:
            return
        try:
            self._stream.seek(0)
            lines = self._stream.read().decode().split("\n")[:-1]
            kept = "".join(f"{line}\n" for line in lines if self._name(line) not in names).encode()
            # To the file itself where the path is a link to it.
            write_atomically(self._path.resolve(), kept)
            self._stream.close()
            self._stream = self._path.open("a+b", buffering=0)
            self._lock()
        except OSError as error:
            raise self._cannot_write(error) from error
        self._size = len(kept)
        for name in names:
            del self._rows[name]

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResultsError(
                f"{self._path}: another process is writing to it; wait for it or give another file"
            ) from error
        except OSError:
            return  # a file system without locks

    def _append(self, text: str) -> None:
        row = text.encode()
        try:
            written = 0
            while written < len(row):
                written += self._stream.write(row[written:])
            os.fsync(self._stream.fileno())
        except OSError as error:
            self._stream.truncate(self._size)
            raise self._cannot_write(error) from error
        self._size += len(row)

    def _cannot_write(self, error: OSError) -> ResultsError:
        return ResultsError(f"{self._path}: can't be written ({error.strerror})")

    def _name(self, line: str) -> str | None:
        """The source of a row, `None` of the headings."""
        if self._columns is None:
            return one_line(json.loads(line)["source"])
        source = next(csv.reader([line]))[0]
        return None if source == self._columns[0] else _without_mark(source)

    def _take_up(self, content: bytes, screener: Screener) -> dict[str, tuple[str, str | None]]:
        try:
            text = content.decode()
            if self._columns:
                reader = csv.DictReader(io.StringIO(text), strict=True)
                rows: list[dict[str, Any]] = [
                    {name: _without_mark(value) for name, value in row.items()} for row in reader
                ]
                if text and reader.fieldnames != self._columns:
                    raise ValueError("other columns")
            else:
                rows = [json.loads(line) for line in text.split("\n") if line]
                for row in rows:
                    row["source"] = one_line(row["source"])
            made_by = {tuple(row[name] for name in _MADE_BY) for row in rows}
            finished = {
                row["source"]: (str(row["status"]), str(row["reason"]) if row["reason"] else None)
                for row in rows
            }
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            raise ResultsError(
                f"{self._path}: not a file of this model's results; give another one"
            ) from error
        bundle = screener.bundle
        maker = (bundle.name, bundle.version, screener.precision, screener.engine)
        if made_by - {(*maker, screener.operating_point)}:
            raise ResultsError(
                f"{self._path}: holds results of another model, precision, engine or operating "
                "point; give another file"
            )
        return finished


def _columns(screener: Screener) -> list[str]:
    probabilities = [f"probability_{name}" for name in screener.bundle.classifier.classes]
    return [
        *("source", "status", "reason", "label", "certain", *probabilities, "frontal_score"),
        *(*_MADE_BY, "total_ms"),
        *("modality", "body_part", "view_position", "warnings", "corrections"),
    ]


def _flatten(screening: Screening) -> dict[str, Any]:
    values = screening.to_dict()
    probabilities = values["probabilities"] or {}
    return {
        **values,
        **{f"probability_{name}": value for name, value in probabilities.items()},
        **(values["tags"] or {}),
        "source": one_line(screening.source),
        "total_ms": values["timings_ms"]["total"],
        "warnings": " ".join(screening.warnings),
        "corrections": " ".join(screening.corrections),
    }


def csv_row(values: Sequence[Any]) -> str:
    """One line of a CSV file, in which no text begins as a spreadsheet's formula does."""
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(map(_with_mark, values))
    return row.getvalue()


def _with_mark(value: Any) -> Any:
    """An apostrophe before a text that a spreadsheet would run as a formula."""
    marked = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{value}" if marked else value


def _without_mark(cell: str) -> str:
    return cell.removeprefix("'")


def one_line(source: str) -> str:
    """A name in one line, unlike that of any other name.

    File names may hold line feeds, or bytes that are no text: such a name is written with the
    escapes of JSON, and so is one with a backslash, which could be mistaken for such an escape.
    """
    plain = source.isprintable() and "\\" not in source
    return source if plain else json.dumps(source)[1:-1]
