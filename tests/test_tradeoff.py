"""Of `benchmarks/tradeoff.py`: what its tables say of scores."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from tradeoff_document import beginnings
from tradeoff_measuring import paired_loss, parts_by
from tradeoff_students import spread

from xrayedge.data import Sample
from xrayedge.errors import DatasetError
from xrayedge.evaluation import Metric

CLASSES = ("ill", "well")


def _samples(count: int) -> list[Sample]:
    return [
        Sample(
            Path(f"{number}.png"),
            CLASSES[number % 2],
            "test",
            group=f"patient {number // 4}",
            columns={"set": "near" if number < 8 else "far"},
        )
        for number in range(count)
    ]


def _scores(of_ill: list[float]) -> np.ndarray:
    return np.column_stack([of_ill, 1.0 - np.array(of_ill)])


def test_passes_are_spread_over_views_before_any_is_shown_again():
    assert spread(3.0, 5) == (3, 1)
    assert spread(24.0, 5) == (5, 5)
    assert spread(0.2, 5) == (1, 1)


def test_parts_hold_every_row_once_and_need_their_column():
    samples = _samples(12)
    assert parts_by(None, samples) == {"": list(range(12))}
    assert parts_by("set", samples) == {"far": [8, 9, 10, 11], "near": list(range(8))}
    with pytest.raises(DatasetError, match="no column 'site'"):
        parts_by("site", samples)


def test_what_is_lost_is_the_first_one_s_metric_less_the_second_one_s():
    samples = _samples(40)
    right = _scores([0.9, 0.1] * 20)
    # Every fourth image, an ill one, is called well.
    worse = _scores([0.2, 0.1, 0.9, 0.1] * 10)
    lost = paired_loss(samples, CLASSES, right, worse)
    assert lost["balanced_accuracy"] == Metric(0.25, 0.25, 0.25)
    assert lost["macro_auc"] == Metric(0.0, 0.0, 0.0)
    assert paired_loss(samples, CLASSES, worse, right)["balanced_accuracy"].value == -0.25
    # Now only patients differ: the interval shows it.
    some = right.copy()
    some[:8] = worse[:8]
    found = paired_loss(samples, CLASSES, right, some)["balanced_accuracy"]
    assert found.value == pytest.approx(0.05)
    assert found.low == 0.0
    assert found.high > 0.1


def test_it_is_said_what_the_peers_began_with():
    both_random = beginnings({})
    assert "MobileNetV2 and DenseNet121 started from random weights" in both_random
    one = beginnings({"MobileNetV2": "folder/imagenet.weights.h5"})
    assert "MobileNetV2 began with imagenet.weights.h5." in one
    assert "DenseNet121 started from random weights" in one
