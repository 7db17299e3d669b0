"""Whether OpenVINO reads a bundle's ONNX files and gives ONNX Runtime's labels.

pip install openvino
python benchmarks/openvino_labels.py BUNDLE MANIFEST.csv [--where set=extended ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import openvino
from commandline import add_where

from xrayedge import ModelBundle
from xrayedge.data import load_dataset, model_inputs
from xrayedge.data.framing import as_seen
from xrayedge.engines import open_engine
from xrayedge.lungs import LungFiles
from xrayedge.scores import probabilities


def main() -> None:
    """Print a line for each file; exit with 1 where a label differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("data", type=Path)
    add_where(parser)
    arguments = parser.parse_args()
    bundle = ModelBundle.load(arguments.bundle)
    network = bundle.classifier
    samples = load_dataset(arguments.data, arguments.where, complete=False).samples
    samples = as_seen(samples, LungFiles.of(bundle))
    inputs = model_inputs(samples, network.preprocessing)
    differing = 0
    for variant in network.variants:
        if variant.format != "onnx":
            continue
        content = bundle.read(variant)
        core = openvino.Core()
        # By default OpenVINO computes in bfloat16 on processors that have it.
        precision = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(model=content), "CPU", precision)
        engine = open_engine("onnx", content, threads=2)
        others = [np.asarray(compiled(one)[0]) for one in inputs[:, np.newaxis]]
        ours = [engine.run(one) for one in inputs[:, np.newaxis]]
        other, our = (
            probabilities(np.concatenate(maps), network.temperature) for maps in (others, ours)
        )
        changed = int((other.argmax(axis=1) != our.argmax(axis=1)).sum())
        differing += changed
        print(
            f"OpenVINO {openvino.__version__}, {variant.file}: {changed} of {len(inputs)} labels "
            f"differ, largest difference of a probability {np.abs(other - our).max():.4f}",
            flush=True,
        )
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
