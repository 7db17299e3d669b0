"""The rows of an archive: an image's result as ``screen --json`` gives it, in typed columns.

A part is a Parquet file of such rows. Its key-value metadata say what made it, as JSON under
`METADATA_KEY`: ``{"settings": {...}, "shard": 12, "host": ..., "started": ..., "finished": ...}``
with times in UTC (ISO 8601).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..deadline import STAGES
from ..errors import ResultsError
from ..output.results import one_line
from ..result import Screening
from .settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

#: Of the manifest and of each part.
METADATA_KEY = b"xrayedge"
#: The reason for an image that ended its screening process every time.
CRASHED = "crashed"

#: Rows before they are turned into columns.
Row = dict[str, Any]


@dataclass(frozen=True)
class File:
    """What is known about a source, apart from its pixels.

    Parameters
    ----------
    source
        A path or a URL.
    size
        In bytes; ``None`` if it could not be determined.
    sha256
        Of its bytes, in hexadecimal digits; ``None`` if they were not read.
    modified
        When it was last changed, in UTC, as far as its store knows.
    """

    source: str
    size: int | None = None
    sha256: str | None = None
    modified: datetime | None = None


def schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of a part, for a model of these classes.

    Those of ``screen --json`` under the same names, then the ``detail`` of what was not screened,
    the file's ``size``, ``sha256`` and ``modified``, and what made the row:
    ``bundle_sha256``, ``xrayedge_version``, ``engine_version``. A source that has bytes which are
    no text, or that is not printable, is written as in a CSV file of `output.results`.
    """
    # Not at the top: a screening process makes rows but no columns, and so needs less memory.
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    texts = pa.list_(pa.field("element", text, nullable=False))
    opacity = pa.struct(
        [
            pa.field("box", pa.list_(pa.field("element", number, nullable=False)), nullable=False),
            pa.field("score", number, nullable=False),
        ]
    )
    return pa.schema(
        [
            pa.field("source", text, nullable=False),
            pa.field("status", text, nullable=False),
            pa.field("reason", text),
            pa.field("label", text),
            pa.field("certain", pa.bool_()),
            pa.field("probabilities", pa.struct([pa.field(name, number) for name in classes])),
            pa.field("frontal_score", number),
            pa.field("model", text, nullable=False),
            pa.field("version", text, nullable=False),
            pa.field("precision", text, nullable=False),
            pa.field("engine", text, nullable=False),
            pa.field("operating_point", text, nullable=False),
            pa.field(
                "timings_ms",
                pa.struct([pa.field(name, number) for name in (*STAGES, "total")]),
                nullable=False,
            ),
            pa.field(
                "tags",
                pa.struct(
                    [pa.field(name, text) for name in ("modality", "body_part", "view_position")]
                ),
            ),
            pa.field("warnings", texts, nullable=False),
            pa.field("corrections", texts, nullable=False),
            pa.field(
                "opacities",
                pa.list_(pa.field("element", opacity, nullable=False)),
                nullable=False,
            ),
            pa.field("lungs", pa.list_(pa.field("element", number, nullable=False))),
            pa.field("detail", text),
            pa.field("size", pa.int64()),
            pa.field("sha256", text),
            pa.field("modified", pa.timestamp("us", tz="UTC")),
            pa.field("bundle_sha256", text, nullable=False),
            pa.field("xrayedge_version", text, nullable=False),
            pa.field("engine_version", text, nullable=False),
        ]
    )


def row(screening: Screening, file: File, settings: Settings) -> Row:
    """The row of a screened image."""
    return {
        **screening.to_dict(),
        "source": one_line(file.source),
        "detail": None if screening.detail is None else one_line(screening.detail),
        **_of_file(file),
        **_made_by(settings),
    }


def failed_row(file: File, reason: str, detail: str, settings: Settings) -> Row:
    """The row of an image that no screener saw."""
    return {
        "source": one_line(file.source),
        "status": "failed",
        "reason": reason,
        "label": None,
        "certain": None,
        "probabilities": None,
        "frontal_score": None,
        "model": settings.model,
        "version": settings.version,
        "precision": settings.precision,
        "engine": settings.engine,
        "operating_point": settings.operating_point,
        "timings_ms": dict.fromkeys((*STAGES, "total")),
        "tags": None,
        "warnings": [],
        "corrections": [],
        "opacities": [],
        "lungs": None,
        "detail": one_line(detail),
        **_of_file(file),
        **_made_by(settings),
    }


def part(rows: Sequence[Row], settings: Settings, made: Mapping[str, Any]) -> bytes:
    """A Parquet file of these rows.

    Parameters
    ----------
    rows
        In the manifest's order.
    settings
        What made them.
    made
        What else the metadata say, as JSON values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = {METADATA_KEY: json.dumps({"settings": settings.to_dict(), **made})}
    table = pa.Table.from_pylist(list(rows), schema(settings.classes).with_metadata(metadata))
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="zstd")
    return bytes(stream.getvalue())


def made_by(path: Path) -> dict[str, Any]:
    """What the metadata of a manifest or a part say.

    Raises
    ------
    ResultsError
        The file can't be read, or is none of an archive's.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_metadata(path).metadata or {}
        values: dict[str, Any] = json.loads(found[METADATA_KEY])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ResultsError(f"{path}: not a file of an archive, or damaged; remove it") from error
    return values


def _of_file(file: File) -> Row:
    return {"size": file.size, "sha256": file.sha256, "modified": file.modified}


def _made_by(settings: Settings) -> Row:
    return {
        "bundle_sha256": settings.bundle_sha256,
        "xrayedge_version": settings.xrayedge_version,
        "engine_version": settings.engine_version,
    }
