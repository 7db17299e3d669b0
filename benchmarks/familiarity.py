r"""Whether a network errs where an image is unlike its training images.

    python benchmarks/familiarity.py MANIFEST.csv SITES.csv --model RUN --docs docs \
        --seen set=extended --unseen set=shenzhen --unseen "source=DETECTOR E"

Writes docs/familiarity.md. MODEL, a run or a bundle, has learnt from the sources that are named as
seen, and never from those named as unseen. Each candidate orders an unseen source's images from the
most to the least familiar. Screening only the most familiar should give fewer errors. The area
under the risk-coverage curve (El-Yaniv and Wiener 2010; the share of errors among the images kept,
averaged over all shares kept) measures how well this works. It is compared with the area for the
largest probability, which needs nothing new.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from commandline import column_value, this_command
from numpy.typing import NDArray

from xrayedge import ModelBundle, reference
from xrayedge.data import HEALTHY, NON_CLASSES, Sample, load_dataset, read_sample
from xrayedge.engines import preferred_engine
from xrayedge.evaluation import Metric, intervals
from xrayedge.files import write_atomically
from xrayedge.frontal import FrontalCheck
from xrayedge.heatmap import evidence
from xrayedge.scores import softmax
from xrayedge.training.bundles import finished_run
from xrayedge.training.network import MAP_LAYER, activation_map_model
from xrayedge.training.run import MODEL, RunRecord

#: More add little to the curves, and time.
MOST_SEEN, MOST_UNSEEN = 600, 250
NEIGHBOURS = 10
#: Of the side of the map, on each edge: what is outside its centre.
EDGE = 1 / 7
CONFIDENCE = "largest probability"
#: In the share of errors; less is not worth another number in each result.
LEAST_GAIN = 0.02
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """What a network and its inputs say of some images; a row an image.

    ``errors`` is 1 where the label is wrong; where the true label is no class, where it is
    ``healthy``.
    """

    samples: Sequence[Sample]
    logits: Values
    maps: Values
    features: Values
    greys: Values
    frontal: Values
    errors: Values
    called_healthy: NDArray[np.bool_]
    probabilities: Values


def drawn(samples: Sequence[Sample], most: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(samples))[:most]
    return [samples[place] for place in sorted(chosen)]


def maps_and_features(folder: Path) -> keras.Model:
    """A run's network that gives the activation map and what its head reads."""
    model = activation_map_model(keras.saving.load_model(folder / MODEL, compile=False))
    head = model.get_layer(MAP_LAYER)
    return keras.Model(model.input, [head.output, head.input])


def measure(
    record: RunRecord, network: keras.Model, samples: Sequence[Sample], check: FrontalCheck
) -> Measured:
    """Read and score each image once."""
    inputs, greys, frontal = [], [], []
    for sample in samples:
        pixels = read_sample(sample)
        inputs.append(record.recipe.preprocessing.apply(pixels))
        greys.append(reference.grey(pixels))
        frontal.append(check.score(pixels))
    maps, features = network.predict(np.stack(inputs), batch_size=32, verbose=0)
    maps = np.asarray(maps, np.float64)[..., : len(record.classes)]
    logits = maps.mean(axis=(1, 2)) / record.temperature
    called = [record.classes[place] for place in logits.argmax(axis=1)]
    errors = [
        name == HEALTHY if sample.label in NON_CLASSES else name != sample.label
        for name, sample in zip(called, samples, strict=True)
    ]
    return Measured(
        samples,
        logits,
        maps,
        np.asarray(features, np.float64).mean(axis=(1, 2)),
        np.array(greys),
        np.array(frontal),
        np.array(errors, np.float64),
        np.array([name == HEALTHY for name in called]),
        softmax(logits),
    )


def distance(values: Values, known: Values) -> Values:
    """Mahalanobis' distance from known rows, a tenth of the variance added (Lee et al. 2018)."""
    centre, covariance = known.mean(axis=0), np.cov(known, rowvar=False)
    covariance += 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    away = values - centre
    return np.asarray(np.sqrt((away @ np.linalg.inv(covariance) * away).sum(axis=1)))


