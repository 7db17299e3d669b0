"""TFLite files, one function for each recipe. Input ``uint8 [1, S, S, 1]``, output float32 map."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from xrayedge.training.network import activation_map_model

from .equalisation import INT8_MAX, convolutions
from .ranges import Ranges


def float32(model: keras.Model) -> bytes:
    """The float model."""
    return bytes(_converter(model).convert())


def float16(model: keras.Model) -> bytes:
    """Weights in float16, arithmetic in float: half the size, the float model's scores."""
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def dynamic_int8(model: keras.Model) -> bytes:
    """Weights in int8; activations in float, quantised at run time for each image.

    Parameters
    ----------
    model
        With rounded kernels: see `rounding`.
    """
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def static_int8(model: keras.Model, ranges: Ranges) -> bytes:
    """Weights (per channel) and activations in int8, symmetric, ranges from the calibration set.

    The first and the last convolution, a tiny part of the arithmetic, stay in float: the input
    bytes minus their mean do not fall on int8 levels, and an int8 map has too few levels for a
    calibrated score.

    Parameters
    ----------
    model
        Equalised and with rounded kernels: see `equalisation` and `rounding`.
    ranges
        See `ranges.observe`.
    """
    maps = activation_map_model(model)
    size = int(maps.inputs[0].shape[1])
    kernels = {layer.name: layer.get_weights()[0] for layer in convolutions(maps)[1:-1]}

    def activation_map(image: tf.Tensor) -> dict[str, tf.Tensor]:
        x = image
        for layer in maps.layers[1:]:
            if layer.name not in kernels:
                x = layer(x)
            else:
                kernel = kernels[layer.name]
                largest = np.maximum(np.abs(kernel).max(axis=(0, 1, 2)), np.finfo(np.float32).tiny)
                # The variable itself: with a constant, the converter would fold the rounding away.
                quantised = tf.quantization.fake_quant_with_min_max_vars_per_channel(
                    layer.kernel, -largest, largest, narrow_range=True
                )
                x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, quantised, 1, "SAME"), layer.bias))
            if layer.name in ranges:
                step = ranges[layer.name] / INT8_MAX
                x = tf.quantization.fake_quant_with_min_max_args(
                    x, -(INT8_MAX + 1) * step, INT8_MAX * step
                )
        return {"activation_map": x}

    signature = [tf.TensorSpec((1, size, size, 1), tf.uint8, name="image")]
    traced = tf.function(activation_map, input_signature=signature, autograph=False)
    # No trackable object is passed, so that the graph is frozen first; otherwise the rounding of
    # the weights would stay in the file as an operation.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def _converter(model: keras.Model) -> Any:
    maps = activation_map_model(model)
    size = int(maps.inputs[0].shape[1])

    image = keras.Input(batch_shape=(1, size, size, 1), dtype="uint8", name="image")
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, maps(image)))
