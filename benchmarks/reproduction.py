"""Civit-Masot et al. 2020 reproduced, with controls; writes docs/reproduction.md.

    python benchmarks/reproduction.py MANIFEST.csv --weights VGG16.npz --out RUNS --docs docs

Trains the paper's recipe on the set `paper` with original and with equalised images, three seeds
each, then asks what those results are worth: on other hospitals' images, with the lungs blacked
out, and with one source left out. Finished runs are reused.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
from frozen_features import Reading, readings
from rich.console import Console

from xrayedge.data import Dataset, Sample, load_dataset, model_inputs, read_sample
from xrayedge.evaluation import Evaluation, evaluate, evaluate_by
from xrayedge.evaluation.report import confusion_figure, png, roc_figure
from xrayedge.files import write_atomically
from xrayedge.training.generalisation import leave_one_source_out
from xrayedge.training.recipe import RECIPES, Recipe
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.scoring import predict
from xrayedge.training.train import train

SEEDS = (0, 1, 2)
RECIPE_NAMES = {"original": "paper-original", "equalised": "paper-equalised"}
#: What the paper prints: accuracy, and recall of its COVID class; every AUC is above 0.9.
PUBLISHED = {"original": ("0.86", "0.96"), "equalised": ("0.85", "1.00")}
#: The middle of an image that the border-only control blacks out: fractions of height and width.
BLACKED_OUT = ((0.12, 0.90), (0.08, 0.92))

_console = Console(stderr=True)


class Reproduction:
    """The runs and their evaluations; every run folder is under ``out``."""

    def __init__(self, manifest: Path, weights: Path | None, out: Path) -> None:
        self._manifest = manifest
        self._weights = weights
        self._out = out

    def data(self, *sets: str) -> Dataset:
        """Those sets of the manifest; none of it becomes `val`."""
        where = [("set", name) for name in sets]
        return load_dataset(self._manifest, where, with_val=False)

    def run(self, dataset: Dataset, recipe: Recipe, name: str) -> Path:
        """Train, unless it is done."""
        folder = self._out / name
        if not RunRecord.is_finished(folder):
            _console.print(f"training {name}")
            data_name = {"name": self._manifest.name, "run": name}
            train(dataset, recipe, folder, data_name=data_name, weights=self._weights)
        return folder

    def left_out(self, dataset: Dataset, recipe: Recipe, name: str) -> dict[str, Evaluation]:
        """The evaluation of each source by a model that never saw it."""
        folds = leave_one_source_out(
            dataset,
            recipe,
            self._out / name,
            data_name={"name": self._manifest.name},
            weights=self._weights,
        )
        return {fold.source: fold.evaluation for fold in folds}

    def readings(self, dataset: Dataset, recipe: Recipe, name: str) -> list[Reading]:
        """Ways to read the frozen network; what it gives of the images is kept under ``out``."""
        self._out.mkdir(parents=True, exist_ok=True)
        return readings(dataset, recipe, self._weights, self._out / name)

    def without_lungs(self, dataset: Dataset, name: str) -> Dataset:
        """The same data with the middle of each image black, written under ``out``."""
        folder = self._out / name
        rows = []
        for number, sample in enumerate(dataset.samples):
            path = folder / f"{number}.png"
            if not path.exists():
                _, data = cv2.imencode(".png", black_out(read_sample(sample)))
                write_atomically(path, data.tobytes())
            rows.append([path.name, sample.label, sample.split, sample.group, sample.source])
        text = io.StringIO()
        csv.writer(text).writerows([["file", "label", "split", "group_id", "source"], *rows])
        write_atomically(folder / "manifest.csv", text.getvalue().encode())
        return load_dataset(folder / "manifest.csv", with_val=False)


def black_out(pixels: np.ndarray) -> np.ndarray:
    """The image with its middle black."""
    (top, bottom), (left, right) = (
        (round(side * low), round(side * high))
        for side, (low, high) in zip(pixels.shape, BLACKED_OUT, strict=True)
    )
    blacked: np.ndarray = pixels.copy()
    blacked[top:bottom, left:right] = 0
    return blacked


def scores_of(run: Path, samples: Sequence[Sample]) -> np.ndarray:
    """A run's probabilities for samples."""
    record = RunRecord.read(run)
    inputs = model_inputs(samples, record.recipe.preprocessing)
    return predict(run / MODEL, inputs, record.temperature)


