"""Losses: cross-entropy within a source, maps of opacities, distillation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

_FORBIDDEN = 1e4  # taken off a logit: its probability becomes zero


def targets(labels: NDArray[np.bool_], rivals: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The targets of `SourceAwareCrossentropy`.

    Parameters
    ----------
    labels
        ``bool [N, classes]``, the true class of each image.
    rivals
        ``bool [N, classes]``, the classes that the image's source has images of.

    Returns
    -------
    ``float32 [N, 2, classes]``: the one-hot label, then its rivals.
    """
    return np.stack([labels, rivals], axis=1).astype(np.float32)


@keras.saving.register_keras_serializable("xrayedge")
class SourceAwareCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """Cross-entropy, partly restricted to the classes that the image's source contains.

    If a hospital has only ill patients, its style predicts illness, and plain cross-entropy rewards
    a network that reads the style. Among the classes of one source the style says nothing, and the
    network has to learn from the lungs.

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


def map_loss_targets(
    classes: NDArray[np.float32],
    not_healthy: NDArray[np.float32],
    opacity: NDArray[np.float32],
    read: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The targets of `MapLoss`, one row for each image.

    Parameters
    ----------
    classes
        See `targets`; the one-hot label is all zeros for a label that is not a class.
    not_healthy
        ``float32 [N]``, weight of the loss on the probability of ``healthy``.
    opacity
        ``float32 [N, h, w]``, the share of each place that opacities cover; ``h`` and ``w`` may be
        0 for a network without that channel.
    read
        ``float32 [N]``, 1 where a radiologist has looked for opacities, else 0.
    """
    count = len(classes)
    parts = (classes, not_healthy, read, opacity)
    return np.concatenate([np.reshape(part, (count, -1)) for part in parts], axis=1, dtype="f4")


def unlabel(targets: NDArray[np.float32], row: int, classes: int) -> None:
    """Take everything that is known about one image out of `map_loss_targets`, in place."""
    targets[row, :classes] = 0.0
    targets[row, 2 * classes :] = 0.0  # the rivals between are no label


def label_columns(classes: int) -> int:
    """The number of columns of `map_loss_targets` before the map."""
    return 2 * classes + 2


@keras.saving.register_keras_serializable("xrayedge")
class MapLoss(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """The loss of an activation map: the class, ``healthy`` alone, and each place.

    The sum of `SourceAwareCrossentropy` of the scores; of -log(1 - p(healthy)) for images whose
    label is not a class but says that the patient is ill; and of the cross-entropy of the channel
    ``opacity``, the mean over places, where a radiologist has looked.

    Parameters
    ----------
    classes, healthy
        The number of classes, and the index of ``healthy`` (``None`` if there is no such class).
    opacity
        Weight of the last part; 0 for a network without that channel.
    share, label_smoothing
        See `SourceAwareCrossentropy`.
    """

    def __init__(
        self,
        classes: int,
        healthy: int | None,
        opacity: float,
        share: float = 0.0,
        label_smoothing: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(**{"name": "map_loss", **settings})
        self.classes = classes
        self.healthy = healthy
        self.opacity = opacity
        self._scores = SourceAwareCrossentropy(share, label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss ``[N]`` of maps ``[N, h, w, channels]`` against `map_loss_targets`."""
        ops, count = keras.ops, self.classes
        classes = ops.reshape(y_true[:, : 2 * count], (-1, 2, count))
        not_healthy, read = y_true[:, 2 * count], y_true[:, 2 * count + 1]
        logits = ops.mean(y_pred[..., :count], axis=(1, 2))
        labelled = ops.sum(classes[:, 0], axis=-1)
        loss = labelled * self._scores.call(classes, logits)
        if self.healthy is not None:
            others = [column for column in range(count) if column != self.healthy]
            ill = ops.logsumexp(ops.take(logits, others, axis=-1), axis=-1)
            loss = loss + not_healthy * (ops.logsumexp(logits, axis=-1) - ill)
        if self.opacity:
            found = y_pred[..., count]
            first = label_columns(count)
            places = found.shape[1] * found.shape[2]
            wanted = ops.reshape(y_true[:, first : first + places], ops.shape(found))
            # Of logits: log(1 + exp(x)) - x y.
            each = ops.softplus(found) - found * wanted
            loss = loss + self.opacity * read * ops.mean(each, axis=(1, 2))
        return loss

    def get_config(self) -> dict[str, Any]:
        """For Keras' saving."""
        return {
            **super().get_config(),
            "classes": self.classes,
            "healthy": self.healthy,
            "opacity": self.opacity,
            "share": self._scores.share,
            "label_smoothing": self._scores.label_smoothing,
        }


@keras.saving.register_keras_serializable("xrayedge")
class LabelledAccuracy(keras.metrics.Mean):  # type: ignore[misc]  # keras ships no types
    """Accuracy of maps, over the images whose label is a class.

    Parameters
    ----------
    classes
        The number of classes.
    """

    def __init__(self, classes: int, name: str = "accuracy", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.classes = classes

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch; ``sample_weight`` is not used."""
        labels = y_true[:, : self.classes]
        logits = keras.ops.mean(y_pred[..., : self.classes], axis=(1, 2))
        right = keras.metrics.categorical_accuracy(labels, logits)
        super().update_state(right, sample_weight=keras.ops.sum(labels, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """For Keras' saving."""
        return {**super().get_config(), "classes": self.classes}


@keras.saving.register_keras_serializable("xrayedge")
class Distillation(keras.losses.Loss):  # type: ignore[misc]  # keras ships no types
    """Distance of a student's maps and scores from its teacher's and from the labels.

    The sum of the maps' mean square difference, as a share of the teacher's variance; the
    divergence of the student's scores from the teacher's; and the weighted loss of the labels.

    Parameters
    ----------
    labels
        The loss of the labels.
    weight
        Its weight.
    variance
        Of the teacher's maps, over all images.
    """

    def __init__(
        self, labels: MapLoss, weight: float, variance: float = 1.0, **settings: Any
    ) -> None:
        super().__init__(**{"name": "distillation", **settings})
        self.labels = labels
        self.weight = weight
        self.variance = variance

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss ``[N]`` of maps ``[N, h, w, channels]`` against `map_loss_targets` and flat maps."""
        ops, classes = keras.ops, self.labels.classes
        values = y_pred.shape[1] * y_pred.shape[2] * y_pred.shape[3]
        wanted = ops.reshape(y_true[:, -values:], ops.shape(y_pred))
        scores = ops.log_softmax(ops.mean(y_pred[..., :classes], (1, 2)), axis=-1)
        teacher = ops.log_softmax(ops.mean(wanted[..., :classes], (1, 2)), axis=-1)
        difference = ops.mean(ops.square(y_pred - wanted), axis=(1, 2, 3))
        divergence = ops.sum(ops.exp(teacher) * (teacher - scores), axis=-1)
        taught = self.labels.call(y_true, y_pred)
        return difference / self.variance + divergence + self.weight * taught

    def get_config(self) -> dict[str, Any]:
        """For Keras' saving."""
        return {
            **super().get_config(),
            "labels": keras.saving.serialize_keras_object(self.labels),
            "weight": self.weight,
            "variance": self.variance,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Distillation:
        """For Keras' loading."""
        labels = keras.saving.deserialize_keras_object(config["labels"])
        return cls(**{**config, "labels": labels})
