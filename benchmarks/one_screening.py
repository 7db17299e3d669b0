"""Where the time of one `screen` call goes; writes docs/performance.md.

    python benchmarks/one_screening.py --docs docs --data MANIFEST.csv --where split=test

A real radiograph of the package `pydicom-data`, enlarged to 2000 x 2000 pixels and decoded. The
steps alternate, with one thread. With --data, `half_scale.py` also measures on its images what
decoding JPEG at half scale saves, and how it changes the scores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import half_scale
import numpy as np
from commandline import add_where, this_command, this_machine
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from xrayedge import ModelBundle, Preprocessing, Screener, read, shipped_bundles
from xrayedge.bench.accuracy import load_samples
from xrayedge.bench.statistics import estimate
from xrayedge.bundle import DEFAULT_MODEL
from xrayedge.classifier import Classifier
from xrayedge.engines import preferred_engine
from xrayedge.files import write_atomically
from xrayedge.frontal import FrontalCheck
from xrayedge.lungs import LungFiles, LungFinder, open_finder
from xrayedge.preprocessing import fill_range, halved_for

SIDE = 2000
ROUNDS, RUNS = 9, 12

_RANGE, _FRONTAL_NETWORK = "look whether the grey range is filled", "frontal check: network"
_HALVE, _FRONTAL_RESIZE = (
    "{}: halve for what sees the whole image",
    "{}: resize for the frontal check",
)
_LUNGS = "{}: find the lungs"
_EQUALISE, _CLASSIFIER = "{}: resize and equalise", "{}: classifier, int8"
_LINE = (_RANGE, _HALVE, _FRONTAL_RESIZE, _FRONTAL_NETWORK, _LUNGS, _EQUALISE)

_TEXT = """\
# Where the time goes

Written by `{command}` on
{machine}.

One `screen` call on a decoded image of {side} x {side} pixels, in {engine} with one thread. The
times are medians over {rounds} rounds; the steps alternated within each round. For {model} the
frontal check and the preprocessing together take {line:.2f} ms, the classifier {classifier:.2f}
ms. What `read` returns for a C-contiguous `uint8` array {shares}. It is halved once for the frontal
check and for what finds the lungs, and the classifier's input of {size} x {size} bytes, made of the
part around the lungs, is passed to the engine without another copy.

"""
_REDUCED = """
## JPEG at half its scale

A JPEG decoder can decode an image at half its width and height for less work. {images} images
were enlarged to {large} pixels on the shorter side, stored as JPEG of quality {quality}, decoded
both ways and screened by {model}, int8. Decoding took {whole:.1f} ms at full scale and {half:.1f}
ms at half scale. The largest change in an image's probabilities was {mean:.4f} on average, at
least {p95:.4f} for one image in twenty, and {most:.4f} at most; labels changed: {labels}.
{verdict}.
"""


def steps(pixels: NDArray[np.uint8]) -> dict[str, Callable[[], object]]:
    """Every step of a screening after decoding, as a function to time."""
    bundles = [ModelBundle.load(name) for name in shipped_bundles()]
    engine = preferred_engine()
    frontal = FrontalCheck.open(bundles[0], engine, 1)
    first = frontal.classifier.network.preprocessing
    frontal_inputs = frontal.classifier.preprocess(pixels)
    found: dict[str, Callable[[], object]] = {
        _RANGE: lambda: fill_range(pixels),
        _FRONTAL_NETWORK: lambda: frontal.classifier.classify(frontal_inputs),
    }
    for bundle in bundles:
        settings, finder = (
            bundle.classifier.preprocessing,
            open_finder(LungFiles.of(bundle), engine),
        )
        also = settings if finder is None else finder.network.network.preprocessing
        of_the_whole = [first, also]
        seen = halved = halved_for(pixels, of_the_whole)
        if finder is not None:
            seen = finder.find(halved, *pixels.shape).cut(pixels)
            found[_LUNGS.format(bundle.name)] = _find(finder, halved, pixels)
        found[_HALVE.format(bundle.name)] = _halve(pixels, of_the_whole)
        found[_FRONTAL_RESIZE.format(bundle.name)] = _preprocess(first, halved)
        found[_EQUALISE.format(bundle.name)] = _preprocess(settings, seen)
        classifier = Classifier.open(bundle, bundle.classifier, "int8", engine, 1)
        inputs = classifier.preprocess(seen)
        found[_CLASSIFIER.format(bundle.name)] = _classify(classifier, inputs)
        screener = Screener(bundle.name)
        found[f"`Screener('{bundle.name}').screen`"] = _screen(screener, pixels)
    return found


def _halve(pixels: NDArray[np.uint8], preprocessings: list[Preprocessing]) -> Callable[[], object]:
    return lambda: halved_for(pixels, preprocessings)


def _find(
    finder: LungFinder, small: NDArray[np.uint8], pixels: NDArray[np.uint8]
) -> Callable[[], object]:
    return lambda: finder.find(small, *pixels.shape)


def _preprocess(settings: Preprocessing, pixels: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: settings.apply(pixels)


def _classify(classifier: Classifier, inputs: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: classifier.classify(inputs)


def _screen(screener: Screener, pixels: NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: screener.screen(pixels)


def measure(found: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each step; the steps alternate."""
    rounds: dict[str, list[float]] = {name: [] for name in found}
    for number in range(-1, ROUNDS):  # the first round warms up
        for name, step in found.items():
            times = []
            for _ in range(RUNS):
                started = time.perf_counter()
                step()
                times.append((time.perf_counter() - started) * 1000.0)
            if number >= 0:
                rounds[name].append(float(np.median(times)))
    return {name: estimate(times).value for name, times in rounds.items()}


def reduced_decoding(data: Path, where: list[tuple[str, str]], model: str) -> str:
    """What decoding JPEG at half scale saves, and how it changes the scores."""
    found = half_scale.measure(load_samples(data, where), ["JPEG"], Screener(model))["JPEG"]
    differences = [one.difference for one in found if one.difference is not None]
    return _REDUCED.format(
        images=len(differences),
        large=half_scale.LARGE,
        quality=half_scale.QUALITY,
        model=model,
        whole=np.median([one.whole_ms for one in found]),
        half=np.median([one.half_ms for one in found]),
        mean=np.mean(differences),
        p95=np.percentile(differences, 95),
        most=max(differences),
        labels=sum(one.label for one in found),
        verdict=half_scale.verdict(found),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    add_where(parser)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    genuine = read(str(get_testdata_file("RG1_UNCR.dcm"))).pixels
    enlarged = cv2.resize(genuine, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    pixels = np.ascontiguousarray(enlarged, dtype=np.uint8)
    milliseconds = measure(steps(pixels))
    model = DEFAULT_MODEL
    shared = np.shares_memory(read(pixels).pixels, pixels)
    text = _TEXT.format(
        command=this_command(),
        machine=this_machine(),
        side=SIDE,
        engine=preferred_engine(),
        rounds=ROUNDS,
        model=model,
        line=sum(milliseconds[name.format(model)] for name in _LINE),
        classifier=milliseconds[_CLASSIFIER.format(model)],
        shares="is that array" if shared else "is a copy",
        size=ModelBundle.load(model).classifier.preprocessing.size,
    )
    text += "| step | ms |\n| --- | ---: |\n"
    text += "".join(f"| {name} | {value:.2f} |\n" for name, value in milliseconds.items())
    if arguments.data is not None:
        text += reduced_decoding(arguments.data, arguments.where, model)
    write_atomically(arguments.docs / "performance.md", text.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