def judge(run: Path, samples: Sequence[Sample]) -> Evaluation:
    """A run's evaluation on samples."""
    return evaluate(samples, RunRecord.read(run).classes, scores_of(run, samples))


def mean_and_range(evaluations: Sequence[Evaluation], metric: str) -> str:
    """A metric over seeds."""
    values = [one.metrics[metric].value for one in evaluations]
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def with_interval(evaluation: Evaluation, metric: str) -> str:
    """A metric with its 95 % interval."""
    return str(evaluation.metrics.get(metric, ""))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


PAPER_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_f1",
    "macro_specificity",
    "macro_auc",
    *(
        f"{metric}/{name}"
        for name in ("covid", "healthy", "pneumonia")
        for metric in ("precision", "recall", "f1", "auc")
    ),
)
READING_METRICS = ("accuracy", "recall/covid", "auc/covid", "auc/healthy", "auc/pneumonia")
CONTROL_METRICS = ("accuracy", "balanced_accuracy", "macro_auc", "recall/covid", "recall/healthy")


def reproduce(work: Reproduction, docs: Path) -> str:
    """The paper's recipe on the paper's set."""
    paper = work.data("paper")
    test = paper.split("test")
    columns: dict[str, list[str]] = {}
    for name, recipe_name in RECIPE_NAMES.items():
        runs = [
            work.run(paper, replace(RECIPES[recipe_name], seed=seed), f"{recipe_name}-{seed}")
            for seed in SEEDS
        ]
        evaluations = [judge(run, test) for run in runs]
        columns[name] = [mean_and_range(evaluations, metric) for metric in PAPER_METRICS]
        scores = scores_of(runs[0], test)
        labels = np.array([paper.classes.index(sample.label) for sample in test])
        for kind, draw in (("confusion", confusion_figure), ("roc", roc_figure)):
            image = png(draw(labels, scores, paper.classes))
            write_atomically(docs / "reproduction" / f"{kind}-{name}.png", image)
    published = {
        "accuracy": [accuracy for accuracy, _ in PUBLISHED.values()],
        "recall/covid": [recall for _, recall in PUBLISHED.values()],
    }
    rows = []
    for number, metric in enumerate(PAPER_METRICS):
        printed = "> 0.9" if metric.startswith("auc/") else ""
        first, second = published.get(metric, [printed, printed])
        rows.append(
            [metric, first, columns["original"][number], second, columns["equalised"][number]]
        )
    return table(["metric", "paper, original", "ours", "paper, equalised", "ours"], rows)


def other_readings(work: Reproduction) -> str:
    """The same frozen network, read in other ways."""
    paper = work.data("paper")
    rows = []
    for name, recipe_name in RECIPE_NAMES.items():
        for reading in work.readings(paper, RECIPES[recipe_name], f"frozen-{name}.npz"):
            held_out = [f"{reading.held_out_accuracy:.3f}", f"{reading.held_out_loss:.3f}"]
            metrics = [with_interval(reading.evaluation, metric) for metric in READING_METRICS]
            rows.append([name, reading.name, f"{reading.strength:g}", *held_out, *metrics])
    header = ["images", "what is read", "C", "held out: accuracy", "held out: log loss"]
    return table([*header, *READING_METRICS], rows)


def control(work: Reproduction) -> str:
    """What the same recipe is worth if the source does not reveal the class."""
    paper = work.data("paper")
    recipe = RECIPES["paper-equalised"]
    run = work.run(paper, recipe, "paper-equalised-0")
    border = work.without_lungs(paper, "without-lungs")
    border_run = work.run(border, recipe, "paper-equalised-without-lungs")
    evaluations = {
        "`paper`, the paper's own test": judge(run, paper.split("test")),
        "`paper`, lungs blacked out in training and test": judge(border_run, border.split("test")),
        "`paper`, tested on `extended`": judge(run, work.data("extended").split("test")),
    }
    everything = work.data("paper", "extended", "more")
    for source, evaluation in work.left_out(everything, recipe, "paper-way-left-out").items():
        evaluations[f"all sets but {source}; tested on that source"] = evaluation
    rows = [
        [name, str(one.images), *(with_interval(one, metric) for metric in CONTROL_METRICS)]
        for name, one in evaluations.items()
    ]
    return table(["trained on", "images", *CONTROL_METRICS], rows)