def neighbours(values: Values, known: Values) -> Values:
    """Distance to the nearest known rows but nine, all of length 1 (Sun et al. 2022)."""
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (values, known))
    nearest = np.sort(1.0 - one @ other.T, axis=1)
    return np.asarray(nearest[:, NEIGHBOURS - 1])


def outside(maps: Values) -> Values:
    """Share of the positive evidence for the label that lies on the edge of the map."""
    rows, columns = maps.shape[1:3]
    top, left = max(1, round(EDGE * rows)), max(1, round(EDGE * columns))
    shares = []
    for one in maps:
        found = evidence(np.asarray(one, np.float32), int(one.mean(axis=(0, 1)).argmax()))
        found = np.maximum(found, 0.0)
        inner = found[top:-top, left:-left].sum()
        shares.append(1.0 - inner / max(float(found.sum()), 1e-9))
    return np.array(shares)


def candidates(of: Measured, known: Measured) -> dict[str, Values]:
    """How unfamiliar each image is, by each candidate: larger is less familiar."""
    return {
        CONFIDENCE: 1.0 - of.probabilities.max(axis=1),
        "entropy of the scores": -(of.probabilities * np.log(of.probabilities + 1e-12)).sum(axis=1),
        "energy of the scores": -np.log(np.exp(of.logits).sum(axis=1)),
        "evidence outside the centre": outside(of.maps),
        "grey mean and contrast": distance(of.greys, known.greys),
        "frontal score": 1.0 - of.frontal,
        "last features: Mahalanobis": distance(of.features, known.features),
        "last features: neighbours": neighbours(of.features, known.features),
    }


def with_confidence(found: Mapping[str, Values], known: Mapping[str, Values]) -> dict[str, Values]:
    """Each candidate, and its mean with confidence, both as their rank among the known images."""
    ranks = {
        name: np.searchsorted(np.sort(known[name]), values) / len(known[name])
        for name, values in found.items()
    }
    joined = {
        f"{name}, with confidence": (ranks[name] + ranks[CONFIDENCE]) / 2.0
        for name in ranks
        if name != CONFIDENCE
    }
    return {**found, **joined}


def area(errors: Values, unfamiliar: Values, weights: Values) -> Values:
    """Area under the risk-coverage curve, ``[rounds]``; weights ``[rounds, N]``."""
    order = np.argsort(unfamiliar, kind="stable")
    counted = weights[:, order]
    kept = np.cumsum(counted, axis=1)
    risk = np.cumsum(counted * errors[order], axis=1) / np.maximum(kept, 1e-9)
    return np.asarray((risk * counted).sum(axis=1) / np.maximum(kept[:, -1], 1e-9))


def area_within(of: Measured, unfamiliar: Values, weights: Values) -> Values:
    """The mean of `area` among the images called healthy and among the others, as many as each."""
    total = np.zeros(len(weights))
    for group in (of.called_healthy, ~of.called_healthy):
        if group.any():
            counted = weights[:, group]
            total += area(of.errors[group], unfamiliar[group], counted) * counted.sum(axis=1)
    return np.asarray(total / weights.sum(axis=1))


@dataclass(frozen=True)
class Compared:
    """One candidate's area at each source, and its mean less that of confidence.

    ``within`` is that difference within the label called: a candidate that does no more than order
    images by their label says nothing that the label does not say.
    """

    areas: dict[str, float]
    difference: Metric
    within: Metric


def compare(
    sources: Mapping[str, Measured], orders: Mapping[str, Mapping[str, Values]]
) -> dict[str, Compared]:
    """Each candidate beside confidence; intervals over the patients of all sources."""
    names = list(next(iter(orders.values())))
    places, start = {}, 0
    for source, one in sources.items():
        places[source] = slice(start, start + len(one.errors))
        start += len(one.errors)

    def areas(name: str, weights: Values, *, within: bool) -> Values:
        found = []
        for source, one in sources.items():
            own, order = weights[:, places[source]], orders[source][name]
            found.append(area_within(one, order, own) if within else area(one.errors, order, own))
        return np.stack(found)

    def statistic(weights: Values) -> dict[str, Values]:
        return {
            f"{within} {name}": areas(name, weights, within=within).mean(axis=0)
            - areas(CONFIDENCE, weights, within=within).mean(axis=0)
            for within in (False, True)
            for name in names
        }

    differences = intervals(
        statistic, [sample.group for one in sources.values() for sample in one.samples]
    )
    once = np.ones((1, start))
    return {
        name: Compared(
            dict(zip(sources, areas(name, once, within=False)[:, 0].tolist(), strict=True)),
            differences[f"False {name}"],
            differences[f"True {name}"],
        )
        for name in names
    }


