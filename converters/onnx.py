"""ONNX files, one function a recipe. Input ``uint8 [N, S, S, 1]``, output float32 map."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from xrayedge.training.network import activation_map_model

from .calibration import CalibrationSet

#: Newest operator set that tf2onnx 1.17 writes; has QDQ per channel (since 13).
OPSET = 18
_INPUT, _OUTPUT = "image", "activation_map"


def float32(model: keras.Model) -> bytes:
    """The float model."""
    return bytes(_to_onnx(model).SerializeToString())


def static_int8(model: keras.Model, calibration: CalibrationSet) -> bytes:
    """QDQ: weights (per channel) and activations in int8, ranges from the calibration set."""
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (
            Path(folder) / name for name in ("plain.onnx", "prepared.onnx", "quantised.onnx")
        )
        onnx.save(_to_onnx(model), plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        graph = onnx.load(quantised)
        onnx.checker.check_model(graph, full_check=True)
        return bytes(graph.SerializeToString())


def _to_onnx(model: keras.Model) -> Any:
    maps = activation_map_model(model)
    size = int(maps.inputs[0].shape[1])
    signature = [tf.TensorSpec((None, size, size, 1), tf.uint8, name=_INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def activation_map(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {_OUTPUT: maps(image, training=False)}

    graph, _ = tf2onnx.convert.from_function(activation_map, input_signature=signature, opset=OPSET)
    onnx.checker.check_model(graph, full_check=True)
    return graph


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, calibration: CalibrationSet) -> None:
        self._inputs = iter(calibration)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        inputs = next(self._inputs, None)
        return None if inputs is None else {_INPUT: inputs}
