import numpy as np
import pytest

from xrayedge import Preprocessing, opacities
from xrayedge.bundle import OpacitySettings
from xrayedge.frontal import Correction
from xrayedge.preprocessing import Window

SETTINGS = OpacitySettings(threshold=0.5, temperature=2.0, bias=-1.0)


def a_map(*places, side=14, logit=9.0):
    found = np.full((side, side), -9.0, np.float32)
    for row, column in places:
        found[row, column] = logit
    return found


def test_scores_are_platts():
    found = opacities.scores(np.array([1.0, 5.0, -5000.0]), SETTINGS)
    assert np.allclose(found, [0.5, 1 / (1 + np.exp(-2.0)), 0.0])


def test_one_box_for_each_region_strongest_first():
    strong, weak = (3, 3), (10, 11)
    logits = a_map(strong, (4, 3))
    logits[weak] = 4.0
    image = Window.whole(1400, 700)
    first, second = opacities.find(logits, SETTINGS, Preprocessing(size=112), image)
    assert first.score > second.score > SETTINGS.threshold
    for opacity, (row, column) in ((first, strong), (second, weak)):
        left, top, right, bottom = opacity.box
        assert left < (column + 0.5) * 50 < right
        assert top < (row + 0.5) * 100 < bottom
    assert first.score == pytest.approx(opacities.scores(logits, SETTINGS).max(), abs=1e-6)
    # Two cells high and one wide, of cells that are 100 x 50 pixels; edges between the cells.
    left, top, right, bottom = first.box
    assert (right - left, bottom - top) == pytest.approx((50, 200), abs=30)


def test_nothing_under_the_threshold():
    assert opacities.find(a_map(), SETTINGS, Preprocessing(size=112), Window.whole(500, 500)) == ()


@pytest.mark.parametrize(("height", "width"), [(300, 600), (600, 300)])
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_a_box_lies_in_the_image_whatever_made_it_square(fit, height, width):
    everywhere = np.full((7, 7), 9.0, np.float32)
    preprocessing = Preprocessing(size=56, fit=fit)
    (only,) = opacities.find(everywhere, SETTINGS, preprocessing, Window.whole(height, width))
    side, far = min(height, width), (max(height, width) - min(height, width)) / 2
    central = (far, 0, far + side, side) if width > height else (0, far, side, far + side)
    assert only.box == (central if fit == "crop" else (0, 0, width, height))


def test_what_lies_in_the_bars_is_left_out():
    in_the_bar = a_map((0, 7))
    assert opacities.find(in_the_bar, SETTINGS, Preprocessing(size=112), Window.whole(600, 600))
    preprocessing = Preprocessing(size=112, fit="pad")
    assert opacities.find(in_the_bar, SETTINGS, preprocessing, Window.whole(200, 600)) == ()


@pytest.mark.parametrize("turns", range(4))
def test_a_box_turns_back_with_its_image(turns):
    image = np.zeros((40, 30), np.uint8)
    image[5:12, 20:26] = 255
    turned = Correction(turns, invert=False).apply(image)
    rows, columns = np.nonzero(turned)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert opacities.turned_back(box, turns, *turned.shape) == (20, 5, 26, 12)


def test_boxes_of_a_part_lie_in_the_whole_image():
    everywhere = np.full((7, 7), 9.0, np.float32)
    window = Window(left=30, top=50, right=130, bottom=250)
    (only,) = opacities.find(everywhere, SETTINGS, Preprocessing(size=56), window)
    assert only.box == (30, 50, 130, 250)
