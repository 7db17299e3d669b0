"""Rounding kernels to int8 so that what one weight loses the others make up for.

Weight after weight is rounded, and the ones not yet rounded take over its error as far as the
layer's inputs let them: optimal brain quantisation in the fixed order of GPTQ (Frantar et al. 2023,
"GPTQ: accurate post-training quantization"). Each layer reads what the rounded layers below it
give, is first fitted to what the float layer gave, and its bias takes up what is left of the mean
(Nagel et al. 2019). Narrow networks, where each weight counts, gain most.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from xrayedge.training.network import sample_patches

from .calibration_set import CalibrationSet
from .equalisation import INT8_MAX, convolutions

_RIDGE = 1e-2  # of the mean square of the inputs: how dear it is to leave the float weights
_BLOCK = 128  # rows of a kernel whose errors are passed on together
_BATCH = 8

Matrix = NDArray[np.float64]


def round_kernels(model: keras.Model, calibration: CalibrationSet) -> keras.Model:
    """A copy of ``model`` whose kernels but the last lie on int8's steps, one an output channel.

    A converter would round as well, but two converters round one weight in a hundred thousand
    differently, and the layers that follow make a difference in the scores out of it.
    """
    rounded = keras.models.clone_model(model)
    rounded.set_weights(model.get_weights())
    hidden = convolutions(model)[:-1]
    starts = range(0, len(calibration.inputs), _BATCH)
    wholes: list[Any] = [calibration.inputs[start : start + _BATCH] for start in starts]
    copies = list(wholes)
    for layer, copy in zip(model.layers[1:], rounded.layers[1:], strict=True):
        if layer in hidden:
            reach = layer.kernel_size[0]
            _round_layer(layer, copy, sample_patches(wholes, reach), sample_patches(copies, reach))
        if layer is hidden[-1]:
            break
        for number in range(len(starts)):  # in place: the maps of all images are large
            wholes[number] = np.asarray(layer(wholes[number]))
            copies[number] = np.asarray(copy(copies[number]))
    return rounded


def _round_layer(
    layer: keras.layers.Layer,
    copy: keras.layers.Layer,
    read: NDArray[np.float32],
    given: NDArray[np.float32],
) -> None:
    """Fit ``copy``, which reads ``given``, to what ``layer`` makes of ``read``."""
    kernel, bias = layer.get_weights()
    weights = kernel.reshape(-1, kernel.shape[-1])
    wanted = read @ weights + bias
    wanted_mean, given_mean = wanted.mean(axis=0), given.mean(axis=0)
    wanted -= wanted_mean
    given = given - given_mean
    moments = (given.T @ given / len(given)).astype(np.float64)
    moments += np.eye(len(moments)) * (_RIDGE * np.trace(moments) / len(moments) + 1e-12)
    missing = given.T @ (wanted - given @ weights) / len(given)
    fitted = _round(weights + np.linalg.solve(moments, missing), moments)
    copy.set_weights([fitted.reshape(kernel.shape), wanted_mean - given_mean @ fitted])


def _round(weights: Matrix, moments: Matrix) -> Matrix:
    """The weights ``[K, out]`` on their steps; ``moments`` are their inputs' second moments."""
    weights = weights.copy()
    largest = np.abs(weights).max(axis=0)
    step = np.maximum(largest, np.finfo(np.float32).tiny) / INT8_MAX
    # The largest stays where it is, or a converter would find another step.
    top = np.where(np.abs(weights) == largest, np.sign(weights) * INT8_MAX, 0.0)
    passed_on = np.linalg.cholesky(np.linalg.inv(moments)).T
    for start in range(0, len(weights), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block, share = weights[rows], passed_on[rows, rows]
        errors = np.zeros_like(block)
        for row in range(len(block)):
            level = np.clip(np.round(block[row] / step), -INT8_MAX, INT8_MAX)
            level = np.where(top[start + row], top[start + row], level)
            errors[row] = (block[row] - level * step) / share[row, row]
            block[row + 1 :] -= np.outer(share[row, row + 1 :], errors[row])
            block[row] = level * step
        weights[start + _BLOCK :] -= passed_on[rows, start + _BLOCK :].T @ errors
    return weights
