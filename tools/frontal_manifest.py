"""Add classified radiographs to the images that train the frontal check, as frontal ones.

    python tools/frontal_manifest.py FRONTAL.csv SITES.csv [MORE.csv ...] --out ALL.csv

Each image that a classifier learns from is an upright frontal chest radiograph, whatever its label
says. ALL.csv has the rows of FRONTAL.csv, and those of the other manifests with the label
`frontal`. Their split `val` becomes `test`, because `val` needs images of every kind: `train`
makes it from the patients of `train`. Images that FRONTAL.csv has already are not repeated.

    xrayedge train ALL.csv --recipe frontal --out RUN
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xrayedge.data import Sample, load_dataset
from xrayedge.data.splits import check_sides
from xrayedge.errors import XrayEdgeError
from xrayedge.files import write_atomically

_FRONTAL = "frontal"  # the label that the recipe `frontal` expects
_COLUMNS = ("file", "label", "split", "group_id", "source", "set", "original_name")


def joined(frontal: Path, others: Sequence[Path], folder: Path) -> list[dict[str, str]]:
    """The rows of the new manifest, whose files are named relative to ``folder``.

    Raises
    ------
    XrayEdgeError
        A manifest can't be read, or a patient is on two sides.
    """
    known = _samples(frontal)
    files = {sample.path.resolve() for sample in known}
    added = [
        replace(sample, label=_FRONTAL, split="test" if sample.split == "val" else sample.split)
        for manifest in others
        for sample in _samples(manifest)
        if sample.path.resolve() not in files
    ]
    check_sides([*known, *added])
    return [_row(sample, folder) for sample in (*known, *added)]


def _samples(manifest: Path) -> list[Sample]:
    """A manifest's images; one without a patient is a group of its own."""
    samples = load_dataset(manifest, complete=False, non_classes=True).samples
    return [one if one.patient_known else replace(one, group=str(one.path)) for one in samples]


def _row(sample: Sample, folder: Path) -> dict[str, str]:
    values = {
        **sample.columns,
        "file": os.path.relpath(sample.path.resolve(), folder.resolve()),
        "label": sample.label,
        "split": sample.split,
        "group_id": sample.group,
        "source": sample.source,
    }
    return {column: values.get(column, "") for column in _COLUMNS}


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("frontal", type=Path, help="what the frontal check learns from already")
    parser.add_argument("classified", nargs="+", type=Path, help="manifests of radiographs")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.out.resolve() in {
        one.resolve() for one in (arguments.frontal, *arguments.classified)
    }:
        parser.error("--out is one of the manifests that are read")
    try:
        rows = joined(arguments.frontal, arguments.classified, arguments.out.parent)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(arguments.out, text.getvalue().encode())
    except (XrayEdgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {len(rows)} images, {len(arguments.classified)} manifests joined")
    return 0


if __name__ == "__main__":
    sys.exit(main())
