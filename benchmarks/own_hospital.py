r"""What training on a hospital's own few images brings; writes docs/own-hospital.md.

    python benchmarks/own_hospital.py MANIFEST.csv SITES.csv --out RUNS --docs docs \
        --start UNSEEN/fold-1 --start UNSEEN/fold-2 --start UNSEEN/fold-3 \
        --choose "source=DETECTOR E" --choose "source=DETECTOR Z" \
        --report "source=DETECTOR A" --report set=shenzhen

Each hospital is judged with the network that has never seen it: one that was trained with a
`--leave-out` for it, or by benchmarks/unseen.py. Up to `IMAGES` images of a class are drawn from
the hospital, by patient, as its own folder; everything else that there is of it is the test. The
variants of the recipe are compared at the hospitals to choose by; the recipe `own-hospital` is then
judged at the others. What is forgotten is measured on the split `val` of the remaining data.
Finished trainings are reused.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from commandline import column_value, this_command
from numpy.typing import NDArray

from xrayedge.data import NON_CLASSES, Dataset, Sample, load_dataset, model_inputs
from xrayedge.data.framing import as_seen
from xrayedge.evaluation import Metric, evaluate
from xrayedge.files import write_atomically
from xrayedge.training.augmentation import Augmentation
from xrayedge.training.recipe import RECIPES, ROBUST, Phase, Recipe
from xrayedge.training.run import MODEL, RunRecord, lungs_of
from xrayedge.training.scoring import predict
from xrayedge.training.train import train

#: Of each class, for the training, and so many more to choose the epoch by.
IMAGES, VAL_IMAGES = 100, 25
#: A hospital without classes of its own for its ill files them so.
ILL_AS = "pneumonia"
METRICS = ("auc/ill_v_healthy", "macro_auc")
SHIPPED = "own-hospital"

BASE = RECIPES[SHIPPED]


def _with(
    rate: float, first_block: int | None, epochs: int, augmentation: Augmentation | None = None
) -> Recipe:
    phases = (Phase(epochs, learning_rate=rate, first_block=first_block),)
    return replace(BASE, phases=phases, augmentation=augmentation)


#: What the recipe was chosen from.
VARIANTS: dict[str, Recipe] = {
    "the last block, rate 3e-4": _with(3e-4, 5, 12),
    "the last two blocks, 3e-4": _with(3e-4, 4, 12),
    "the head alone, 1e-3": _with(1e-3, None, 12),
    "all blocks, 1e-4, robust augmentation": _with(1e-4, 1, 8, ROBUST),
    "all blocks, 3e-4, robust augmentation": _with(3e-4, 1, 8, ROBUST),
}


@dataclass(frozen=True)
class Outcome:
    """Before and after one training: on the hospital's test, and on the remaining `val`."""

    hospital: str
    variant: str
    train: dict[str, int]
    test: dict[str, int]
    cpu_minutes: float
    epoch: int
    before: dict[str, Metric]
    after: dict[str, Metric]
    general_before: dict[str, Metric]
    general_after: dict[str, Metric]

    @classmethod
    def read(cls, path: Path) -> Outcome:
        values = json.loads(path.read_text(encoding="utf-8"))
        for key in ("before", "after", "general_before", "general_after"):
            values[key] = {name: Metric(**found) for name, found in values[key].items()}
        return cls(**values)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def hospital(dataset: Dataset, column: str, value: str, classes: Sequence[str]) -> Dataset:
    """One hospital's images, split by patient: a folder of its own, and a large test."""
    samples = [one for one in dataset.samples if one.columns.get(column) == value]
    if not {one.label for one in samples} & (set(classes) - {"healthy"}):
        samples = [
            replace(one, label=ILL_AS) if one.label in NON_CLASSES else one for one in samples
        ]
    rng = np.random.default_rng(0)
    patients = sorted({one.group for one in samples})
    taken: dict[str, dict[str, int]] = {"train": {}, "val": {}}
    sides: dict[str, str] = {}
    for patient in (patients[place] for place in rng.permutation(len(patients))):
        labels = [one.label for one in samples if one.group == patient]
        sides[patient] = "test"
        for split, most in (("train", IMAGES), ("val", VAL_IMAGES)):
            counts = taken[split]
            if all(one in classes and counts.get(one, 0) < most for one in labels):
                # A third of a rare class stays for the test.
                total = sum(one.label == labels[0] for one in samples)
                if sum(side.get(labels[0], 0) for side in taken.values()) >= 2 * total / 3:
                    continue
                for one in labels:
                    counts[one] = counts.get(one, 0) + 1
                sides[patient] = split
                break
    placed = tuple(replace(one, split=sides[one.group], source=value) for one in samples)
    return Dataset(placed, tuple(sorted({one.label for one in placed} & set(classes))))


def unseen_by(pair: tuple[str, str], starts: Sequence[Path]) -> Path:
    """The run that was trained without this hospital."""
    for start in starts:
        if "=".join(pair) in RunRecord.read(start).data["leave_out"]:
            return start
    raise SystemExit(f"each --start has learnt from {'='.join(pair)}")


