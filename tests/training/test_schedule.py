"""The learning rate of a phase, step by step."""

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("sklearn")

from xrayedge.training.recipe import Phase
from xrayedge.training.train import schedule


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_the_rate_rises_to_the_phase_s_and_falls(steps):
    rate = schedule(Phase(epochs=1, learning_rate=1e-3, first_block=1), steps)
    rates = [float(rate(step)) for step in range(steps)]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(1e-3)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
