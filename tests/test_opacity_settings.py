"""Calibration and threshold of opacities, fitted where the right answer is known."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from xrayedge.data import Sample
from xrayedge.evaluation.opacity_settings import fit_opacity_settings
from xrayedge.opacities import find, scores
from xrayedge.preprocessing import Preprocessing, Window

STRETCHED = Preprocessing(90, fit="stretch", equalisation="none")
SIDE = 900


def sample(boxes, label="covid"):
    return Sample(Path("image.png"), label, "val", "one", opacity_boxes=boxes)


def test_the_score_of_the_strongest_place_is_the_share_of_images_with_a_box():
    rng = np.random.default_rng(0)
    strongest = rng.normal(0.0, 3.0, 800)
    logits = np.minimum(rng.normal(-9.0, 1.0, (800, 3, 3)), strongest[:, None, None])
    logits[:, 1, 1] = strongest
    # A network that is three times too sure, and sees too much.
    some = rng.random(800) < 1.0 / (1.0 + np.exp(-(strongest - 2.0) / 3.0))
    samples = [sample(((0.35, 0.35, 0.65, 0.65),) if one else ()) for one in some]
    found = fit_opacity_settings(logits, samples, STRETCHED, [(SIDE, SIDE)] * 800)
    assert found.temperature == pytest.approx(3.0, rel=0.3)
    assert found.bias == pytest.approx(-2.0, abs=0.8)
    likely = scores(strongest, found) > 0.7
    assert some[likely].mean() == pytest.approx(scores(strongest, found)[likely].mean(), abs=0.1)


def test_the_threshold_keeps_true_places_and_drops_false_ones():
    logits = np.full((60, 9, 9), -6.0)
    boxes = []
    for number in range(60):
        ill = number < 30
        logits[number, 2, 2] = 3.0 if ill else -1.0
        logits[number, 7, 7] = 1.0 if number % 3 == 0 else -6.0  # a false one in each third
        boxes.append(((0.15, 0.15, 0.40, 0.40),) if ill else ())
    samples = [sample(one) for one in boxes]
    settings = fit_opacity_settings(logits, samples, STRETCHED, [(SIDE, SIDE)] * 60)
    strong = find(logits[0], settings, STRETCHED, Window.whole(SIDE, SIDE))
    assert len(strong) == 1
    assert strong[0].box[0] < 0.4 * SIDE
    assert strong[0].box[3] < 0.5 * SIDE
    assert not find(logits[59], settings, STRETCHED, Window.whole(SIDE, SIDE))


def test_a_healthy_image_that_nobody_read_has_no_opacity():
    logits = np.full((20, 3, 3), -4.0)
    logits[:10, 1, 1] = 4.0
    ill = [sample(((0.3, 0.3, 0.7, 0.7),)) for _ in range(10)]
    healthy = [sample(None, "healthy") for _ in range(10)]
    fitted = fit_opacity_settings(logits, ill + healthy, STRETCHED, [(SIDE, SIDE)] * 20)
    assert fitted.temperature != 1.0
    unread = [sample(None) for _ in range(10)]
    settings = fit_opacity_settings(logits, ill + unread, STRETCHED, [(SIDE, SIDE)] * 20)
    assert (settings.threshold, settings.temperature, settings.bias) == (0.5, 1.0, 0.0)
