"""A classifier's training run and a frontal check to one bundle."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xrayedge import golden
from xrayedge.bundle import (
    MANIFEST,
    FrontalGate,
    ModelBundle,
    ModelFormat,
    Network,
    OperatingPoint,
    Precision,
    Variant,
)
from xrayedge.data import Dataset, Sample, model_inputs
from xrayedge.engines import ENGINES, EngineName, open_engine
from xrayedge.errors import ConversionError, RunError
from xrayedge.evaluation import check_labels
from xrayedge.files import write_atomically
from xrayedge.machine import memory_mb
from xrayedge.training.calibration import fit_bounded_weight, fit_weight
from xrayedge.training.run import MODEL, RunRecord

from . import calibration, equalisation, layers, onnx, parity, ranges, rounding, tflite
from .parity import FLOORS, ParitySet

VariantName = tuple[ModelFormat, Precision]

#: Every file that a network can be turned into.
VARIANTS: tuple[VariantName, ...] = (
    ("tflite", "float32"),
    ("tflite", "float16"),
    ("tflite", "dynamic"),
    ("tflite", "int8"),
    ("onnx", "float32"),
    ("onnx", "int8"),
)
_INT8_WEIGHTS: tuple[Precision, ...] = ("dynamic", "int8")
#: What a device needs of the frontal check: one small file for each engine.
FRONTAL_VARIANTS: tuple[VariantName, ...] = (("tflite", "int8"), ("onnx", "int8"))

#: Where the chosen class has less of the probability than all others together.
ABSTAIN_BELOW = 0.5
#: The class that the operating point ``sensitive`` must not miss, and how rarely it may, on `val`.
SENSITIVE_TO, MIN_SENSITIVITY = "covid", 0.98
#: The class that ``specific`` calls as often as it may, and the balanced accuracy on `val` that
#: this may cost: at a hospital that training never saw, too many of the healthy are called ill.
SPECIFIC_TO, MOST_LOST = "healthy", 0.05

_THREADS = 2

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Int8:
    """What all recipes with int8 weights share, so that their files are one model.

    Parameters
    ----------
    model
        The model, equalised and with rounded kernels.
    ranges
        Of its activations, by the method that came closest to the float model.
    provenance
        The calibration set, and how the methods compared.
    """

    model: keras.Model
    ranges: ranges.Ranges
    provenance: dict[str, Any]


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
        return cls(folder, record, record.load_data(data))


def variants_of(
    formats: Sequence[ModelFormat] = (), precisions: Sequence[Precision] = ()
) -> tuple[VariantName, ...]:
    """The variants of these formats and precisions; of every one where none is named.

    Raises
    ------
    ConversionError
        There is no such variant.
    """
    chosen = tuple(
        (model_format, precision)
        for model_format, precision in VARIANTS
        if (not formats or model_format in formats) and (not precisions or precision in precisions)
    )
    if not chosen:
        there = ", ".join(f"{precision} in {model_format}" for model_format, precision in VARIANTS)
        raise ConversionError(f"no such file can be made; there are {there}")
    return chosen


def convert(
    classifier: TrainedRun,
    frontal: TrainedRun | ModelBundle,
    out: Path,
    *,
    name: str,
    model_version: str,
    variants: Sequence[VariantName] = VARIANTS,
    parity_samples: Sequence[Sample] = (),
    force: bool = False,
    debug_layers: bool = False,
    progress: Progress = lambda _: None,
) -> ModelBundle:
    """Convert, compare each file with the float model, and write the bundle.

    The bundle appears complete or not at all. A file under its floor (`parity.FLOORS`) is left
    out and named; without any file for one of the two networks there is no bundle.

    Parameters
    ----------
    frontal
        The run of a frontal check, or the bundle whose frontal check is taken over as it is.
    variants
        Which files of the classifier to make.
    parity_samples
        Labelled pictures to compare the classifier's files on; without any, its data's `test`.
    force
        Replace the bundle at ``out``, and write files under the floor, marked so.
    debug_layers
        Also name the layers that int8 serves worst.

    Raises
    ------
    ConversionError
        ``out`` exists, or too little of a network meets its floor.
    """
    started = time.perf_counter()
    if out.exists() and not (force and (out / MANIFEST).is_file()):
        remedy = "--force replaces bundles only" if force else "--force replaces it"
        raise ConversionError(f"{out}: already exists; give another folder ({remedy})")
    if isinstance(frontal, TrainedRun) and frontal.record.threshold is None:
        raise ConversionError(f"{frontal.folder}: not the run of a frontal check")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        job = _Job(folder, name, model_version, force, debug_layers, progress)
        network, made_from = job.network("classifier", classifier, variants, parity_samples)
        gate, gate_made_from = job.gate(frontal)
        ModelBundle(
            folder=folder,
            name=name,
            version=model_version,
            classifier=network,
            frontal=gate,
            provenance={
                "xrayedge": version("xrayedge"),
                "tensorflow": tf.__version__,
                "onnxruntime": version("onnxruntime"),
                "tf2onnx": version("tf2onnx"),
                "classifier": made_from,
                "frontal": gate_made_from,
            },
        ).write_manifest()
        _replace(out, folder, aside=Path(temporary) / "old")
    peak = memory_mb("VmHWM")
    progress(
        f"converted in {time.perf_counter() - started:.0f} s, peak memory "
        + ("not available" if peak is None else f"{peak / 1000:.2f} GB")
    )
    return ModelBundle.load(out)


@dataclass(frozen=True)
class _Job:
    folder: Path
    name: str
    version: str
    force: bool
    debug_layers: bool
    progress: Progress

    def network(
        self,
        part: Literal["classifier", "frontal"],
        run: TrainedRun,
        names: Sequence[VariantName],
        parity_samples: Sequence[Sample],
    ) -> tuple[Network, dict[str, Any]]:
        """Write a network's files; its entry in the manifest, and what it was made from."""
        record, dataset = run.record, run.dataset
        samples = parity_samples or dataset.split("test") or dataset.split("val")
        check_labels(samples, record.classes)
        model = keras.saving.load_model(run.folder / MODEL, compile=False)
        network = Network(
            record.classes, record.recipe.preprocessing, record.temperature, variants=()
        )
        pictures = _parity_set(model, network, samples)
        # What is chosen here is chosen on `val`, so that the comparison below stays an honest one.
        held_out = dataset.split("val") or dataset.split("train")
        inputs = model_inputs(held_out, network.preprocessing)
        reference = parity.float_probabilities(model, inputs, network.temperature)
        provenance: dict[str, Any] = {
            "recipe": record.recipe.to_dict(),
            "data": record.data,
            "versions": record.versions,
            "epochs": len(record.history),
            "best_epoch": record.best_epoch,
            "averaged": [parent["recipe"] for parent in record.averaged],
            "parity": {"pictures": len(samples), "sha256": _digest(pictures.inputs)},
        }
        int8 = None
        if any(precision in _INT8_WEIGHTS for _, precision in names):
            int8 = self._quantise(part, model, network, run, inputs, reference)
            provenance["calibration"] = int8.provenance
            if self.debug_layers:
                for line in layers.report(int8.model, int8.ranges, pictures.inputs):
                    self.progress(f"{part} {line}")
        variants: list[Variant] = []
        scores: dict[VariantName, NDArray[np.float64]] = {}
        for name in names:
            variant, scores[name] = self._variant(part, name, model, int8, network, pictures)
            variants += [variant] if variant is not None else []
        if ("tflite", "int8") in scores and ("onnx", "int8") in scores:
            apart = np.abs(scores["tflite", "int8"] - scores["onnx", "int8"]).max()
            self.progress(f"{part} int8: the two engines' scores differ by at most {apart:.1e}")
        network = replace(network, variants=tuple(variants))
        if not network.variants:
            raise ConversionError(f"{part}: no file meets its floor; see above")
        if part == "classifier":
            labels = [sample.label for sample in held_out]
            points = _operating_points(record.classes, labels, reference)
            network = replace(network, operating_points=points)
        return network, provenance

    def gate(self, frontal: TrainedRun | ModelBundle) -> tuple[FrontalGate, dict[str, Any]]:
        """Write the frontal check's files; its entry in the manifest, and what it was made from."""
        if isinstance(frontal, ModelBundle):
            for variant in frontal.frontal.network.variants:
                write_atomically(self.folder / variant.file, frontal.read(variant))
            return frontal.frontal, frontal.provenance.get("frontal", {})
        label, threshold = frontal.record.recipe.turned_label, frontal.record.threshold
        assert label is not None  # only the runs of frontal checks have a threshold
        assert threshold is not None
        network, made_from = self.network("frontal", frontal, FRONTAL_VARIANTS, ())
        if len(network.variants) < len(FRONTAL_VARIANTS):
            raise ConversionError("the frontal check needs all its files; see above (or --force)")
        return FrontalGate(network, label, threshold), made_from

    def _quantise(
        self,
        part: str,
        model: keras.Model,
        network: Network,
        run: TrainedRun,
        inputs: NDArray[np.uint8],
        reference: NDArray[np.float64],
    ) -> Int8:
        """Equalise, and keep the ranges whose file comes closest to the float model on `val`."""
        chosen = calibration.choose(run.dataset.split("train"), network.preprocessing)
        try:
            equalised = equalisation.equalise(model, chosen)
        except ConversionError as error:
            raise ConversionError(f"{run.folder}: {error}") from error
        rounded = rounding.round_kernels(equalised, chosen)
        candidates = ranges.observe(rounded, chosen)
        differences = {}
        for method, found in candidates.items():
            engine = open_engine("litert", tflite.static_int8(rounded, found), threads=_THREADS)
            scores = parity.engine_probabilities(engine, inputs, network.temperature)
            differences[method] = float(np.abs(scores - reference).mean())
        best = min(differences, key=lambda method: differences[method])
        compared = ", ".join(f"{method} {value:.4f}" for method, value in differences.items())
        self.progress(f"{part} int8: {best} ranges (mean score difference on val: {compared})")
        return Int8(
            rounded,
            candidates[best],
            {
                "pictures": len(chosen.inputs),
                "sha256": chosen.digest,
                "ranges": best,
                "mean_difference_on_val": differences,
            },
        )

    def _variant(
        self,
        part: str,
        name: VariantName,
        model: keras.Model,
        int8: Int8 | None,
        network: Network,
        pictures: ParitySet,
    ) -> tuple[Variant | None, NDArray[np.float64]]:
        """Make a file and compare it; it, unless it is left out, and its scores."""
        model_format, precision = name
        label = f"{part} {model_format} {precision}"
        started = time.perf_counter()
        content = _build(name, model, int8)
        if model_format == "onnx":
            content = onnx.with_metadata(content, self._metadata(network))
        seconds = time.perf_counter() - started
        engine = open_engine(_engine_for(model_format), content, threads=_THREADS)
        scores = parity.engine_probabilities(engine, pictures.inputs, network.temperature)
        found = parity.compare(scores, pictures)
        self.progress(
            f"{label}: {len(content) / 1e6:.2f} MB in {seconds:.0f} s; {found.sentence()}"
        )
        misses = FLOORS[precision].misses(found)
        if misses:
            consequence = "written all the same" if self.force else "not written (--force writes)"
            self.progress(f"{label}: UNDER THE FLOOR, {consequence}: {'; '.join(misses)}")
            if not self.force:
                return None, scores
        file = f"{part}-{precision}.{model_format}"
        write_atomically(self.folder / file, content)
        variant = Variant(
            file=file,
            format=model_format,
            precision=precision,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            parity=asdict(found),
            meets_floor=not misses,
            golden=golden.measure(network, engine, precision),
        )
        return variant, scores

    def _metadata(self, network: Network) -> dict[str, str]:
        return {
            "model": self.name,
            "version": self.version,
            "classes": json.dumps(network.classes),
            "preprocessing": json.dumps(network.preprocessing.to_dict()),
            "temperature": json.dumps(network.temperature),
        }


