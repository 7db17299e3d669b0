"""The network: its map and its ImageNet weights."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("sklearn")

from xrayedge.errors import RunError
from xrayedge.training import network


def test_the_mean_of_the_map_is_the_logit():
    model = network.build(network.ARCHITECTURES["frontal"], size=96, classes=3)
    inputs = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 1), np.uint8)
    maps = np.asarray(network.activation_map_model(model)(inputs))
    assert maps.shape == (2, 3, 3, 3)
    assert np.allclose(maps.mean(axis=(1, 2)), np.asarray(model(inputs)), atol=1e-5)


def test_grey_imagenet_weights_equal_the_colour_network_inside_the_image(tmp_path):
    """block1_conv1 of the grey network against Keras' own three-channel preprocessing."""
    rng = np.random.default_rng(0)
    weights = {}
    channels = 3
    for block, widths in enumerate(network.ARCHITECTURES["vgg16"].blocks, start=1):
        for conv, width in enumerate(widths, start=1):
            name = f"block{block}_conv{conv}"
            shape = (3, 3, channels, width)
            weights[f"{name}/kernel"] = rng.normal(0, 0.01, shape).astype(np.float32)
            weights[f"{name}/bias"] = rng.normal(0, 0.01, width).astype(np.float32)
            channels = width
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    model = network.build(network.ARCHITECTURES["vgg16"], size=224, classes=3)
    network.load_imagenet(model, path)
    grey = rng.integers(0, 256, (1, 224, 224, 1), np.uint8)
    first = keras.Model(model.inputs[0], model.get_layer("block1_conv1").output)
    found = np.asarray(first(grey))
    colour = keras.applications.vgg16.preprocess_input(
        np.repeat(grey, 3, axis=3).astype(np.float32)
    )
    reference = keras.layers.Conv2D(64, 3, padding="same", activation="relu")
    reference.build((1, 224, 224, 3))
    reference.set_weights([weights["block1_conv1/kernel"], weights["block1_conv1/bias"]])
    expected = np.asarray(reference(colour))
    assert np.allclose(found[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-3)
    assert not np.any(model(grey)), "the head favours a class before it has learnt anything"


def test_a_file_that_holds_no_weights_is_one_clear_error(tmp_path):
    model = network.build(network.ARCHITECTURES["vgg16"], size=224, classes=3)
    path = tmp_path / "weights.npz"
    path.write_text("no weights")
    with pytest.raises(RunError, match="weights"):
        network.load_imagenet(model, path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(RunError, match="block1_conv1/kernel"):
        network.load_imagenet(model, path)
