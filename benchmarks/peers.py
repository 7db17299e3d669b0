"""xrayedge compared with its alternatives in one run; writes docs/benchmarks.md.

    pip install openvino
    python benchmarks/peers.py --work WORK --docs docs --data MANIFEST.csv --where split=test

Every measurement has its own process and one thread; they alternate, round by round, on the same
images. MobileNetV2, DenseNet121 and the float VGG16 are built by Keras with random weights: that
gives their latency and says nothing about their accuracy. Converted files are kept in WORK and
reused.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import keras
import numpy as np
import onnx
from commandline import add_where, this_command
from pydicom.data import get_testdata_file
from quantise import int8_onnx, int8_tflite
from rich.console import Console
from rich.progress import Progress

from xrayedge import ModelBundle, read, shipped_bundles
from xrayedge.bench.accuracy import load_samples
from xrayedge.bench.cases import choose_cases
from xrayedge.bench.measuring import measure
from xrayedge.bench.report import Report
from xrayedge.bench.stages import realistic_images
from xrayedge.bench.statistics import Estimate, estimate, estimate_ratio
from xrayedge.bench.tables import TextTable, machine_table, notes, rows_table, stages_table
from xrayedge.converters import onnx as to_onnx
from xrayedge.converters.calibration_set import CalibrationSet
from xrayedge.files import write_atomically
from xrayedge.lungs import LungFiles, LungFinder, open_finder, window_for
from xrayedge.preprocessing import Preprocessing
from xrayedge.training.network import ARCHITECTURES, MAP_LAYER, build
from xrayedge.training.train import save

SIDE = 224
CLASSES = 3
THREADS = 1
LIMIT_SIDES = [512, 1024, 2048]  # of the square matrices whose product is the machine's limit
CALIBRATION_IMAGES = 16  # enough for the ranges of networks whose scores are not used
#: The engine called by hand beside each of ours.
BY_HAND = {"litert": "LiteRT", "onnx": "ONNX Runtime"}
_console = Console(stderr=True)

_INTRODUCTION = """\
# Benchmarks

Written by `{command}`. Every value is a median over {rounds} rounds, with its 95 % interval in
brackets where there were enough rounds. Each measurement ran in its own process with one thread,
and the measurements alternated. Ratios carry over to other machines better than milliseconds do:
measure on your device with `xrayedge bench`.

Measured with {models}.
Milliseconds of a network are its own: what frames the lungs for it comes on top, see
[performance.md](performance.md).
"""
_STAGES = """\
## From a file to its heatmap

`xrayedge bench --stage`, in milliseconds, for a real radiograph enlarged to each size and stored
as uncompressed DICOM and as JPEG.
"""
_OVERHEAD = """\
## What xrayedge adds to its engine

The time of `Classifier.classify` (engine, mean over the map, temperature, softmax), divided by
the time of the engine called directly. Both ran alternately in one process.
"""
_LIMIT = """\
## The machine's limit

Multiply-accumulates per second of one core when ONNX Runtime multiplies two square matrices; the
fastest of the sides {sides}.
"""
_PEERS = """\
## Comparison with other networks and engines

All on the same images. Networks with random weights are listed for their latency only; trained
ones are in [tradeoff.md](tradeoff.md). `time` is relative to the first row, {first}, in the same
rounds. `of the limit` is the share of the machine's limit that the convolutions reach: the int8
limit for int8 and dynamic files, which multiply bytes, and the float32 limit for all others.
`same label` compares with the first row of the same bundle.
"""


@dataclass(frozen=True)
class Contender:
    """One line of the comparison.

    Parameters
    ----------
    model, precision, engine
        For a person.
    job
        For `contenders`.
    macs
        Multiply-accumulates for one image.
    trained
        Whether its labels are meaningful.
    """

    model: str
    precision: str
    engine: str
    job: dict[str, Any]
    macs: int
    trained: bool


def multiply_accumulates(file: Path) -> int:
    """Of the convolutions of an ONNX file, for one image; the rest is less than a hundredth."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(file)).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    shapes |= {value.name: value.type.tensor_type.shape.dim for value in graph.output}
    weights = {value.name: int(np.prod(value.dims)) for value in graph.initializer}
    # A quantised weight reaches its convolution through DequantizeLinear.
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    return sum(
        weights[node.input[1]]
        * int(np.prod([side.dim_value for side in shapes[node.output[0]][2:]]))
        for node in graph.node
        if node.op_type == "Conv"
    )


