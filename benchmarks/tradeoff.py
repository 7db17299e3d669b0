"""What fewer operations cost: narrower VGG16s compared with MobileNetV2 and DenseNet121.

    python benchmarks/tradeoff.py RUN --data MANIFEST.csv --where split=test --by set \
        --work WORK --docs docs

Writes docs/tradeoff.md and docs/tradeoff.png. RUN is the teacher's. Each student learns from its
activation maps of the same varied training images, is converted to int8, judged on the images
that --where chooses, and timed together with all others, alternately, in one process with one
thread. With --by, images of each value of a column are evaluated separately. Everything is kept in
WORK, so that an interrupted call can be resumed. --time-only trains nothing; networks that WORK
does not hold trained are then timed with random weights. --also adds finished runs of `xrayedge
prune`, under the names of their folders.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from commandline import add_where, this_command, this_machine
from contenders import open_litert, open_onnx
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray
from peers import keras_peers, multiply_accumulates
from quantise import int8_onnx, int8_tflite
from rich.console import Console

from xrayedge.bench.statistics import Estimate, estimate, estimate_ratio
from xrayedge.converters import calibration_set, equalisation, ranges, rounding
from xrayedge.converters import onnx as to_onnx
from xrayedge.converters import tflite as to_tflite
from xrayedge.converters.outputs import engine_maps
from xrayedge.data import Dataset, Sample, load_dataset, model_inputs
from xrayedge.engines import EngineName, open_engine
from xrayedge.errors import RunError
from xrayedge.evaluation import (
    Evaluation,
    Metric,
    balanced_accuracy,
    evaluate,
    intervals,
    macro_auc,
    rows_by,
)
from xrayedge.evaluation.report import png
from xrayedge.files import write_atomically
from xrayedge.preprocessing import Preprocessing
from xrayedge.scores import probabilities
from xrayedge.training import pruning
from xrayedge.training.calibration import fit_temperature
from xrayedge.training.losses import Distillation, LabelledAccuracy
from xrayedge.training.network import ARCHITECTURES, activation_map_model
from xrayedge.training.recipe import ROBUST
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.train import build_network, schedule

RATIOS = (2, 4, 8, 12, 16, 24, 50)
HALF_SIDE_FROM = 4  # from here on the input's side is halved, which alone leaves a quarter
#: How many times fewer multiply-accumulates than the teacher the other networks have.
PEERS = {"MobileNetV2": 50, "DenseNet121": 5}
PEER_RATE = 1e-3  # they begin with random weights
#: Keras' 0.999 takes thousands of steps to forget the initial statistics.
PEER_MOMENTUM = 0.9
#: Over the training images, of `vgg16 / 2`. Operations times passes is the same for all.
PASSES = 1.0
ENGINES: tuple[EngineName, ...] = ("litert", "onnx")
ROUNDS, RUNS = 9, 12  # per file and engine: medians of so many runs, in so many rounds
UNTRAINED_IMAGES = 8  # enough for the ranges of networks whose scores are not used
_LABEL: dict[str, Any] = {"fontsize": 8, "xytext": (4, 4), "textcoords": "offset points"}
_TOP = 1.05  # of the axis of accuracy: room for names
_UPRIGHT = {**_LABEL, "xytext": (0, 4), "rotation": 90, "ha": "center", "va": "bottom"}
_SUFFIXES: dict[EngineName, str] = {"litert": "int8.tflite", "onnx": "int8.onnx"}
_console = Console(stderr=True, highlight=False)

_TEXT = """\
# What fewer operations cost

Written by `{command}`.

The first row is the teacher. `vgg16 / 8` is the teacher pruned by `xrayedge prune` to an eighth
of its multiply-accumulates. From `vgg16 / {half_side}` on, `--half-side` is used as well, which
alone leaves a quarter of them and all the weights. MobileNetV2 and DenseNet121 learn from the
same teacher's activation maps of the same augmented views, at most {views} of each training
image, and are quantised too.
{peers}

