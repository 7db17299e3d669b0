"""What was tried to make the classifier generalise; writes docs/experiments.md.

    python benchmarks/experiments.py RUN MANIFEST.csv --unseen FRONTAL.csv --weights VGG16.npz
        --out RUNS --docs docs

RUN is a small, distilled network (`xrayedge prune --half-side`), on which an experiment takes
minutes on two cores. Each variant goes on with it by another recipe and is judged on
`extended/val` and on frontal radiographs of a site that no split holds. Then ImageNet's own
layers are asked what a source left out costs. The `test` splits are not touched. Finished runs are
used again.
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
from sklearn.metrics import roc_auc_score

from xrayedge.files import write_atomically
from xrayedge.preprocessing import Preprocessing
from xrayedge.training.augmentation import Augmentation
from xrayedge.training.batches import model_inputs
from xrayedge.training.data import Dataset, Sample, load_dataset
from xrayedge.training.evaluation import Evaluation, ScoringModel, evaluate, predict
from xrayedge.training.generalisation import leave_one_source_out
from xrayedge.training.recipe import RECIPES, ROBUST, Phase, Recipe
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.train import train

HEALTHY, COVID = "healthy", "covid"
START = "RUN as it is"
SHIPPED, POINTS = ("vgg16", "vgg16-edge"), ("balanced", "specific")
VAL_FIGURES = ("balanced_accuracy", "macro_auc", "auc/covid", "auc/healthy")
LEFT_OUT_FIGURES = ("balanced_accuracy", "recall/healthy", "auc/healthy")

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
    "robust, detail and texture doubled": (
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


def _of_imagenet(preprocessing: Preprocessing, **changes: object) -> Recipe:
    """Blocks 1 to 4 frozen and computed once: minutes for every source left out."""
    base = replace(
        RECIPES["paper-original"],
        name="left-out",
        architecture="vgg16-half-side",
        preprocessing=preprocessing,
        phases=(
            Phase(epochs=2, learning_rate=1e-3, first_block=None),
            Phase(epochs=3, learning_rate=5e-5, first_block=5),
        ),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


LEFT_OUT = {
    "head alone, no equalisation": _of_imagenet(
        _fitted(equalisation="none"),
        phases=(Phase(epochs=10, learning_rate=1e-3, first_block=None),),
    ),
    "block 5, CLAHE": _of_imagenet(_fitted()),
    "block 5, CLAHE, loss within a source": _of_imagenet(_fitted(), within_source=1.0),
}

DOCUMENT = """\
# What was tried to make the classifier generalise

This page is written by

    {command}

It compares variants at {epochs} epochs each, one seed: differences of two hundredths are noise.

## Every source seen, and one site that was not

RUN is `vgg16` pruned and distilled at half the side ({widths}). Each variant goes on with it, with
labels, by the recipe `vgg16-robust` but for what its name says. On `extended/val` ({val} pictures),
and on {unseen} frontal radiographs of a site of which no classifier's training saw a picture. Those
carry no finding, and nearly all look healthy: the share called healthy ought to be large. Since one
number added to a logit moves that share, the last column says what no such number changes: how
surely a picture of that site is called healthier than an ill one of `extended/val`.

{judged}
- What `val` rewards is, in part, recognition of the hospital: of all variants with labels, little
  augmentation is best there, and calls a third of the healthy at the unseen site covid.
- Robust augmentation calls a tenth so, and costs balanced accuracy on `val`. Most of what it moves
  is the balance between classes, which an operating point moves without training.
- Label smoothing, global equalisation and none are the ones whose last column gains. Sources drawn
  equally often, the central square and padding lose there: the aspect ratio tells sources apart.

The shipped bundles' int8 files on the same pictures, at two operating points:

{shipped}
## One source left out

Trained without a source, on all of that source's pictures of `train` and `val`, ImageNet's layers
but for block 5 frozen. ieee8023 can't be left out: no other has COVID-19.

{left_out}
Without Kermany no child is healthy, without NIH no adult is: an AUC under 0.5 says that the
network has learnt who is imaged where. With three sources no loss and no preprocessing mended it.
More hospitals would.
"""


@dataclass(frozen=True)
class Outcome:
    """How one variant did: on `extended/val`, and on the unseen site."""

    val: Evaluation
    unseen: dict[str, float]
    healthier: float


class Experiments:
    """The data, the run that each variant goes on with, and where the runs lie."""

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
            widths = RunRecord.read(self.start).recipe
            recipe = replace(recipe.for_network_of(widths), preprocessing=preprocessing)
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
                roc_auc_score([1] * len(unseen) + [0] * len(ill), np.r_[unseen[:, healthy], ill])
            ),
        )

    def judge_shipped(self, name: str, point: str) -> Outcome:
        """The same of a shipped bundle's int8 file at an operating point."""
        model = ScoringModel.from_bundle(name, "int8", None, frontal=False, operating_point=point)
        return self._outcome(lambda samples: np.stack([model.score(one) for one in samples]))

    def without(self, name: str, weights: Path | None) -> dict[str, Evaluation]:
        """Each source's evaluation by a network that never saw it."""
        folds = leave_one_source_out(
            self.dataset,
            LEFT_OUT[name],
            self.out / "left-out" / _folder(name),
            data_name=self.data_name,
            weights=weights,
        )
        return {fold.source: fold.evaluation for fold in folds}


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
            *(f"{one.val.figures[figure].value:.3f}" for figure in VAL_FIGURES),
            f"{one.unseen[HEALTHY]:.2f}",
            f"{one.unseen[COVID]:.2f}",
            f"{one.healthier:.3f}",
        ]
        for name, one in outcomes.items()
    ]
    return table(header, rows)


def left_out(found: Mapping[str, Mapping[str, Evaluation]]) -> str:
    """One row a variant and source that it never saw."""
    rows = [
        [name, source, *(f"{one.figures[figure].value:.3f}" for figure in LEFT_OUT_FIGURES)]
        for name, without in found.items()
        for source, one in without.items()
    ]
    header = ["variant", "source left out", "balanced accuracy", "healthy recall", "healthy AUC"]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("start", type=Path, metavar="RUN")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--unseen", type=Path, required=True, help="the frontal check's manifest")
    parser.add_argument("--weights", type=Path, help="local ImageNet weights, .npz")
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
    found = {}
    for name in LEFT_OUT:
        console.print(f"left out: {name}")
        found[name] = work.without(name, arguments.weights)
        print(left_out({name: found[name]}), flush=True)
    widths = RunRecord.read(work.start).recipe.widths or ()
    document = DOCUMENT.format(
        command=this_command(),
        epochs=BASE.epochs,
        widths=", ".join("-".join(map(str, block)) for block in widths),
        val=len(work.dataset.split("val")),
        unseen=len(work.unseen),
        judged=judged(outcomes),
        shipped=judged(shipped),
        left_out=left_out(found),
    )
    write_atomically(arguments.docs / "experiments.md", document.encode())


if __name__ == "__main__":
    main()