def keras_peers(weights: str | None = None) -> dict[str, Callable[[], keras.Model]]:
    """Networks of the same input and output as ours.

    Parameters
    ----------
    weights
        Of the applications without their head: ``imagenet``, which Keras downloads, or a file of
        them; random without. VGG16's are random.
    """

    def headed(application: Callable[..., keras.Model]) -> keras.Model:
        image = keras.Input((SIDE, SIDE, 1), dtype="uint8", name="image")
        grey = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(image)
        colours = keras.layers.Concatenate()([grey, grey, grey])
        body = application(include_top=False, weights=weights, input_tensor=colours)
        x = keras.layers.Conv2D(CLASSES, 1, name=MAP_LAYER)(body.output)
        return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="logits")(x))

    return {
        "VGG16": lambda: build(ARCHITECTURES["vgg16"], SIDE, CLASSES),
        "MobileNetV2": lambda: headed(keras.applications.MobileNetV2),
        "DenseNet121": lambda: headed(keras.applications.DenseNet121),
    }


def convert_peer(name: str, make: Callable[[], keras.Model], inputs: Path, work: Path) -> None:
    """Write a peer's files, unless they are there."""
    calibration = CalibrationSet(np.load(inputs))
    recipes: dict[str, Callable[[keras.Model], bytes]] = {
        "float32.onnx": to_onnx.float32,
        "int8.onnx": lambda model: int8_onnx(model, calibration),
        "int8.tflite": lambda model: int8_tflite(model, calibration),
    }
    path = work / f"{name}.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        save(make(), path)
    for suffix, recipe in recipes.items():
        target = work / f"{name}-{suffix}"
        if not target.exists():
            _console.print(f"converting {target.name}")
            write_atomically(target, recipe(keras.saving.load_model(path, compile=False)))


def peer_contenders(name: str, inputs: Path, work: Path) -> list[Contender]:
    """A Keras peer in every engine."""
    macs = multiply_accumulates(work / f"{name}-float32.onnx")
    files = [
        ("float32", "Keras (TensorFlow)", f"{name}.keras"),
        ("float32", "ONNX Runtime", f"{name}-float32.onnx"),
        ("float32", "OpenVINO", f"{name}-float32.onnx"),
        ("int8", "LiteRT", f"{name}-int8.tflite"),
        ("int8", "ONNX Runtime", f"{name}-int8.onnx"),
        ("int8", "OpenVINO", f"{name}-int8.onnx"),
    ]
    return [
        Contender(
            f"{name} (random weights)",
            precision,
            engine,
            _job("engine", inputs, engine=engine, file=str(work / file)),
            macs,
            trained=False,
        )
        for precision, engine, file in files
    ]


def bundle_contenders(bundle: ModelBundle, inputs: Path) -> list[Contender]:
    """A shipped bundle's files through xrayedge, and its ONNX files in OpenVINO."""
    onnx_files = [one for one in bundle.classifier.variants if one.format == "onnx"]
    if not onnx_files:
        return []
    macs = multiply_accumulates(bundle.folder / onnx_files[0].file)
    ours = [
        Contender(
            bundle.name,
            case.precision,
            f"xrayedge, {case.engine}",
            _job(
                "classify",
                inputs,
                folder=str(bundle.folder),
                precision=case.precision,
                engine=case.engine,
            ),
            macs,
            trained=True,
        )
        for case in choose_cases([bundle])
    ]
    theirs = [
        Contender(
            bundle.name,
            variant.precision,
            "OpenVINO",
            _job("engine", inputs, engine="OpenVINO", file=str(bundle.folder / variant.file)),
            macs,
            trained=True,
        )
        for variant in onnx_files
    ]
    return ours + theirs


