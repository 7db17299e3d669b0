"""int8 files of any Keras network, with the engine vendors' own quantisation tools.

Our own recipes handle only chains of convolutions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from xrayedge.converters import onnx as to_onnx
from xrayedge.converters.calibration_set import CalibrationSet
from xrayedge.training.network import activation_map_model


def int8_tflite(model: keras.Model, chosen: CalibrationSet) -> bytes:
    """By TensorFlow's own quantisation."""
    maps = activation_map_model(model)
    image = keras.Input(batch_shape=(1, *maps.inputs[0].shape[1:]), dtype="uint8", name="image")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, maps(image)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one] for one in chosen)
    return bytes(converter.convert())


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, chosen: CalibrationSet) -> None:
        self._images = iter(chosen)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def int8_onnx(model: keras.Model, chosen: CalibrationSet) -> bytes:
    """By ONNX Runtime's own quantisation, in the same format as our files (QDQ, S8S8)."""
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (
            Path(folder) / f"{stage}.onnx" for stage in ("plain", "prepared", "int8")
        )
        plain.write_bytes(to_onnx.float32(model))
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Reader(chosen),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return quantised.read_bytes()
