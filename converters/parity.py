"""How a converted file compares with the Keras float model that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from xrayedge.bundle import Precision

from .outputs import Outputs

ROUNDS = 1000
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class ParitySet:
    """Labelled images and what the float model makes of them.

    Parameters
    ----------
    inputs
        ``uint8 [N, S, S, 1]``.
    labels
        ``int [N]``, indices of the true classes.
    groups
        ``int [N]``, a number for each patient; intervals resample patients.
    reference
        What the float model makes of them.
    """

    inputs: NDArray[np.uint8]
    labels: NDArray[np.int_]
    groups: NDArray[np.int_]
    reference: Outputs


@dataclass(frozen=True)
class Parity:
    """The comparison, over one set of images.

    Parameters
    ----------
    images
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
    opacity_largest_difference, opacity_mean_difference
        Of any one place's opacity score; ``None`` where the network has none.
    """

    images: int
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
    opacity_largest_difference: float | None = None
    opacity_mean_difference: float | None = None

    def to_dict(self) -> dict[str, float]:
        """The comparison for a manifest, without what the network does not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def sentence(self) -> str:
        """The comparison, for a person."""
        sentence = (
            f"float label on {self.agreement:.2%} of {self.images} images, scores differ by "
            f"{self.mean_difference:.4f} (at most {self.largest_difference:.4f}), accuracy "
            f"{self.accuracy:.4f} (loss {self.accuracy_loss:+.4f}, {self.accuracy_loss_low:+.4f} "
            f"to {self.accuracy_loss_high:+.4f}), macro AUC {self.macro_auc:.4f} (loss "
            f"{self.macro_auc_loss:+.4f}, {self.macro_auc_loss_low:+.4f} to "
            f"{self.macro_auc_loss_high:+.4f})"
        )
        if self.opacity_mean_difference is not None:
            sentence += (
                f", opacity scores differ by {self.opacity_mean_difference:.4f} "
                f"(at most {self.opacity_largest_difference:.4f})"
            )
        return sentence


@dataclass(frozen=True)
class Floor:
    """How close a file must come to the float model.

    Parameters
    ----------
    agreement
        Least share of images with the same label.
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


def compare(found: Outputs, images: ParitySet) -> Parity:
    """Compare a file's outputs with the float model's."""
    wanted, labels = images.reference, images.labels
    scores, reference = found.probabilities, wanted.probabilities
    difference = np.abs(scores - reference)
    losses = _bootstrap(scores, images)
    low, high = np.percentile(losses, _LEVEL, axis=0)
    accuracy, auc = _accuracy(scores, labels), macro_auc(scores, labels)
    opacity = None
    if found.opacity is not None and wanted.opacity is not None:
        opacity = np.abs(found.opacity - wanted.opacity)
    return Parity(
        images=len(labels),
        agreement=float((scores.argmax(axis=1) == reference.argmax(axis=1)).mean()),
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
        opacity_largest_difference=None if opacity is None else float(opacity.max()),
        opacity_mean_difference=None if opacity is None else float(opacity.mean()),
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


def _bootstrap(found: NDArray[np.float64], images: ParitySet) -> NDArray[np.float64]:
    """Losses of accuracy and macro AUC in resampled sets of patients, ``float64 [rounds, 2]``.

    Each round draws the same patients for both models, and every class of the whole set.
    """
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(images.groups == group) for group in np.unique(images.groups)]
    classes = len(np.unique(images.labels))
    losses: list[tuple[float, float]] = []
    while len(losses) < ROUNDS:
        index = np.concatenate(
            [members[one] for one in rng.integers(0, len(members), len(members))]
        )
        labels = images.labels[index]
        if len(np.unique(labels)) < classes:
            continue
        reference, other = images.reference.probabilities[index], found[index]
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
