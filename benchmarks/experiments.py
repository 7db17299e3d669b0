"""What was tried to make the classifier generalise; writes docs/experiments.md.

    python benchmarks/experiments.py RUN MANIFEST.csv --unseen FRONTAL.csv --out RUNS --docs docs

RUN is a small, distilled network (`xrayedge prune --half-side`), on which an experiment takes
minutes on two cores. Each variant continues its training by another recipe and is judged on
`extended/val` and on frontal radiographs of a site that no split holds. The `test` splits are not
touched. Finished runs are reused.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from commandline import this_command
from numpy.typing import NDArray
from reproduction import table
from rich.console import Console

from xrayedge.data import Dataset, Sample, load_dataset, model_inputs
from xrayedge.evaluation import Evaluation, ScoringModel, auc, evaluate
from xrayedge.files import write_atomically
from xrayedge.preprocessing import Preprocessing
from xrayedge.training.augmentation import Augmentation
from xrayedge.training.recipe import RECIPES, ROBUST, Phase, Recipe
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.scoring import predict
from xrayedge.training.train import train

HEALTHY, COVID = "healthy", "covid"
START = "RUN as it is"
SHIPPED, POINTS = ("vgg16", "vgg16-edge"), ("balanced", "specific")
VAL_METRICS = ("balanced_accuracy", "macro_auc", "auc/covid", "auc/healthy")

BASE = replace(
    RECIPES["vgg16-robust"],
    name="experiment",
    phases=(Phase(epochs=2, learning_rate=1e-4, first_block=1),),
    batch_size=32,
    dropout=0.1,
)


def _fitted(**changes: object) -> Preprocessing:
    return replace(Preprocessing(size=112), **changes)  # type: ignore[arg-type]


#: What changes in the recipe, and the preprocessing where that changes too.
VARIANTS: dict[str, tuple[Recipe, Preprocessing]] = {
    "little augmentation": (replace(BASE, augmentation=Augmentation()), _fitted()),
    "robust augmentation": (BASE, _fitted()),
    "robust, more exchange of detail and texture": (
        replace(BASE, augmentation=replace(ROBUST, detail=0.5, texture=1.0)),
        _fitted(),
    ),
    "robust, half the loss within a source": (replace(BASE, within_source=0.5), _fitted()),
    "robust, sources equally often": (replace(BASE, source_balance=0.0), _fitted()),
    "robust, label smoothing 0.2": (replace(BASE, label_smoothing=0.2), _fitted()),
    "robust, the last block alone": (
        replace(BASE, phases=(replace(BASE.phases[0], first_block=5),)),
        _fitted(),
    ),
    "robust, global equalisation": (BASE, _fitted(equalisation="global")),
    "robust, no equalisation": (BASE, _fitted(equalisation="none")),
    "robust, CLAHE with clip limit 4": (BASE, _fitted(clahe_clip=4.0)),
    "robust, central square": (BASE, _fitted(fit="crop")),
    "robust, padded": (BASE, _fitted(fit="pad")),
}


DOCUMENT = """\
# What was tried to make the classifier generalise

This page is written by

    {command}

It compares variants trained for {epochs} epochs each with one seed: differences of 0.02 are noise.

## Every source seen, and one site that was not

RUN is `vgg16` pruned and distilled at half the side, to the widths {widths}:

    xrayedge prune runs/vgg16 --data MANIFEST.csv --target-macs 0.08 --half-side --view-count 3 \\
        --epochs 6 --out RUN

Each variant continues its training, with labels, by the recipe `vgg16-robust` except for what its
name says. It is judged on `extended/val` ({val} images),
and on {unseen} frontal radiographs of a site that no classifier was trained on. Those have no
stated finding, and nearly all look healthy: the share called healthy should be large. A constant
added to a logit changes that share. The last column can't be changed that way: it is the
probability that an image of that site is ranked healthier than an ill one of `extended/val`.

{judged}
- In part `val` rewards recognising the hospital: of all variants with labels, little augmentation
  is best there, and it calls a third of the healthy at the unseen site covid.
- Robust augmentation calls a tenth of them covid, and costs balanced accuracy on `val`. Most of its
  effect is on the balance between classes, which an operating point changes without training.
- Label smoothing, and an equalisation other than RUN was trained with, gain in the last column.
  Drawing sources equally often loses there, and so do the central square and padding, which keep
  the aspect ratio and so reveal the source.

The shipped bundles' int8 files on the same images, at two operating points:

{shipped}
One source left out: see [reproduction.md](reproduction.md), and `xrayedge train MANIFEST.csv
--recipe RECIPE --leave-one-source-out`. Without Kermany no child is healthy, without NIH no adult
is, and without ieee8023 there is no COVID-19: three sources are too few to choose variants by.