def document(model: str, sources: Mapping[str, Measured], compared: Mapping[str, Compared]) -> str:
    """The Markdown page."""
    heads = [
        f"{name} ({len(one.errors)}; {one.errors.mean():.2f})" for name, one in sources.items()
    ]
    lines = [
        f"| candidate | {' | '.join(heads)} | mean | less that of the {CONFIDENCE} "
        "| the same within the label called |",
        "| --- " * (len(heads) + 4) + "|",
    ]
    plain, better = compared[CONFIDENCE], []
    for name, found in compared.items():
        cells = " | ".join(f"{value:.3f}" for value in found.areas.values())
        mean = float(np.mean(list(found.areas.values())))
        differences = " | ".join(
            "" if name == CONFIDENCE else str(one) for one in (found.difference, found.within)
        )
        lines.append(f"| {name} | {cells} | {mean:.3f} | {differences} |")
        everywhere = all(found.areas[source] < plain.areas[source] for source in sources)
        certain = max(found.difference.high, found.within.high) < 0.0
        if everywhere and certain and found.difference.value <= -LEAST_GAIN:
            better.append(name)
    verdict = f"Clearly better than the {CONFIDENCE}: {', '.join(better) or 'none'}."
    return f"""# Does it show in an image that a network will err?

Written by

    {this_command()}

The network `{model}` has never seen these sources. Each candidate orders a source's images from the
most to the least familiar; the table has the area under the risk-coverage curve, the mean share of
errors over all shares of images kept. Smaller is better. An order by chance has the source's own
share of errors, which its column's heading gives after the number of images. If the true label
is not a class, `healthy` is the error. "With confidence" is the mean of both ranks among training
images. "Within the label called" orders the images called healthy and the others separately: at a
source where most healthy people are called ill, anything that distinguishes the two labels seems to
detect the errors but adds nothing. Intervals are over patients.

{chr(10).join(lines)}

A candidate is clearly better if it is better at each source, and over all of them by at least
{LEAST_GAIN} with 95 % confidence, both among all images and within the label called. {verdict}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", required=True)
    for name in ("--seen", "--unseen"):
        parser.add_argument(
            name, action="append", required=True, type=column_value, metavar="COLUMN=VALUE"
        )
    parser.add_argument("--docs", type=Path, required=True)
    arguments = parser.parse_args()
    samples = load_dataset(arguments.data, complete=False, non_classes=True).samples
    bundle = ModelBundle.load("vgg16-edge")
    check = FrontalCheck.open(bundle, preferred_engine(bundle.frontal.network.formats("int8")), 1)

    def chosen(pair: tuple[str, str]) -> list[Sample]:
        found = [one for one in samples if one.columns.get(pair[0]) == pair[1]]
        if not found:
            parser.error(f"no image has {'='.join(pair)}")
        return found

    with finished_run(arguments.model) as folder:
        learnt = [one for pair in arguments.seen for one in chosen(pair) if one.split == "train"]
        record, network = RunRecord.read(folder), maps_and_features(folder)
        known = measure(record, network, drawn(learnt, MOST_SEEN), check)
        sources = {
            pair[1]: measure(record, network, drawn(chosen(pair), MOST_UNSEEN), check)
            for pair in arguments.unseen
        }
    of_known = candidates(known, known)
    orders = {
        name: with_confidence(candidates(one, known), of_known) for name, one in sources.items()
    }
    page = document(Path(arguments.model).name, sources, compare(sources, orders))
    write_atomically(arguments.docs / "familiarity.md", page.encode())


if __name__ == "__main__":
    main()
