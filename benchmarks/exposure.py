"""How much a model depends on the range of grey values that an image fills.

    python benchmarks/exposure.py MANIFEST.csv SITES.csv --where split=val

An export without a window, or one bright marker in the corner, leaves the lungs in a narrow band of
the grey range. Each image is compressed into such a band and screened; the table has those that the
frontal check lets through, and what the classifier makes of them at `balanced`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from commandline import add_where
from numpy.typing import NDArray
from unseen_document import Judged, table

from xrayedge import Screener
from xrayedge.bundle import DEFAULT_MODEL
from xrayedge.data import Sample, load_dataset, read_sample

#: The darkest and the brightest level that is left.
BANDS = {
    "as it is": (0, 255),
    "half of the range, dark": (0, 128),
    "0.3 of it, dark": (0, 77),
    "0.15 of it, dark": (0, 38),
    "0.3 of it, grey": (90, 167),
    "0.3 of it, bright": (178, 255),
}


def compressed(pixels: NDArray[np.uint8], low: int, high: int) -> NDArray[np.uint8]:
    """``uint8 [H, W]`` with its levels 0 to 255 moved to ``low`` to ``high``."""
    levels = np.rint(np.linspace(low, high, 256)).astype(np.uint8)
    return levels[pixels]


def judged(screener: Screener, samples: tuple[Sample, ...], low: int, high: int) -> Judged:
    """What passes the frontal check, and its scores."""
    kept, scores = [], []
    for sample in samples:
        found = screener.screen(compressed(read_sample(sample), low, high)).probabilities
        if found is not None:
            kept.append(sample)
            scores.append(list(found.values()))
    network = screener.bundle.classifier
    balanced = network.operating_points[0]
    weights = np.array([balanced.weights[name] for name in network.classes])
    return Judged(
        tuple(kept),
        network.classes,
        np.reshape(scores, (len(kept), len(network.classes))),
        np.tile(weights, (len(kept), 1)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    add_where(parser)
    arguments = parser.parse_args()
    screener = Screener(arguments.model)
    samples = load_dataset(
        arguments.data, arguments.where, complete=False, non_classes=True
    ).samples
    rows = {}
    for name, (low, high) in BANDS.items():
        rows[name] = judged(screener, samples, low, high)
        print(f"{name}: {len(rows[name].samples)} of {len(samples)} pass", file=sys.stderr)
    print(table("grey values", rows))


if __name__ == "__main__":
    main()
