"""Scores of a run's Keras model."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from ..bundle import OpacitySettings
from ..data import TrainingData
from ..evaluation import Judgement, ScoringModel
from ..lungs import open_finder
from ..scores import probabilities, softmax
from .network import activation_map_model
from .run import MODEL, RunRecord, lungs_of

#: A run's opacities are calibrated when it is converted.
_UNCALIBRATED = OpacitySettings(threshold=0.5, temperature=1.0, bias=0.0)


def scoring_model(folder: Path) -> ScoringModel:
    """The Keras model of a run folder, ready to score samples."""
    record = RunRecord.read(folder)
    model = activation_map_model(keras.saving.load_model(folder / MODEL, compile=False))

    def judge(inputs: NDArray[np.uint8]) -> Judgement:
        found = np.asarray(model.predict_on_batch(inputs))[0]
        return probabilities(found[..., : len(record.classes)], record.temperature), found

    label, threshold = record.recipe.turned_label, record.threshold
    gate = (label, threshold) if label is not None and threshold is not None else None
    return ScoringModel(
        record.classes,
        record.recipe.preprocessing,
        judge,
        gate,
        opacity=_UNCALIBRATED if record.recipe.opacity > 0.0 else None,
        trained_on=TrainingData.from_record(record.data, record.recipe.to_dict()),
        lungs=open_finder(lungs_of(folder)),
    )


def predict(
    model: Path, inputs: NDArray[np.uint8], temperature: float, batch_size: int = 32
) -> NDArray[np.float64]:
    """Probabilities ``float64 [N, classes]`` of a Keras model for ``uint8 [N, size, size, 1]``."""
    network = keras.saving.load_model(model, compile=False)
    logits = np.asarray(network.predict(inputs, batch_size=batch_size, verbose=0))
    return softmax(logits / temperature)
