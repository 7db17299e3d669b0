"""The networks: plain chains of 3x3 convolutions in the manner of VGG (Simonyan & Zisserman 2014).

Input ``uint8 [N, S, S, 1]``; output logits ``float32 [N, classes]``, the mean over a map with one
channel for each class. That equals global average pooling and a dense layer, and the map is the
class activation map (Zhou et al. 2016), so an explanation costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import RunError

#: What Keras' VGG16 weights subtract from blue, green and red (ImageNet's means, 0-255).
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
_GREY_MEAN = sum(IMAGENET_MEAN_BGR) / len(IMAGENET_MEAN_BGR)

MAP_LAYER = "activation_map"

_RARE = -2.0  # logit

_PLACES = 60  # of each image, for `patches`
_BATCH = 8


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set Keras' dtype policy inside a ``with`` block; the previous one returns at its end."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@dataclass(frozen=True)
class Architecture:
    """A chain of blocks: 3x3 convolutions with ReLU, then 2x2 max pooling.

    Parameters
    ----------
    blocks
        The widths of each block's convolutions.
    input_scale
        Factor on the grey values after the mean is subtracted.
    imagenet
        Whether training starts from VGG16's ImageNet weights (the widths must be VGG16's).
    pool_last
        Whether the last block ends with pooling too.
    half_side
        The key of the architecture for inputs of half the side whose map has the same size.
    reach
        Side of the last convolution's kernel. At the side of its input there is one place.
    """

    blocks: tuple[tuple[int, ...], ...]
    input_scale: float
    imagenet: bool
    pool_last: bool = True
    half_side: str | None = None
    reach: int = 1


_VGG16 = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)

ARCHITECTURES = {
    "vgg16": Architecture(
        blocks=_VGG16, input_scale=1.0, imagenet=True, half_side="vgg16-half-side"
    ),
    "vgg16-half-side": Architecture(blocks=_VGG16, input_scale=1.0, imagenet=True, pool_last=False),
    # 11 million multiply-accumulates at 96 pixels: a small fraction of a classifier's.
    "frontal": Architecture(
        blocks=((8,), (16,), (32,), (64,), (96,)),
        input_scale=1.0 / 64.0,
        imagenet=False,
    ),
    # 30 million at 96 pixels, where its last convolution sees the whole image at once.
    "lungs": Architecture(
        blocks=((16,), (32,), (64,), (96,)),
        input_scale=1.0 / 64.0,
        imagenet=False,
        reach=6,
    ),
}


def without_last_pooling(architecture: str) -> str:
    """The key of the architecture that leaves out the last pooling of another one.

    Raises
    ------
    RunError
        There is none.
    """
    key = ARCHITECTURES[architecture].half_side
    if key is None:
        raise RunError(
            f"there is no {architecture} for inputs of half the side, with no last pooling"
        )
    return key


@keras.saving.register_keras_serializable("xrayedge")
class ClassChannels(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """The map's first channels, one for each class, which are averaged into the scores."""

    def __init__(self, classes: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.classes = classes

    def call(self, inputs: Any) -> Any:
        """``float32 [N, h, w, classes + 1]`` to ``float32 [N, h, w, classes]``."""
        return inputs[..., : self.classes]

    def get_config(self) -> dict[str, Any]:
        """For Keras' saving."""
        return {**super().get_config(), "classes": self.classes}


def build(
    architecture: Architecture,
    size: int,
    classes: int,
    dropout: float = 0.0,
    *,
    opacity: bool = False,
) -> keras.Model:
    """Build the network for square inputs of ``size`` pixels, untrained.

    Layers are named ``block1_conv1`` ... as in Keras' VGG16, then ``activation_map`` (a convolution
    to one channel for each class, and with ``opacity`` one more: the logit that a place lies in an
    opacity) and ``logits``, the mean over the map of each class's channel.
    """
    inputs = keras.Input((size, size, 1), dtype="uint8", name="image")
    scale = architecture.input_scale
    x = keras.layers.Rescaling(
        scale, offset=-_GREY_MEAN * scale, dtype="float32", name="normalise"
    )(inputs)
    for block, widths in enumerate(architecture.blocks, start=1):
        for conv, width in enumerate(widths, start=1):
            x = keras.layers.Conv2D(
                width,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"block{block}_conv{conv}",
            )(x)
        if architecture.pool_last or block < len(architecture.blocks):
            x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, name="dropout")(x)
    channels = classes + 1 if opacity else classes
    x = keras.layers.Conv2D(channels, architecture.reach, dtype="float32", name=MAP_LAYER)(x)
    if opacity:
        x = ClassChannels(classes, dtype="float32", name="class_channels")(x)
    outputs = keras.layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs)