Every network gets about the same training compute: `vgg16 / 2` sees each training image
{passes:g} times, at least once, and a network with fewer operations proportionally more often
(column `passes`).
{also}

All metrics are of the int8 files, with 95 % intervals over patients. `lost` is the teacher's
metric minus the network's, by a paired bootstrap. Times are medians of {rounds} rounds in which
all files alternated in one process, with one thread each. Ratios carry over to other machines
better than milliseconds do. The machine: {machine}. Networks without accuracy were timed but not
trained. [The model card](model-card.md) says what each dataset can prove.

![latency against balanced accuracy](tradeoff.png)

## Size and time

{costs}"""

_ACCURACY = """
## Accuracy{on}

{images} images of {patients} patients.

{table}"""

_ALSO = """\
{names} was trained outside this rule."""

_RANDOM = """\
{names} started from random weights, while the pruned networks started from the teacher's.
That many views are too few for random weights: these networks can reach more than they do here."""


@dataclass(frozen=True)
class Student:
    """One line of the comparison.

    Parameters
    ----------
    name
        For a person.
    folder
        Holds its model and files.
    passes
        How often it has seen each training image; 0 where its weights are random, and `None` for
        the teacher.
    temperature
        Divides its logits.
    preprocessing
        From an image to its input.
    """

    name: str
    folder: Path
    passes: int | None
    temperature: float
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Accuracy:
    """Metrics of a trained student on some images, and the teacher's lead."""

    evaluation: Evaluation
    lost: dict[str, Metric]


@dataclass(frozen=True)
class Line:
    """The measurements of a student; ``parts`` is empty if it was not trained."""

    student: Student
    operations: int
    sizes: dict[EngineName, int]
    parts: dict[str, Accuracy]
    milliseconds: dict[EngineName, Estimate]
    times_faster: dict[EngineName, Estimate]


def pruned(ratio: int, teacher: Path, dataset: Dataset, arguments: argparse.Namespace) -> Student:
    """The teacher pruned to one ``ratio``-th, trained or as a network of the planned widths."""
    name, folder = f"vgg16 / {ratio}", arguments.work / f"vgg16-{ratio}x"
    half_side = ratio >= HALF_SIDE_FROM
    fraction = (4.0 if half_side else 1.0) / ratio
    if not arguments.time_only:
        views, epochs = spread(arguments.passes * ratio / 2, arguments.view_count)
        changes: dict[str, Any] = {
            "precision": arguments.precision,
            "phases": (replace(pruning.FINAL, epochs=epochs),),
        }
        if not RunRecord.is_finished(folder):
            _console.print(f"pruning to one {ratio}th")
            pruning.prune(
                teacher,
                dataset,
                fraction,
                folder,
                half_side=half_side,
                views=arguments.views or arguments.work / "views",
                view_count=views,
                changes=changes,
                progress=lambda number, total, epoch: _console.print(
                    f"  epoch {number}/{total}  loss {epoch.loss:.4f}  {epoch.seconds:.0f} s"
                ),
            )
    if RunRecord.is_finished(folder):
        return finished(name, folder)
    planned = folder.with_name(f"{folder.name}-untrained")
    record = RunRecord.read(teacher)
    recipe = pruning.of_half_the_side(record.recipe) if half_side else record.recipe
    if not (planned / MODEL).exists():
        whole = keras.saving.load_model(teacher / MODEL, compile=False)
        model = pruning.at_its_size(whole, recipe, len(record.classes))
        inputs = model_inputs(dataset.split("train")[::24], recipe.preprocessing)
        widths = pruning.plan(
            pruning.importance(model, inputs),
            recipe.widths or ARCHITECTURES[recipe.architecture].blocks,
            recipe.preprocessing.size,
            fraction,
        )
        narrower = build_network(replace(recipe, widths=widths), len(record.classes))
        planned.mkdir(parents=True)
        narrower.save(planned / MODEL)
    return Student(name, planned, 0, 1.0, recipe.preprocessing)


