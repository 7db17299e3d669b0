r"""How well hospitals that training never saw are read; writes docs/unseen.md.

    python benchmarks/unseen.py MANIFEST.csv SITES.csv --start BUNDLE --out RUNS --docs docs

BUNDLE is a model that has seen none of the sites in `FOLDS`. For each fold the recipe `hospitals`
continues from it on all other images; the temperature and the operating point come from the split
`val` of those. Then the fold's sites are scored, without the split `test`, which stays for the
product. With `--self-distil`, each network then teaches a copy of itself, as `xrayedge distil` does
with larger ones: blends without labels, and images in the disguise of another hospital. With
`--see lungs`, each network sees the lungs alone, framed by a network that has not seen the fold's
boxes either; with `--see whole lungs`, the mean of a network of each kind does, as the shipped one.
With `--ablate`, the first fold is also trained with the changes in `ABLATIONS`. With `--fold`, one
fold alone is trained and printed. Finished trainings are reused, an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from numpy.typing import NDArray
from unseen_document import (
    FOLDS,
    SELF_DISTIL_EPOCHS,
    Judged,
    Site,
    by_change,
    by_site,
    document,
)

from xrayedge.converters.lungs import convert_lungs
from xrayedge.converters.trained import TrainedRun
from xrayedge.data import Dataset, Sample, load_dataset, model_inputs
from xrayedge.data.framing import as_seen
from xrayedge.evaluation.operating_points import Scored, fit_operating_points
from xrayedge.files import write_atomically
from xrayedge.lungs import LungFiles
from xrayedge.preprocessing import Equalisation
from xrayedge.training.averaging import average
from xrayedge.training.bundles import finished_run
from xrayedge.training.distillation import distil
from xrayedge.training.recipe import RECIPES, ROBUST, Recipe
from xrayedge.training.run import MODEL, Epoch, RunRecord, lungs_of
from xrayedge.training.scoring import predict
from xrayedge.training.train import Progress, train


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
    "more weight on tuberculosis": _more_other,
    "with `ROBUST` augmentation": _robust,
}


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


def _columns(fold: Sequence[Site]) -> list[tuple[str, str]]:
    """What `Dataset.without` takes to leave a fold out."""
    return [(site.column, site.value) for site in fold]


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
        left_out = _columns(fold)
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
    equalisation: Equalisation | None = None,
    views: int | None = None,
    seen: Sequence[LungFiles | None] = (None,),
    change: Callable[[Recipe, Dataset], tuple[Recipe, Dataset]] | None = None,
) -> Judged:
    """Train without the fold's sites by one recipe after another, average, and score them.

    With ``views``, what is scored is a copy of that network, taught by it with so many views.
    ``seen`` is what frames the images, or ``None`` for whole ones; with several, networks of each
    kind join the mean, which sees what the first does.
    """
    left_out = _columns(fold)
    left_in = learnt = dataset.without(left_out)
    runs: list[Path] = []
    for lungs in seen:
        begun = start
        for recipe in recipes:
            changed, learnt = (recipe, left_in) if change is None else change(recipe, left_in)
            own, learnt = RunRecord.read(begun).continued(changed, learnt)
            run = folder / (f"{recipe.name}-whole" if lungs is None else recipe.name)
            own = own.adjusted(size=size, equalisation=equalisation)
            learn(learnt, begun, own, run, left_out, lungs)
            runs.append(begun := run)
    # A mean is named after its parts: that of others is another one.
    run = folder / "+".join(one.name for one in runs)
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


def _as_folder(name: str) -> str:
    return name.replace("`", "").replace(" ", "-").lower()


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
    parser.add_argument("--equalisation", choices=get_args(Equalisation), help="default: BUNDLE's")
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
        help="train the first fold, or that of --fold, with these changes, too; all by default: "
        f"{list(ABLATIONS)}",
    )
    parser.add_argument(
        "--fold",
        type=int,
        choices=range(1, len(FOLDS) + 1),
        help="one fold alone, with --ablate's changes; prints its tables",
    )
    parser.add_argument("--out", type=Path, required=True, help="the trained networks")
    parser.add_argument("--docs", type=Path)
    arguments = parser.parse_args()
    if arguments.fold and arguments.docs:
        parser.error("--docs needs all folds")
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
    numbers = [arguments.fold] if arguments.fold else list(range(1, len(FOLDS) + 1))
    with finished_run(arguments.start) as start:
        known = RunRecord.read(start)
        size = arguments.size or known.recipe.preprocessing.size
        judged_at = partial(
            judge,
            dataset=dataset,
            start=start,
            recipes=recipes,
            size=size,
            equalisation=arguments.equalisation,
            views=arguments.self_distil,
        )
        folders = {number: arguments.out / f"fold-{number}" for number in numbers}
        seen = {
            number: _parts_seen(
                arguments.see, arguments.data, dataset, FOLDS[number - 1], folder, first.precision
            )
            for number, folder in folders.items()
        }
        folds = {
            number: judged_at(FOLDS[number - 1], folder=folder, seen=seen[number])
            for number, folder in folders.items()
        }
        changed = numbers[0]
        ablated = {
            name: judged_at(
                FOLDS[changed - 1],
                folder=arguments.out / f"fold-{changed}-{_as_folder(name)}",
                seen=seen[changed],
                change=change,
            )
            for name, change in ABLATIONS.items()
            if arguments.ablate is not None and name in (arguments.ablate or ABLATIONS)
        }
    if arguments.fold:
        print(by_site(folds))
        if ablated:
            print(f"\n{by_change(changed, folds[changed], ablated)}")
        return
    page = document(folds, ablated, recipes, size, arguments.self_distil, arguments.see, known)
    print(page)
    if arguments.docs:
        write_atomically(arguments.docs / "unseen.md", page.encode())


if __name__ == "__main__":
    main()
