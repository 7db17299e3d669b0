import cv2
import numpy as np
import pytest

from xrayedge import Preprocessing, read
from xrayedge.heatmap import evidence, overlay
from xrayedge.opacities import Opacity

PROBABILITIES = {"covid": 0.7, "healthy": 0.2, "pneumonia": 0.1}


def hot_corner() -> np.ndarray:
    activation_map = np.zeros((7, 7, 3), np.float32)
    activation_map[1, 5, 0] = 9.0
    return activation_map


def test_evidence_ignores_what_all_classes_share():
    activation_map = np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)
    shifted = activation_map + np.arange(49, dtype=np.float32).reshape(7, 7, 1)
    assert np.allclose(evidence(activation_map, 1), evidence(shifted, 1), atol=1e-5)


def test_evidence_means_the_logit_over_the_others():
    activation_map = np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)
    logits = activation_map.mean(axis=(0, 1))
    expected = logits[2] - (logits[0] + logits[1]) / 2
    assert np.isclose(evidence(activation_map, 2).mean(), expected)


def test_only_the_place_of_the_evidence_is_coloured():
    image = np.full((700, 700), 60, np.uint8)
    drawn = overlay(image, hot_corner(), Preprocessing(), PROBABILITIES, "covid")
    image_part = drawn[44 : 44 + 768, :768].astype(int)
    coloured = np.ptp(image_part, axis=2) > 30
    rows, columns = np.nonzero(coloured)
    assert coloured.any()
    assert 768 / 7 * 0.3 < rows.mean() < 768 / 7 * 2.7
    assert 768 / 7 * 4.3 < columns.mean() < 768 / 7 * 6.7
    assert (image_part[400:, :300] == 60).all()


def test_a_class_without_evidence_leaves_the_image_plain():
    image = np.full((300, 200), 60, np.uint8)
    drawn = overlay(image, -hot_corner(), Preprocessing(), PROBABILITIES, "covid")
    assert (drawn[44 : 44 + 768, :512] == 60).all()


@pytest.mark.parametrize("shape", [(2048, 2175), (771, 900), (900, 40), (3000, 769), (100, 90)])
def test_the_image_under_the_colours_is_the_mean_of_areas(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    drawn = overlay(pixels, -hot_corner(), Preprocessing(), PROBABILITIES, "covid")
    scale = 768 / max(shape)
    size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
    expected = cv2.resize(
        pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    assert np.abs(drawn[44:, : size[0], 0].astype(int) - expected).max() <= 1


def in_floats(pixels: np.ndarray, activation_map: np.ndarray) -> np.ndarray:
    """The image under its evidence, written down as it is meant: areas, colours, shares."""
    scale = 768 / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    grey = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)[:, :, np.newaxis]
    found = evidence(activation_map, 0)
    strength = np.clip(Preprocessing().restore(found / found.max(), height, width), 0, 1)
    colours = cv2.applyColorMap(np.rint(strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = 0.55 * strength[:, :, np.newaxis]
    return np.rint(grey * (1 - share) + colours * share)


@pytest.mark.parametrize("spread", [False, True])
def test_colours_are_those_of_the_formula(chest, spread):
    somewhere = np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)
    activation_map = somewhere if spread else hot_corner()
    ramp = np.tile(np.linspace(0, 255, 768).astype(np.uint8), (768, 1))
    large = cv2.resize(read(chest).pixels, (2175, 2048), interpolation=cv2.INTER_CUBIC)
    for image in (ramp, large):
        drawn = overlay(image, activation_map, Preprocessing(), PROBABILITIES, "covid")
        expected = in_floats(image, activation_map)
        assert np.abs(drawn[44:, :768] - expected).max() <= 2


def test_opacities_are_outlined_where_they_are():
    image = np.full((1536, 768), 60, np.uint8)
    opacity = Opacity((200.0, 400.0, 500.0, 900.0), 0.87)
    with_it = overlay(image, -hot_corner(), Preprocessing(), PROBABILITIES, "covid", [opacity])
    without = overlay(image, -hot_corner(), Preprocessing(), PROBABILITIES, "covid")
    rows, columns = np.nonzero((with_it != without).any(axis=2))
    assert abs(rows.max() - (44 + 449)) <= 2
    assert (abs(columns.min() - 100) <= 2, abs(columns.max() - 249) <= 2) == (True, True)
    assert (with_it[300:400, 110:240] == without[300:400, 110:240]).all()


def test_the_channel_of_opacities_is_no_class():
    image = np.full((300, 200), 60, np.uint8)
    with_channel = np.concatenate([hot_corner(), np.full((7, 7, 1), 50, np.float32)], axis=2)
    drawn = [
        overlay(image, found, Preprocessing(), PROBABILITIES, "covid")
        for found in (hot_corner(), with_channel)
    ]
    assert np.array_equal(*drawn)