def spread(passes: float, most_views: int) -> tuple[int, int]:
    """How many views of each image, and epochs of them, come nearest to so many passes."""
    views = min(max(1, round(passes)), most_views)
    return views, max(1, round(passes / views))


def finished(name: str, folder: Path) -> Student:
    """A finished run of pruning, or `RunError`."""
    record = RunRecord.read(folder)
    if not record.finished or record.views is None:
        raise RunError(f"{folder}: not a finished run of `xrayedge prune`")
    passes = record.views * len(record.history)
    return Student(name, folder, passes, record.temperature, record.recipe.preprocessing)


def peer(name: str, teacher: Path, dataset: Dataset, arguments: argparse.Namespace) -> Student:
    """A network of another kind, trained like the pruned ones."""
    folder = arguments.work / name.lower()
    if name in arguments.peer_weights:
        folder = folder.with_name(f"{folder.name}-from-{Path(arguments.peer_weights[name]).name}")
    done = folder / "temperature.txt"
    preprocessing = RunRecord.read(teacher).recipe.preprocessing
    if not done.exists() and not arguments.time_only and name in arguments.peers:
        _console.print(f"training {name}")
        _teach(name, folder, teacher, dataset, arguments)
    if done.exists():
        temperature, passes = done.read_text(encoding="utf-8").split()
        return Student(name, folder, int(passes), float(temperature), preprocessing)
    untrained = folder.with_name(f"{folder.name}-untrained")
    if not (untrained / MODEL).exists():
        untrained.mkdir(parents=True)
        keras_peers()[name]().save(untrained / MODEL)
    return Student(name, untrained, 0, 1.0, preprocessing)


def _teach(
    name: str, folder: Path, teacher: Path, dataset: Dataset, arguments: argparse.Namespace
) -> None:
    record = RunRecord.read(teacher)
    recipe = replace(record.recipe, augmentation=ROBUST, batch_size=32)
    folder_of_views = arguments.views or arguments.work / "views"
    classes = len(dataset.classes)
    count, epochs = spread(arguments.passes * PEERS[name] / 2, arguments.view_count)
    views = pruning.Views(folder_of_views, teacher, dataset, recipe, count)
    targets = views.targets
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(record.recipe.seed)
    model = keras_peers(arguments.peer_weights.get(name))[name]()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = PEER_MOMENTUM
    student = activation_map_model(model)
    phase = replace(pruning.FINAL, epochs=epochs, learning_rate=PEER_RATE)
    rate = schedule(phase, -(-len(targets) // recipe.batch_size))
    student.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=1e-4),
        loss=Distillation(classes, float(np.var(targets[:, :-classes]))),
        metrics=[LabelledAccuracy(classes, last=True)],
    )
    student.fit(
        views.inputs,
        targets,
        batch_size=recipe.batch_size,
        epochs=epochs,
        callbacks=[keras.callbacks.BackupAndRestore(folder / "backup")],
        verbose=2,
    )
    model.save(folder / MODEL)
    held_out = dataset.split("val")
    inputs = model_inputs(held_out, record.recipe.preprocessing)
    labels = np.array([dataset.classes.index(sample.label) for sample in held_out])
    logits = np.asarray(model.predict(inputs, batch_size=16, verbose=0))
    content = f"{fit_temperature(logits, labels)} {count * epochs}\n"
    write_atomically(folder / "temperature.txt", content.encode())


