"""Labelled images that a CSV lists."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .samples import HEALTHY, NON_CLASSES, SPLITS, Box, Sample

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_AS_UTF8 = "save it as UTF-8 (Excel: 'CSV UTF-8'; or `iconv -f LATIN1 -t UTF-8`)"
#: Names that other programs use for our splits.
_SPLIT_NAMES = {
    **{name: name for name in SPLITS},
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}

Row = Mapping[str, str]


def split_name(name: str) -> str | None:
    """Which of `SPLITS` a folder or a cell means, such as ``valid``; ``None`` where none."""
    return _SPLIT_NAMES.get(name.lower())


def read_manifest(
    manifest: Path,
    where: Sequence[tuple[str, str]] = (),
    classes: Collection[str] | None = None,
) -> list[Sample]:
    """The samples of a manifest CSV; see `load_dataset`.

    Raises
    ------
    DatasetError
        The file is no CSV of this kind, or a row is not as it should be: its number is named.
    """
    wanted: dict[str, set[str]] = {}
    for column, value in where:
        wanted.setdefault(column, set()).add(value)
    samples = []
    for number, row in _rows(manifest, {"file", "label", *wanted} - {"split"}):
        if all(_cell(row, column) in values for column, values in wanted.items()):
            try:
                samples.append(_sample(manifest, number, row, classes))
            except ValueError as error:
                raise DatasetError(f"{manifest}, row {number}: {error}") from error
    return samples


def _cell(row: Row, column: str) -> str:
    """The values that a filter compares; splits may be made and filtered later."""
    return split_name(row[column]) or row[column] if column == "split" else row[column]


def _rows(manifest: Path, needed: Collection[str]) -> list[tuple[int, Row]]:
    """Each row with its number as a spreadsheet counts, the header being row 1."""
    content = manifest.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith(_UTF16):
            raise DatasetError(f"{manifest}: is UTF-16; {_AS_UTF8}") from error
        row = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{manifest}, row {row}: is not UTF-8; {_AS_UTF8}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        columns = list(reader.fieldnames or ())
        missing = sorted(set(needed) - set(columns))
        if missing and len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
            used = "semicolons" if ";" in columns[0] else "tabs"
            raise DatasetError(f"{manifest}: its columns are separated by {used}; use commas")
        if missing:
            raise DatasetError(f"{manifest}: no column {', '.join(missing)}")
        return list(enumerate(reader, start=2))
    except csv.Error as error:
        raise DatasetError(f"{manifest}, line {reader.line_num + 1}: no CSV ({error})") from error


def _sample(manifest: Path, number: int, row: Row, classes: Collection[str] | None) -> Sample:
    """One row's sample; `ValueError` says what is wrong with it."""
    label = row["label"]
    if not row["file"] or not label:
        raise ValueError("file or label is empty")
    if classes is not None and label not in classes and label not in NON_CLASSES:
        raise ValueError(
            f"the label {label!r} is neither a class ({', '.join(classes)}) nor one of "
            f"{', '.join(NON_CLASSES)}"
        )
    path = manifest.parent / row["file"]
    if not path.is_file():
        raise ValueError(f"{row['file']} does not exist")
    split = row.get("split") or ""
    if split and split_name(split) is None:
        raise ValueError(f"split {split!r} is none of {SPLITS}")
    boxes = _opacity_boxes(row.get("opacity_boxes") or "")
    if boxes and label == HEALTHY:
        raise ValueError(f"an opacity on an image labelled {HEALTHY!r}; correct one of the two")
    patient = row.get("group_id") or row.get("patient_id")
    return Sample(
        path,
        label,
        split_name(split) or "",
        patient or row["file"],
        row.get("source") or "",
        number,
        columns=row,
        opacity_boxes=boxes,
        lung_box=_lung_box(row.get("lung_box") or ""),
        manifest=manifest,
        patient_known=bool(patient),
    )


def _opacity_boxes(text: str) -> tuple[Box, ...] | None:
    """A cell's boxes: none where somebody looked and found none, ``None`` where nobody did."""
    if not text.strip():
        return None
    values = _json("opacity_boxes", text)
    if not isinstance(values, list):
        raise ValueError("opacity_boxes is no JSON list of boxes")
    return tuple(_box("opacity_boxes", one) for one in values)


def _lung_box(text: str) -> Box | None:
    """A cell's one box, alone or as a list of one."""
    if not text.strip():
        return None
    values = _json("lung_box", text)
    if isinstance(values, list) and len(values) == 1:
        values = values[0]
    return _box("lung_box", values)


def _json(column: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{column} is no JSON: {text[:40]!r}") from error


def _box(column: str, values: Any) -> Box:
    good = (
        isinstance(values, list)
        and len(values) == 4
        and all(type(one) in (int, float) and math.isfinite(one) for one in values)
    )
    if good:
        left, top, right, bottom = map(float, values)
        if 0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0:
            return left, top, right, bottom
    raise ValueError(
        f"{column} holds {json.dumps(values)[:60]}, not [left, top, right, bottom] in fractions "
        "of the width and height, 0 to 1"
    )
