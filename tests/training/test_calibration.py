"""What is fitted on `val`: temperature and threshold."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("sklearn")

from xrayedge.training.calibration import (
    doubts,
    fit_temperature,
    fit_threshold,
)


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=chance) for chance in chances])
    assert fit_temperature(logits * 4.0, labels) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize(
    ("of_label", "of_others", "said"),
    [
        (0.0, 0.0, ["temperature 20 is at its bound", "can't be told from chance"]),
        (1.0, 0.0, []),
        (100.0, 0.0, ["all 60 images of val are classified correctly"]),
        (-9.0, 9.0, ["temperature 20 is at its bound", "from chance"]),
    ],
)
def test_a_model_that_learnt_nothing_says_so(of_label, of_others, said):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    logits = rng.normal(size=(60, 3)) + np.where(np.eye(3)[labels] == 1.0, of_label, of_others)
    found = doubts(logits, labels, fit_temperature(logits, labels))
    assert len(found) == len(said)
    for sentence, part in zip(found, said, strict=True):
        assert part in sentence
        assert "\n" not in sentence


def test_the_threshold_lies_in_the_middle_of_the_gap():
    scores = np.array([0.05, 0.1, 0.2, 0.8, 0.9])
    assert fit_threshold(scores, scores > 0.5) == pytest.approx(0.5)
    overlapping = fit_threshold(np.array([0.1, 0.6, 0.4, 0.9]), np.array([0, 0, 1, 1], bool))
    assert overlapping == pytest.approx(0.25) or overlapping == pytest.approx(0.75)
