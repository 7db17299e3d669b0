"""Convert a classifier's training run and a frontal check into one bundle."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xrayedge import golden, reference
from xrayedge.bundle import MANIFEST, FrontalGate, ModelBundle, ModelFormat, Network, Variant
from xrayedge.data import NON_CLASSES, Sample, model_inputs
from xrayedge.data.framing import as_seen
from xrayedge.engines import ENGINES, EngineName, open_engine
from xrayedge.errors import ConversionError
from xrayedge.evaluation import check_labels, patient_numbers
from xrayedge.files import write_atomically
from xrayedge.lungs import LungFiles
from xrayedge.manifest import check_name
from xrayedge.preprocessing import Preprocessing
from xrayedge.training.run import MODEL

from . import calibration_set, layer_noise, onnx, parity
from .cost import expected
from .int8 import Int8, quantise
from .outputs import Outputs, engine_outputs, keras_maps, keras_outputs, read_maps
from .parity import FLOORS, ParitySet
from .steps import Progress, Steps
from .trained import TrainedRun
from .val import HeldOut, ValDescription, describe, opacity_settings, read_held_out
from .variants import FRONTAL_VARIANTS, INT8_WEIGHTS, VARIANTS, VariantName, build

__all__ = ["TrainedRun", "convert", "exchange_frontal"]

_THREADS = 2
#: Steps of a network besides one for each file: scoring, and those of `int8.quantise`.
_SCORING, _INT8_STEPS = 1, 4
#: Steps of a bundle besides those of its networks: the description of `val`.
_DESCRIBING = 1


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

    The bundle appears complete or not at all. A file that misses its minimum (`parity.FLOORS`) is
    left out and reported; if a network has no file left, no bundle is written.

    Parameters
    ----------
    frontal
        The run of a frontal check, or a bundle to copy the frontal check from.
    variants
        Which files of the classifier to make.
    parity_samples
        Labelled images to compare the classifier's files on; by default the `test` split of its
        data, or `val` if there is none. Images whose label is not a class are left out.
    force
        Replace the bundle at ``out``, and also write files that miss the minimum, marked as such.
    debug_layers
        Also name the layers that int8 damages most.
    progress
        Called with one line of text before each step, and with what the step found.

    Raises
    ------
    ConversionError
        ``out`` exists, a bundle can't have such a name or version, a network is dead or gives
        values that are not finite, or too few of its files meet the minimum.
    DatasetError
        The images to compare the files on have labels that the network does not know, or are of
        one class only.
    """
    if isinstance(frontal, TrainedRun) and frontal.record.threshold is None:
        raise ConversionError(f"{frontal.folder}: not the run of a frontal check")
    jobs = [variants, FRONTAL_VARIANTS] if isinstance(frontal, TrainedRun) else [variants]
    steps = Steps(sum(map(_steps_of, jobs)) + _DESCRIBING, progress)
    with _made(out, name, model_version, force) as folder:
        job = _Job(folder, name, model_version, force, debug_layers, steps)
        val_images = len(classifier.held_out)
        compared = len(_compared(classifier, parity_samples))
        progress(f"{name}: {expected(classifier.record, variants, val_images, compared)}")
        made = job.network("classifier", classifier, variants, parity_samples, _gate_input(frontal))
        gate, gate_made_from = job.gate(frontal)
        val = job.describe(made, gate)
        if classifier.lungs is not None:
            classifier.lungs.write_files(folder)
        ModelBundle(
            folder=folder,
            name=name,
            version=model_version,
            classifier=replace(made.network, operating_points=val.operating_points),
            frontal=gate,
            val_curve=val.curve,
            reference=val.histograms,
            lungs=None if classifier.lungs is None else classifier.lungs.settings,
            provenance={
                "xrayedge": version("xrayedge"),
                "tensorflow": tf.__version__,
                "onnxruntime": version("onnxruntime"),
                "tf2onnx": version("tf2onnx"),
                "classifier": made.provenance,
                "frontal": gate_made_from,
            },
        ).write_manifest()
    progress(f"converted in {steps.spent()}")
    return ModelBundle.load(out)


