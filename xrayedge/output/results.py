"""A file of results that grows picture by picture and can be taken up again after a crash."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import ResultsError
from ..result import Screening
from ..screening import Screener

_SUFFIXES = (".csv", ".jsonl")
_MADE_BY = ("model", "version", "precision", "engine", "operating_point")


class ResultsFile:
    """Rows of screenings in ``.csv`` or ``.jsonl``, each on the disk before the next is begun.

    Opened on a file that is there, it goes on behind the last whole row.

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
        Another ending, a file that can't be read or written, or rows of another model or format.
    """

    def __init__(self, path: Path, screener: Screener) -> None:
        if path.suffix.lower() not in _SUFFIXES:
            raise ResultsError(f"{path}: results are written to {' or '.join(_SUFFIXES)} files")
        self._path = path
        self._columns = _columns(screener) if path.suffix.lower() == ".csv" else None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b")
            self._stream.seek(0)
            content = self._stream.read()
        except OSError as error:
            raise ResultsError(f"{path}: can't be written ({error.strerror})") from error
        whole = content[: content.rfind(b"\n") + 1]  # a crash may have left half a row
        try:
            self._finished = self._take_up(whole, screener)
        except ResultsError:
            self._stream.close()
            raise
        self._stream.truncate(len(whole))
        if self._columns and not whole:
            self._append(_csv_row(self._columns))

    def status(self, source: str) -> str | None:
        """The status of a source that the file held when it was opened, if it did."""
        return self._finished.get(_one_line(source))

    def write(self, screening: Screening) -> None:
        """Append one row and wait until it is on the disk."""
        if self._columns:
            flat = _flatten(screening)
            self._append(_csv_row([flat.get(column) for column in self._columns]))
        else:
            self._append(json.dumps(screening.to_dict()) + "\n")

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def _append(self, text: str) -> None:
        try:
            self._stream.write(text.encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise ResultsError(f"{self._path}: can't be written ({error.strerror})") from error

    def _take_up(self, content: bytes, screener: Screener) -> dict[str, str]:
        try:
            text = content.decode()
            if self._columns:
                reader = csv.DictReader(io.StringIO(text), strict=True)
                rows: list[dict[str, Any]] = list(reader)
                if text and reader.fieldnames != self._columns:
                    raise ValueError("other columns")
            else:
                rows = [json.loads(line) for line in text.split("\n") if line]
            made_by = {tuple(row[name] for name in _MADE_BY) for row in rows}
            finished = {_one_line(row["source"]): str(row["status"]) for row in rows}
        except (ValueError, KeyError, TypeError, csv.Error) as error:
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
        "source": _one_line(screening.source),
        "total_ms": values["timings_ms"]["total"],
        "warnings": " ".join(screening.warnings),
        "corrections": " ".join(screening.corrections),
    }


def _csv_row(values: Sequence[Any]) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(values)
    return row.getvalue()


def _one_line(source: str) -> str:
    """A file's name may hold line feeds, or bytes that are no text: escaped as in JSON."""
    return source if source.isprintable() else json.dumps(source)[1:-1]
