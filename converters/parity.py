"""How a converted file compares with the Keras float model that it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from xrayedge.bundle import ModelFormat
from xrayedge.engines import ENGINES, EngineName, open_engine
from xrayedge.scores import probabilities, softmax


@dataclass(frozen=True)
class Parity:
    """The comparison, over one set of pictures.

    Parameters
    ----------
    pictures
        How many were compared.
    agreement
        Share with the same most probable class.
    largest_difference, mean_difference
        Of any one probability.
    """

    pictures: int
    agreement: float
    largest_difference: float
    mean_difference: float


def float_probabilities(
    model: keras.Model, inputs: NDArray[np.uint8], temperature: float
) -> NDArray[np.float64]:
    """The Keras model's probabilities, ``float64 [N, classes]``, of ``uint8 [N, S, S, 1]``."""
    return softmax(np.asarray(model.predict(inputs, batch_size=16, verbose=0)) / temperature)


def compare(
    content: bytes,
    model_format: ModelFormat,
    inputs: NDArray[np.uint8],
    reference: NDArray[np.float64],
    temperature: float,
) -> Parity:
    """Run a model file in its own engine beside the float model's probabilities."""
    engine = open_engine(_engine_for(model_format), content, threads=2)
    maps = np.concatenate([engine.run(one) for one in inputs[:, np.newaxis]])
    found = probabilities(maps, temperature)
    difference = np.abs(found - reference)
    return Parity(
        pictures=len(inputs),
        agreement=float((found.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
    )


def _engine_for(model_format: ModelFormat) -> EngineName:
    return next(name for name, kind in ENGINES.items() if kind.model_format == model_format)
