"""Of `benchmarks/heatmaps.py`: whether two models see the same reasons."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from heatmaps import correlation, same_peak, share_inside


def _peak(row: int, column: int) -> np.ndarray:
    found = np.zeros((7, 7), np.float32)
    found[row, column] = 1.0
    return found


def test_the_same_map_agrees_and_its_opposite_does_not():
    found = np.arange(49, dtype=np.float32).reshape(7, 7)
    assert correlation(found, 3.0 * found + 1.0) == pytest.approx(1.0)
    assert correlation(found, -found) == pytest.approx(-1.0)
    assert correlation(found, np.zeros_like(found)) == 0.0


def test_peaks_agree_up_to_their_neighbours():
    assert same_peak(_peak(3, 3), _peak(4, 2))
    assert not same_peak(_peak(3, 3), _peak(3, 5))


def test_evidence_against_a_class_lies_nowhere():
    assert share_inside(np.ones((7, 7), np.float32)) == pytest.approx(25 / 49)
    assert share_inside(_peak(0, 3) + _peak(3, 3) - 5.0 * _peak(6, 6)) == pytest.approx(0.5)
    assert math.isnan(share_inside(-np.ones((7, 7), np.float32)))
