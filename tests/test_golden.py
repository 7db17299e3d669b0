import hashlib
from dataclasses import replace

import numpy as np
import pytest

from xrayedge import ModelBundle, golden
from xrayedge.engines import open_engine

#: Of all phantoms' bytes; another value means that golden vectors of old bundles are void.
PHANTOMS_SHA256 = "d0f21761bdd5be06d82ed95e4157618f1b7f7a3d6269242155bff21b05b99e92"


@pytest.fixture(scope="module")
def network():
    return ModelBundle.load("vgg16-edge").frontal.network


@pytest.fixture(scope="module")
def engine(network):
    variant = network.variant("tflite", "int8")
    return open_engine("litert", ModelBundle.load("vgg16-edge").read(variant), threads=1)


def test_phantoms_are_the_same_bytes_on_every_machine():
    drawn = b"".join(golden.phantom(number).tobytes() for number in range(golden.PHANTOMS))
    assert hashlib.sha256(drawn).hexdigest() == PHANTOMS_SHA256


def test_phantoms_differ():
    drawn = {golden.phantom(number).tobytes() for number in range(golden.PHANTOMS)}
    assert len(drawn) == golden.PHANTOMS


def test_a_device_that_gives_the_golden_scores_passes(network, engine):
    vectors = golden.measure(network, engine, "int8")
    assert len(vectors) == golden.PHANTOMS
    result = golden.check(network, engine, vectors)
    assert result.within_tolerance
    assert result.same_inputs
    assert result.largest_difference < 1e-5


def test_a_device_that_gives_other_scores_fails(network, engine):
    vectors = golden.measure(network, engine, "int8")

    class Saturating:
        """As a processor whose sums clip."""

        provider = "none"

        def run(self, inputs):
            return np.minimum(engine.run(inputs), 0.5)

    result = golden.check(network, Saturating(), vectors)
    assert not result.within_tolerance
    assert result.largest_difference > 0.02


def test_other_preprocessing_is_noticed(network, engine):
    vectors = golden.measure(network, engine, "int8")
    other = replace(network, preprocessing=replace(network.preprocessing, equalisation="global"))
    assert not golden.check(other, engine, vectors).same_inputs
