"""Cross-entropy that can forbid a source to give its class away."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

_FORBIDDEN = 1e4  # taken off a logit: its probability becomes zero


def targets(
    labels: NDArray[np.integer], rivals: NDArray[np.bool_], classes: int
) -> NDArray[np.float32]:
    """What `SourceAwareCrossentropy` compares with.

    Parameters
    ----------
    labels
        ``int [N]``, the true classes.
    rivals
        ``bool [N, classes]``, the classes that the picture's source has pictures of.

    Returns
    -------
    ``float32 [N, 2, classes]``: the one-hot label, then its rivals.
    """
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    return np.stack([one_hot, rivals.astype(np.float32)], axis=1)


@keras.saving.register_keras_serializable("xrayedge")
class SourceAwareCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """Cross-entropy, by a share among those classes alone that the picture's source holds.

    Where a hospital has only ill patients, its style predicts illness, and plain cross-entropy
    rewards a network that reads the style. Among the classes of the same source the style is
    worth nothing, and what is left to learn is the lungs.

    Parameters
    ----------
    share
        0 is plain cross-entropy, 1 never compares classes across sources.
    label_smoothing
        Probability moved from the label to all of its rivals.
    """

    def __init__(self, share: float = 0.0, label_smoothing: float = 0.0, **settings: Any) -> None:
        super().__init__(**{"name": "source_aware_crossentropy", **settings})
        self.share = share
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss ``[N]`` of logits ``[N, classes]`` against `targets`."""
        labels, rivals = y_true[:, 0], y_true[:, 1]
        plain = self._crossentropy(labels, keras.ops.ones_like(rivals), y_pred)
        within = self._crossentropy(labels, rivals, y_pred - (1.0 - rivals) * _FORBIDDEN)
        return (1.0 - self.share) * plain + self.share * within

    def _crossentropy(self, labels: Any, rivals: Any, logits: Any) -> Any:
        spread = rivals / keras.ops.sum(rivals, axis=-1, keepdims=True)
        smoothed = (1.0 - self.label_smoothing) * labels + self.label_smoothing * spread
        return -keras.ops.sum(smoothed * keras.ops.log_softmax(logits, axis=-1), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """For Keras' saving."""
        settings = super().get_config()
        return {**settings, "share": self.share, "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("xrayedge")  # type: ignore[untyped-decorator]
def accuracy(y_true: Any, y_pred: Any) -> Any:
    """Share of right labels, for the targets of `targets`."""
    return keras.metrics.categorical_accuracy(y_true[:, 0], y_pred)


@keras.saving.register_keras_serializable("xrayedge")
class Distillation(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """How far a student's activation maps and scores are from its teacher's and from the label.

    The sum of the maps' mean square difference, as a share of the teacher's variance; the
    divergence of the student's scores from the teacher's; and a tenth of the cross-entropy.

    Parameters
    ----------
    variance
        Of the teacher's maps, over all pictures.
    """

    def __init__(self, variance: float = 1.0, **settings: Any) -> None:
        super().__init__(**{"name": "distillation", **settings})
        self.variance = variance

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss ``[N]`` of maps ``[N, h, w, classes]`` against flat maps and one-hot labels."""
        wanted, labels = _parts(y_true, y_pred)
        logits, teacher = keras.ops.mean(y_pred, (1, 2)), keras.ops.mean(wanted, (1, 2))
        difference = keras.ops.mean(keras.ops.square(y_pred - wanted), axis=(1, 2, 3))
        scores = keras.ops.log_softmax(logits, axis=-1)
        wanted_scores = keras.ops.log_softmax(teacher, axis=-1)
        divergence = keras.ops.sum(keras.ops.exp(wanted_scores) * (wanted_scores - scores), axis=-1)
        crossentropy = -keras.ops.sum(labels * scores, axis=-1)
        return difference / self.variance + divergence + 0.1 * crossentropy

    def get_config(self) -> dict[str, Any]:
        """For Keras' saving."""
        return {**super().get_config(), "variance": self.variance}


@keras.saving.register_keras_serializable("xrayedge", name="accuracy_of_maps")  # type: ignore[untyped-decorator]
def map_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Share of right labels, for maps."""
    _, labels = _parts(y_true, y_pred)
    return keras.metrics.categorical_accuracy(labels, keras.ops.mean(y_pred, (1, 2)))


def _parts(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """The teacher's maps in the student's shape, and the labels."""
    shape = keras.ops.shape(y_pred)
    classes = y_pred.shape[-1]
    maps = keras.ops.reshape(y_true[:, :-classes], shape)
    return maps, y_true[:, -classes:]
