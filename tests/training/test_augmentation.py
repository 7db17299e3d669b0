"""Augmentation: shape, seed, and what stays of an image."""

from dataclasses import fields

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("sklearn")

from xrayedge.training.augmentation import Augmentation


def test_augmentation_keeps_shape_and_follows_its_seed():
    pixels = np.tile(np.arange(120, dtype=np.uint8), (90, 1))
    lender = np.full((50, 70), 200, np.uint8)
    often = ("blur", "erase", "collimate", "style", "border", "detail", "text")
    chances = dict.fromkeys(often, 1.0)
    strong = Augmentation(**chances, texture=0.5, noise=0.02)
    one, same, other = (
        strong.apply(pixels, lender, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one.shape == pixels.shape
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_no_augmentation_changes_nothing():
    pixels = np.tile(np.arange(120, dtype=np.uint8), (90, 1))
    none = Augmentation(**{one.name: 0.0 for one in fields(Augmentation)})
    assert np.array_equal(none.apply(pixels, pixels, np.random.default_rng(0)), pixels)


def test_another_images_border_leaves_the_middle_alone():
    nothing = {one.name: 0.0 for one in fields(Augmentation)}
    bordered = Augmentation(**{**nothing, "border": 1.0})
    dark, bright = np.zeros((100, 80), np.uint8), np.full((40, 40), 255, np.uint8)
    for seed in range(20):
        result = bordered.apply(dark, bright, np.random.default_rng(seed))
        assert (result[25:75, 20:60] == 0).all()
        assert result[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 200


def test_a_matched_histogram_is_the_others():
    nothing = {one.name: 0.0 for one in fields(Augmentation)}
    styled = Augmentation(**{**nothing, "style": 1.0})
    ramp = np.tile(np.arange(0, 128, dtype=np.uint8), (64, 1))
    bright = np.tile(np.arange(128, 256, dtype=np.uint8), (64, 1))
    means = [styled.apply(ramp, bright, np.random.default_rng(n)).mean() for n in range(20)]
    assert ramp.mean() <= min(means) < max(means) <= bright.mean()  # each by a share of its own


def test_another_images_detail_leaves_the_shades_alone():
    nothing = {one.name: 0.0 for one in fields(Augmentation)}
    detailed = Augmentation(**{**nothing, "detail": 1.0})
    shades = np.tile(np.linspace(60, 190, 128).astype(np.uint8), (128, 1))
    speckled = np.random.default_rng(0).integers(90, 160, (128, 128), dtype=np.uint8)
    result = detailed.apply(shades, speckled, np.random.default_rng(0)).astype(float)
    assert np.abs(cv2.blur(result, (33, 33)) - shades)[20:-20, 20:-20].max() < 6
    assert np.abs(np.diff(result, axis=0)).mean() > 5  # the shades have none along this axis


def test_burnt_in_text_leaves_most_of_the_image_alone():
    nothing = {one.name: 0.0 for one in fields(Augmentation)}
    written = Augmentation(**{**nothing, "text": 1.0})
    grey = np.full((300, 250), 128, np.uint8)
    shares = [
        (written.apply(grey, grey, np.random.default_rng(n)) != 128).mean() for n in range(30)
    ]
    assert max(shares) < 0.2
    assert np.median(shares) > 0
