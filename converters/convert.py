"""Two training runs, a classifier's and a frontal check's, to one bundle."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xrayedge.bundle import (
    FrontalGate,
    ModelBundle,
    ModelFormat,
    Network,
    OperatingPoint,
    Precision,
    Variant,
)
from xrayedge.errors import ConversionError, RunError
from xrayedge.training.batches import model_inputs
from xrayedge.training.calibration import fit_weight
from xrayedge.training.data import Dataset, load_dataset
from xrayedge.training.run import MODEL, RunRecord

from . import calibration, onnx, parity, tflite
from .calibration import CalibrationSet

_Recipe = Callable[[keras.Model, CalibrationSet], bytes]

RECIPES: dict[tuple[ModelFormat, Precision], _Recipe] = {
    ("tflite", "int8"): tflite.static_int8,
    ("tflite", "float16"): lambda model, _: tflite.float16(model),
    ("onnx", "int8"): onnx.static_int8,
}
#: What a device needs of the frontal check: one small file for each engine.
FRONTAL_VARIANTS: tuple[tuple[ModelFormat, Precision], ...] = (("tflite", "int8"), ("onnx", "int8"))

#: Least share of the `val` pictures on which a file must give the float model's label.
MIN_AGREEMENT = {"float32": 0.999, "float16": 0.999, "int8": 0.95}

#: Where the chosen class has less of the probability than all others together.
ABSTAIN_BELOW = 0.5
#: The class that the operating point ``sensitive`` must not miss, and how rarely it may, on `val`.
SENSITIVE_TO, MIN_SENSITIVITY = "covid", 0.98

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run and the data that it was trained on.

    Parameters
    ----------
    folder
        The run folder.
    record
        How it was made.
    dataset
        The same data again, checked by digest.
    """

    folder: Path
    record: RunRecord
    dataset: Dataset

    @classmethod
    def open(cls, folder: Path, data: Path) -> TrainedRun:
        """Check that the run is finished and that ``data`` are those that it was trained on."""
        record = RunRecord.read(folder)
        if not record.finished:
            raise RunError(f"{folder}: the run is not finished; train on with the same command")
        where = [tuple(pair.split("=", 1)) for pair in record.data["where"]]
        dataset = load_dataset(
            data, where, seed=record.recipe.seed, turned_of=record.recipe.turned_label
        )
        if dataset.digest() != record.data["digest"]:
            raise RunError(f"{folder}: was trained on other data than the ones given")
        return cls(folder, record, dataset)


def convert(
    classifier: TrainedRun,
    frontal: TrainedRun,
    out: Path,
    *,
    name: str,
    model_version: str,
    variants: Sequence[tuple[ModelFormat, Precision]] = tuple(RECIPES),
    progress: Progress = lambda _: None,
) -> ModelBundle:
    """Convert, compare each file with the float model on `val`, and write the bundle.

    The bundle appears complete or not at all; ``out`` must not exist.

    Raises
    ------
    ConversionError
        ``out`` exists, a variant is unknown, or a file's agreement is under `MIN_AGREEMENT`.
    """
    if out.exists():
        raise ConversionError(f"{out}: already exists; remove it or give another folder")
    unknown = [variant for variant in variants if variant not in RECIPES]
    if unknown:
        raise ConversionError(f"no recipe for {unknown[0][1]} in {unknown[0][0]}")
    positive = frontal.record.recipe.turned_label
    threshold = frontal.record.threshold
    if positive is None or threshold is None:
        raise ConversionError(f"{frontal.folder}: not the run of a frontal check")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        networks = {
            "classifier": _convert_network(classifier, folder, "classifier", variants, progress),
            "frontal": _convert_network(frontal, folder, "frontal", FRONTAL_VARIANTS, progress),
        }
        ModelBundle(
            folder=folder,
            name=name,
            version=model_version,
            classifier=networks["classifier"][0],
            frontal=FrontalGate(networks["frontal"][0], positive, threshold),
            provenance={
                "xrayedge": version("xrayedge"),
                "tensorflow": tf.__version__,
                "onnxruntime": version("onnxruntime"),
                "tf2onnx": version("tf2onnx"),
                "classifier": networks["classifier"][1],
                "frontal": networks["frontal"][1],
            },
        ).write_manifest()
        shutil.move(folder, out)
    return ModelBundle.load(out)


def _convert_network(
    run: TrainedRun,
    folder: Path,
    part: str,
    variants: Sequence[tuple[ModelFormat, Precision]],
    progress: Progress,
) -> tuple[Network, dict[str, Any]]:
    record = run.record
    preprocessing, temperature = record.recipe.preprocessing, record.temperature
    model = keras.saving.load_model(run.folder / MODEL, compile=False)
    samples = calibration.choose(run.dataset.split("train"), preprocessing)
    inputs = model_inputs(run.dataset.split("val"), preprocessing)
    reference = parity.float_probabilities(model, inputs, temperature)
    written = []
    for model_format, precision in variants:
        content = RECIPES[model_format, precision](model, samples)
        found = parity.compare(content, model_format, inputs, reference, temperature)
        label = f"{part} {model_format} {precision}"
        progress(
            f"{label}: {len(content) / 1e6:.2f} MB, same label as the float model on "
            f"{found.agreement:.2%} of {found.pictures} val pictures"
        )
        if found.agreement < MIN_AGREEMENT[precision]:
            raise ConversionError(
                f"{label}: agrees with the float model on {found.agreement:.2%} of the val "
                f"pictures; at least {MIN_AGREEMENT[precision]:.1%} is asked for"
            )
        file = f"{part}-{precision}.{model_format}"
        (folder / file).write_bytes(content)
        written.append(
            Variant(
                file=file,
                format=model_format,
                precision=precision,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                parity=asdict(found),
            )
        )
    provenance = {
        "recipe": record.recipe.to_dict(),
        "data": record.data,
        "versions": record.versions,
        "epochs": len(record.history),
        "best_epoch": record.best_epoch,
        "calibration": {"pictures": len(samples.inputs), "sha256": samples.digest},
    }
    points: tuple[OperatingPoint, ...] = ()
    if record.recipe.turned_label is None:
        labels = [sample.label for sample in run.dataset.split("val")]
        points = _operating_points(record.classes, labels, reference)
    return Network(record.classes, preprocessing, temperature, tuple(written), points), provenance


def _operating_points(
    classes: tuple[str, ...], labels: Sequence[str], probabilities: NDArray[np.float64]
) -> tuple[OperatingPoint, ...]:
    """``balanced`` takes the most probable class; ``sensitive`` hardly misses `SENSITIVE_TO`."""
    even = dict.fromkeys(classes, 1.0)
    points = [OperatingPoint("balanced", even, ABSTAIN_BELOW)]
    if SENSITIVE_TO in labels:
        column = classes.index(SENSITIVE_TO)
        ill = probabilities[[label == SENSITIVE_TO for label in labels]]
        others = np.delete(ill, column, axis=1).max(axis=1)
        weight = fit_weight(ill[:, column], others, MIN_SENSITIVITY)
        points.append(OperatingPoint("sensitive", {**even, SENSITIVE_TO: weight}, ABSTAIN_BELOW))
    return tuple(points)
