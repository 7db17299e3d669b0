"""Make a narrower network whose output is as close as possible to the original's."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from ..network import MAP_LAYER, patches
from ..recipe import Recipe
from ..train import build_network
from .planning import convolutions, importance

_RIDGE = 1e-3


def at_its_size(whole: keras.Model, recipe: Recipe, classes: int) -> keras.Model:
    """The network with the same weights, for inputs of the recipe's size."""
    model = build_network(recipe, classes)
    model.set_weights(whole.get_weights())
    return model


def narrow(
    model: keras.Model,
    recipe: Recipe,
    classes: int,
    inputs: NDArray[np.uint8],
) -> keras.Model:
    """A network of the recipe's widths whose output is as close as possible to ``model``'s.

    Layer by layer, the most important channels are kept and the weights are fitted by least
    squares: from the output of the narrower layers below to the output of the original layer.
    """
    smaller = build_network(recipe, classes)
    assert recipe.widths is not None
    flat = [width for block in recipe.widths for width in block]
    shares = importance(model, inputs)
    kept = [np.sort(np.argsort(share)[-width:]) for share, width in zip(shares, flat, strict=True)]
    names = convolutions(model)
    first_kernel, first_bias = model.get_layer(names[0]).get_weights()
    smaller.get_layer(names[0]).set_weights([first_kernel[..., kept[0]], first_bias[kept[0]]])
    outputs = [*kept[1:], np.arange(model.get_layer(MAP_LAYER).filters)]
    for name, channels in zip((*names[1:], MAP_LAYER), outputs, strict=True):
        kernel, bias = model.get_layer(name).get_weights()
        kernel, bias = kernel[..., channels], bias[channels]
        wanted = patches(model, name, inputs) @ kernel.reshape(-1, len(channels)) + bias
        fitted = _least_squares(patches(smaller, name, inputs), wanted)
        layer = smaller.get_layer(name)
        shape = layer.get_weights()[0].shape
        layer.set_weights([fitted[:-1].reshape(shape), fitted[-1]])
    return smaller


def _least_squares(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ridge regression with an intercept, its last row."""
    rows = np.concatenate([given, np.ones((len(given), 1), np.float32)], axis=1).astype(np.float64)
    gram = rows.T @ rows
    gram += np.eye(len(gram)) * _RIDGE * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, rows.T @ wanted).astype(np.float32)
