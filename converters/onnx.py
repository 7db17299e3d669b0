"""ONNX files, one function for each recipe. Input ``uint8 [N, S, S, 1]``, output float32 map."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.shape_inference import quant_pre_process

from xrayedge.training.network import activation_map_model

from .ranges import Ranges

#: Newest operator set that tf2onnx 1.17 writes; has QDQ per channel (since 13).
OPSET = 18
_INPUT, _OUTPUT = "image", "activation_map"
#: tf2onnx copies the whole network before each optimizer, to be able to skip one that fails. These
#: some 30 copies contain reference cycles and stay in memory until the garbage collector runs.
#: Here an optimizer that fails is an error. (Release 1.17 only checks that the variable is set.)
_CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"
#: Prefix of our keys in `metadata_props`.
METADATA_PREFIX = "xrayedge."


def float32(model: keras.Model) -> bytes:
    """The float model."""
    return bytes(_to_onnx(model).SerializeToString())


def static_int8(
    model: keras.Model, ranges: Ranges, activations: QuantType = QuantType.QInt8
) -> bytes:
    """QDQ, S8S8: weights (per channel) and activations in symmetric int8, as TensorRT expects.

    The same model as TFLite's file: the same weights and ranges, and the first and the last
    convolution in float; see `tflite.static_int8`.

    Parameters
    ----------
    model
        Equalised and with rounded kernels: see `equalisation` and `rounding`.
    ranges
        See `ranges.observe`.
    activations
        ``QuantType.QUInt8`` gives U8S8, compared in `docs/quantisation.md`; TensorRT refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (
            Path(folder) / name for name in ("plain.onnx", "prepared.onnx", "quantised.onnx")
        )
        onnx.save(_to_onnx(model), plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared)
        first, *_, last = (node.name for node in graph.graph.node if node.op_type == "Conv")
        quantizer = QDQQuantizer(
            graph,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=activations,
            tensors_range=_tensors_range(graph, ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[first, last],
            op_types_to_quantize=["Conv", "Relu", "MaxPool"],
            extra_options={
                "ActivationSymmetric": activations == QuantType.QInt8,
                "WeightSymmetric": True,
            },
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(quantised)
        result = onnx.load(quantised)
        onnx.checker.check_model(result, full_check=True)
        return bytes(result.SerializeToString())


def with_metadata(content: bytes, properties: dict[str, str]) -> bytes:
    """The same model with ``properties`` in `metadata_props`, under our prefix."""
    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(
        model, {f"{METADATA_PREFIX}{name}": value for name, value in properties.items()}
    )
    return bytes(model.SerializeToString())


def _tensors_range(graph: Any, ranges: Ranges) -> TensorsData:
    """A layer's range for all its tensors: convolution, rectified, pooled."""
    found: dict[str, tuple[np.float32, np.float32]] = {}
    current: tuple[np.float32, np.float32] | None = None
    for node in graph.graph.node:
        for layer, largest in ranges.items():
            if node.op_type == "Conv" and f"/{layer}_" in node.name:
                current = (np.float32(0.0), np.float32(largest))
        if current is not None and node.op_type in ("Conv", "Relu", "MaxPool"):
            found[node.output[0]] = current
    return TensorsData(CalibrationMethod.MinMax, found)


def _to_onnx(model: keras.Model) -> Any:
    maps = activation_map_model(model)
    size = int(maps.inputs[0].shape[1])
    signature = [tf.TensorSpec((None, size, size, 1), tf.uint8, name=_INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def activation_map(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {_OUTPUT: maps(image, training=False)}

    os.environ.setdefault(_CATCH_ERRORS, "FALSE")
    graph, _ = tf2onnx.convert.from_function(activation_map, input_signature=signature, opset=OPSET)
    gc.collect()  # tf2onnx's own graph has reference cycles too
    onnx.checker.check_model(graph, full_check=True)
    return graph
