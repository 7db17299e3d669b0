"""Rounding kernels to int8 so that what one weight loses the others make up for.

Weight after weight is rounded, and the ones not yet rounded take over its error as far as the
layer's inputs let them: optimal brain quantisation in the fixed order of GPTQ (Frantar et al. 2023,
"GPTQ: accurate post-training quantization"). Each layer reads what the rounded layers below it
give, is first fitted to what the float layer gave, and its bias takes up what is left of the mean
(Nagel et al. 2019). Narrow networks, where each weight counts, gain most.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from .calibration import CalibrationSet
from .equalisation import INT8_MAX, convolutions

_PLACES = 60  # of each picture, to fit by
_RIDGE = 1e-2  # of the mean square of the inputs: how dear it is to leave the float weights
_BLOCK = 128  # rows of a kernel whose errors are passed on together
_BATCH = 10

Matrix = NDArray[np.float64]


def round_kernels(model: keras.Model, calibration: CalibrationSet) -> keras.Model:
    """A copy of ``model`` whose kernels but the last lie on int8's steps, one an output channel.

    A converter would round as well, but two converters round one weight in a hundred thousand
    differently, and the layers that follow make a difference in the scores out of it.
    """
    rounded = keras.models.clone_model(model)
    rounded.set_weights(model.get_weights())
    for layer, copy in list(zip(convolutions(model), convolutions(rounded), strict=True))[:-1]:
        kernel, bias = layer.get_weights()
        weights = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
        read = _patches(model, layer, calibration)
        wanted_mean, wanted = read.mean(axis=0) @ weights + bias, read @ weights
        given = _patches(rounded, copy, calibration)
        mean = given.mean(axis=0)
        given -= mean
        wanted -= wanted.mean(axis=0)
        moments = given.T @ given / len(given)
        moments += np.eye(len(moments)) * (_RIDGE * np.trace(moments) / len(moments) + 1e-12)
        missing = given.T @ (wanted - given @ weights) / len(given)
        fitted = _round(weights + np.linalg.solve(moments, missing), moments)
        shift = wanted_mean - mean @ fitted
        copy.set_weights([fitted.reshape(kernel.shape), shift])
    return rounded


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


def _patches(model: keras.Model, layer: keras.layers.Layer, calibration: CalibrationSet) -> Matrix:
    """What a convolution reads at some places of each picture, ``[N, reach² C]``.

    The same places for every model, so that rows can be compared.
    """
    below = keras.Model(model.inputs[0], layer.input)
    reach = layer.kernel_size[0]
    rng = np.random.default_rng(0)
    rows = []
    for start in range(0, len(calibration.inputs), _BATCH):
        maps = np.asarray(below.predict_on_batch(calibration.inputs[start : start + _BATCH]))
        margin = reach // 2
        padded = np.pad(maps, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        for picture in padded:
            tops = rng.integers(0, maps.shape[1], _PLACES)
            lefts = rng.integers(0, maps.shape[2], _PLACES)
            rows += [
                picture[top : top + reach, left : left + reach].ravel()
                for top, left in zip(tops, lefts, strict=True)
            ]
    return np.stack(rows).astype(np.float64)
