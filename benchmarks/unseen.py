r"""How well hospitals that training never saw are read; writes docs/unseen.md.

    python benchmarks/unseen.py MANIFEST.csv SITES.csv --start BUNDLE --out RUNS --docs docs

BUNDLE is a model that has seen none of the sites in `FOLDS`. For each fold the recipe `hospitals`
continues from it on all other images; the temperature and the operating point come from the split
`val` of those. Then the fold's sites are scored, without the split `test`, which stays for the
product. With `--self-distil`, each network then teaches a copy of itself, as `xrayedge distil` does
with larger ones: blends without labels, and images in the disguise of another hospital. With
`--see lungs`, each network sees the lungs alone, framed by a network that has not seen the fold's
boxes either; with `--see whole lungs`, the mean of a network of each kind does, as the shipped one.
With `--ablate`, the first fold is also trained with the changes in `ABLATIONS`. Finished trainings
are reused, an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from commandline import this_command
from numpy.typing import NDArray

from xrayedge.converters.lungs import convert_lungs
from xrayedge.converters.trained import TrainedRun
from xrayedge.data import Dataset, Sample, load_dataset, model_inputs
from xrayedge.data.framing import as_seen
from xrayedge.evaluation import Evaluation, evaluate
from xrayedge.evaluation.operating_points import Scored, fit_operating_points
from xrayedge.files import write_atomically
from xrayedge.lungs import LungFiles
from xrayedge.training.averaging import average
from xrayedge.training.bundles import finished_run
from xrayedge.training.distillation import distil
from xrayedge.training.recipe import RECIPES, ROBUST, Recipe
from xrayedge.training.run import MODEL, Epoch, RunRecord, lungs_of
from xrayedge.training.scoring import predict
from xrayedge.training.train import Progress, train


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


def _without_boxes(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
    samples = tuple(replace(one, opacity_boxes=None) for one in dataset.samples)
    return recipe, replace(dataset, samples=samples)


def _without_other(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
    weights = {name: weight for name, weight in recipe.not_healthy.items() if name != "other"}
    samples = tuple(one for one in dataset.samples if one.label != "other")
    return replace(recipe, not_healthy=weights), replace(dataset, samples=samples)


def _without_siim(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
    return recipe, dataset.without([("set", "siim")])


def _more_other(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
    more = {**recipe.not_healthy, "other": 2.0}
    return replace(recipe, not_healthy=more, set_balance=0.5), dataset


def _robust(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
    return replace(recipe, augmentation=replace(ROBUST, lung_crop=0.2)), dataset


ABLATIONS: dict[str, Callable[[Recipe, Dataset], tuple[Recipe, Dataset]]] = {
    "without boxes": _without_boxes,
    "without `other`": _without_other,
    "without SIIM": _without_siim,
    "`other` and small sets weigh more": _more_other,
    "with `ROBUST` augmentation": _robust,
}

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


def show_epochs(name: str) -> Progress:
    """Prints each epoch of the training with this name."""

    def show(number: int, total: int, epoch: Epoch) -> None:
        print(
            f"{name}: epoch {number}/{total}, loss {epoch.loss:.4f}, {epoch.seconds:.0f} s",
            flush=True,
        )

    return show


def learn(
    dataset: Dataset,
    start: Path | None,
    recipe: Recipe,
    run: Path,
    left_out: Sequence[tuple[str, str]],
    lungs: LungFiles | None = None,
) -> None:
    """Continue from a run by a recipe, or begin, unless that is done."""
    if RunRecord.is_finished(run):
        return
    name = f"{run.parent.name}, {recipe.name}"
    train(
        dataset,
        recipe,
        run,
        data_name={
            "name": name,
            "where": [],
            "leave_out": ["=".join(pair) for pair in left_out],
        },
        start=start,
        lungs=lungs,
        progress=show_epochs(name),
    )


def finder(
    data: Sequence[Path],
    left_in: Dataset,
    left_out: Sequence[tuple[str, str]],
    folder: Path,
    precision: Literal["float32", "mixed_bfloat16"],
) -> LungFiles:
    """What frames the lungs, trained on some images' boxes and converted, unless that is done."""
    run, files = folder / "lungs-run", folder / "lungs"
    if not files.exists():
        recipe = replace(RECIPES["lungs"], precision=precision)
        learn(left_in.with_lung_boxes(), None, recipe, run, left_out)
        convert_lungs(TrainedRun.open(run, data), files, progress=print)
    return LungFiles.load(files)


