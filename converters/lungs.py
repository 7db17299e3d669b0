"""Convert the run of a network that frames the lungs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xrayedge import golden
from xrayedge.data import Sample, model_inputs
from xrayedge.engines import ENGINES, open_engine
from xrayedge.errors import ConversionError
from xrayedge.lungs import LungFiles, edges
from xrayedge.manifest import LungSettings, Network, Variant
from xrayedge.training.lungs import overlap
from xrayedge.training.run import MODEL

from . import calibration_set
from .int8 import quantise
from .outputs import engine_maps, keras_maps, read_maps
from .steps import Progress, Steps
from .trained import TrainedRun
from .variants import FRONTAL_VARIANTS, build

#: Around the box, as a share of the image: the lungs' rims show, and a box may be a little off.
MARGIN = 0.05
#: Largest mean distance of an int8 file's edges from the float model's, as a share of the image.
FLOOR = 0.01

_THREADS = 2
_STEPS = 4 + len(FRONTAL_VARIANTS)


def convert_lungs(run: TrainedRun, out: Path, *, progress: Progress = lambda _: None) -> LungFiles:
    """Convert to int8 files for both engines, compare them, and write the folder, or nothing.

    Parameters
    ----------
    run
        Of the recipe ``lungs``.
    out
        A new folder.
    progress
        Called with one line of text before each step, and with what the step found.

    Raises
    ------
    ConversionError
        ``out`` exists, the run is another network's, or a file is too far from the float model.
    """
    if out.exists():
        raise ConversionError(f"{out}: already exists; give another folder")
    if not run.record.recipe.finds_lungs:
        raise ConversionError(f"{run.folder}: not the run of a network that frames the lungs")
    steps = Steps(_STEPS, progress)
    record, preprocessing = run.record, run.record.recipe.preprocessing
    model = keras.saving.load_model(run.folder / MODEL, compile=False)
    network = Network(record.classes, preprocessing, 1.0, variants=())
    inputs = model_inputs(run.held_out, preprocessing)
    maps = keras_maps(model, inputs)
    chosen = calibration_set.choose(run.dataset.split("train"), preprocessing)
    int8 = quantise(model, network, chosen, inputs, read_maps(maps, network), step=steps.begin)
    steps.note(int8.comparison())
    compared = run.dataset.split("test") or run.held_out
    tested = model_inputs(compared, preprocessing)
    wanted = keras_maps(model, tested).mean(axis=(1, 2))
    contents: dict[str, bytes] = {}
    variants = []
    for name in FRONTAL_VARIANTS:
        model_format, precision = name
        steps.begin(f"lungs {model_format} {precision}: compare it on {len(tested)} images")
        content = build(name, model, int8)
        kind = next(kind for kind, engine in ENGINES.items() if engine.model_format == model_format)
        engine = open_engine(kind, content, threads=_THREADS)
        found = engine_maps(engine, tested).mean(axis=(1, 2))
        parity = _parity(compared, wanted, found)
        steps.note(
            f"{len(content) / 1e6:.2f} MB; edges differ from float by "
            f"{parity['mean_difference']:.4f} of the side (at most "
            f"{parity['largest_difference']:.4f}); overlap with the true box "
            f"{parity['overlap']:.3f} (float {parity['float_overlap']:.3f})"
        )
        if not parity["mean_difference"] <= FLOOR:
            raise ConversionError(f"lungs {model_format}: too far from the float model; see above")
        file = f"lungs-{precision}.{model_format}"
        contents[file] = content
        variants.append(
            Variant(
                file=file,
                format=model_format,
                precision=precision,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                parity=parity,
                golden=golden.measure(network, engine, precision),
            )
        )
    provenance = {
        "xrayedge": version("xrayedge"),
        "tensorflow": tf.__version__,
        "recipe": record.recipe.to_dict(),
        "data": record.data,
        "versions": record.versions,
        "epochs": len(record.history),
        "calibration": int8.provenance,
    }
    settings = LungSettings(
        Network(record.classes, preprocessing, 1.0, tuple(variants)), MARGIN, provenance
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        LungFiles(folder, settings).write_description()
        folder.rename(out)
    progress(f"converted in {steps.spent()}")
    return LungFiles.load(out)


def _parity(
    samples: Sequence[Sample], wanted: NDArray[np.float32], found: NDArray[np.float32]
) -> dict[str, float]:
    """Of logits ``float32 [N, 4]``, the float model's and a file's."""
    true = np.array([sample.lung_box for sample in samples], np.float32)
    off = np.abs(edges(found) - edges(wanted))
    return {
        "images": len(samples),
        "mean_difference": float(off.mean()),
        "largest_difference": float(off.max()),
        "overlap": float(np.mean(overlap(true, found))),
        "float_overlap": float(np.mean(overlap(true, wanted))),
    }
