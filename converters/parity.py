"""How a converted file compares with the Keras float model that it was made from."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from xrayedge import evaluation
from xrayedge.bundle import Precision

from .outputs import Outputs

#: Two probabilities that are closer than this are equal, as far as a label is concerned. On a few
#: images in a thousand not even float16 keeps the float model's label, at a difference of 0.001.
TIE = 0.01


@dataclass(frozen=True, eq=False)
class ParitySet:
    """Labelled images and the float model's outputs for them.

    Parameters
    ----------
    inputs
        ``uint8 [N, S, S, 1]``.
    labels
        ``int [N]``, indices of the true classes.
    groups
        ``int [N]``, a number for each patient; intervals resample patients.
    reference
        The float model's outputs.
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
        Number of images compared.
    agreement
        Share with the same most probable class.
    ties
        Share with another one, but where the float model gives both classes the same probability
        to within `TIE`.
    largest_difference, mean_difference
        Over all probabilities.
    accuracy, macro_auc
        The file's own.
    accuracy_loss, macro_auc_loss
        The float model's metric less the file's, with the 95 % interval of a paired bootstrap
        over patients.
    opacity_largest_difference, opacity_mean_difference
        Over the opacity scores of all places; ``None`` where the network has none.
    """

    images: int
    agreement: float
    ties: float
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
        """The comparison for a manifest, without the fields that do not apply to the network."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def sentence(self) -> str:
        """Describe the comparison in one sentence."""
        sentence = (
            f"float label on {self.agreement:.2%} of {self.images} images (another one in a tie on "
            f"{self.ties:.2%}), scores differ by "
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
        Least share of images with the same label or a tie.
    loss
        Largest loss of accuracy, and of macro AUC, in shares of 1.
    """

    agreement: float
    loss: float

    def misses(self, parity: Parity) -> list[str]:
        """Describe each requirement that is missed; empty if all are met."""
        found = []
        agreement = parity.agreement + parity.ties
        if agreement < self.agreement:
            found.append(f"agreement {agreement:.2%}, with ties, is under {self.agreement:.1%}")
        if not parity.accuracy_loss <= self.loss:  # also where it is NaN
            found.append(f"accuracy loss {parity.accuracy_loss:.4f} is over {self.loss}")
        if not parity.macro_auc_loss <= self.loss:
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

    def statistic(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        metrics = {"accuracy": evaluation.accuracy, "macro_auc": evaluation.macro_auc}
        own = {name: metric(labels, scores, weights) for name, metric in metrics.items()}
        lost = {
            f"{name}_loss": metric(labels, reference, weights) - own[name]
            for name, metric in metrics.items()
        }
        return own | lost

    compared = evaluation.intervals(statistic, images.groups)
    accuracy_loss, macro_auc_loss = compared["accuracy_loss"], compared["macro_auc_loss"]
    label, wanted_label = scores.argmax(axis=1), reference.argmax(axis=1)
    rows = np.arange(len(labels))
    tied = reference[rows, wanted_label] - reference[rows, label] < TIE
    opacity = None
    if found.opacity is not None and wanted.opacity is not None:
        opacity = np.abs(found.opacity - wanted.opacity)
    return Parity(
        images=len(labels),
        agreement=float((label == wanted_label).mean()),
        ties=float((tied & (label != wanted_label)).mean()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        accuracy=compared["accuracy"].value,
        accuracy_loss=accuracy_loss.value,
        accuracy_loss_low=accuracy_loss.low,
        accuracy_loss_high=accuracy_loss.high,
        macro_auc=compared["macro_auc"].value,
        macro_auc_loss=macro_auc_loss.value,
        macro_auc_loss_low=macro_auc_loss.low,
        macro_auc_loss_high=macro_auc_loss.high,
        opacity_largest_difference=None if opacity is None else float(opacity.max()),
        opacity_mean_difference=None if opacity is None else float(opacity.mean()),
    )
