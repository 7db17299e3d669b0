"""Time from starting Python to the first result, and the memory that it takes.

    python benchmarks/cold_start.py --model vgg16-edge --rounds 9

Screens pydicom-data's chest in a new process each time: xrayedge with each installed engine and, if
TensorFlow is installed, the same file in TensorFlow's own interpreter, alternately. Prints medians,
and ratios to TensorFlow's, as one JSON object; exit status 1 if labels differ. `import_ms` is how
long `import xrayedge` takes where NumPy and OpenCV are loaded, `load_ms` the modules that
`Screener` needs, which its first use loads, and `first_result_ms` how long it takes from there to
the first result; all in processor time of the main thread, which other programs on the machine
change least, and NumPy's threads, which spin for a while after they are started, not at all. Linux
only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from tempfile import TemporaryFile
from typing import Any

from xrayedge.bundle import DEFAULT_MODEL

_XRAYEDGE = """
from xrayedge import Screener
print(Screener(MODEL, engine=ENGINE).screen(IMAGE).label)
"""

_PARTS = """
from time import thread_time as now
import cv2, numpy
started = now()
import xrayedge
imported = now()
xrayedge.Screener
loaded = now()
xrayedge.Screener(MODEL).screen(IMAGE)
print(*(1000.0 * span for span in (imported - started, loaded - imported, now() - loaded)))
"""

_TENSORFLOW = """
import tensorflow as tf
from xrayedge import ModelBundle, read
from xrayedge.scores import decide, probabilities
bundle = ModelBundle.load(MODEL)
network = bundle.classifier
content = bundle.read(network.variant("tflite", "int8"))
interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
interpreter.allocate_tensors()
inputs = network.preprocessing.apply(read(IMAGE).pixels)[None]
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
interpreter.invoke()
found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
scores = dict(zip(network.classes, map(float, probabilities(found, network.temperature))))
print(decide(scores, network.operating_point("balanced"))[0])
"""

_IMAGE = "from pydicom.data import get_testdata_file as f; print(f('RG1_UNCR.dcm'))"


def contenders() -> dict[str, str]:
    """Programs by the engine that they use, if it is installed."""
    found = {}
    if find_spec("ai_edge_litert") or find_spec("tflite_runtime"):
        found["litert"] = _XRAYEDGE.replace("ENGINE", "'litert'")
    if find_spec("onnxruntime"):
        found["onnx"] = _XRAYEDGE.replace("ENGINE", "'onnx'")
    if find_spec("tensorflow"):
        found["tensorflow"] = _TENSORFLOW
    return found


def run(program: str) -> tuple[float, float, str]:
    """Seconds, peak of resident memory in 10^6 bytes, and the label of one new process."""
    started = time.perf_counter()
    with TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            # Bytecode is kept, as pip keeps an installed package's.
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": ""},
        )
        assert process.stdout is not None
        with process.stdout as stdout:
            label = stdout.read().strip()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from Popen
        if process.returncode:
            said.seek(0)
            sys.exit(
                f"cold_start: a program ended with {process.returncode}:\n{program}\n{said.read()}"
            )
    return seconds, usage.ru_maxrss * 1024 / 1e6, label


def main() -> int:
    """Measure as the command line asks; 1 if labels differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    image = subprocess.check_output([sys.executable, "-c", _IMAGE], text=True).strip()
    programs = {
        name: program.replace("MODEL", repr(chosen.model)).replace("IMAGE", repr(image))
        for name, program in contenders().items()
    }
    parts = _PARTS.replace("MODEL", repr(chosen.model)).replace("IMAGE", repr(image))
    for program in (*programs.values(), parts):  # files into the system's cache
        run(program)
    runs: dict[str, list[tuple[float, float, str]]] = {name: [] for name in programs}
    spans: list[tuple[float, ...]] = []
    for _ in range(chosen.rounds):
        spans.append(tuple(float(span) for span in run(parts)[2].split()))
        for name, program in programs.items():
            runs[name].append(run(program))
    rows: dict[str, dict[str, Any]] = {
        name: {
            "seconds": statistics.median(one[0] for one in found),
            "peak_rss_mb": statistics.median(one[1] for one in found),
            "label": found[0][2],
        }
        for name, found in runs.items()
    }
    for name in set(rows) - {"tensorflow"} if "tensorflow" in rows else ():
        for metric in ("seconds", "peak_rss_mb"):
            rows[name][f"{metric}_of_tensorflow"] = rows[name][metric] / rows["tensorflow"][metric]
    importing, loading, first_result = map(statistics.median, zip(*spans, strict=True))
    found = {
        "model": chosen.model,
        "rounds": chosen.rounds,
        "import_ms": importing,
        "load_ms": loading,
        "first_result_ms": first_result,
        "rows": rows,
    }
    print(json.dumps(found, indent=2))
    return 0 if len({row["label"] for row in rows.values()}) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
