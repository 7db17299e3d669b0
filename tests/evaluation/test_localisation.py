"""Whether places are found, on boxes and maps worked by hand."""

import math

import numpy as np
import pytest

from xrayedge.bundle import OpacitySettings
from xrayedge.data import Sample
from xrayedge.evaluation import Judged, Places, localise
from xrayedge.evaluation.localisation import THRESHOLDS, evidence_inside
from xrayedge.preprocessing import Preprocessing, Window

LEFT, RIGHT = (0.1, 0.2, 0.4, 0.8), (0.6, 0.2, 0.9, 0.8)
NOWHERE = (0.45, 0.0, 0.55, 0.1)


def sample(group, boxes, lung_box=None):
    label = "covid" if boxes else "healthy"
    return Sample(None, label, "test", group, opacity_boxes=boxes, lung_box=lung_box)


def places(*opacities, peak=None):
    """Opacities that each are there up to a threshold of their score."""
    box, score = opacities[0] if opacities else (NOWHERE, 0.1)
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    sweep = tuple(tuple(box for box, score in opacities if score >= one) for one in THRESHOLDS)
    return Places(tuple(opacities), peak or (*centre, score), sweep)


def values(samples, found):
    return {name: metric.value for name, metric in localise(samples, found).items()}


def test_metrics_of_a_case_worked_by_hand():
    samples = [sample("a", (LEFT, RIGHT)), sample("b", (LEFT,)), sample("c", ()), sample("d", ())]
    found = [
        places((LEFT, 0.9), (RIGHT, 0.6)),
        places((NOWHERE, 0.8), (LEFT, 0.7)),
        places((LEFT, 0.5)),
        places(),
    ]
    result = values(samples, found)
    assert result["pointing_game"] == 0.5  # the second one's strongest is beside its box
    assert result["peak_in_a_box"] == 0.5
    assert result["auc/any_opacity"] == 1.0
    # Above 0.8 no opacity is false and one box of three is found; from 0.8 on one in four images
    # has a false one, and all are found at 0.6; the other false one comes at 0.5.
    assert result["boxes_found/at_0.25_false"] == 1.0
    found[2] = places((LEFT, 0.65), (RIGHT, 0.65))
    result = values(samples, found)
    assert result["boxes_found/at_0.25_false"] == pytest.approx(2 / 3)
    assert result["boxes_found/at_0.5_false"] == pytest.approx(2 / 3)
    assert result["boxes_found/at_1_false"] == 1.0


def test_no_opacity_is_a_miss_but_the_peak_may_lie_in_a_box():
    samples = [sample("a", (LEFT,)), sample("b", ())]
    result = values(samples, [places(peak=(0.2, 0.5, 0.3)), places()])
    assert result["pointing_game"] == 0.0
    assert result["peak_in_a_box"] == 1.0
    assert result["boxes_found/at_1_false"] == 0.0


def test_images_that_nobody_read_are_left_out():
    assert localise([sample("a", None)], [places((LEFT, 0.9))]) == {}
    samples = [sample("a", (LEFT,)), sample("b", None)]
    result = values(samples, [places((LEFT, 0.9)), places((NOWHERE, 0.99))])
    assert result == {
        "pointing_game": 1.0,
        "peak_in_a_box": 1.0,
        "boxes_found/at_0.25_false": 1.0,
        "boxes_found/at_0.5_false": 1.0,
        "boxes_found/at_1_false": 1.0,
    }


def test_intervals_are_over_patients():
    samples = [sample(str(number // 2), (LEFT,)) for number in range(40)]
    found = [places((LEFT, 0.9)) if number % 4 < 2 else places() for number in range(40)]
    metric = localise(samples, found)["pointing_game"]
    assert metric.low < metric.value == 0.5 < metric.high


@pytest.mark.parametrize(("fit", "expected"), [("stretch", 0.5), ("pad", 0.5), ("crop", 0.5)])
def test_evidence_is_shared_by_area(fit, expected):
    flat = np.ones((7, 7), np.float32)
    preprocessing = Preprocessing(56, fit=fit)
    if fit == "pad":  # of a wide image half of the map lies in the bars
        wide, everywhere = Window.whole(100, 200), (0, 0, 1, 1)
        found = evidence_inside(flat, everywhere, preprocessing, wide, 100, 200)
        assert found == pytest.approx(0.5)
    box = (0.0, 0.0, 0.5, 1.0)
    whole = Window.whole(200, 200)
    found = evidence_inside(flat, box, preprocessing, whole, 200, 200)
    assert found == pytest.approx(expected)
    assert math.isnan(evidence_inside(-flat, box, preprocessing, whole, 200, 200))
    # Of the image's left half the network saw the right half, of which all lies in the box.
    part = Window(50, 0, 100, 200)
    assert evidence_inside(flat, box, Preprocessing(56), part, 200, 200) == pytest.approx(1.0)


def test_a_judged_image_has_its_opacities_in_fractions_of_it():
    maps = np.full((1, 7, 7, 4), -9.0, np.float32)
    maps[0, :, :, 1] = 1.0
    maps[0, 3, 5, 3] = 9.0
    judged = Judged(
        [sample("a", ((0.6, 0.3, 0.95, 0.7),), lung_box=(0.0, 0.0, 1.0, 0.5))],
        ("covid", "healthy", "pneumonia"),
        Preprocessing(56),
        np.array([[0.1, 0.8, 0.1]]),
        maps,
        np.array([(300, 600)]),
        [Window.whole(300, 600)],
        opacity=OpacitySettings(threshold=0.5, temperature=1.0, bias=0.0),
    )
    found = judged.places(0)
    assert found.peak[:2] == pytest.approx((5.5 / 7, 3.5 / 7))
    ((box, score),) = found.opacities
    assert score > 0.99
    assert box[0] < 5.5 / 7 < box[2]
    assert box[1] < 3.5 / 7 < box[3]
    result = judged.evaluate().localisation
    assert result["pointing_game"].value == 1.0
    assert result["evidence_inside_lung_box"].value == pytest.approx(0.5)
