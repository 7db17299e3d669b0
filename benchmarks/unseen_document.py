"""What `unseen.py` judges, and the page that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from commandline import this_command
from numpy.typing import NDArray

from xrayedge.data import Sample
from xrayedge.evaluation import Evaluation, evaluate
from xrayedge.training.recipe import Recipe
from xrayedge.training.run import RunRecord


class Site(NamedTuple):
    """A hospital, a collection or a detector: a column of the manifest and its value there."""

    name: str
    column: str
    value: str

    def holds(self, sample: Sample) -> bool:
        """Whether the image is from here."""
        return sample.columns.get(self.column) == self.value


def _set(name: str, value: str) -> Site:
    return Site(name, "set", value)


def _detector(letter: str) -> Site:
    return Site(f"SIIM, detector {letter}", "source", f"SIIM-FISABIO-RSNA 2021, detector {letter}")


#: Each site is left out once, several at a time; whatever is left in holds every kind of label.
FOLDS: tuple[tuple[Site, ...], ...] = (
    (_set("Shenzhen", "shenzhen"), _detector("A"), _detector("F")),
    (_set("Pakistan", "pakistan"), _detector("B"), _detector("E")),
    (
        _set("TBX11K", "tbx11k"),
        _set("Belarus", "belarus"),
        _set("COVID-CXNet", "covidcxnet_misc"),
        _detector("D"),
        _detector("G"),
        _detector("Z"),
    ),
)

SELF_DISTIL_EPOCHS = 3

METRICS = {
    "COVID-19 v healthy, AUC": "auc/covid_v_healthy",
    "ill v healthy, AUC": "auc/ill_v_healthy",
}
AT_BALANCED = {
    "healthy called healthy": "healthy_called_healthy",
    "COVID-19 called COVID-19": "recall/covid",
    "ill not called healthy": "ill_not_called_healthy",
}


@dataclass(frozen=True, eq=False)
class Judged:
    """Images of sites that a network never saw, and what it makes of them.

    Parameters
    ----------
    samples
        The images.
    classes
        Class names, in the order of the columns.
    scores
        Probabilities, ``float64 [N, classes]``.
    weights
        Those of the operating point ``balanced``, ``float64 [N, classes]``.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    scores: NDArray[np.float64]
    weights: NDArray[np.float64]

    def of(self, site: Site) -> Judged:
        """The images of one site."""
        rows = [row for row, one in enumerate(self.samples) if site.holds(one)]
        samples = tuple(self.samples[row] for row in rows)
        return Judged(samples, self.classes, self.scores[rows], self.weights[rows])

    def cells(self) -> list[str]:
        """The table's cells, from the number of images on."""
        plain = evaluate(self.samples, self.classes, self.scores)
        weighted = self.scores * self.weights
        labelled = evaluate(
            self.samples, self.classes, weighted / weighted.sum(axis=1, keepdims=True)
        )
        return [
            str(len(self.samples)),
            *(_cell(plain, name) for name in METRICS.values()),
            *(_cell(labelled, name) for name in AT_BALANCED.values()),
        ]


def _cell(evaluation: Evaluation, name: str) -> str:
    return str(evaluation.metrics.get(name, ""))


def pooled(parts: Sequence[Judged]) -> Judged:
    """All images together, each judged by the network that had not seen its site."""
    return Judged(
        tuple(sample for part in parts for sample in part.samples),
        parts[0].classes,
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def table(first: str, rows: Mapping[str, Judged]) -> str:
    """A row of metrics for each name."""
    head = [first, "images", *METRICS, *AT_BALANCED]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    lines += [" | ".join([name, *judged.cells()]) for name, judged in rows.items()]
    return "\n".join(f"| {line} |" for line in lines)


def by_site(folds: Mapping[int, Judged]) -> str:
    """A row for each site of these folds, by their numbers from 1, and one for all of them."""
    rows = {
        site.name: judged.of(site) for number, judged in folds.items() for site in FOLDS[number - 1]
    }
    rows["**all of them**"] = pooled(list(folds.values()))
    return table("left out", rows)


def by_change(fold: int, unchanged: Judged, ablated: Mapping[str, Judged]) -> str:
    """A row for each change and each site of a fold."""
    against = {"as above": unchanged, **ablated}
    rows = {
        f"{name}: {site.name}": judged.of(site)
        for site in FOLDS[fold - 1]
        for name, judged in against.items()
    }
    return table("change, judged on", rows)


def document(
    folds: Mapping[int, Judged],
    ablated: Mapping[str, Judged],
    recipes: Sequence[Recipe],
    size: int,
    views: int | None,
    see: Sequence[str],
    start: RunRecord,
) -> str:
    """The Markdown page; ``folds`` by their numbers from 1, of which the first is ablated."""
    lessons = ", then ".join(f"`{recipe.name}` for {recipe.epochs} epochs" for recipe in recipes)
    lessons += ", and their mean" if len(recipes) > 1 else ""
    if len(see) > 1:
        lessons += ", on whole images and on the lungs; the mean of both is judged"
    if views:
        lessons += (
            f". Each then taught a copy of itself with {views} views of its images, half of them\n"
            f"blends of two, in the disguise of another hospital, in {SELF_DISTIL_EPOCHS} passes"
        )
    seen = "whole images"
    if "lungs" in see:
        seen = "the lungs alone, framed by a network that did not see these sites' boxes"
    lessons += f".\nWhat is judged sees {seen}"
    bundle = start.bundle or {}
    began = f"{bundle['name']} {bundle['version']}" if bundle else "a run"
    page = f"""# Hospitals that training never saw

Written by `{this_command()}`.

What to expect at a hospital that is not in the data, [before the model is calibrated
there](hospital.md). The networks behind this table are not the shipped ones. Each continued from
{began} without the sites that it is judged on, at {size} pixels:
{lessons}.
{len(FOLDS)} networks, each without several sites at once, share all of them. The operating point
`balanced` is fitted on the split `val` of the sites that were left in. The images are the splits
`train` and `val` of the sites that were left out; intervals are over patients.
[The model card](model-card.md) has the shipped model on the test splits of sites that it knows.

{by_site(folds)}

An empty cell: the site has no such images.
"""
    if not ablated:
        return page
    return f"""{page}
## What each kind of label brings

The first of these networks again, each with one change. Boxes are those round opacities, `other` is
tuberculosis; more weight on it is four times as much in the loss, and small sets drawn more often.
`ROBUST` varies everything in an image that depends on the hospital.

{by_change(1, folds[1], ablated)}
"""