def _parts_seen(
    see: Sequence[str],
    data: Sequence[Path],
    dataset: Dataset,
    fold: Sequence[Site],
    folder: Path,
    precision: Literal["float32", "mixed_bfloat16"],
) -> list[LungFiles | None]:
    """What frames the images of each kind of network; ``None`` for whole ones, which come last."""
    parts: list[LungFiles | None] = []
    if "lungs" in see:
        left_out = [(site.column, site.value) for site in fold]
        parts.append(finder(data, dataset.without(left_out), left_out, folder, precision))
    if "whole" in see:
        parts.append(None)
    return parts


def taught(teacher: Path, dataset: Dataset, run: Path, views: int, precision: str) -> Path:
    """Teach a copy of a network by the network itself, unless that is done; its run."""
    if not RunRecord.is_finished(run):
        distil(
            teacher,
            [teacher],
            dataset,
            run,
            view_count=views,
            epochs=SELF_DISTIL_EPOCHS,
            changes={"precision": precision},
            progress=show_epochs(f"{run.parent.name}, {run.name}"),
        )
    return run


def judge(
    fold: Sequence[Site],
    dataset: Dataset,
    start: Path,
    recipes: Sequence[Recipe],
    folder: Path,
    *,
    size: int | None = None,
    views: int | None = None,
    seen: Sequence[LungFiles | None] = (None,),
    change: Callable[[Recipe, Dataset], tuple[Recipe, Dataset]] | None = None,
) -> Judged:
    """Train without the fold's sites by one recipe after another, average, and score them.

    With ``views``, what is scored is a copy of that network, taught by it with so many views.
    ``seen`` is what frames the images, or ``None`` for whole ones; with several, networks of each
    kind join the mean, which sees what the first does.
    """
    left_out = [(site.column, site.value) for site in fold]
    left_in = learnt = dataset.without(left_out)
    runs: list[Path] = []
    for lungs in seen:
        begun = start
        for recipe in recipes:
            changed, learnt = (recipe, left_in) if change is None else change(recipe, left_in)
            own, learnt = RunRecord.read(begun).continued(changed, learnt)
            run = folder / (f"{recipe.name}-whole" if lungs is None else recipe.name)
            learn(learnt, begun, own.adjusted(size=size), run, left_out, lungs)
            runs.append(begun := run)
    run = folder / "mean" if len(runs) > 1 else runs[0]
    if not RunRecord.is_finished(run):
        average(runs, learnt, run)
    if views:
        run = taught(run, learnt, folder / "distilled", views, recipes[0].precision)
    record = RunRecord.read(run)

    def scores(samples: Sequence[Sample]) -> NDArray[np.float64]:
        inputs = model_inputs(as_seen(samples, lungs_of(run)), record.recipe.preprocessing)
        return predict(run / MODEL, inputs, record.temperature)

    val = learnt.split("val")
    balanced = fit_operating_points(Scored.from_samples(val, record.classes, scores(val)))[0]
    unseen = tuple(
        sample
        for sample in dataset.samples
        if sample.split != "test" and any(site.holds(sample) for site in fold)
    )
    weights = np.array([balanced.weights[name] for name in record.classes])
    return Judged(unseen, record.classes, scores(unseen), np.tile(weights, (len(unseen), 1)))


def table(first: str, rows: Mapping[str, Judged]) -> str:
    """A row of metrics for each name."""
    head = [first, "images", *METRICS, *AT_BALANCED]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    lines += [" | ".join([name, *judged.cells()]) for name, judged in rows.items()]
    return "\n".join(f"| {line} |" for line in lines)


