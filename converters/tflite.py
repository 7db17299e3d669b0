"""TFLite files, one function a recipe. Input ``uint8 [1, S, S, 1]``, output float32 map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xrayedge.training.network import activation_map_model

from .calibration import CalibrationSet


def float16(model: keras.Model) -> bytes:
    """Weights in float16, arithmetic in float: half the size, the float model's scores."""
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def static_int8(model: keras.Model, calibration: CalibrationSet) -> bytes:
    """Weights (per channel) and activations in int8, ranges from the calibration set.

    The map leaves the file dequantised, so that mean, temperature and softmax stay in float.
    """

    def representative() -> Iterator[list[NDArray[np.uint8]]]:
        for inputs in calibration:
            yield [inputs]

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    return bytes(converter.convert())


def _converter(model: keras.Model) -> Any:
    maps = activation_map_model(model)
    size = int(maps.inputs[0].shape[1])

    image = keras.Input(batch_shape=(1, size, size, 1), dtype="uint8", name="image")
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, maps(image)))
