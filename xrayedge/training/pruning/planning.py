"""Decide which channels to remove: how much each contributes, and the widths that lose least."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from ...errors import RunError
from ..network import MAP_LAYER

Widths = tuple[tuple[int, ...], ...]

#: Channels are removed in groups of this size: engines compute int8 convolutions in such blocks.
GROUP = 8
_NARROWEST = 16


def layer_costs(
    widths: Widths, size: int, classes: int, pool_last: bool = True
) -> tuple[list[int], list[int]]:
    """Multiply-accumulates and weights of each convolution and of the head."""
    operations, weights = [], []
    channels, side = 1, size
    for block in widths:
        for width in block:
            weights.append(9 * channels * width)
            operations.append(side * side * weights[-1])
            channels = width
        side //= 2
    if not pool_last:
        side *= 2
    weights.append(channels * classes)
    operations.append(side * side * weights[-1])
    return operations, weights


def importance(model: keras.Model, inputs: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Contribution of each channel of each convolution to the next layer's input.

    The mean square of the channel times the square of the weights that read it: ``float64 [width]``
    for each convolution, summing to 1.
    """
    names = convolutions(model)
    squares = [
        keras.ops.mean(keras.ops.square(model.get_layer(reader).input), axis=(1, 2))
        for reader in (*names[1:], MAP_LAYER)
    ]
    found = keras.Model(model.inputs[0], squares).predict(inputs, batch_size=8, verbose=0)
    shares = []
    for energy, reader in zip(found, (*names[1:], MAP_LAYER), strict=True):
        kernel = model.get_layer(reader).get_weights()[0]
        carried = np.asarray(energy, np.float64).mean(axis=0) * (kernel**2).sum(axis=(0, 1, 3))
        shares.append(carried / carried.sum())
    return shares


def plan(
    shares: Sequence[NDArray[np.float64]], widths: Widths, size: int, fraction: float
) -> Widths:
    """The widths that lose the least for the operations saved.

    Removes one group of channels at a time, from the layer where the least contribution is lost for
    the operations and weights saved, until both are down to the fraction.

    Raises
    ------
    RunError
        Every layer is at its narrowest, and the network is still too large.
    """
    classes = 1  # the head weighs next to nothing
    sorted_shares = [np.sort(share) for share in shares]
    full = [sum(cost) for cost in layer_costs(widths, size, classes)]
    flat = [width for block in widths for width in block]
    current = list(flat)
    while True:
        now = [sum(cost) for cost in layer_costs(_blocks(current, widths), size, classes)]
        if all(one <= fraction * all_of_it for one, all_of_it in zip(now, full, strict=True)):
            return _blocks(current, widths)
        best, best_loss = None, np.inf
        for layer, width in enumerate(current):
            if width - GROUP < _NARROWEST:
                continue
            gone = flat[layer] - width
            lost = sorted_shares[layer][gone : gone + GROUP].sum()
            left = sorted_shares[layer][gone + GROUP :].sum()
            narrower = [*current[:layer], width - GROUP, *current[layer + 1 :]]
            after = [sum(cost) for cost in layer_costs(_blocks(narrower, widths), size, classes)]
            saved = sum(
                max(0.0, one - less) / all_of_it
                for one, less, all_of_it in zip(now, after, full, strict=True)
                if one > fraction * all_of_it
            )
            if saved > 0.0 and lost / left / saved < best_loss:
                best, best_loss = layer, lost / left / saved
        if best is None:
            raise RunError(f"no network of this kind has {fraction:.4f} of the operations")
        current[best] -= GROUP


def _blocks(flat: Sequence[int], like: Widths) -> Widths:
    remaining = iter(flat)
    return tuple(tuple(next(remaining) for _ in block) for block in like)


def convolutions(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if "_conv" in layer.name]
