"""How a converted file compares with the Keras float model that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from xrayedge.bundle import Precision
from xrayedge.engines import Engine
from xrayedge.scores import probabilities, softmax

ROUNDS = 1000
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class ParitySet:
    """Labelled pictures and what the float model makes of them.

    Parameters
    ----------
    inputs
        ``uint8 [N, S, S, 1]``.
    labels
        ``int [N]``, indices of the true classes.
    groups
        ``int [N]``, a number for each patient; intervals resample patients.
    reference
        The float model's probabilities, ``float64 [N, classes]``.
    """

    inputs: NDArray[np.uint8]
    labels: NDArray[np.int_]
    groups: NDArray[np.int_]
    reference: NDArray[np.float64]


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
    accuracy, macro_auc
        The file's own.
    accuracy_loss, macro_auc_loss
        The float model's figure less the file's, with the 95 % interval of a paired bootstrap
        over patients.
    """

    pictures: int
    agreement: float
    largest_difference: float
    mean_difference: float
    accuracy: float
    accuracy_loss: float
    accuracy_loss_low: float
    accuracy_loss_high: float
    macro_auc: float
    macro_auc_loss: float
    macro_auc_loss_low: float
    macro_auc_loss_high: float

    def sentence(self) -> str:
        """The comparison, for a person."""
        return (
            f"float label on {self.agreement:.2%} of {self.pictures} pictures, scores differ by "
            f"{self.mean_difference:.4f} (at most {self.largest_difference:.4f}), accuracy "
            f"{self.accuracy:.4f} (loss {self.accuracy_loss:+.4f}, {self.accuracy_loss_low:+.4f} "
            f"to {self.accuracy_loss_high:+.4f}), macro AUC {self.macro_auc:.4f} (loss "
            f"{self.macro_auc_loss:+.4f}, {self.macro_auc_loss_low:+.4f} to "
            f"{self.macro_auc_loss_high:+.4f})"
        )


@dataclass(frozen=True)
class Floor:
    """How close a file must come to the float model.

    Parameters
    ----------
    agreement
        Least share of pictures with the same label.
    loss
        Largest loss of accuracy, and of macro AUC.
    """

    agreement: float
    loss: float

    def misses(self, parity: Parity) -> list[str]:
        """What of a comparison is not good enough, for a person; empty where all is."""
        found = []
        if parity.agreement < self.agreement:
            found.append(f"agreement {parity.agreement:.2%} is under {self.agreement:.1%}")
        if parity.accuracy_loss > self.loss:
            found.append(f"accuracy loss {parity.accuracy_loss:.4f} is over {self.loss}")
        if parity.macro_auc_loss > self.loss:
            found.append(f"macro AUC loss {parity.macro_auc_loss:.4f} is over {self.loss}")
        return found


FLOORS: dict[Precision, Floor] = {
    "float32": Floor(agreement=0.999, loss=0.005),
    "float16": Floor(agreement=0.999, loss=0.005),
    "dynamic": Floor(agreement=0.99, loss=0.005),
    "int8": Floor(agreement=0.99, loss=0.005),
}


def float_probabilities(
    model: keras.Model, inputs: NDArray[np.uint8], temperature: float
) -> NDArray[np.float64]:
    """The Keras model's probabilities, ``float64 [N, classes]``, of ``uint8 [N, S, S, 1]``."""
    return softmax(np.asarray(model.predict(inputs, batch_size=16, verbose=0)) / temperature)


def engine_probabilities(
    engine: Engine, inputs: NDArray[np.uint8], temperature: float
) -> NDArray[np.float64]:
    """A loaded file's probabilities, ``float64 [N, classes]``, of ``uint8 [N, S, S, 1]``."""
    maps = np.concatenate([engine.run(one) for one in inputs[:, np.newaxis]])
    return probabilities(maps, temperature)


def compare(found: NDArray[np.float64], pictures: ParitySet) -> Parity:
    """Compare a file's probabilities, ``float64 [N, classes]``, with the float model's."""
    reference, labels = pictures.reference, pictures.labels
    difference = np.abs(found - reference)
    losses = _bootstrap(found, pictures)
    low, high = np.percentile(losses, _LEVEL, axis=0)
    accuracy, auc = _accuracy(found, labels), macro_auc(found, labels)
    return Parity(
        pictures=len(labels),
        agreement=float((found.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        accuracy=accuracy,
        accuracy_loss=_accuracy(reference, labels) - accuracy,
        accuracy_loss_low=float(low[0]),
        accuracy_loss_high=float(high[0]),
        macro_auc=auc,
        macro_auc_loss=macro_auc(reference, labels) - auc,
        macro_auc_loss_low=float(low[1]),
        macro_auc_loss_high=float(high[1]),
    )


def macro_auc(scores: NDArray[np.float64], labels: NDArray[np.int_]) -> float:
    """Mean over the classes in ``labels`` of one-against-the-rest AUC, by rank sums.

    scikit-learn's figure, twenty times as fast: the bootstrap asks for it thousands of times.
    """
    present = np.unique(labels)
    ranks = rankdata(scores[:, present], axis=0)
    positive = labels[:, np.newaxis] == present
    counts = positive.sum(axis=0)
    sums = (ranks * positive).sum(axis=0) - counts * (counts + 1) / 2
    return float((sums / (counts * (len(labels) - counts))).mean())


def _accuracy(scores: NDArray[np.float64], labels: NDArray[np.int_]) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


def _bootstrap(found: NDArray[np.float64], pictures: ParitySet) -> NDArray[np.float64]:
    """Losses of accuracy and macro AUC in resampled sets of patients, ``float64 [rounds, 2]``.

    Each round draws the same patients for both models, and every class of the whole set.
    """
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(pictures.groups == group) for group in np.unique(pictures.groups)]
    classes = len(np.unique(pictures.labels))
    losses: list[tuple[float, float]] = []
    while len(losses) < ROUNDS:
        index = np.concatenate(
            [members[one] for one in rng.integers(0, len(members), len(members))]
        )
        labels = pictures.labels[index]
        if len(np.unique(labels)) < classes:
            continue
        reference, other = pictures.reference[index], found[index]
        losses.append(
            (
                _accuracy(reference, labels) - _accuracy(other, labels),
                macro_auc(reference, labels) - macro_auc(other, labels),
            )
        )
    return np.asarray(losses)


def groups(names: Sequence[str]) -> NDArray[np.int_]:
    """A number for each patient, ``int [N]``."""
    return np.unique(np.asarray(names), return_inverse=True)[1]
