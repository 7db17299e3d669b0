"""Compare the results of two machines; exit status 1 if they differ.

    python tools/same_scores.py HERE.jsonl THERE.jsonl

Takes what `xrayedge screen --json` printed for the same images on each. Statuses, reasons and
labels must be equal, and no probability may differ by more than golden vectors may.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from xrayedge.golden import TOLERANCES

_EQUAL = ("source", "status", "reason", "label", "model", "version", "precision", "engine")


def largest_difference(here: dict[str, Any], there: dict[str, Any]) -> float:
    """Of any one probability or frontal score; both images got as far as that.

    Raises
    ------
    ValueError
        The results differ in more than their scores, or there are none.
    """
    for name in _EQUAL:
        if here[name] != there[name]:
            raise ValueError(f"{here['source']}: {name} is {here[name]} and {there[name]}")
    if here["frontal_score"] is None:
        raise ValueError(f"{here['source']}: no scores, {here['reason']}")
    scores = [
        [one["frontal_score"], *(one["probabilities"] or {}).values()] for one in (here, there)
    ]
    return max(abs(one - other) for one, other in zip(*scores, strict=True))


def main() -> int:
    """Compare two files of results, line by line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("here", type=Path)
    parser.add_argument("there", type=Path)
    chosen = parser.parse_args()
    files = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (chosen.here, chosen.there)
    ]
    try:
        differences = [largest_difference(*pair) for pair in zip(*files, strict=True)]
    except ValueError as error:
        print(f"other results: {error}")
        return 1
    if not differences:
        print("no results to compare")
        return 1
    tolerance = TOLERANCES[files[0][0]["precision"]]
    largest = max(differences)
    print(f"largest difference of a score: {largest:.6f} (at most {tolerance})")
    return 0 if largest <= tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
