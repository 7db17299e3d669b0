"""Named recipes: everything that decides how a model is trained, in one frozen value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..preprocessing import Preprocessing
from .augmentation import Augmentation


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one learning rate schedule.

    Parameters
    ----------
    epochs
        Passes over as many pictures as the training split holds.
    learning_rate
        Peak rate; it falls to zero along half a cosine after a short warm-up.
    first_block
        The lowest block that learns, 1 to 5; ``None`` trains the head alone.
    """

    epochs: int
    learning_rate: float
    first_block: int | None


@dataclass(frozen=True)
class Recipe:
    """How to train one model.

    Parameters
    ----------
    name
        The recipe's own name.
    architecture
        A key of `network.ARCHITECTURES`.
    preprocessing
        What turns a picture into the network's input; the model carries it to the device.
    augmentation
        Variation of the training pictures.
    phases
        Stretches of training, one after another.
    batch_size
        Pictures per step.
    weight_decay
        AdamW's (Loshchilov & Hutter 2019).
    label_smoothing, dropout
        Regularisation of the scores and of the last features.
    source_balance
        Exponent on the number of pictures when a class's sources are drawn from: 1 draws them as
        they come, 0 equally often. Classes are always drawn equally often.
    turned_label
        Set by the frontal check: pictures of this class also appear turned, as a class ``turned``,
        and inverted, as ``inverted``; drawn pictures join as ``artificial``; every other picture
        is shown any way up.
    precision
        Keras' dtype policy while training; the saved model is always float32.
    seed
        Seeds weights, order and augmentation.
    """

    name: str
    architecture: str
    preprocessing: Preprocessing
    phases: tuple[Phase, ...]
    augmentation: Augmentation = field(default_factory=Augmentation)
    batch_size: int = 16
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    dropout: float = 0.0
    source_balance: float = 0.5
    turned_label: str | None = None
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    seed: int = 0

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Rebuild from :meth:`to_dict`."""
        return cls(
            **{
                **values,
                "preprocessing": Preprocessing.from_dict(values["preprocessing"]),
                "augmentation": Augmentation(**values["augmentation"]),
                "phases": tuple(Phase(**phase) for phase in values["phases"]),
            }
        )


RECIPES = {
    "vgg16": Recipe(
        name="vgg16",
        architecture="vgg16",
        preprocessing=Preprocessing(size=224, fit="stretch", equalisation="clahe"),
        phases=(
            Phase(epochs=1, learning_rate=1e-3, first_block=None),
            Phase(epochs=15, learning_rate=7e-5, first_block=3),
        ),
        augmentation=Augmentation(blur=0.25, erase=0.2, stretch=0.08),
        dropout=0.2,
        source_balance=1.0,
    ),
    "frontal": Recipe(
        name="frontal",
        architecture="frontal",
        preprocessing=Preprocessing(size=96, fit="pad", equalisation="none"),
        phases=(Phase(epochs=100, learning_rate=2e-3, first_block=1),),
        augmentation=Augmentation(
            rotation=12.0, zoom=0.2, shift=0.08, stretch=0.2, gamma=0.6, collimate=0.4
        ),
        batch_size=32,
        turned_label="frontal",
    ),
}
