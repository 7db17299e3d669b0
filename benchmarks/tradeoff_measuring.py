"""Accuracy and latency of the networks that `tradeoff.py` compares."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contenders import open_litert, open_onnx
from numpy.typing import NDArray
from peers import multiply_accumulates
from tradeoff_students import SUFFIXES, Student, console

from xrayedge.bench.statistics import Estimate, estimate, estimate_ratio
from xrayedge.converters.outputs import engine_maps
from xrayedge.data import Dataset, Sample, model_inputs
from xrayedge.engines import EngineName, open_engine
from xrayedge.evaluation import (
    Evaluation,
    Metric,
    balanced_accuracy,
    evaluate,
    intervals,
    macro_auc,
    rows_by,
)
from xrayedge.scores import probabilities

ENGINES: tuple[EngineName, ...] = ("litert", "onnx")
ROUNDS, RUNS = 9, 12  # per file and engine: medians over this many rounds of this many runs


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
        student: {engine: out / f"{student.folder.name}-{SUFFIXES[engine]}" for engine in ENGINES}
        for student in students
    }
    scores: dict[Student, NDArray[np.float64]] = {}
    for student in students:
        if student.passes != 0:
            console.print(f"judging {student.name}")
            content = files[student]["litert"].read_bytes()
            engine = open_engine("litert", content, threads=os.cpu_count() or 1)
            scores[student] = probabilities(
                engine_maps(engine, inputs[student.preprocessing]), student.temperature
            )
    console.print("timing")
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
        operations_file = out / f"{student.folder.name}-{SUFFIXES['onnx']}"
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