def convert(student: Student, dataset: Dataset, out: Path) -> None:
    """Write the student's int8 files, unless they are there: ours by our recipes."""
    targets = [out / f"{student.folder.name}-{suffix}" for suffix in _SUFFIXES.values()]
    if all(target.exists() for target in targets):
        return
    _console.print(f"converting {student.name}")
    chosen = calibration_set.choose(dataset.split("train"), student.preprocessing)
    if student.passes == 0:
        chosen = calibration_set.CalibrationSet(chosen.inputs[:UNTRAINED_IMAGES])
    model = keras.saving.load_model(student.folder / MODEL, compile=False)
    if student.name in PEERS:
        contents = [int8_tflite(model, chosen), int8_onnx(model, chosen)]
    else:
        model = equalisation.equalise(model, chosen)
        model = rounding.round_kernels(model, chosen)
        found = ranges.observe(model, chosen)["percentile"]
        contents = [to_tflite.static_int8(model, found), to_onnx.static_int8(model, found)]
    for target, content in zip(targets, contents, strict=True):
        write_atomically(target, content)


def time_in_turn(files: Sequence[Path], images: Sequence[NDArray[np.uint8]]) -> list[list[float]]:
    """Milliseconds of each file on its input: a median a round; all take turns, one thread each."""
    # By hand: our setting for exact int8 on older processors makes ONNX Runtime refuse DenseNet121.
    openers = {"litert": open_litert, "onnx": open_onnx}
    engines = [openers[_engine_of(file)](str(file), 1) for file in files]
    found: list[list[float]] = [[] for _ in files]
    for number in range(-1, ROUNDS):  # the first round warms up
        for engine, image, rounds in zip(engines, images, found, strict=True):
            times = []
            for _ in range(RUNS):
                started = time.perf_counter()
                engine(image)
                times.append((time.perf_counter() - started) * 1000.0)
            if number >= 0:
                rounds.append(float(np.median(times)))
    return found


def _engine_of(file: Path) -> EngineName:
    return "litert" if file.suffix == ".tflite" else "onnx"


