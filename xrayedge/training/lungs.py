"""Train the network that frames the lungs; `xrayedge.lungs` uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data import Box, Sample, model_inputs
from ..preprocessing import Preprocessing

_STRAIGHT = 0.05  # of a side: beyond it the loss of an edge grows linearly


def box_inputs(
    samples: Sequence[Sample], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Inputs ``uint8 [N, S, S, 1]`` and boxes ``float32 [N, 4]`` of images as they are."""
    return model_inputs(samples, preprocessing), np.array([one.lung_box for one in samples], "f4")


def moved(box: Box, shape: tuple[int, ...], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """A box after an augmentation, ``float32 [4]``, as shares of the image.

    A rotated box's edges are where the middles of its sides are.

    Parameters
    ----------
    box
        Before it.
    shape
        Height and width in pixels, of the image before and after.
    matrix
        See `Augmentation.vary`.
    """
    height, width = shape[:2]
    left, top, right, bottom = box
    middle, centre = (left + right) / 2.0, (top + bottom) / 2.0
    sides = np.array([[left, centre], [right, centre], [middle, top], [middle, bottom]])
    # The transform is for pixel centres, which are half a pixel away from edges.
    at = (sides * (width, height) - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    across, down = np.sort(at[:2, 0]) / width, np.sort(at[2:, 1]) / height
    edges = np.array([across[0], down[0], across[1], down[1]], np.float32)
    return np.asarray(np.clip(edges, 0.0, 1.0))


@keras.saving.register_keras_serializable("xrayedge")
class EdgeLoss(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """Mean Huber loss of the edges, which are the sigmoid of the logits."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"name": "edge_loss", **settings})

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss ``[N]`` of logits ``[N, 4]`` against boxes ``[N, 4]``."""
        off = keras.ops.abs(keras.ops.sigmoid(y_pred) - y_true)
        near = 0.5 * keras.ops.square(off)
        far = _STRAIGHT * (off - 0.5 * _STRAIGHT)
        return keras.ops.mean(keras.ops.where(off < _STRAIGHT, near, far), axis=-1)


@keras.saving.register_keras_serializable("xrayedge")  # type: ignore[untyped-decorator]
def overlap(y_true: Any, y_pred: Any) -> Any:
    """Intersection over union ``[N]`` of the network's boxes and the true ones."""
    found = keras.ops.sigmoid(y_pred)
    first = keras.ops.maximum(y_true[:, :2], found[:, :2])
    last = keras.ops.minimum(y_true[:, 2:], found[:, 2:])
    shared = _area(keras.ops.concatenate([first, last], axis=-1))
    return shared / (_area(y_true) + _area(found) - shared + keras.config.epsilon())


def _area(boxes: Any) -> Any:
    sides = keras.ops.relu(boxes[:, 2:] - boxes[:, :2])
    return sides[:, 0] * sides[:, 1]
