"""Other ways to read the frozen network than the mean of its last map, for benchmarks/reproduction.

The paper puts dense layers on a flattened map, which know where in the image something is.
Here a logistic regression reads means over the whole map or over its four quarters, of the last
block or of the last two. The best is chosen on the training images alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from xrayedge.data import Dataset, Sample, model_inputs
from xrayedge.evaluation import Evaluation, evaluate
from xrayedge.training.network import load_imagenet
from xrayedge.training.recipe import Recipe
from xrayedge.training.train import build_network

_LAYERS = ("block4_pool", "block5_conv3")
_STRENGTHS = (0.001, 0.01, 0.1)  # inverse, of the penalty on the weights
_FOLDS = 5

Maps = tuple[NDArray[np.float32], ...]


def _whole(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(maps.mean(axis=(1, 2)))


def _quarters(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = maps.shape[1] // 2, maps.shape[2] // 2
    parts = [
        maps[:, top : top + height, left : left + width]
        for top in (0, height)
        for left in (0, width)
    ]
    return np.concatenate([_whole(part) for part in parts], axis=1)


_POOLINGS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "the mean": _whole,
    "the means of four quarters": _quarters,
}
_DEPTHS = {"block 5": slice(1, 2), "blocks 4 and 5": slice(0, 2)}


@dataclass(frozen=True)
class Reading:
    """One way to read the frozen network.

    Parameters
    ----------
    name
        For a person.
    strength
        Inverse of the penalty on the weights that served best on held-out training images.
    held_out_accuracy, held_out_loss
        On training images, each left out of the fit in turn: accuracy, and log loss.
    evaluation
        On the images to test.
    """

    name: str
    strength: float
    held_out_accuracy: float
    held_out_loss: float
    evaluation: Evaluation


def readings(dataset: Dataset, recipe: Recipe, weights: Path | None, cache: Path) -> list[Reading]:
    """Every way, fitted on the split ``train`` and judged on ``test``.

    Parameters
    ----------
    dataset
        Both splits.
    recipe
        Its network and preprocessing.
    weights
        As of `xrayedge.training.network.load_imagenet`.
    cache
        An ``.npz`` for what the network gives of the images; read where it is there.
    """
    train, test = dataset.split("train"), dataset.split("test")
    maps = _maps([*train, *test], recipe, len(dataset.classes), weights, cache)
    labels = np.array([dataset.classes.index(sample.label) for sample in train])
    found = []
    for depth, chosen in _DEPTHS.items():
        for pooling, pool in _POOLINGS.items():
            features = np.concatenate([pool(one) for one in maps[chosen]], axis=1)
            given, asked = features[: len(train)], features[len(train) :]
            strength, held_out = _best_strength(given, labels)
            scores = _model(strength).fit(given, labels).predict_proba(asked)
            found.append(
                Reading(
                    f"{pooling}, {depth}",
                    strength,
                    float(accuracy_score(labels, held_out.argmax(axis=1))),
                    float(log_loss(labels, held_out)),
                    evaluate(test, dataset.classes, scores),
                )
            )
    return found


def _maps(
    samples: Sequence[Sample], recipe: Recipe, classes: int, weights: Path | None, cache: Path
) -> Maps:
    if not cache.exists():
        network = build_network(recipe, classes)
        load_imagenet(network, weights)
        outputs = [network.get_layer(name).output for name in _LAYERS]
        inputs = model_inputs(samples, recipe.preprocessing)
        maps = keras.Model(network.inputs[0], outputs).predict(inputs, batch_size=8, verbose=0)
        temporary = cache.with_suffix(".part.npz")
        np.savez(temporary, **dict(zip(_LAYERS, maps, strict=True)))
        temporary.replace(cache)
    with np.load(cache) as archive:
        return tuple(archive[name] for name in _LAYERS)


def _best_strength(
    given: NDArray[np.float32], labels: NDArray[np.int_]
) -> tuple[float, NDArray[np.float64]]:
    """The strength of least log loss on held-out images, and their probabilities."""
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    held_out = {
        strength: cross_val_predict(
            _model(strength), given, labels, cv=folds, method="predict_proba"
        )
        for strength in _STRENGTHS
    }
    best = min(held_out, key=lambda strength: log_loss(labels, held_out[strength]))
    return best, held_out[best]


def _model(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