## Does it show in an image that a network will err?

No better than in its largest probability, as far as was measured, so results contain no such
number: [familiarity.md](familiarity.md).
"""


@dataclass(frozen=True)
class Outcome:
    """How one variant did: on `extended/val`, and on the unseen site."""

    val: Evaluation
    unseen: dict[str, float]
    healthier: float


class Experiments:
    """The data, the run that each variant starts from, and the folder of the runs."""

    def __init__(self, start: Path, manifest: Path, unseen: Path, out: Path) -> None:
        self.start = start
        self.dataset: Dataset = load_dataset(manifest)
        self.data_name = {"name": manifest.name}
        self.out = out
        seen = {sample.source for sample in self.dataset.samples}
        everything = load_dataset(unseen, complete=False).samples
        self.unseen = [
            sample
            for sample in everything
            if sample.label == "frontal" and sample.source not in seen
        ]

    def run(self, name: str) -> Path:
        """Train the variant, unless it is done."""
        folder = self.out / _folder(name)
        if not RunRecord.is_finished(folder):
            recipe, preprocessing = VARIANTS[name]
            network = RunRecord.read(self.start).recipe
            recipe = replace(recipe.for_network_of(network), preprocessing=preprocessing)
            train(self.dataset, recipe, folder, data_name=self.data_name, start=self.start)
        return folder

    def judge(self, run: Path) -> Outcome:
        """A run on `extended/val` and on the unseen site."""
        record = RunRecord.read(run)

        def score(samples: Sequence[Sample]) -> NDArray[np.float64]:
            inputs = model_inputs(samples, record.recipe.preprocessing)
            return predict(run / MODEL, inputs, record.temperature)

        return self._outcome(score)

    def _outcome(self, score: Callable[[Sequence[Sample]], NDArray[np.float64]]) -> Outcome:
        classes = self.dataset.classes
        val = self.dataset.split("val")
        known, unseen = score(val), score(self.unseen)
        shares = np.bincount(unseen.argmax(axis=1), minlength=len(classes)) / len(unseen)
        healthy = classes.index(HEALTHY)
        ill = known[[sample.label != HEALTHY for sample in val], healthy]
        return Outcome(
            val=evaluate(val, classes, known),
            unseen=dict(zip(classes, shares.tolist(), strict=True)),
            healthier=float(
                auc(
                    np.arange(len(unseen) + len(ill)) < len(unseen),
                    np.r_[unseen[:, healthy], ill],
                    np.ones((1, len(unseen) + len(ill))),
                )[0]
            ),
        )

    def judge_shipped(self, name: str, point: str) -> Outcome:
        """The same of a shipped bundle's int8 file at an operating point."""
        model = ScoringModel.from_bundle(name, "int8", None, frontal=False, operating_point=point)
        return self._outcome(lambda samples: np.stack([model.score(one) for one in samples]))


def _folder(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def judged(outcomes: Mapping[str, Outcome]) -> str:
    """One row a variant: `extended/val`, then the unseen site."""
    header = [
        "variant",
        "balanced accuracy",
        "macro AUC",
        "COVID-19 AUC",
        "healthy AUC",
        "unseen: called healthy",
        "unseen: called covid",
        "unseen: healthier than the ill",
    ]
    rows = [
        [
            name,
            *(f"{one.val.metrics[metric].value:.3f}" for metric in VAL_METRICS),
            f"{one.unseen[HEALTHY]:.2f}",
            f"{one.unseen[COVID]:.2f}",
            f"{one.healthier:.3f}",
        ]
        for name, one in outcomes.items()
    ]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("start", type=Path, metavar="RUN")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--unseen", type=Path, required=True, help="the frontal check's manifest")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--docs", type=Path, required=True, help="folder for experiments.md")
    arguments = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    work = Experiments(arguments.start, arguments.manifest, arguments.unseen, arguments.out)
    outcomes = {START: work.judge(work.start)}
    for name in VARIANTS:
        console.print(name)
        outcomes[name] = work.judge(work.run(name))
        print(judged({name: outcomes[name]}).splitlines()[-1], flush=True)
    shipped = {
        f"`{name}`, {point}": work.judge_shipped(name, point)
        for name in SHIPPED
        for point in POINTS
    }
    widths = RunRecord.read(work.start).recipe.widths or ()
    document = DOCUMENT.format(
        command=this_command(),
        epochs=BASE.epochs,
        widths=", ".join("-".join(map(str, block)) for block in widths),
        val=len(work.dataset.split("val")),
        unseen=len(work.unseen),
        judged=judged(outcomes),
        shipped=judged(shipped),
    )
    write_atomically(arguments.docs / "experiments.md", document.encode())


if __name__ == "__main__":
    main()
