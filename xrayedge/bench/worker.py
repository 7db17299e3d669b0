"""One measurement in a process that does nothing else; started by `rounds`, one job per process.

It imports only what a device imports, so its peak memory is a device's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import ModelBundle, Precision
from ..classifier import Classifier
from ..engines import EngineName
from ..errors import XrayEdgeError
from ..heatmap import overlay, part_of
from ..imaging import read
from ..machine import energy_counters, energy_j, memory_mb
from ..screening import Screener

#: A round lasts until it has this many runs and has taken this long.
MIN_RUNS = 12
MIN_SECONDS = 0.5


def main() -> None:
    """Do the job that stdin describes; its result, or ``{"error": ...}``, is one line of JSON."""
    job = json.load(sys.stdin)
    try:
        result = _JOBS[job.pop("job")](**job)
    except XrayEdgeError as error:
        result = {"error": str(error)}
    print(json.dumps(result))


def measure_latency(
    folder: str, precision: Precision, engine: EngineName, threads: int, warmup: int, spawned: float
) -> dict[str, Any]:
    """Load a classifier and run it again and again on one input.

    ``spawned`` is `time.monotonic` of the moment before this process was started.
    """
    classifier, load_ms = _open(folder, precision, engine, threads)
    inputs = _ramp(classifier.network.preprocessing.size)
    classifier.classify(inputs)
    first_result_ms = (time.monotonic() - spawned) * 1000.0
    for _ in range(warmup):
        classifier.classify(inputs)
    latencies: list[float] = []
    energy = energy_counters()
    started = time.perf_counter()
    while len(latencies) < MIN_RUNS or time.perf_counter() - started < MIN_SECONDS:
        before = time.perf_counter()
        classifier.classify(inputs)
        latencies.append((time.perf_counter() - before) * 1000.0)
    used = energy_j(energy, energy_counters())
    return {
        "provider": classifier.engine.provider,
        "load_ms": load_ms,
        "first_result_ms": first_result_ms,
        "latencies_ms": latencies,
        "peak_rss_mb": memory_mb("VmHWM"),
        "energy_j_per_picture": None if used is None else used / len(latencies),
    }


def score(
    folder: str, precision: Precision, engine: EngineName, threads: int, inputs: str, count: int
) -> dict[str, Any]:
    """Probabilities of the first inputs in a ``.npy`` file, ``uint8 [N, size, size, 1]``."""
    classifier, _ = _open(folder, precision, engine, threads)
    images = np.load(inputs, mmap_mode="r")[:count]
    return {
        "probabilities": [
            list(classifier.classify(np.asarray(one[np.newaxis]))[0].values()) for one in images
        ]
    }


def measure_stages(
    folder: str, precision: Precision, engine: EngineName, threads: int, warmup: int, image: str
) -> dict[str, Any]:
    """Milliseconds of each stage from a file to its result and its heatmap, run by run."""
    screener = Screener(folder, precision=precision, engine=engine, threads=threads)
    pixels = read(image).pixels
    runs: list[dict[str, float]] = []
    for _ in range(warmup + MIN_RUNS):
        screening = screener.screen(image)
        if screening.probabilities is None or screening.activation_map is None:
            return {"error": f"the image was {screening.status}: {screening.reason}"}
        preprocessing = screener.bundle.classifier.preprocessing
        assert screening.label is not None
        started = time.perf_counter()
        overlay(
            pixels,
            screening.activation_map,
            preprocessing,
            screening.probabilities,
            screening.label,
            part=part_of(screening.lungs, *pixels.shape),
        )
        heatmap = (time.perf_counter() - started) * 1000.0
        stages = {name: time_ms or 0.0 for name, time_ms in screening.timings_ms.items()}
        runs.append({**stages, "heatmap": heatmap, "total": stages["total"] + heatmap})
    return {"height": pixels.shape[0], "width": pixels.shape[1], "runs": runs[warmup:]}


def _open(
    folder: str, precision: Precision, engine: EngineName, threads: int
) -> tuple[Classifier, float]:
    """The classifier, and the milliseconds that loading took."""
    started = time.perf_counter()
    bundle = ModelBundle.load(Path(folder))
    classifier = Classifier.open(bundle, bundle.classifier, precision, engine, threads)
    return classifier, (time.perf_counter() - started) * 1000.0


def _ramp(size: int) -> NDArray[np.uint8]:
    """A model input with every grey level; the time does not depend on the content."""
    return np.resize(np.arange(256, dtype=np.uint8), (1, size, size, 1))


_JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "latency": measure_latency,
    "score": score,
    "stages": measure_stages,
}

if __name__ == "__main__":
    main()