def exchange_frontal(
    bundle: ModelBundle,
    frontal: TrainedRun | ModelBundle,
    val: Sequence[Sample],
    out: Path,
    *,
    name: str,
    model_version: str,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> ModelBundle:
    """A bundle with another frontal check; all its other files stay as they are, bit for bit.

    Parameters
    ----------
    bundle
        What to take the classifier from, and what frames the lungs.
    frontal, force, progress
        As for `convert`.
    val
        The images that the bundle's reference histograms describe.

    Raises
    ------
    ConversionError
        As for `convert`.
    """
    converting = _steps_of(FRONTAL_VARIANTS) if isinstance(frontal, TrainedRun) else 0
    steps = Steps(converting + _DESCRIBING, progress)
    with _made(out, name, model_version, force) as folder:
        job = _Job(folder, name, model_version, force, debug_layers=False, steps=steps)
        gate, made_from = job.gate(frontal)
        steps.begin(f"frontal: score {len(val)} images of val")
        scores = job.frontal_scores(gate, model_inputs(val, gate.network.preprocessing))
        for variant in bundle.classifier.variants:
            write_atomically(folder / variant.file, bundle.read(variant))
        if (lungs := LungFiles.of(bundle)) is not None:
            lungs.write_files(folder)
        replace(
            bundle,
            folder=folder,
            name=name,
            version=model_version,
            frontal=gate,
            reference=bundle.reference and reference.of_frontal(bundle.reference, scores),
            provenance={**bundle.provenance, "frontal": made_from},
        ).write_manifest()
    progress(f"exchanged in {steps.spent()}")
    return ModelBundle.load(out)


@contextmanager
def _made(out: Path, name: str, model_version: str, force: bool) -> Iterator[Path]:
    """A folder for a new bundle, which appears at ``out`` if nothing goes wrong."""
    is_bundle = (out / MANIFEST).is_file()
    if out.exists() and not (force and is_bundle):
        remedy = "--force replaces it" if is_bundle else "--force replaces bundles only"
        raise ConversionError(f"{out}: already exists; give another folder ({remedy})")
    try:
        check_name("the model's name", name)
        check_name("its version", model_version)
    except ValueError as error:
        raise ConversionError(str(error)) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        yield folder
        _replace(out, folder, aside=Path(temporary) / "old")


def _gate_input(frontal: TrainedRun | ModelBundle) -> Preprocessing:
    if isinstance(frontal, ModelBundle):
        return frontal.frontal.network.preprocessing
    return frontal.record.recipe.preprocessing


def _steps_of(names: Sequence[VariantName]) -> int:
    int8 = any(precision in INT8_WEIGHTS for _, precision in names)
    return _SCORING + (_INT8_STEPS if int8 else 0) + len(names)


@dataclass(frozen=True)
class _Converted:
    """A network's entry in the manifest, its provenance, and its float scores on `val`."""

    network: Network
    provenance: dict[str, Any]
    held_out: HeldOut
    reference: Outputs


@dataclass(frozen=True)
class _Job:
    folder: Path
    name: str
    version: str
    force: bool
    debug_layers: bool
    steps: Steps

    def network(
        self,
        part: Literal["classifier", "frontal"],
        run: TrainedRun,
        names: Sequence[VariantName],
        parity_samples: Sequence[Sample],
        *also: Preprocessing,
    ) -> _Converted:
        """Write a network's files; `val` is read once for it and for the inputs of ``also``."""
        record = run.record
        samples = _compared(run, parity_samples)
        check_labels(samples, record.classes)
        model = keras.saving.load_model(run.folder / MODEL, compile=False)
        network = Network(
            record.classes, record.recipe.preprocessing, record.temperature, variants=()
        )
        # Every choice is made on `val`, so that the comparison on `test` below stays unbiased.
        self.steps.begin(f"{part}: score {len(run.held_out) + len(samples)} images in float")
        held_out = read_held_out(as_seen(run.held_out, run.lungs), network.preprocessing, also)
        inputs = held_out.inputs
        maps = keras_maps(model, inputs)
        if not np.isfinite(maps).all():
            raise ConversionError(
                f"{run.folder}: the network gives values that are not finite; train it again at a "
                "lower learning rate"
            )
        if record.recipe.opacity:
            settings = opacity_settings(held_out, maps[..., -1], network.preprocessing)
            network = replace(network, opacity=settings)
            self.steps.note(
                f"opacities: threshold {settings.threshold:.2f}, temperature "
                f"{settings.temperature:.2f}, bias {settings.bias:+.2f}"
            )
        in_float = read_maps(maps, network)
        images = _parity_set(model, network, as_seen(samples, run.lungs))
        provenance: dict[str, Any] = {
            "recipe": record.recipe.to_dict(),
            "data": record.data,
            "versions": record.versions,
            "epochs": len(record.history),
            "best_epoch": record.best_epoch,
            "averaged": [parent["recipe"] for parent in record.averaged],
            "parity": {"images": len(samples), "sha256": _digest(images.inputs)},
        }
        int8 = None
        if any(precision in INT8_WEIGHTS for _, precision in names):
            int8 = self._quantise(part, model, network, run, inputs, in_float)
            provenance["calibration"] = int8.provenance
            if self.debug_layers:
                for line in layer_noise.report(int8.model, int8.ranges, images.inputs):
                    self.steps.note(line)
        variants: list[Variant] = []
        outputs: dict[VariantName, Outputs] = {}
        for name in names:
            variant, outputs[name] = self._variant(part, name, model, int8, network, images)
            variants += [variant] if variant is not None else []
        if ("tflite", "int8") in outputs and ("onnx", "int8") in outputs:
            one, other = (outputs[name].probabilities for name in FRONTAL_VARIANTS)
            apart = np.abs(one - other).max()
            self.steps.note(f"int8: the two engines' scores differ by at most {apart:.1e}")
        network = replace(network, variants=tuple(variants))
        if not network.variants:
            raise ConversionError(f"{part}: no file meets its floor; see above")
        return _Converted(network, provenance, held_out, in_float)

    def gate(self, frontal: TrainedRun | ModelBundle) -> tuple[FrontalGate, dict[str, Any]]:
        """Write the frontal check's files; return its entry in the manifest and its provenance."""
        if isinstance(frontal, ModelBundle):
            for variant in frontal.frontal.network.variants:
                write_atomically(self.folder / variant.file, frontal.read(variant))
            return frontal.frontal, frontal.provenance.get("frontal", {})
        label, threshold = frontal.record.recipe.turned_label, frontal.record.threshold
        if label is None or threshold is None:
            raise ConversionError(f"{frontal.folder}: not the run of a frontal check")
        made = self.network("frontal", frontal, FRONTAL_VARIANTS, ())
        if len(made.network.variants) < len(FRONTAL_VARIANTS):
            raise ConversionError("the frontal check needs all its files; see above (or --force)")
        return FrontalGate(made.network, label, threshold), made.provenance

    def describe(self, made: _Converted, gate: FrontalGate) -> ValDescription:
        """Fit the operating points, and measure what the bundle records about `val`."""
        count = len(made.held_out.samples)
        self.steps.begin(f"classifier: fit operating points on {count} images")
        passed = self.frontal_scores(gate, made.held_out.whole[gate.network.preprocessing])
        classes, scores = made.network.classes, made.reference.probabilities
        described = describe(made.held_out, classes, scores, passed)
        for point in described.operating_points:
            self.steps.note(
                f"{point.name}: sensitivity {point.sensitivity}, specificity {point.specificity}"
            )
        return described

    def frontal_scores(self, gate: FrontalGate, inputs: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The frontal check's scores, ``float64 [N]``, by a file that was written."""
        variant = gate.network.variants[0]
        content = (self.folder / variant.file).read_bytes()
        engine = open_engine(_engine_for(variant.format), content, threads=_THREADS)
        column = gate.network.classes.index(gate.label)
        return engine_outputs(engine, inputs, gate.network).probabilities[:, column]

    def _quantise(
        self,
        part: str,
        model: keras.Model,
        network: Network,
        run: TrainedRun,
        inputs: NDArray[np.uint8],
        reference: Outputs,
    ) -> Int8:
        chosen = calibration_set.choose(
            run.dataset.split("train"), network.preprocessing, lungs=run.lungs
        )
        try:
            int8 = quantise(
                model,
                network,
                chosen,
                inputs,
                reference,
                step=lambda name: self.steps.begin(f"{part} int8: {name}"),
            )
        except ConversionError as error:
            raise ConversionError(f"{run.folder}: {error}") from error
        self.steps.note(int8.comparison())
        return int8

    def _variant(
        self,
        part: str,
        name: VariantName,
        model: keras.Model,
        int8: Int8 | None,
        network: Network,
        images: ParitySet,
    ) -> tuple[Variant | None, Outputs]:
        """Make and compare a file; return its entry, unless it is left out, and its scores."""
        model_format, precision = name
        label = f"{part} {model_format} {precision}"
        self.steps.begin(f"{label}: write it and compare it on {len(images.inputs)} images")
        content = build(name, model, int8)
        if model_format == "onnx":
            content = onnx.with_metadata(content, self._metadata(network))
        engine = open_engine(_engine_for(model_format), content, threads=_THREADS)
        outputs = engine_outputs(engine, images.inputs, network)
        found = parity.compare(outputs, images)
        self.steps.note(f"{len(content) / 1e6:.2f} MB; {found.sentence()}")
        misses = FLOORS[precision].misses(found)
        if misses:
            consequence = "written all the same" if self.force else "not written (--force writes)"
            self.steps.note(f"{label}: UNDER THE FLOOR, {consequence}: {'; '.join(misses)}")
            if not self.force:
                return None, outputs
        file = f"{part}-{precision}.{model_format}"
        write_atomically(self.folder / file, content)
        variant = Variant(
            file=file,
            format=model_format,
            precision=precision,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            parity=found.to_dict(),
            meets_floor=not misses,
            golden=golden.measure(network, engine, precision),
        )
        return variant, outputs

    def _metadata(self, network: Network) -> dict[str, str]:
        return {
            "model": self.name,
            "version": self.version,
            "classes": json.dumps(network.classes),
            "preprocessing": json.dumps(network.preprocessing.to_dict()),
            "temperature": json.dumps(network.temperature),
        }


def _replace(out: Path, new: Path, aside: Path) -> None:
    """Move ``new`` to ``out``; if that fails or is interrupted, restore what was there."""
    try:
        if out.exists():
            out.rename(aside)
        new.rename(out)
    finally:
        if aside.exists() and not out.exists():
            aside.rename(out)


def _compared(run: TrainedRun, parity_samples: Sequence[Sample]) -> list[Sample]:
    """The images to compare a network's files on."""
    samples = parity_samples or run.dataset.split("test") or run.dataset.split("val")
    return [sample for sample in samples if sample.label not in NON_CLASSES]


def _parity_set(model: keras.Model, network: Network, samples: Sequence[Sample]) -> ParitySet:
    inputs = model_inputs(samples, network.preprocessing)
    return ParitySet(
        inputs=inputs,
        labels=np.array([network.classes.index(sample.label) for sample in samples]),
        groups=patient_numbers([sample.group for sample in samples]),
        reference=keras_outputs(model, inputs, network),
    )


def _engine_for(model_format: ModelFormat) -> EngineName:
    return next(name for name, kind in ENGINES.items() if kind.model_format == model_format)


def _digest(inputs: NDArray[np.uint8]) -> str:
    return hashlib.sha256(inputs.tobytes()).hexdigest()
