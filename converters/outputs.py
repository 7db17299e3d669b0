"""A network's outputs, whether Keras runs it or a device's engine."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from xrayedge import opacities
from xrayedge.bundle import Network
from xrayedge.engines import Engine
from xrayedge.scores import probabilities
from xrayedge.training.network import activation_map_model

_BATCH = 16


@dataclass(frozen=True, eq=False)
class Outputs:
    """Scores of images.

    Parameters
    ----------
    probabilities
        Of each class, ``float64 [N, classes]``.
    opacity
        Calibrated score of each place of the map, 0 to 1, for lying in an opacity,
        ``float64 [N, h, w]``; ``None`` where the network has no such channel.
    """

    probabilities: NDArray[np.float64]
    opacity: NDArray[np.float64] | None

    def mean_difference(self, other: Outputs) -> float:
        """Mean absolute difference of the probabilities."""
        return float(np.abs(self.probabilities - other.probabilities).mean())


def read_maps(maps: NDArray[np.float32], network: Network) -> Outputs:
    """Outputs computed from activation maps ``float32 [N, h, w, channels]``."""
    classes = len(network.classes)
    opacity = None if network.opacity is None else opacities.scores(maps[..., -1], network.opacity)
    return Outputs(probabilities(maps[..., :classes], network.temperature), opacity)


def keras_maps(model: keras.Model, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The float model's maps ``float32 [N, h, w, channels]`` of ``uint8 [N, S, S, 1]``."""
    maps = activation_map_model(model).predict(inputs, batch_size=_BATCH, verbose=0)
    return np.asarray(maps, np.float32)


def engine_maps(engine: Engine, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A loaded file's maps ``float32 [N, h, w, channels]`` of ``uint8 [N, S, S, 1]``."""
    return np.concatenate([engine.run(one) for one in inputs[:, np.newaxis]])


def keras_outputs(model: keras.Model, inputs: NDArray[np.uint8], network: Network) -> Outputs:
    """The float model's outputs for ``uint8 [N, S, S, 1]``."""
    return read_maps(keras_maps(model, inputs), network)


def engine_outputs(engine: Engine, inputs: NDArray[np.uint8], network: Network) -> Outputs:
    """A loaded file's outputs for ``uint8 [N, S, S, 1]``."""
    return read_maps(engine_maps(engine, inputs), network)
