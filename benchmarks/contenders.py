"""One engine called directly, without xrayedge, in its own process.

`peers.py` starts it with a job on stdin; the answer is one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrayedge import ModelBundle
from xrayedge.classifier import Classifier

#: A measurement lasts until it has this many runs and has taken this long.
MIN_RUNS = 12
MIN_SECONDS = 0.5
WARMUP = 3

#: From one model input ``uint8 [1, S, S, 1]`` to the activation map ``float32 [1, h, w, classes]``.
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def open_litert(file: str, threads: int) -> Run:
    """LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=Path(file).read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]["index"]
    found = interpreter.get_output_details()[0]["index"]

    def run(inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
        interpreter.set_tensor(image, inputs)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(found))

    return run


def open_onnx(file: str, threads: int) -> Run:
    """ONNX Runtime's session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0].name
    return lambda inputs: np.asarray(session.run(None, {image: inputs})[0])


def open_openvino(file: str, threads: int) -> Run:
    """OpenVINO on an ONNX file; float32 stays float32 where the processor has bfloat16 too."""
    import openvino

    model = openvino.Core().read_model(file)
    _, *sides = model.input().partial_shape
    model.reshape([1, *(side.get_length() for side in sides)])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.compile_model(model, "CPU", settings).create_infer_request()
    return lambda inputs: np.array(request.infer([inputs])[0])


def open_keras(file: str, threads: int) -> Run:
    """A Keras model in TensorFlow, as a compiled function: the fastest way that Keras has."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    from xrayedge.training.network import activation_map_model

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = activation_map_model(keras.saving.load_model(file, compile=False))
    compiled = tf.function(model)
    return lambda inputs: np.asarray(compiled(inputs, training=False))


OPENERS = {
    "LiteRT": open_litert,
    "ONNX Runtime": open_onnx,
    "OpenVINO": open_openvino,
    "Keras (TensorFlow)": open_keras,
}


def measure_engine(engine: str, file: str, inputs: str, threads: int) -> dict[str, Any]:
    """Milliseconds of each run, and the label of each image."""
    run = OPENERS[engine](file, threads)
    images = np.load(inputs)
    labels = [int(run(one).mean(axis=(1, 2)).argmax()) for one in images[:, np.newaxis]]
    return {"latencies_ms": _time(run, images), "labels": labels}


def measure_classify(
    folder: str, precision: Any, engine: Any, inputs: str, threads: int
) -> dict[str, Any]:
    """The same for `Classifier.classify`, including mean, temperature and softmax."""
    classifier = _open(folder, precision, engine, threads)
    images = np.load(inputs)
    classes = classifier.network.classes

    def label(inputs: NDArray[np.uint8]) -> int:
        scores, _ = classifier.classify(inputs)
        return classes.index(max(classes, key=lambda name: scores[name]))

    labels = [label(one) for one in images[:, np.newaxis]]
    return {"latencies_ms": _time(classifier.classify, images), "labels": labels}


def measure_overhead(
    folder: str, precision: Any, engine: Any, by_hand: str, file: str, inputs: str, threads: int
) -> dict[str, Any]:
    """`Classifier.classify` and the engine called directly, alternately in one process."""
    classifier = _open(folder, precision, engine, threads)
    run = OPENERS[by_hand](file, threads)
    images = np.load(inputs)
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(WARMUP + 2 * MIN_RUNS):
        image = images[number % len(images)][np.newaxis]
        for call, times in ((classifier.classify, ours), (run, theirs)):
            started = time.perf_counter()
            call(image)
            times.append((time.perf_counter() - started) * 1000.0)
    return {"ours_ms": ours[WARMUP:], "theirs_ms": theirs[WARMUP:]}


def measure_limit(kind: str, sides: list[int], threads: int) -> dict[str, Any]:
    """Multiply-accumulates per second of square matrix products in ONNX Runtime: the fastest."""
    return {"macs_per_second": max(_macs_per_second(kind, side, threads) for side in sides)}


def _macs_per_second(kind: str, side: int, threads: int) -> float:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    if kind == "int8":
        operator, types = "MatMulInteger", (TensorProto.UINT8, TensorProto.INT32)
        left = rng.integers(0, 128, (side, side), np.uint8)
        right = rng.integers(-128, 128, (side, side), np.int8)
    else:
        operator, types = "MatMul", (TensorProto.FLOAT, TensorProto.FLOAT)
        left = rng.random((side, side), np.float32)
        right = rng.random((side, side), np.float32)
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "limit",
        [helper.make_tensor_value_info("left", types[0], [side, side])],
        [helper.make_tensor_value_info("product", types[1], [side, side])],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    times = _time(lambda one: session.run(None, {"left": one[0]}), left[np.newaxis])
    return side**3 / (float(np.median(times)) / 1000.0)


def _open(folder: str, precision: Any, engine: Any, threads: int) -> Classifier:
    bundle = ModelBundle.load(Path(folder))
    return Classifier.open(bundle, bundle.classifier, precision, engine, threads)


def _time(call: Callable[[NDArray[Any]], Any], images: NDArray[Any]) -> list[float]:
    """Milliseconds of runs on the images in turn, after a warm-up."""
    for number in range(WARMUP):
        call(images[number % len(images)][np.newaxis])
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < MIN_RUNS or time.perf_counter() - began < MIN_SECONDS:
        image = images[len(times) % len(images)][np.newaxis]
        started = time.perf_counter()
        call(image)
        times.append((time.perf_counter() - started) * 1000.0)
    return times


_JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "engine": measure_engine,
    "classify": measure_classify,
    "overhead": measure_overhead,
    "limit": measure_limit,
}

if __name__ == "__main__":
    job = json.load(sys.stdin)
    print(json.dumps(_JOBS[job.pop("job")](**job)))
