"""How a network becomes one that int8 represents well."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from xrayedge.converters import calibration_set, equalisation, layer_noise, ranges, rounding
from xrayedge.data import Sample
from xrayedge.errors import ConversionError
from xrayedge.preprocessing import Preprocessing


def test_calibration_takes_training_images_of_every_class_and_source(data):
    samples = [
        Sample(path, path.parent.name, "train", str(path), source=str(index % 3))
        for index, path in enumerate(sorted(data.parent.rglob("*.png")))
    ]
    preprocessing = Preprocessing(32, equalisation="none")
    chosen = calibration_set.choose(samples, preprocessing, images=6)
    again = calibration_set.choose(samples, preprocessing, images=6)
    other = calibration_set.choose(samples, preprocessing, images=6, seed=1)
    assert chosen.inputs.shape == (6, 32, 32, 1)
    assert chosen.digest == again.digest != other.digest
    with pytest.raises(ConversionError, match="training split"):
        calibration_set.choose([replace(samples[0], split="test")], preprocessing)


def test_equalisation_changes_ranges_and_not_the_model(model, chosen):
    equalised = equalisation.equalise(model, chosen)
    before, after = (one.predict(chosen.inputs, verbose=0) for one in (model, equalised))
    assert np.allclose(before, after, rtol=1e-3, atol=1e-3)

    def spread(network):
        maxima = equalisation._channel_maxima(network, chosen)
        return sum(np.log(one[one > 0]).std() for one in maxima)

    assert spread(equalised) < 0.8 * spread(model)


def test_rounded_kernels_are_on_the_steps_of_int8(model, chosen):
    equalised = equalisation.equalise(model, chosen)
    last = equalisation.convolutions(equalised)[-1].get_weights()[0]
    found = rounding.round_kernels(equalised, chosen)
    *rounded, untouched = equalisation.convolutions(found)
    for layer in rounded:
        kernel = layer.get_weights()[0]
        steps = kernel / (np.abs(kernel).max(axis=(0, 1, 2)) / 127)
        assert np.allclose(steps, np.round(steps), atol=1e-3)
    assert np.array_equal(untouched.get_weights()[0], last)


def test_what_one_rounded_weight_loses_the_others_make_up_for(model, chosen):
    nearest = keras.models.clone_model(model)
    nearest.set_weights(model.get_weights())
    for layer in equalisation.convolutions(nearest)[:-1]:
        kernel, bias = layer.get_weights()
        step = np.abs(kernel).max(axis=(0, 1, 2)) / 127
        layer.set_weights([np.round(kernel / step) * step, bias])
    wanted, plain, better = (
        one.predict(chosen.inputs, verbose=0)
        for one in (model, nearest, rounding.round_kernels(model, chosen))
    )
    assert np.abs(better - wanted).mean() < 0.8 * np.abs(plain - wanted).mean()


def test_ranges_clip_less_the_more_a_method_trusts_its_outliers(model, chosen):
    found = ranges.observe(model, chosen)
    for layer, largest in found["min-max"].items():
        assert 0.0 < found["percentile"][layer] <= largest
        assert 0.3 * largest <= found["mse"][layer] <= largest
    hidden = keras.Model(model.inputs[0], model.get_layer("block1_conv1").output)
    expected = hidden.predict(chosen.inputs, verbose=0).max()
    assert found["min-max"]["block1_conv1"] == pytest.approx(expected, rel=1e-5)


def test_a_layer_that_int8_serves_badly_is_named(model, chosen):
    good = ranges.observe(model, chosen)["min-max"]
    bad = {**good, "block3_conv1": 0.02 * good["block3_conv1"]}
    right = layer_noise.signal_to_noise(model, good, chosen.inputs)
    wrong = layer_noise.signal_to_noise(model, bad, chosen.inputs)
    assert right["block2_conv1"] == pytest.approx(wrong["block2_conv1"], abs=0.1)
    assert wrong["block3_conv1"] < 3.0 < 15.0 < right["block3_conv1"]
    assert "block3_conv1" in layer_noise.report(model, bad, chosen.inputs)[-1]
