"""Which int8 ONNX files saturate on x86 without VNNI; see docs/quantisation.md.

    python benchmarks/saturation.py RUN --data MANIFEST.csv [--where set=extended ...]

Makes the S8S8 file that bundles hold and a U8S8 one, and runs both in ONNX Runtime on this
processor, then on an emulated Haswell, which has AVX2 and no VNNI (`apt install qemu-user`), with
and without `session.x64quantprecision`. An emulated VGG16 takes some ten seconds per image.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from commandline import add_where
from onnxruntime.quantization import QuantType

from xrayedge.converters import calibration_set, equalisation, onnx, ranges, rounding
from xrayedge.converters.outputs import keras_maps
from xrayedge.converters.trained import TrainedRun
from xrayedge.data import load_dataset, model_inputs
from xrayedge.data.framing import as_seen
from xrayedge.machine import describe
from xrayedge.scores import probabilities
from xrayedge.training.run import MODEL

EMULATOR = ("qemu-x86_64", "-cpu", "Haswell")

#: Runs by itself, so that the emulated process imports as little as can be.
RUN = """
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
options.add_session_config_entry("session.x64quantprecision", sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
inputs = np.load(sys.argv[3])
np.save(sys.argv[4], np.concatenate([session.run(None, {"image": x[None]})[0] for x in inputs]))
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="what trained RUN")
    add_where(parser)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    if shutil.which(EMULATOR[0]) is None or platform.machine() != "x86_64":
        sys.exit(f"{EMULATOR[0]} is not installed, or this is no x86-64 machine")
    run = TrainedRun.open(arguments.run, arguments.data)
    preprocessing, temperature = run.record.recipe.preprocessing, run.record.temperature
    model = keras.saving.load_model(run.folder / MODEL, compile=False)
    chosen = calibration_set.choose(run.dataset.split("train"), preprocessing, lungs=run.lungs)
    equalised = equalisation.equalise(model, chosen)
    equalised = rounding.round_kernels(equalised, chosen)
    found = ranges.observe(equalised, chosen)["min-max"]
    where = arguments.where or [("split", "test")]
    samples = load_dataset(arguments.data, where, complete=False).samples
    samples = as_seen(samples, run.lungs)
    every = max(1, len(samples) // arguments.images)
    inputs = model_inputs(samples[::every][: arguments.images], preprocessing)
    reference = probabilities(keras_maps(model, inputs), temperature)
    vnni = [name for name in describe().cpu_features if "vnni" in name]
    print(f"here: {' '.join(vnni) or 'no VNNI'}")
    print("largest difference of a probability from the same file with exact sums, and from float")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "inputs.npy", inputs)
        for name, activations in (("S8S8", QuantType.QInt8), ("U8S8", QuantType.QUInt8)):
            path = folder / f"{name}.onnx"
            path.write_bytes(onnx.static_int8(equalised, found, activations))
            exact = probabilities(_run(folder, path, "1", ()), temperature)
            for processor, emulator in (("here", ()), ("AVX2", EMULATOR)):
                for precise in ("0", "1"):
                    scores = probabilities(_run(folder, path, precise, emulator), temperature)
                    print(
                        f"{name}  {processor}  x64quantprecision={precise}  "
                        f"{np.abs(scores - exact).max():.4f}  "
                        f"{np.abs(scores - reference).max():.4f}",
                        flush=True,
                    )


def _run(folder: Path, model: Path, precise: str, emulator: tuple[str, ...]) -> np.ndarray:
    script, output = folder / "run.py", folder / "maps.npy"
    script.write_text(RUN)
    # An emulated interpreter does not find a virtual environment's packages by itself.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command: list[str | Path] = [*emulator, Path(sys.executable).resolve(), script, model, precise]
    subprocess.run(
        [*command, folder / "inputs.npy", output], check=True, env=environment, stderr=None
    )
    maps: np.ndarray = np.load(output)
    return maps


if __name__ == "__main__":
    main()