def apart(work: Reproduction) -> str:
    """Children and adults, views: the paper's recipe trained on all sets, on `extended/test`."""
    everything = work.data("paper", "extended", "more")
    run = work.run(everything, RECIPES["paper-equalised"], "paper-way-everything")
    test = work.data("extended").split("test")
    scores = scores_of(run, test)
    rows = []
    for column in ("adult_paediatric", "view", "source"):
        for value, one in evaluate_by(column, test, everything.classes, scores).items():
            cells = (with_interval(one, metric) for metric in CONTROL_METRICS)
            rows.append([f"{column}: {value}", str(one.images), *cells])
    return table(["images of `extended/test`", "images", *CONTROL_METRICS], rows)


DOCUMENT = """\
# The paper reproduced, and what its results are worth

Civit-Masot et al. 2020 (Applied Sciences 10(13):4640) trained VGG16 on 316 chest radiographs and
tested it on 80. This page is written by

    python benchmarks/reproduction.py MANIFEST.csv --weights VGG16.npz --out RUNS --docs docs

It uses the recipes `paper-original` and `paper-equalised` of `xrayedge train`.

## The paper's recipe on a dataset like the paper's

132 images per class, one per patient: 105 covid, 105 healthy and 106 pneumonia for training, 27,
27 and 26 for testing. Adam with a learning rate of 0.001, divided by 1 + n * rate / epochs after
n steps, batch size 32, 40 epochs. Mean and range over {seeds} seeds; the images and their split
do not change.

{reproduction}
Confusion matrices and ROC curves of the first seed, with original and with equalised images:

![confusion, original](reproduction/confusion-original.png)
![confusion, equalised](reproduction/confusion-equalised.png)
![ROC, original](reproduction/roc-original.png)
![ROC, equalised](reproduction/roc-equalised.png)

Images with their histograms, and classified images with heatmaps, as in the paper, are in the
report that `xrayedge evaluate RUN MANIFEST.csv --where set=paper --where split=test --out REPORT`
writes. The licences of the radiographs keep them out of this repository.

The paper leaves some choices open. Here images are stretched to 224 x 224, the ImageNet layers
stay frozen, and there is no augmentation. The dense layers are replaced by a 1x1 convolution,
which starts at zero, and the mean over its map. The last epoch is kept, so nothing is chosen on
the test set.

## Other ways to read the same frozen network

The paper's dense layers see a flattened map, so they know where in the image something is. The
mean over the map, which the heatmaps need, does not. Below, a logistic regression on standardised
features reads the network after its last two blocks. `held out` comes from five-fold
cross-validation on the training images. It alone selects C, the inverse of the penalty on the
weights, and the features. 95 % intervals over patients are in brackets.

{readings}
The output of the frozen layers is computed once per run; after that, 40 epochs took {seconds:.0f}
s. Fine-tuning all layers of the shipped `vgg16` took 34 epochs of 100 to 180 s ([model
card](model-card.md)).

## What these results are worth

In this dataset the source reveals the class: all COVID images are of adults and come from one
collection; all others are of children and come from one hospital. Three controls, with equalised
images, seed 0 and 95 % intervals over patients:

{controls}
With the lungs blacked out there is nothing to diagnose: the remaining accuracy comes from the
border alone. An empty cell means that the set lacks that class or has only one class.

## By age, view and source

The same recipe trained on every set (`paper`, `extended`, `more`) and tested on `extended/test`:

{apart}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--weights", type=Path, help="local ImageNet weights, .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--docs", type=Path, required=True, help="folder for reproduction.md")
    arguments = parser.parse_args()
    work = Reproduction(arguments.manifest, arguments.weights, arguments.out)
    reproduction = reproduce(work, arguments.docs)
    history = RunRecord.read(arguments.out / "paper-original-0").history
    document = DOCUMENT.format(
        seeds=len(SEEDS),
        reproduction=reproduction,
        seconds=sum(epoch.seconds for epoch in history),
        readings=other_readings(work),
        controls=control(work),
        apart=apart(work),
    )
    write_atomically(arguments.docs / "reproduction.md", document.encode())


if __name__ == "__main__":
    main()
