"""Rounding kernels to int8 so that the errors of weights compensate for each other.

Weights are rounded one after another, and those not yet rounded compensate for the error as far as
the layer's inputs allow: optimal brain quantisation in the fixed order of GPTQ (Frantar et al.
2023, "GPTQ: accurate post-training quantization"). Each layer reads the output of the rounded
layers below it and is first fitted to the float layer's output; its bias corrects the remaining
mean error (Nagel et al. 2019). Narrow networks, where each weight counts, gain most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from xrayedge.training.network import sample_patches

from .calibration_set import CalibrationSet
from .equalisation import INT8_MAX, convolutions

_RIDGE = 1e-2  # of the mean square of the inputs: the penalty on leaving the float weights
_BLOCK = 128  # rows of a kernel whose errors are passed on together
_BATCH = 8
_FLOAT_BYTES = 4
_MOST_KEPT = 500_000_000  # bytes of maps; of VGG16's at 224 pixels, those from block 3 on

Matrix = NDArray[np.float64]


def round_kernels(model: keras.Model, calibration: CalibrationSet) -> keras.Model:
    """Return a copy of ``model`` with all kernels but the last rounded to int8 steps.

    Each output channel has its own step. Converters would round too, but two of them round one
    weight in a hundred thousand differently, and the following layers turn that into different
    scores.
    """
    rounded = keras.models.clone_model(model)
    rounded.set_weights(model.get_weights())
    hidden = convolutions(model)[:-1]
    wholes, copies = _Maps(calibration.inputs), _Maps(calibration.inputs)
    for layer, copy in zip(model.layers[1:], rounded.layers[1:], strict=True):
        if layer in hidden:
            reach = layer.kernel_size[0]
            _round_layer(layer, copy, sample_patches(wholes, reach), sample_patches(copies, reach))
        if layer is hidden[-1]:
            break
        wholes.go_through(layer)
        copies.go_through(copy)
    return rounded


class _Maps:
    """The maps of all images after some layers, batch by batch.

    They are kept if they take little memory. The large maps of a wide network's first layers (13 MB
    per image at 224 pixels) are computed again each time from the last maps that were kept.
    """

    def __init__(self, inputs: NDArray[np.uint8]) -> None:
        starts = range(0, len(inputs), _BATCH)
        self._kept: list[Any] = [inputs[start : start + _BATCH] for start in starts]
        self._beyond: list[keras.layers.Layer] = []

    def go_through(self, layer: keras.layers.Layer) -> None:
        """Replace the maps by the output of ``layer``, which must not change any more."""
        self._beyond.append(layer)
        largest = int(np.prod(layer.output.shape[1:])) * _FLOAT_BYTES * sum(map(len, self._kept))
        if largest <= _MOST_KEPT:
            for number, batch in enumerate(self):  # in place: never all batches twice
                self._kept[number] = batch
            self._beyond = []

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for kept in self._kept:
            batch = kept
            for layer in self._beyond:
                batch = layer(batch)
            yield np.asarray(batch)


def _round_layer(
    layer: keras.layers.Layer,
    copy: keras.layers.Layer,
    read: NDArray[np.float32],
    given: NDArray[np.float32],
) -> None:
    """Fit ``copy``, whose input is ``given``, to the output of ``layer`` for ``read``."""
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
    """Round weights ``[K, out]`` to their steps; ``moments`` are the inputs' second moments."""
    weights = weights.copy()
    largest = np.abs(weights).max(axis=0)
    step = np.maximum(largest, np.finfo(np.float32).tiny) / INT8_MAX
    # The largest stays as it is, because a converter derives the step from it.
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