def _replace(out: Path, new: Path, aside: Path) -> None:
    """Put ``new`` at ``out``; what was there comes back if that fails."""
    if out.exists():
        out.rename(aside)
    try:
        new.rename(out)
    except OSError:
        if aside.exists():
            aside.rename(out)
        raise


def _build(name: VariantName, model: keras.Model, int8: Int8 | None) -> bytes:
    model_format, precision = name
    if precision in _INT8_WEIGHTS:
        assert int8 is not None
        if precision == "dynamic":
            return tflite.dynamic_int8(int8.model)
        recipe = tflite.static_int8 if model_format == "tflite" else onnx.static_int8
        return recipe(int8.model, int8.ranges)
    if model_format == "onnx":
        return onnx.float32(model)
    return {"float32": tflite.float32, "float16": tflite.float16}[precision](model)


def _parity_set(model: keras.Model, network: Network, samples: Sequence[Sample]) -> ParitySet:
    inputs = model_inputs(samples, network.preprocessing)
    return ParitySet(
        inputs=inputs,
        labels=np.array([network.classes.index(sample.label) for sample in samples]),
        groups=parity.groups([sample.group for sample in samples]),
        reference=parity.float_probabilities(model, inputs, network.temperature),
    )


def _engine_for(model_format: ModelFormat) -> EngineName:
    return next(name for name, kind in ENGINES.items() if kind.model_format == model_format)


