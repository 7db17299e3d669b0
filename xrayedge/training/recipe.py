"""Named recipes: everything that determines how a model is trained, in one frozen value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..preprocessing import Equalisation, Preprocessing
from .augmentation import Augmentation

#: Weight of a loss that keeps a channel in the network without training it.
UNTAUGHT = 1e-6


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one learning rate schedule.

    Parameters
    ----------
    epochs
        Passes over as many images as the training split holds.
    learning_rate
        The highest rate.
    first_block
        The lowest block that learns, 1 to 5; ``None`` trains the head alone.
    decay
        ``cosine``: after a short warm-up the rate falls to zero along half a cosine.
        ``inverse_time``: after n steps it is divided by 1 + n * learning_rate / epochs, as in
        Civit-Masot et al. 2020.
    """

    epochs: int
    learning_rate: float
    first_block: int | None
    decay: Literal["cosine", "inverse_time"] = "cosine"


@dataclass(frozen=True)
class Recipe:
    """How to train one model.

    Parameters
    ----------
    name
        The recipe's own name.
    architecture
        A key of `network.ARCHITECTURES`.
    widths
        Of each block's convolutions, if `pruning` has removed channels; ``None`` for the
        architecture's own.
    preprocessing
        How an image becomes the network's input; the model carries it to the device.
    augmentation
        Augmentation of the training images. With ``None``, the output of the layers that never
        learn is computed once for each image.
    phases
        Stretches of training, one after another.
    batch_size
        Images per step.
    weight_decay
        AdamW's (Loshchilov & Hutter 2019).
    label_smoothing, dropout
        Regularisation of the scores and of the last features.
    source_balance
        Exponent on the number of images when a class's sources are drawn from: 1 draws them in
        proportion, 0 equally often. Classes are always drawn equally often.
    within_source
        Share of the loss that compares an image's class only with the other classes of its own
        source; see `losses.SourceAwareCrossentropy`.
    turned_label
        Set by the frontal check: images of this class also appear turned, as a class ``turned``,
        and inverted, as ``inverted``; drawn images join as ``artificial``; every other image
        is shown any way up.
    keep
        Which epoch's model is the result: the ``best`` on `val`, or the ``last``, for which no
        `val` is needed.
    opacity
        Weight of the loss of the channel ``opacity``, learnt from radiologists' boxes; 0 builds a
        network without that channel.
    not_healthy
        Weight of the loss on the probability of ``healthy`` for each label that is not a class but
        says that the patient is ill (`data.NON_CLASSES`); labels not named here are left out.
    set_balance
        Exponent on the number of images when a set of the data is drawn: 1 draws sets in
        proportion, 0 equally often. Within a set, classes are drawn by the square root of their
        number, so that a set of one class does not decide how often other classes are seen.
        ``None`` draws classes equally often and ignores sets.
    clip_norm
        Largest norm of the gradient; a network without batch normalisation dies of a single
        larger step.
    precision
        Keras' dtype policy while training; the saved model is always float32.
    seed
        Seeds weights, order and augmentation.
    """

    name: str
    architecture: str
    preprocessing: Preprocessing
    phases: tuple[Phase, ...]
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    batch_size: int = 16
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    dropout: float = 0.0
    source_balance: float = 0.5
    within_source: float = 0.0
    opacity: float = 0.0
    not_healthy: dict[str, float] = field(default_factory=dict)
    set_balance: float | None = None
    clip_norm: float | None = None
    turned_label: str | None = None
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    seed: int = 0
    widths: tuple[tuple[int, ...], ...] | None = None

    @property
    def learns_maps(self) -> bool:
        """Whether the loss uses the activation map and labels that are not classes."""
        return self.opacity > 0.0 or bool(self.not_healthy)

    @property
    def finds_lungs(self) -> bool:
        """Whether it makes the network that frames the lungs; see `training.lungs`."""
        return self.architecture == "lungs"

    @property
    def uses_non_classes(self) -> bool:
        """Whether it learns from images whose label is not a class."""
        return bool(self.not_healthy) or self.finds_lungs

    @property
    def epochs(self) -> int:
        """The number of epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return asdict(self)

    def for_network_of(self, other: Recipe) -> Recipe:
        """The recipe with another's network and preprocessing, to continue training its model."""
        return replace(
            self,
            architecture=other.architecture,
            widths=other.widths,
            preprocessing=other.preprocessing,
        )

    def adjusted(
        self,
        *,
        size: int | None = None,
        equalisation: Equalisation | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
    ) -> Recipe:
        """The recipe with another input, and other epochs or rate in its last phase."""
        *earlier, last = self.phases
        last = replace(
            last,
            epochs=epochs or last.epochs,
            learning_rate=learning_rate or last.learning_rate,
        )
        preprocessing = replace(
            self.preprocessing,
            size=size or self.preprocessing.size,
            equalisation=equalisation or self.preprocessing.equalisation,
        )
        return replace(self, phases=(*earlier, last), preprocessing=preprocessing)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Rebuild from :meth:`to_dict`."""
        augmentation = values["augmentation"]
        return cls(
            **{
                **values,
                "preprocessing": Preprocessing.from_dict(values["preprocessing"]),
                "augmentation": augmentation and Augmentation(**augmentation),
                "widths": _tuples(values.get("widths")),
                "phases": tuple(Phase(**phase) for phase in values["phases"]),
            }
        )


def _tuples(widths: list[list[int]] | None) -> tuple[tuple[int, ...], ...] | None:
    return None if widths is None else tuple(tuple(block) for block in widths)


def _of_the_paper(equalisation: Equalisation) -> Recipe:
    """Civit-Masot et al. 2020: a frozen VGG16, Adam at 0.001 with decay, batch 32, 40 epochs."""
    return Recipe(
        name="paper-original" if equalisation == "none" else "paper-equalised",
        architecture="vgg16",
        preprocessing=Preprocessing(size=224, fit="stretch", equalisation=equalisation),
        phases=(Phase(40, learning_rate=1e-3, first_block=None, decay="inverse_time"),),
        augmentation=None,
        batch_size=32,
        weight_decay=0.0,
        label_smoothing=0.0,
        source_balance=1.0,
        keep="last",
    )


#: Varies everything in an image that depends on the hospital, except the lungs.
ROBUST = Augmentation(
    zoom=0.15,
    gamma=0.5,
    blur=0.3,
    erase=0.2,
    text=0.4,
    collimate=0.25,
    style=0.4,
    border=0.4,
    texture=0.5,
    detail=0.1,
    noise=0.02,
)

#: Where the data hold many hospitals already.
_PLAIN = Augmentation(blur=0.2, erase=0.1, lung_crop=0.2)

#: In part what `ROBUST` varies.
_VARIED = replace(_PLAIN, zoom=0.15, gamma=0.5, style=0.4, border=0.2, texture=0.3)

#: Starts from a run or bundle of any classifier: learns from many hospitals at once, including
#: where opacities are and that a patient with another disease is not healthy. The augmentation is
#: the plain one: with `ROBUST` the network learns more slowly and tells less apart.
_HOSPITALS = Recipe(
    name="hospitals",
    architecture="vgg16",
    preprocessing=Preprocessing(size=224, fit="stretch", equalisation="clahe"),
    phases=(Phase(epochs=12, learning_rate=5e-4, first_block=1),),
    augmentation=_PLAIN,
    batch_size=32,
    within_source=0.5,
    opacity=1.0,
    not_healthy={"indeterminate": 1.0, "other": 0.5},
    set_balance=0.75,
    clip_norm=1.0,
    keep="last",
)

RECIPES = {
    "paper-original": _of_the_paper("none"),
    "paper-equalised": _of_the_paper("global"),
    "vgg16": Recipe(
        name="vgg16",
        architecture="vgg16",
        preprocessing=Preprocessing(size=224, fit="stretch", equalisation="clahe"),
        phases=(
            Phase(epochs=2, learning_rate=1e-3, first_block=None),
            Phase(epochs=14, learning_rate=3e-5, first_block=3),
        ),
        dropout=0.2,
    ),
    # Starts from a run of `vgg16`: unlearns cues from borders, text, film and sharpness.
    "vgg16-robust": Recipe(
        name="vgg16-robust",
        architecture="vgg16",
        preprocessing=Preprocessing(size=224, fit="stretch", equalisation="clahe"),
        phases=(Phase(epochs=18, learning_rate=8e-5, first_block=3),),
        augmentation=ROBUST,
        dropout=0.2,
        source_balance=1.0,
        keep="last",
    ),
    "hospitals": _HOSPITALS,
    # Starts from a run of `hospitals`: two epochs in which film, borders and sharpness vary. What
    # that brings, and costs, differs between hospitals: docs/hospitals.md.
    "hospitals-fine": replace(
        _HOSPITALS,
        name="hospitals-fine",
        phases=(Phase(epochs=2, learning_rate=2e-4, first_block=1),),
        augmentation=_VARIED,
    ),
    # Starts from a bundle, on a few hundred images of one hospital. Without augmentation the lower
    # blocks' output is computed once per image, so an epoch costs next to nothing.
    "own-hospital": replace(
        _HOSPITALS,
        name="own-hospital",
        phases=(Phase(epochs=12, learning_rate=3e-4, first_block=5),),
        augmentation=None,
        batch_size=16,
        within_source=0.0,
        not_healthy={"indeterminate": 1.0, "other": 1.0},
        set_balance=None,
        keep="best",
    ),
    # For a whole VGG16, whose first three blocks stay frozen.
    "vgg16-hospitals": replace(
        _HOSPITALS,
        name="vgg16-hospitals",
        phases=(Phase(epochs=5, learning_rate=1e-4, first_block=4),),
        dropout=0.2,
    ),
    # Frames the lungs; `docs/hospitals.md` has what that is for.
    "lungs": Recipe(
        name="lungs",
        architecture="lungs",
        preprocessing=Preprocessing(size=96, fit="stretch", equalisation="clahe"),
        phases=(Phase(epochs=60, learning_rate=1e-3, first_block=1),),
        augmentation=Augmentation(
            rotation=10.0,
            zoom=0.25,
            shift=0.12,
            stretch=0.25,
            gamma=0.5,
            blur=0.3,
            erase=0.15,
            text=0.4,
            collimate=0.25,
            style=0.4,
            texture=0.5,
            detail=0.1,
            noise=0.02,
        ),
        batch_size=64,
        dropout=0.2,
        set_balance=0.75,
        clip_norm=1.0,
        keep="last",
    ),
    # Exposure varies more than for a classifier: a radiograph without a window may be nearly black.
    "frontal": Recipe(
        name="frontal",
        architecture="frontal",
        preprocessing=Preprocessing(size=96, fit="pad", equalisation="none"),
        phases=(Phase(epochs=100, learning_rate=2e-3, first_block=1),),
        augmentation=Augmentation(
            rotation=12.0,
            zoom=0.2,
            shift=0.08,
            stretch=0.2,
            gamma=0.6,
            contrast=0.6,
            brightness=0.25,
            collimate=0.4,
        ),
        batch_size=32,
        turned_label="frontal",
    ),
}
