import numpy as np

from xrayedge import Preprocessing
from xrayedge.heatmap import evidence, overlay

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
    picture = np.full((700, 700), 60, np.uint8)
    drawn = overlay(picture, hot_corner(), Preprocessing(), PROBABILITIES, "covid")
    picture_part = drawn[44 : 44 + 768, :768].astype(int)
    coloured = np.ptp(picture_part, axis=2) > 30
    rows, columns = np.nonzero(coloured)
    assert coloured.any()
    assert 768 / 7 * 0.3 < rows.mean() < 768 / 7 * 2.7
    assert 768 / 7 * 4.3 < columns.mean() < 768 / 7 * 6.7
    assert (picture_part[400:, :300] == 60).all()


def test_a_class_without_evidence_leaves_the_picture_plain():
    picture = np.full((300, 200), 60, np.uint8)
    drawn = overlay(picture, -hot_corner(), Preprocessing(), PROBABILITIES, "covid")
    assert (drawn[44 : 44 + 768, :512] == 60).all()
