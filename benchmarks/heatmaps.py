"""Whether two models' heatmaps agree, and whether they point to the lungs.

    python benchmarks/heatmaps.py vgg16-edge vgg16 --data MANIFEST.csv --where set=extended \
        --where split=test

Each model is a bundle or a training run; the second is the teacher, whose label on each image is
the class explained. Prints, with 95 % intervals over patients: how the evidence of both correlates
over the places of an image; how often the first one's strongest place is the second's or next to
it; and how much of each one's evidence for the class lies inside the middle, and how much a map
that is the same everywhere would have there.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from commandline import add_where
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from xrayedge.data import Sample, load_dataset, read_sample
from xrayedge.evaluation import Judgement, ScoringModel, check_labels, intervals, mean
from xrayedge.heatmap import evidence
from xrayedge.training.run import RECORD
from xrayedge.training.scoring import scoring_model

Map = NDArray[np.float32]

#: Cells at each edge of the map that count as border: one of seven.
BORDER = 1


def correlation(one: Map, other: Map) -> float:
    """Pearson's, over the places of an image; 0 where a map is the same everywhere."""
    if min(one.std(), other.std()) == 0.0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def same_peak(one: Map, other: Map) -> bool:
    """Whether the strongest places of both are the same or touch, corners included."""
    places = [np.array(np.unravel_index(found.argmax(), found.shape)) for found in (one, other)]
    return bool(np.abs(places[0] - places[1]).max() <= 1)


def share_inside(found: Map) -> float:
    """Share of the evidence for a class that lies inside the border; NaN where there is none."""
    positive = np.maximum(found, 0.0)
    total = float(positive.sum())
    return float(inside(positive).sum()) / total if total else float("nan")


def inside(found: Map) -> Map:
    """The map without its border."""
    return found[BORDER:-BORDER, BORDER:-BORDER]


def _open(model: str) -> ScoringModel:
    if (Path(model) / RECORD).is_file():
        return scoring_model(Path(model))
    return ScoringModel.from_bundle(model, "int8", None, frontal=False)


def _judged(model: ScoringModel, sample: Sample) -> Judgement:
    pixels = read_sample(sample)
    return model.judge(model.inputs(pixels, model.window(pixels)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("teacher")
    parser.add_argument("--data", type=Path, required=True)
    add_where(parser)
    arguments = parser.parse_args()
    samples = load_dataset(arguments.data, arguments.where, complete=False).samples
    model, teacher = _open(arguments.model), _open(arguments.teacher)
    if (model.classes, model.preprocessing.fit) != (teacher.classes, teacher.preprocessing.fit):
        parser.error("the two models differ in classes or in how an image becomes square")
    check_labels(samples, model.classes)
    rows = []
    uniform = 0.0
    for sample in track(samples, "screening", console=Console(stderr=True), transient=True):
        (_, own), (scores, other) = (_judged(one, sample) for one in (model, teacher))
        explained = int(scores.argmax())
        of_classes = [found[:, :, : len(model.classes)] for found in (own, other)]
        one, two = (evidence(found, explained) for found in of_classes)
        rows.append((correlation(one, two), same_peak(one, two), *map(share_inside, (one, two))))
        uniform = inside(one).size / one.size
    names = (
        "correlation of the evidence",
        "strongest place the same or next to it",
        f"evidence inside the border: {Path(arguments.model).name}",
        f"evidence inside the border: {Path(arguments.teacher).name}",
    )
    columns = dict(zip(names, np.array(rows, np.float64).T, strict=True))
    patients = [sample.group for sample in samples]
    print(f"{len(samples)} images of {len(set(patients))} patients")
    found = intervals(
        lambda weights: {name: mean(column, weights) for name, column in columns.items()}, patients
    )
    for name, value in found.items():
        print(f"{name:48}{value}")
    print(f"{'evidence inside the border: the same anywhere':48}{uniform:.3f}")


if __name__ == "__main__":
    main()