def split(model: keras.Model, first_block: int) -> tuple[keras.Model, keras.Model]:
    """Split the network before a block, 1 to 6, into two; block 6 stands for the head.

    Both parts share their layers, and so their weights, with ``model``.
    """
    names = [layer.name for layer in model.layers]
    below_it = "normalise" if first_block == 1 else f"block{first_block - 1}_"
    last_below = [name for name in names if name.startswith(below_it)][-1]
    below = keras.Model(model.inputs[0], model.get_layer(last_below).output)
    inputs = keras.Input(below.output.shape[1:], name="features")
    x = inputs
    for layer in model.layers[names.index(last_below) + 1 :]:
        x = layer(x)
    return below, keras.Model(inputs, x)


def activation_map_model(model: keras.Model) -> keras.Model:
    """The network up to its map ``float32 [N, h, w, channels]``, which is what a device runs."""
    return keras.Model(model.inputs[0], model.get_layer(MAP_LAYER).output)


def patches(model: keras.Model, name: str, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The inputs of a convolution at some places of each image: ``float32 [N, reach² C]``.

    The same places for every network, so that rows can be compared.
    """
    layer = model.get_layer(name)
    below = keras.Model(model.inputs[0], layer.input)
    batches = (
        below.predict_on_batch(inputs[start : start + _BATCH])
        for start in range(0, len(inputs), _BATCH)
    )
    return sample_patches(batches, layer.kernel_size[0])


def sample_patches(batches: Iterable[NDArray[np.float32]], reach: int) -> NDArray[np.float32]:
    """The `patches` of a layer whose inputs are known: batches of ``float32 [n, h, w, C]``."""
    margin = reach // 2
    rng = np.random.default_rng(0)
    found = []
    for maps in batches:
        padded = np.pad(maps, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        # One array for each batch: the memory of many small ones is not returned to the system.
        rows = np.empty((len(maps) * _PLACES, reach * reach * maps.shape[3]), maps.dtype)
        for number, image in enumerate(padded):
            tops = rng.integers(0, maps.shape[1], _PLACES)
            lefts = rng.integers(0, maps.shape[2], _PLACES)
            for row, (top, left) in enumerate(zip(tops, lefts, strict=True), number * _PLACES):
                rows[row] = image[top : top + reach, left : left + reach].ravel()
        found.append(rows)
    return np.concatenate(found)


def adopt(model: keras.Model, parent: keras.Model) -> None:
    """Take over the weights of a network of the same widths, for inputs of any size.

    If the parent has no channel of opacities, the channel starts without evidence, at a probability
    of one place in eight.
    """
    for layer in model.layers:
        values = layer.get_weights()
        if not values:
            continue
        known = parent.get_layer(layer.name).get_weights()
        if layer.name == MAP_LAYER and known[1].size == values[1].size - 1:
            kernel = np.concatenate([known[0], np.zeros_like(known[0][..., :1])], axis=-1)
            known = [kernel, np.append(known[1], np.float32(_RARE))]
        layer.set_weights(known)


def load_imagenet(model: keras.Model, weights: Path | None) -> None:
    """Fill the convolutions with VGG16's ImageNet weights, its first layer summed to one channel.

    The mean that the original subtracts differs by channel; here one grey mean is subtracted and
    the difference moves into the first bias. That is exact except for the outermost pixel row,
    where zero padding stands for the channel's mean.

    The head starts at zero: ImageNet's features are large, and a random head's response to them
    takes hundreds of steps to unlearn.

    Parameters
    ----------
    weights
        An ``.npz`` with ``block1_conv1/kernel`` (HWIO) ... ``block5_conv3/bias``; without one
        Keras downloads its own.
    """
    values = _read_npz(weights) if weights else _keras_weights()
    for layer in model.layers:
        if not layer.name.startswith("block") or "conv" not in layer.name:
            continue
        try:
            kernel, bias = values[f"{layer.name}/kernel"], values[f"{layer.name}/bias"]
        except KeyError as error:
            raise RunError(f"{weights}: no array {error}; expected VGG16's 13 layers") from error
        if layer.name == "block1_conv1":
            kernel, bias = _to_grey_input(kernel, bias)
        layer.set_weights([kernel, bias])
    head = model.get_layer(MAP_LAYER)
    head.set_weights([np.zeros_like(value) for value in head.get_weights()])


def _to_grey_input(
    kernel: NDArray[np.float32], bias: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shift = _GREY_MEAN - np.asarray(IMAGENET_MEAN_BGR, np.float32)
    return kernel.sum(axis=2, keepdims=True), bias + np.einsum("hwio,i->o", kernel, shift)


def _read_npz(weights: Path) -> dict[str, NDArray[np.float32]]:
    try:
        with np.load(weights, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise RunError(f"{weights}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{weights}: not a weights file in .npz format") from error


def _keras_weights() -> dict[str, NDArray[np.float32]]:
    try:
        original = keras.applications.VGG16(weights="imagenet", include_top=False)
    except Exception as error:  # Keras raises a bare Exception when the download fails
        raise RunError(
            "VGG16's ImageNet weights can't be downloaded; give a local .npz with --weights"
        ) from error
    return {
        f"{layer.name}/{part}": value
        for layer in original.layers
        for part, value in zip(("kernel", "bias"), layer.get_weights(), strict=False)
    }
