from dataclasses import replace

import cv2
import numpy as np
import pytest

from xrayedge import Preprocessing, Screener, read
from xrayedge.classifier import Classifier
from xrayedge.data import Sample, model_inputs
from xrayedge.preprocessing import NARROWEST_RANGE, Window, fill_range, halved_for


def gradient(height: int, width: int) -> np.ndarray:
    return np.tile(np.linspace(40, 120, width).astype(np.uint8), (height, 1))


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("equalisation", ["none", "global", "clahe"])
@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (50, 60)])
def test_always_gives_bytes_of_the_model_input(fit, equalisation, shape):
    inputs = Preprocessing(64, fit, equalisation).apply(gradient(*shape))
    assert inputs.shape == (64, 64, 1)
    assert inputs.dtype == np.uint8


def test_none_keeps_grey_values_and_global_spreads_them():
    plain = Preprocessing(64, equalisation="none").apply(gradient(64, 64))
    spread = Preprocessing(64, equalisation="global").apply(gradient(64, 64))
    assert np.array_equal(plain[:, :, 0], gradient(64, 64))
    assert (spread.min(), spread.max()) == (0, 255)


def test_pad_keeps_the_aspect_ratio_and_adds_black():
    padded = Preprocessing(100, "pad", "none").apply(np.full((50, 200), 90, np.uint8))[:, :, 0]
    rows = np.flatnonzero(padded.any(axis=1))
    assert (rows.min(), rows.max()) == (37, 61)
    assert set(np.unique(padded)) == {0, 90}


def test_crop_keeps_the_middle():
    image = np.zeros((100, 300), np.uint8)
    image[:, 100:200] = 200
    cropped = Preprocessing(50, "crop", "none").apply(image)
    assert (cropped == 200).all()


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_restore_lays_a_map_where_the_input_came_from(fit):
    image = np.zeros((200, 320), np.uint8)
    image[60:100, 180:220] = 255
    preprocessing = Preprocessing(64, fit, "none")
    inputs = preprocessing.apply(image)[:, :, 0].astype(np.float32)
    restored = preprocessing.restore(inputs, 200, 320)
    row, column = np.unravel_index(restored.argmax(), restored.shape)
    assert restored.shape == (200, 320)
    assert 60 <= row < 100
    assert 180 <= column < 220


def test_settings_survive_the_manifest():
    preprocessing = Preprocessing(96, "pad", "clahe", clahe_clip=3.0, clahe_tiles=4)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize(
    "settings", [{"size": 0}, {"fit": "squeeze"}, {"equalisation": "auto"}, {"gamma": 2.0}]
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Preprocessing.from_dict(settings)


@pytest.mark.parametrize("pixels", [np.zeros((8, 8)), np.zeros((8, 8, 3), np.uint8)])
def test_anything_but_grey_bytes_is_refused(pixels):
    with pytest.raises(ValueError, match="uint8"):
        Preprocessing().apply(pixels)


def test_the_runtime_applies_what_trained_the_model(chest, monkeypatch):
    """Byte for byte: what the engine is handed equals what the recorded recipe trained on."""
    pytest.importorskip("keras")
    from xrayedge.training.recipe import Recipe

    handed = []
    classify = Classifier.classify

    def spy(self, inputs):
        handed.append(inputs)
        return classify(self, inputs)

    monkeypatch.setattr(Classifier, "classify", spy)
    screener = Screener()
    screening = screener.screen(chest)
    assert screening.status == "screened"
    window = Window(*(int(edge) for edge in screening.lungs))
    whole = Sample(chest, "unknown", "train", "one")
    made = screener.bundle.provenance
    parts = (
        (made["frontal"], whole),
        (screener.bundle.lungs.provenance, whole),
        (made["classifier"], replace(whole, window=window)),
    )
    for (provenance, sample), inputs in zip(parts, handed, strict=True):
        recipe = Recipe.from_dict(provenance["recipe"])
        assert np.array_equal(inputs, model_inputs([sample], recipe.preprocessing))
    seen = window.cut(read(chest).pixels)
    assert np.array_equal(handed[2][0], screener.bundle.classifier.preprocessing.apply(seen))


def test_a_side_that_shrinks_is_averaged_where_the_other_grows():
    """A fine grating becomes its mean; bilinear samples of it would be stripes."""
    grating = np.tile(np.array([0, 200], np.uint8), (50, 400))
    found = Preprocessing(size=100, fit="stretch", equalisation="none").apply(grating)
    assert found.min() == found.max() == 100
    assert np.array_equal(
        found, Preprocessing(100, "stretch", "none").apply(grating.T.copy()).transpose(1, 0, 2)
    )


def test_what_is_given_is_never_what_comes_out():
    pixels = gradient(64, 64)
    Preprocessing(64, equalisation="none").apply(pixels)[:] = 0
    assert np.array_equal(pixels, gradient(64, 64))


def test_large_images_shrink_like_small_ones():
    """Halving first gives area averages, to within the rounding of each step."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 12), np.uint8)
    large = cv2.resize(coarse, (1536, 1536), interpolation=cv2.INTER_LINEAR)
    preprocessing = Preprocessing(size=96, fit="stretch", equalisation="none")
    expected = cv2.resize(large, (96, 96), interpolation=cv2.INTER_AREA)
    found = preprocessing.apply(large)[:, :, 0]
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("height", "width", "halvings"),
    [
        (2000, 2000, 2),
        (2000, 1600, 1),
        (2048, 2176, 2),
        (2002, 2000, 1),
        (2001, 1999, 0),
        (500, 400, 0),
    ],
)
def test_halving_once_for_all_changes_no_input_by_a_bit(height, width, halvings):
    pixels = np.random.default_rng(height).integers(0, 256, (height, width)).astype(np.uint8)
    both = [Preprocessing(96, "pad", "none"), Preprocessing(112, "stretch", "clahe")]
    halved = halved_for(pixels, both)
    assert halved.shape == (height >> halvings, width >> halvings)
    for one in both:
        assert np.array_equal(one.apply(halved), one.apply(pixels))


def test_nothing_is_halved_before_a_square_is_cut_out():
    pixels = np.zeros((4000, 4002), np.uint8)
    both = [Preprocessing(96, "pad", "none"), Preprocessing(112, "crop", "none")]
    assert halved_for(pixels, both) is pixels


def test_a_narrow_range_fills_all_of_it():
    ramp = np.tile(np.repeat(np.arange(30, 71, dtype=np.uint8), 5), (150, 1))
    stretched = fill_range(ramp)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert (np.diff(stretched[0].astype(int)) >= 0).all()
    assert len(np.unique(stretched)) == 41


def test_a_marker_does_not_fill_the_range():
    dark = np.tile(np.arange(80, dtype=np.uint8), (160, 2))
    marked = dark.copy()
    marked[:8, :8] = 255
    stretched = fill_range(marked)
    np.testing.assert_array_equal(stretched[8:], fill_range(dark)[8:])
    assert (stretched[:8, :8] == 255).all()


@pytest.mark.parametrize("levels", [range(120, 121), range(NARROWEST_RANGE + 3), range(256)])
def test_one_level_or_enough_of_them_stay_as_they_are(levels):
    pixels = np.tile(np.array(levels, np.uint8), (200, 3))
    assert fill_range(pixels) is pixels