def paired_loss(
    samples: Sequence[Sample],
    classes: Sequence[str],
    reference: NDArray[np.float64],
    found: NDArray[np.float64],
) -> dict[str, Metric]:
    """What balanced accuracy and macro AUC lose, each with its 95 % interval over patients."""
    labels = np.array([classes.index(sample.label) for sample in samples])

    def statistic(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {
            metric.__name__: metric(labels, reference, weights) - metric(labels, found, weights)
            for metric in (balanced_accuracy, macro_auc)
        }

    return intervals(statistic, [sample.group for sample in samples])


def measure(
    students: Sequence[Student],
    samples: Sequence[Sample],
    dataset: Dataset,
    parts: dict[str, list[int]],
    out: Path,
) -> list[Line]:
    """Evaluate on each part and time the students; the others are compared with the first."""
    inputs = {
        preprocessing: model_inputs(samples, preprocessing)
        for preprocessing in {student.preprocessing for student in students}
    }
    files = {
        student: {engine: out / f"{student.folder.name}-{_SUFFIXES[engine]}" for engine in ENGINES}
        for student in students
    }
    scores: dict[Student, NDArray[np.float64]] = {}
    for student in students:
        if student.passes != 0:
            _console.print(f"judging {student.name}")
            content = files[student]["litert"].read_bytes()
            engine = open_engine("litert", content, threads=os.cpu_count() or 1)
            scores[student] = probabilities(
                engine_maps(engine, inputs[student.preprocessing]), student.temperature
            )
    _console.print("timing")
    cases = [(student, engine) for student in students for engine in ENGINES]
    timed = dict(
        zip(
            cases,
            time_in_turn(
                [files[student][engine] for student, engine in cases],
                [inputs[student.preprocessing][:1] for student, _ in cases],
            ),
            strict=True,
        )
    )
    first = students[0]
    lines = []
    for student in students:
        operations_file = out / f"{student.folder.name}-{_SUFFIXES['onnx']}"
        lines.append(
            Line(
                student,
                multiply_accumulates(operations_file),
                {engine: file.stat().st_size for engine, file in files[student].items()},
                {
                    name: accuracy(
                        [samples[row] for row in rows],
                        dataset.classes,
                        scores[student][rows],
                        None if student is first else scores[first][rows],
                    )
                    for name, rows in parts.items()
                    if student in scores
                },
                {engine: estimate(timed[student, engine]) for engine in ENGINES},
                {
                    engine: estimate_ratio(timed[first, engine], timed[student, engine])
                    for engine in ENGINES
                },
            )
        )
    return lines


def accuracy(
    samples: Sequence[Sample],
    classes: Sequence[str],
    found: NDArray[np.float64],
    reference: NDArray[np.float64] | None,
) -> Accuracy:
    """Judge scores, and compare them with the reference's."""
    lost = {} if reference is None else paired_loss(samples, classes, reference, found)
    return Accuracy(evaluate(samples, classes, found), lost)


def parts_by(column: str | None, samples: Sequence[Sample]) -> dict[str, list[int]]:
    """The rows of each value of a column; all of them under an empty name without one."""
    return {"": list(range(len(samples)))} if column is None else rows_by(column, samples)


def costs_table(lines: Sequence[Line]) -> str:
    """Operations, size and time of each network, in Markdown."""
    headings = [
        "network",
        "passes",
        "G MAC",
        "MB, TFLite",
        *(f"ms, {engine}" for engine in ENGINES),
        *(f"times faster, {engine}" for engine in ENGINES),
    ]
    rows = []
    for line in lines:
        passes = "teacher" if line.student.passes is None else str(line.student.passes)
        rows.append(
            [
                line.student.name,
                passes,
                f"{line.operations / 1e9:.2f}",
                f"{line.sizes['litert'] / 1e6:.2f}",
                *(f"{line.milliseconds[engine].value:.2f}" for engine in ENGINES),
                *(f"{line.times_faster[engine].value:.1f}" for engine in ENGINES),
            ]
        )
    return _markdown(headings, rows)


def accuracy_table(lines: Sequence[Line], part: str) -> str:
    """The metrics of each trained network on a part of the images, in Markdown."""
    headings = [
        "network",
        "balanced accuracy",
        "lost",
        "macro AUC",
        "lost",
        "COVID sensitivity",
        "COVID specificity",
    ]
    rows = []
    for line in lines:
        if part in line.parts:
            found = line.parts[part]
            metrics = found.evaluation.metrics
            rows.append(
                [
                    line.student.name,
                    str(metrics["balanced_accuracy"]),
                    _lost(found, "balanced_accuracy"),
                    str(metrics["macro_auc"]),
                    _lost(found, "macro_auc"),
                    str(metrics["recall/covid"]),
                    str(metrics["specificity/covid"]),
                ]
            )
    return _markdown(headings, rows)


def _markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _lost(found: Accuracy, name: str) -> str:
    return _signed(found.lost[name]) if found.lost else ""


def _signed(lost: Metric) -> str:
    return f"{lost.value:+.3f} ({lost.low:+.3f} to {lost.high:+.3f})"


def beginnings(weights: dict[str, str]) -> str:
    """Sentences on what the peers began with."""
    sentences = [f"{name} began with {Path(one).name}." for name, one in weights.items()]
    at_random = [name for name in PEERS if name not in weights]
    if at_random:
        sentences.append(_RANDOM.format(names=" and ".join(at_random)))
    return "\n".join(sentences)


def draw(lines: Sequence[Line], parts: Sequence[str]) -> Canvas:
    """Latency against balanced accuracy on each part, and against operations."""
    canvas = Canvas(figsize=(5.5 * (len(parts) + 1), 5), layout="constrained")
    *accuracies, speed = canvas.subplots(1, len(parts) + 1)
    for line in lines:
        colour = "tab:orange" if line.student.name in PEERS else "tab:blue"
        milliseconds = line.milliseconds["litert"].value
        speed.plot(line.operations / 1e9, milliseconds, "o", color=colour)
        speed.annotate(line.student.name, (line.operations / 1e9, milliseconds), **_LABEL)
        for part, axes in zip(parts, accuracies, strict=True):
            if part not in line.parts:
                continue
            found = line.parts[part].evaluation.metrics["balanced_accuracy"]
            spread = [[found.value - found.low], [found.high - found.value]]
            axes.errorbar(milliseconds, found.value, spread, fmt="o", color=colour, capsize=3)
            axes.annotate(line.student.name, (milliseconds, found.high), **_UPRIGHT)
    for part, axes in zip(parts, accuracies, strict=True):
        axes.set(xscale="log", xlabel="ms per image, int8, LiteRT, one thread", title=part)
        axes.set(ylabel="balanced accuracy, 95 % interval over patients", ylim=(None, _TOP))
    speed.set(xscale="log", yscale="log", xlabel="multiply-accumulates, thousand millions")
    speed.set(ylabel="ms per image, int8, LiteRT, one thread")
    speed.margins(x=0.15)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("teacher", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="what trained RUN")
    add_where(parser)
    parser.add_argument("--by", metavar="COLUMN", help="evaluate each value of a column separately")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--docs", type=Path, required=True)
    parser.add_argument("--ratios", type=int, nargs="*", default=list(RATIOS))
    parser.add_argument(
        "--peers", nargs="*", default=list(PEERS), choices=PEERS, help="to train as well"
    )
    parser.add_argument(
        "--peer-weights",
        action="append",
        nargs=2,
        default=[],
        metavar=("PEER", "WEIGHTS"),
        help="what a peer begins with, random otherwise: imagenet, or a file without the head",
    )
    parser.add_argument("--views", type=Path, help="as of `xrayedge prune`; default: in WORK")
    parser.add_argument("--view-count", type=int, default=pruning.VIEWS)
    parser.add_argument(
        "--passes",
        type=float,
        default=PASSES,
        help="over the training images, of `vgg16 / 2`; default: %(default)s",
    )
    parser.add_argument("--also", type=Path, nargs="*", default=[], metavar="RUN")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "mixed_bfloat16"],
        help="in which pruned networks learn; MobileNetV2 gains nothing by bfloat16",
    )
    parser.add_argument("--time-only", action="store_true")
    arguments = parser.parse_args()
    arguments.peer_weights = dict(arguments.peer_weights)
    dataset = load_dataset(arguments.data)
    samples = load_dataset(arguments.data, arguments.where, complete=False).samples
    parts = parts_by(arguments.by, samples)
    record = RunRecord.read(arguments.teacher)
    preprocessing = record.recipe.preprocessing
    students = [Student("vgg16", arguments.teacher, None, record.temperature, preprocessing)]
    for ratio in arguments.ratios:
        students.append(pruned(ratio, arguments.teacher, dataset, arguments))
    students += [finished(run.name, run) for run in arguments.also]
    students += [peer(name, arguments.teacher, dataset, arguments) for name in PEERS]
    files = arguments.work / "files"
    files.mkdir(parents=True, exist_ok=True)
    for student in students:
        convert(student, dataset, files)
    lines = measure(students, samples, dataset, parts, files)
    text = _TEXT.format(
        command=this_command(),
        rounds=ROUNDS,
        half_side=HALF_SIDE_FROM,
        views=arguments.view_count,
        passes=arguments.passes,
        also=_ALSO.format(names=" and ".join(f"`{run.name}`" for run in arguments.also))
        if arguments.also
        else "",
        peers=beginnings(arguments.peer_weights),
        machine=this_machine(),
        costs=costs_table(lines),
    )
    for part, rows in parts.items():
        text += _ACCURACY.format(
            on=f" on {part}" if part else "",
            images=len(rows),
            patients=len({samples[row].group for row in rows}),
            table=accuracy_table(lines, part),
        )
    write_atomically(arguments.docs / "tradeoff.png", png(draw(lines, list(parts))))
    write_atomically(arguments.docs / "tradeoff.md", text.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
