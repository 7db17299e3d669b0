"""What was tried to make the classifier generalise; writes docs/experiments.md.

    python benchmarks/experiments.py MANIFEST.csv --weights VGG16.npz --out RUNS

Each variant changes one thing in a baseline recipe. It is judged twice: on `extended/val`, by a
model that saw every source, and by leaving one source out at a time. The `test` splits are not
touched. To be affordable on two cores the experiments run at 112 pixels and seven epochs; they
compare variants, they are not the product. Finished runs are used again.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from xrayedge.files import write_atomically
from xrayedge.preprocessing import Preprocessing
from xrayedge.training.augmentation import Augmentation
from xrayedge.training.batches import model_inputs
from xrayedge.training.data import Dataset, load_dataset
from xrayedge.training.evaluation import Evaluation, evaluate, predict
from xrayedge.training.generalisation import leave_one_source_out
from xrayedge.training.recipe import RECIPES, Phase, Recipe
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.train import train

BASELINE = replace(
    RECIPES["vgg16"],
    name="experiment",
    preprocessing=Preprocessing(size=112),
    phases=(
        Phase(epochs=1, learning_rate=1e-3, first_block=None),
        Phase(epochs=6, learning_rate=7e-5, first_block=3),
    ),
    augmentation=Augmentation(),
    source_balance=0.5,
    precision="mixed_bfloat16",
)


def _augmented(**changes: float) -> Recipe:
    return replace(BASELINE, augmentation=replace(BASELINE.augmentation, **changes))


STRONG = _augmented(border=0.8, style=0.7, texture=0.6)


VARIANTS = {
    "baseline": BASELINE,
    "style mixing": _augmented(style=0.7),
    "texture": _augmented(texture=0.6),
    "border": _augmented(border=0.8),
    "style mixing, texture": _augmented(style=0.7, texture=0.6),
    "border, style mixing, texture": STRONG,
    "the three, loss within source": replace(STRONG, within_source=1.0),
    "the three, loss half within source": replace(STRONG, within_source=0.5),
}

FIGURES = ("balanced_accuracy", "macro_auc", "recall/healthy", "auc/healthy")


def run_variant(
    dataset: Dataset, recipe: Recipe, out: Path, data_name: dict[str, str], weights: Path | None
) -> dict[str, Evaluation]:
    """The variant's evaluations, by name: of `val`, and of each source that was left out."""
    everything = out / "all"
    if not (everything / "run.json").exists() or not RunRecord.read(everything).finished:
        train(dataset, recipe, everything, data_name=data_name, weights=weights)
    val = dataset.split("val")
    inputs = model_inputs(val, recipe.preprocessing)
    scores = predict(everything / MODEL, inputs, RunRecord.read(everything).temperature)
    evaluations = {"val": evaluate(val, dataset.classes, scores)}
    for left_out in leave_one_source_out(
        dataset, recipe, out, data_name=data_name, weights=weights
    ):
        evaluations[f"without {left_out.source}"] = left_out.evaluation
    return evaluations


def table(results: dict[str, dict[str, Evaluation]]) -> str:
    """One row a variant; for each set the figures that it can have."""
    sets = list(next(iter(results.values())))
    lines = []
    for name in sets:
        lines += [
            f"### {name}",
            "",
            "| variant | balanced accuracy | macro AUC | healthy called healthy | healthy AUC |",
            "| --- | --- | --- | --- | --- |",
        ]
        for variant, evaluations in results.items():
            figures = evaluations[name].figures
            cells = [f"{figures[figure].value:.3f}" for figure in FIGURES]
            lines.append(f"| {variant} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--weights", type=Path, help="local ImageNet weights, .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", action="append", choices=VARIANTS, help="these variants alone")
    parser.add_argument("--table", type=Path, help="write the tables as Markdown here")
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.manifest)
    results: dict[str, dict[str, Evaluation]] = {}
    for name in arguments.only or VARIANTS:
        folder = arguments.out / name.replace(",", "").replace(" ", "-")
        results[name] = run_variant(
            dataset,
            VARIANTS[name],
            folder,
            {"name": arguments.manifest.name},
            arguments.weights,
        )
        print(table({name: results[name]}), flush=True)
    if arguments.table:
        write_atomically(arguments.table, (table(results) + "\n").encode())


if __name__ == "__main__":
    main()