def metrics(
    run: Path, record: RunRecord, sets: Sequence[Sequence[Sample]], inputs: NDArray[np.uint8]
) -> list[dict[str, Metric]]:
    """Of each set of samples; ``inputs`` are those of all of them, one after another."""
    scores = predict(run / MODEL, inputs, record.temperature)
    found, start = [], 0
    for samples in sets:
        of_set = scores[start : start + len(samples)]
        values = evaluate(samples, record.classes, of_set).metrics
        found.append({name: values[name] for name in METRICS if name in values})
        start += len(samples)
    return found


def judge(
    variants: Mapping[str, Recipe],
    pair: tuple[str, str],
    dataset: Dataset,
    start: Path,
    out: Path,
) -> list[Outcome]:
    """Train each variant at one hospital, unless that is done, and judge it."""
    known = RunRecord.read(start)
    general = dataset.without([column_value(one) for one in known.data["leave_out"]]).split("val")
    own = hospital(dataset, *pair, known.classes)
    name = pair[1]
    outcomes = []
    before: list[dict[str, Metric]] | None = None
    for variant, recipe in variants.items():
        folder = out / slug(name) / slug(variant)
        stored = folder / "outcome.json"
        if stored.exists():
            outcomes.append(Outcome.read(stored))
            continue
        if folder.exists():  # interrupted between the training and the outcome
            shutil.rmtree(folder)
        going, taught = known.continued(replace(recipe, precision="mixed_bfloat16"), own)
        if before is None:
            sets = own.split("test"), general
            seen = as_seen([*sets[0], *sets[1]], lungs_of(start))
            inputs = model_inputs(seen, going.preprocessing)
            before = metrics(start, known, sets, inputs)
        began = time.process_time()
        record = train(
            taught,
            going,
            folder,
            data_name={"name": name, "where": [], "leave_out": []},
            start=start,
            progress=lambda number, total, epoch: print(name, number, epoch, flush=True),
        )
        minutes = (time.process_time() - began) / 60.0
        after = metrics(folder, record, sets, inputs)
        summary = own.summary()
        outcome = Outcome(
            name, variant, summary["train"], summary["test"], minutes,
            (record.best_epoch or 0) + 1, before[0], after[0], before[1], after[1],
        )  # fmt: skip
        write_atomically(stored, json.dumps(asdict(outcome)).encode())
        outcomes.append(outcome)
    return outcomes


def table(outcomes: Sequence[Outcome], first: str) -> str:
    """Rows of before and after, named by the hospital, the variant or both."""
    lines = [
        f"| {first} | train | test | AUC ill v healthy, before | after | macro AUC, before | after "
        "| the others' val: AUC ill v healthy, before | after | CPU minutes |",
        "| --- " * 10 + "|",
    ]
    for one in outcomes:
        cells = [str(one.before.get(name, "")) for name in METRICS]
        cells_after = [str(one.after.get(name, "")) for name in METRICS]
        images, test = (
            ", ".join(f"{count} {label}" for label, count in counts.items())
            for counts in (one.train, one.test)
        )
        lines.append(
            f"| {one.hospital if first == 'hospital' else f'{one.variant}; {one.hospital}'} "
            f"| {images} | {test} | {cells[0]} | {cells_after[0]} | {cells[1]} | {cells_after[1]} "
            f"| {one.general_before[METRICS[0]].value:.3f} "
            f"| {one.general_after[METRICS[0]].value:.3f} | {one.cpu_minutes:.1f} |"
        )
    return "\n".join(lines)


def document(chosen: Sequence[Outcome], reported: Sequence[Outcome]) -> str:
    """The Markdown page."""
    return f"""# What training on a hospital's own images brings

Written by `{this_command()}`.

The network to start from has never seen the hospital. Up to {IMAGES} of the hospital's images of a
class train and up to {VAL_IMAGES} choose the epoch and the temperature; the rest are the test. No
patient is in two of these sets. Intervals are over patients. "The others' val" is the split `val`
of the hospitals that the network has seen: what falls there is forgotten. CPU minutes are those of
all cores together.

## With the recipe `{SHIPPED}`

{table(reported, "hospital")}

If a hospital's ill belong to none of the classes, they count as `{ILL_AS}`; what the network knows
about `covid` is then what it knew before.

## How the recipe was chosen

At other hospitals than those above.

{table(chosen, "variant; hospital")}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--start", action="append", type=Path, required=True, metavar="RUN")
    for name in ("--choose", "--report"):
        parser.add_argument(
            name, action="append", default=[], type=column_value, metavar="COLUMN=VALUE"
        )
    parser.add_argument(
        "--variant", action="append", choices=VARIANTS, default=[], help="default: all of them"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--docs", type=Path)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data, non_classes=True)
    chosen, reported = (
        [
            outcome
            for pair in pairs
            for outcome in judge(
                variants, pair, dataset, unseen_by(pair, arguments.start), arguments.out
            )
        ]
        for variants, pairs in (
            (
                {name: VARIANTS[name] for name in arguments.variant or VARIANTS},
                arguments.choose,
            ),
            ({SHIPPED: BASE}, arguments.report),
        )
    )
    if arguments.docs:
        page = document(chosen, reported)
        write_atomically(arguments.docs / "own-hospital.md", page.encode())


if __name__ == "__main__":
    main()