def _digest(inputs: NDArray[np.uint8]) -> str:
    return hashlib.sha256(inputs.tobytes()).hexdigest()


def _operating_points(
    classes: tuple[str, ...], labels: Sequence[str], probabilities: NDArray[np.float64]
) -> tuple[OperatingPoint, ...]:
    """``balanced`` takes the most probable class; ``sensitive`` hardly misses `SENSITIVE_TO`.

    ``specific`` leaves most of the doubtful to `SPECIFIC_TO`.
    """
    even = dict.fromkeys(classes, 1.0)
    points = [OperatingPoint("balanced", even, ABSTAIN_BELOW)]
    if SENSITIVE_TO in labels:
        column = classes.index(SENSITIVE_TO)
        ill = probabilities[[label == SENSITIVE_TO for label in labels]]
        others = np.delete(ill, column, axis=1).max(axis=1)
        weight = fit_weight(ill[:, column], others, MIN_SENSITIVITY)
        points.append(OperatingPoint("sensitive", {**even, SENSITIVE_TO: weight}, ABSTAIN_BELOW))
    if SPECIFIC_TO in labels:
        numbers = np.array([classes.index(label) for label in labels])
        column = classes.index(SPECIFIC_TO)
        weight = fit_bounded_weight(probabilities, numbers, column, MOST_LOST)
        points.append(OperatingPoint("specific", {**even, SPECIFIC_TO: weight}, ABSTAIN_BELOW))
    return tuple(points)