def overhead_jobs(bundle: ModelBundle, inputs: Path) -> dict[str, dict[str, Any]]:
    """Xrayedge against its engine called directly, for each file of a bundle."""
    return {
        f"{bundle.name} {case.precision}, {BY_HAND[case.engine]}": _job(
            "overhead",
            inputs,
            folder=str(bundle.folder),
            precision=case.precision,
            engine=case.engine,
            by_hand=BY_HAND[case.engine],
            file=str(bundle.folder / variant.file),
        )
        for case in choose_cases([bundle])
        if (variant := bundle.classifier.variant(case.format, case.precision)) is not None
    }


def run_rounds(jobs: Sequence[dict[str, Any]], rounds: int) -> list[list[dict[str, Any]]]:
    """Each job's answers, one per round, each from a new process."""
    answers: list[list[dict[str, Any]]] = [[] for _ in jobs]
    with Progress(console=_console, transient=True) as bar:
        task = bar.add_task("peers", total=rounds * len(jobs))
        for _ in range(rounds):
            for job, found in zip(jobs, answers, strict=True):
                found.append(_run(job))
                bar.advance(task)
    return answers


def main() -> None:
    """Measure as the command line asks, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="Converted files; used again.")
    parser.add_argument("--docs", type=Path, required=True, help="Where benchmarks.md goes.")
    parser.add_argument("--data", type=Path, help="Labelled images for accuracy and labels.")
    add_where(parser)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer", action="append", choices=tuple(keras_peers()), default=[])
    chosen = parser.parse_args()
    samples = load_samples(chosen.data, chosen.where) if chosen.data else ()
    bundles = [ModelBundle.load(name) for name in shipped_bundles()]
    chosen.work.mkdir(parents=True, exist_ok=True)

    images = [sample.path for sample in samples] or [Path(str(get_testdata_file("RG1_UNCR.dcm")))]
    jobs: list[Contender] = []
    overheads: dict[str, dict[str, Any]] = {}
    for bundle in bundles:
        preprocessing = bundle.classifier.preprocessing
        inputs = chosen.work / f"inputs-{bundle.name}.npy"
        finder = open_finder(LungFiles.of(bundle))
        np.save(inputs, np.stack([_input(preprocessing, finder, one) for one in images]))
        jobs += bundle_contenders(bundle, inputs)
        overheads |= overhead_jobs(bundle, inputs)
    peers = keras_peers()
    inputs = chosen.work / "inputs.npy"
    np.save(inputs, np.stack([_resized(one) for one in images[:CALIBRATION_IMAGES]]))
    for name in chosen.peer or peers:
        convert_peer(name, peers[name], inputs, chosen.work)
        jobs += peer_contenders(name, inputs, chosen.work)
    limits = {
        kind: {"job": "limit", "kind": kind, "sides": LIMIT_SIDES, "threads": THREADS}
        for kind in ("int8", "float32")
    }
    answers = run_rounds(
        [*limits.values(), *overheads.values(), *(one.job for one in jobs)], chosen.rounds
    )
    of_limits = dict(zip(limits, answers, strict=False))
    of_overheads = dict(zip(overheads, answers[len(limits) :], strict=False))
    of_jobs = answers[len(limits) + len(overheads) :]
    report = measure(
        bundles,
        choose_cases(bundles),
        rounds=chosen.rounds,
        samples=samples,
        images=realistic_images(chosen.work),
        progress=lambda done, total, title: _console.print(f"{done}/{total} {title}"),
    )
    document = write_document(
        report, bundles, jobs, of_jobs, of_overheads, of_limits, chosen.rounds
    )
    write_atomically(chosen.docs / "benchmarks.md", document.encode())


def write_document(
    report: Report,
    bundles: Sequence[ModelBundle],
    jobs: Sequence[Contender],
    answers: Sequence[list[dict[str, Any]]],
    overheads: dict[str, list[dict[str, Any]]],
    limits: dict[str, list[dict[str, Any]]],
    rounds: int,
) -> str:
    """All of docs/benchmarks.md."""
    speeds = {kind: [one["macs_per_second"] for one in found] for kind, found in limits.items()}
    models = " and ".join(
        f"`{one.name}` {one.version} at {one.classifier.preprocessing.size} pixels"
        for one in bundles
    )
    return "\n".join(
        [
            _INTRODUCTION.format(command=this_command(), rounds=rounds, models=models),
            machine_table(report).to_markdown(),
            "## Every file of the shipped bundles\n\n`xrayedge bench`.\n",
            rows_table(report).to_markdown(),
            "".join(f"- {note}\n" for note in notes(report)),
            _STAGES,
            stages_table(report).to_markdown(),
            _OVERHEAD,
            overhead_table(overheads).to_markdown(),
            _LIMIT.format(sides=", ".join(map(str, LIMIT_SIDES))),
            TextTable(
                ("precision", "10^9 per second"),
                tuple((kind, _interval(estimate(one), 1e-9, 1)) for kind, one in speeds.items()),
            ).to_markdown(),
            _PEERS.format(first=f"{jobs[0].model} {jobs[0].precision} in {jobs[0].engine}"),
            peers_table(jobs, answers, speeds).to_markdown(),
        ]
    )


def overhead_table(overheads: dict[str, list[dict[str, Any]]]) -> TextTable:
    """Ratio of xrayedge to its engine."""
    rows = []
    for title, rounds in overheads.items():
        ours = [float(np.median(one["ours_ms"])) for one in rounds]
        theirs = [float(np.median(one["theirs_ms"])) for one in rounds]
        ratio = estimate_ratio(ours, theirs)
        rows.append((title, _interval(ratio, 1.0, 3), _interval(estimate(theirs), 1.0, 2)))
    return TextTable(("file, engine", "xrayedge / by hand", "by hand, ms"), tuple(rows))


def peers_table(
    jobs: Sequence[Contender],
    answers: Sequence[list[dict[str, Any]]],
    limits: dict[str, list[float]],
) -> TextTable:
    """One line per contender."""
    medians = [[float(np.median(one["latencies_ms"])) for one in rounds] for rounds in answers]
    first: dict[str, list[int]] = {}
    rows = []
    for job, rounds, times in zip(jobs, answers, medians, strict=True):
        limit = limits["int8" if job.precision in ("int8", "dynamic") else "float32"]
        reached = estimate_ratio([job.macs / (one / 1000.0) for one in times], limit)
        same = "-"
        if job.trained:
            labels = rounds[0]["labels"]
            reference = first.setdefault(job.model, labels)
            same = f"{np.mean(np.array(labels) == np.array(reference)):.1%} of {len(labels)}"
        cells = (
            job.model,
            job.precision,
            job.engine,
            f"{job.macs / 1e9:.2f}",
            _interval(estimate_ratio(times, medians[0]), 1.0, 2),
            _interval(reached, 1.0, 2),
            f"{estimate(times).value:.2f}",
            same,
        )
        rows.append(cells)
    return TextTable(
        ("model", "precision", "engine", "10^9 MAC", "time", "of the limit", "ms", "same label"),
        tuple(rows),
    )


def _job(kind: str, inputs: Path, **arguments: Any) -> dict[str, Any]:
    return {"job": kind, "inputs": str(inputs), "threads": THREADS, **arguments}


def _run(job: dict[str, Any]) -> dict[str, Any]:
    worker = Path(__file__).with_name("contenders.py")
    done = subprocess.run(
        [sys.executable, worker], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{job}\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _input(
    preprocessing: Preprocessing, finder: LungFinder | None, image: Path
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels = read(image).pixels
    return preprocessing.apply(window_for(finder, pixels).cut(pixels))


def _resized(image: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    resized = cv2.resize(read(image).pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)[:, :, np.newaxis]


def _interval(found: Estimate, scale: float, decimals: int) -> str:
    value = f"{found.value * scale:.{decimals}f}"
    if found.interval is None:
        return value
    low, high = found.interval
    return f"{value} ({low * scale:.{decimals}f}-{high * scale:.{decimals}f})"


if __name__ == "__main__":
    main()
