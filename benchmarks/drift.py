"""How well the station's monitor detects changed images; writes a part of docs/station.md.

    python benchmarks/drift.py MANIFEST.csv SITES.csv --docs docs

Every image is screened once, as a station does. Then streams are drawn from the sources that have
enough images: a patient's images stay together, patients come in random order.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from commandline import short, this_command
from rich.console import Console
from rich.progress import track

from xrayedge import Screener
from xrayedge.data import Sample, load_dataset
from xrayedge.files import write_atomically
from xrayedge.station.config import ScreenConfig
from xrayedge.station.judging import Reference, compare, reference_of, sentence
from xrayedge.station.measures import measured
from xrayedge.station.records import RECENT_IMAGES, REFERENCE_IMAGES, Unit

SAME_DRAWS, PAIR_DRAWS = 20, 5
LEAST_IMAGES = 200  # of a source
LOOK_EVERY = 10  # images
FIRST_LOOK = 100
BEGIN, END = "<!-- benchmarks/drift.py -->", "<!-- end -->"
#: Of one challenge: its detector families at the same hospitals are sources of their own.
FAMILY, TOGETHER = ", detector ", "all detectors"
Bins = Mapping[str, int]


@dataclass(frozen=True)
class Image:
    """What one image counts, and whose it is."""

    patient: str
    bins: Bins


@dataclass(frozen=True)
class Judge:
    """Says whether the images changed, by the code that the station runs."""

    reference: Reference

    def changed(self, first: Sequence[Bins], last: Sequence[Bins]) -> bool:
        unit = Unit("", self.reference.model, tuple(first), tuple(last[-RECENT_IMAGES:]))
        return sentence(unit, compare(unit, self.reference)) is not None

    def first_alarm(self, first: Sequence[Bins], stream: Sequence[Bins], start: int) -> int | None:
        """After how many images of the stream, looked at every few, the alarm comes."""
        for end in range(start, len(stream) + 1, LOOK_EVERY):
            if self.changed(first, stream[:end]):
                return end
        return None


def screen(screener: Screener, samples: Sequence[Sample]) -> dict[str, list[Image]]:
    """Every image of every source, screened."""
    found: dict[str, list[Image]] = defaultdict(list)
    for sample in track(samples, "screening", console=Console(stderr=True), transient=True):
        image = Image(sample.group, measured(screener.screen(sample.path, grey=True), "").bins)
        name = short(sample.source)
        found[name].append(image)
        if FAMILY in name:
            found[f"{name.split(FAMILY)[0]}, {TOGETHER}"].append(image)
    return {name: images for name, images in sorted(found.items()) if len(images) >= LEAST_IMAGES}


def stream(images: Sequence[Image], rng: np.random.Generator) -> list[Bins]:
    """Images in an order that they may come in."""
    patients: dict[str, list[Bins]] = defaultdict(list)
    for image in images:
        patients[image.patient].append(image.bins)
    order = rng.permutation(len(patients))
    listed = list(patients.values())
    return [bins for place in order for bins in listed[place]]


def unchanged(judge: Judge, sources: Mapping[str, list[Image]], rng: np.random.Generator) -> str:
    """The table of false alarms."""
    lines = ["| 400 of | raised at the end | raised at any time |", "| --- | --- | --- |"]
    both = REFERENCE_IMAGES + RECENT_IMAGES
    for name, images in sources.items():
        if len(images) < both:
            continue
        end = ever = 0
        for _ in range(SAME_DRAWS):
            drawn = stream(images, rng)[:both]
            first, last = drawn[:REFERENCE_IMAGES], drawn[REFERENCE_IMAGES:]
            end += judge.changed(first, last)
            ever += judge.first_alarm(first, last, FIRST_LOOK) is not None
        lines.append(f"| {name} | {end} of {SAME_DRAWS} | {ever} of {SAME_DRAWS} |")
    return "\n".join(lines)


def long_run(judge: Judge, sources: Mapping[str, list[Image]], rng: np.random.Generator) -> str:
    """A sentence on the largest source, all of whose images come one after the other."""
    name, images = max(sources.items(), key=lambda pair: len(pair[1]))
    alarms = 0
    for _ in range(PAIR_DRAWS):
        drawn = stream(images, rng)
        first, rest = drawn[:REFERENCE_IMAGES], drawn[REFERENCE_IMAGES:]
        alarms += judge.first_alarm(first, rest, FIRST_LOOK) is not None
    return (
        f"All {len(images)} images of {name}, one after another, raised it in {alarms} of "
        f"{PAIR_DRAWS} streams, checked every {LOOK_EVERY} images."
    )


def changes(judge: Judge, sources: Mapping[str, list[Image]], rng: np.random.Generator) -> str:
    """How often 200 of one source and then 200 of another raised the sentence."""
    pairs = [pair for pair in permutations(sources, 2) if not overlap(*pair)]
    missed, every, raised, delays = [], 0, 0, []
    for one, other in track(pairs, "pairs", console=Console(stderr=True), transient=True):
        hits = 0
        for _ in range(PAIR_DRAWS):
            before = stream(sources[one], rng)
            first, then = before[:REFERENCE_IMAGES], stream(sources[other], rng)[:RECENT_IMAGES]
            hits += judge.changed(first, then)
            quiet = before[REFERENCE_IMAGES : REFERENCE_IMAGES + RECENT_IMAGES]
            if len(quiet) == RECENT_IMAGES:
                alarm = judge.first_alarm(first, [*quiet, *then], len(quiet) + LOOK_EVERY)
                delays.append(RECENT_IMAGES + 1 if alarm is None else alarm - len(quiet))
        raised += hits
        every += hits == PAIR_DRAWS
        if hits < PAIR_DRAWS:
            missed.append(f"| {one} | {other} | {hits} of {PAIR_DRAWS} |")
    middle, late = np.percentile(delays, [50, 90], method="higher")
    said = (
        f"Of {len(pairs)} ordered pairs of sources {every} raised it in all {PAIR_DRAWS} draws "
        f"({raised} of {len(pairs) * PAIR_DRAWS} draws). After 400 images of the first source "
        f"half of the changes were detected within {middle:.0f} images of the second, nine tenths "
        f"within {late:.0f}"
        + (" (more than that many: not within 200)." if late > RECENT_IMAGES else ".")
    )
    if not missed:
        return said
    table = ["| 200 of | then 200 of | raised |", "| --- | --- | --- |", *missed]
    return "\n".join([f"{said} Pairs that were missed in some draws:", "", *table])


def overlap(one: str, other: str) -> bool:
    """Whether one of the two holds images of the other."""
    stems = {name.split(", ")[0] for name in (one, other)}
    return len(stems) == 1 and any(name.endswith(TOGETHER) for name in (one, other))


def around(path: Path) -> tuple[str, str]:
    """What stands before and after the part that is written here."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: no place for the result, between {BEGIN} and {END}")
    return before, after


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", default="vgg16-edge")
    parser.add_argument("--docs", type=Path, required=True)
    arguments = parser.parse_args()
    path = arguments.docs / "station.md"
    around(path)  # now, not after all images are screened
    rng = np.random.default_rng(0)
    with Screener(arguments.model) as screener:
        samples = load_dataset(
            arguments.data,
            complete=False,
            classes=screener.bundle.classifier.classes,
            non_classes=True,
        ).samples
        sources = screen(screener, samples)
    judge = Judge(reference_of(ScreenConfig(model=arguments.model)))
    written = "\n\n".join(
        [
            f"`{this_command()}` writes this.",
            unchanged(judge, sources, rng),
            long_run(judge, sources, rng),
            changes(judge, sources, rng),
        ]
    )
    before, after = around(path)
    write_atomically(path, f"{before}{BEGIN}\n\n{written}\n\n{END}{after}".encode())


if __name__ == "__main__":
    main()
