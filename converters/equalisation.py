"""Cross-layer equalisation: give channels similar ranges, so that one scale fits them all.

A rectified channel may be divided by a factor by which the next layer's weights are multiplied: the
network computes the same, and int8 represents it better (Nagel et al. 2019, "Data-free quantization
through weight equalization and bias correction"). How the factor balances activations and weights
follows Xiao et al. 2023, "SmoothQuant".
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from xrayedge.errors import ConversionError

from .calibration_set import CalibrationSet

#: Share of a channel's range that moves from the activations into the next layer's weights.
#: Measured on VGG16: at 0.5 the activations are the larger source of error, at 1.0 the weights.
MIGRATION = 0.8
#: A channel that is hardly ever active counts as at least this share of the layer's largest.
_QUIETEST = 0.01
_BATCH = 4
INT8_MAX = 127


def convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    """The convolutions of a chain, first to last; the last gives the activation map."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def equalise(model: keras.Model, calibration: CalibrationSet) -> keras.Model:
    """Return a copy of ``model`` that computes the same with more equal channel ranges.

    Raises
    ------
    ConversionError
        A layer's output is zero or NaN on every calibration image: the network is dead.
    """
    equalised = keras.models.clone_model(model)
    equalised.set_weights(model.get_weights())
    layers = convolutions(equalised)
    largest = _channel_maxima(model, calibration)
    for layer, following, maxima in zip(layers, layers[1:], largest, strict=False):
        if not maxima.max() > 0.0:  # also where it is NaN
            raise ConversionError(
                f"{layer.name} outputs nothing on any calibration image: the network is dead; "
                "train it again at a lower learning rate"
            )
        kernel, bias = layer.get_weights()
        next_kernel, next_bias = following.get_weights()
        factor = _factor(maxima, np.abs(next_kernel).max(axis=(0, 1, 3)))
        layer.set_weights([kernel / factor, bias / factor])
        following.set_weights([next_kernel * factor[:, np.newaxis], next_bias])
    return equalised


def _factor(activations: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each channel is divided by; geometric mean 1, so that the layer keeps its size."""
    activations = np.maximum(activations, _QUIETEST * activations.max())
    weights = np.maximum(weights, _QUIETEST * weights.max())
    logarithm = MIGRATION * np.log(activations) - (1.0 - MIGRATION) * np.log(weights)
    return np.asarray(np.exp(logarithm - logarithm.mean()), np.float32)


def _channel_maxima(model: keras.Model, calibration: CalibrationSet) -> list[NDArray[np.float32]]:
    """Largest activation of each channel of every convolution but the last, ``float32 [C]``."""
    hidden = [layer.output for layer in convolutions(model)[:-1]]
    observer = keras.Model(model.inputs[0], hidden)
    largest = [np.zeros(int(output.shape[-1]), np.float32) for output in hidden]
    for start in range(0, len(calibration.inputs), _BATCH):
        outputs = observer.predict_on_batch(calibration.inputs[start : start + _BATCH])
        for known, output in zip(largest, outputs, strict=True):
            np.maximum(known, output.max(axis=(0, 1, 2)), out=known)
    return largest