def document(
    folds: Sequence[Judged],
    ablated: Mapping[str, Judged],
    recipes: Sequence[Recipe],
    size: int,
    views: int | None,
    see: Sequence[str],
    start: RunRecord,
) -> str:
    """The Markdown page."""
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
    rows = {
        site.name: judged.of(site)
        for fold, judged in zip(FOLDS, folds, strict=True)
        for site in fold
    }
    rows["**all of them**"] = pooled(folds)
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

{table("left out", rows)}

An empty cell: the site has no such images.
"""
    if not ablated:
        return page
    against = {"as above": folds[0], **ablated}
    compared = {
        f"{name}: {site.name}": judged.of(site)
        for site in FOLDS[0]
        for name, judged in against.items()
    }
    return f"""{page}
## What each kind of label brings

The first of these networks again, each with one change. Boxes are those round opacities, `other` is
tuberculosis, and `ROBUST` varies everything in an image that depends on the hospital.

{table("change, judged on", compared)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--start", required=True, metavar="BUNDLE|RUN")
    parser.add_argument(
        "--recipe",
        action="append",
        choices=list(RECIPES),
        metavar="NAME",
        help="default: hospitals; several: one after another, and the mean of their networks",
    )
    parser.add_argument("--size", type=int, help="default: that of BUNDLE")
    parser.add_argument("--epochs", type=int, help="of the first recipe; default: its own")
    parser.add_argument("--rate", type=float, help="of the first recipe; default: its own")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument(
        "--self-distil", type=int, metavar="VIEWS", help="then teach a copy with so many views"
    )
    parser.add_argument(
        "--see",
        nargs="+",
        choices=("whole", "lungs"),
        default=["whole"],
        help="whole images, the lungs alone, or a network of each, and their mean",
    )
    parser.add_argument(
        "--ablate",
        nargs="*",
        choices=list(ABLATIONS),
        metavar="CHANGE",
        help=f"train the first fold with these changes, too; all by default: {list(ABLATIONS)}",
    )
    parser.add_argument("--out", type=Path, required=True, help="the trained networks")
    parser.add_argument("--docs", type=Path)
    arguments = parser.parse_args()
    first, *others = (
        replace(RECIPES[name], precision=arguments.precision)
        for name in arguments.recipe or ("hospitals",)
    )
    first = first.adjusted(epochs=arguments.epochs, learning_rate=arguments.rate)
    recipes = (first, *others)
    dataset = load_dataset(arguments.data, non_classes=True)
    judged = [one for one in dataset.samples if one.split != "test"]
    for site in (site for fold in FOLDS for site in fold):
        if not any(site.holds(sample) for sample in judged):
            parser.error(f"the data hold no image of {site.name}: {site.column}={site.value}")
    folders = [arguments.out / f"fold-{number}" for number in range(1, len(FOLDS) + 1)]
    with finished_run(arguments.start) as start:
        known = RunRecord.read(start)
        size = arguments.size or known.recipe.preprocessing.size
        judged_at = partial(
            judge,
            dataset=dataset,
            start=start,
            recipes=recipes,
            size=size,
            views=arguments.self_distil,
        )
        seen = [
            _parts_seen(arguments.see, arguments.data, dataset, fold, folder, first.precision)
            for fold, folder in zip(FOLDS, folders, strict=True)
        ]
        folds = [
            judged_at(fold, folder=folder, seen=parts)
            for fold, folder, parts in zip(FOLDS, folders, seen, strict=True)
        ]
        ablated = {
            name: judged_at(
                FOLDS[0],
                folder=arguments.out / f"fold-1-{name.replace('`', '').replace(' ', '-').lower()}",
                seen=seen[0],
                change=change,
            )
            for name, change in ABLATIONS.items()
            if arguments.ablate is not None and name in (arguments.ablate or ABLATIONS)
        }
    page = document(folds, ablated, recipes, size, arguments.self_distil, arguments.see, known)
    print(page)
    if arguments.docs:
        write_atomically(arguments.docs / "unseen.md", page.encode())


if __name__ == "__main__":
    main()
