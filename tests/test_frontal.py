"""The shipped frontal check on what is no chest radiograph; for metrics see test_shipped_models."""

import numpy as np
import pytest
from conftest import dicom_file

from xrayedge import ModelBundle, Screener, read
from xrayedge.data import artificial
from xrayedge.engines import available
from xrayedge.frontal import Correction
from xrayedge.imaging import AcquisitionTags, contradictions


@pytest.fixture(scope="module", params=available())
def screener(request):
    return Screener(engine=request.param)


def refused(screener, image):
    screening = screener.screen(image)
    return (screening.status, screening.reason) == ("rejected", "not-frontal")


def test_artificial_images_are_refused(screener):
    for kind in artificial.KINDS:
        # Seeds over 3000 are in no training.
        images = [artificial.draw(kind, seed) for seed in range(5000, 5020)]
        assert all(refused(screener, image) for image in images), kind


@pytest.mark.parametrize("size", [(2000, 2000), (300, 200)])
def test_plain_images_are_refused(screener, size):
    rng = np.random.default_rng(1)
    rows, columns = np.indices(size)
    for image in (
        np.zeros(size, np.uint8),
        np.full(size, 255, np.uint8),
        np.full(size, 100, np.uint16),
        rng.integers(0, 256, size, np.uint8),
        rng.normal(size=size),
        np.uint8(rows // 32 % 2 ^ columns // 32 % 2) * 255,
        np.uint8(columns * 255 // size[1]),
        5000 + rng.integers(0, 3, size).astype(np.uint16),
    ):
        assert refused(screener, image)


@pytest.mark.parametrize(
    "name", ["RG3_UNCR.dcm", "MR2_UNCR.dcm", "US1_UNCR.dcm", "693_UNCR.dcm", "CT_small.dcm"]
)
def test_other_modalities_and_limbs_are_refused(screener, name):
    pixels = read(dicom_file(name)).pixels
    for turns in range(4):
        for image in (pixels, 255 - pixels):
            assert refused(screener, np.ascontiguousarray(np.rot90(image, turns)))


def test_its_file_is_small():
    for variant in ModelBundle.load("vgg16-edge").frontal.network.variants:
        assert variant.size_bytes <= 300_000


def test_a_correction_undoes_what_it_names():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = Correction(quarter_turns=1, invert=True)
    assert found.names() == ("inverted", "turned-90")
    assert np.array_equal(found.apply(255 - np.rot90(pixels, -1)), pixels)


@pytest.mark.parametrize("cut", [0, 29])
def test_a_correction_has_the_score_of_the_corrected_image(screener, chest, cut):
    """To the bit, where the bars that make it square are of odd width too."""
    check = screener._networks.frontal
    upright = np.ascontiguousarray(read(chest).pixels[:, cut:])
    for turns in (1, 2, 3):
        found = check.correction(np.ascontiguousarray(np.rot90(upright, turns)))
        assert found is not None
        correction, score = found
        assert correction == Correction(4 - turns, invert=False)
        assert score == check.score(upright)


@pytest.mark.parametrize(
    ("said", "passed", "expected"),
    [
        (("DX", "CHEST", "PA"), True, ()),
        (("DX", "CHEST", "LL"), True, ("view-not-frontal",)),
        (("CR", "KNEE", None), True, ("body-part-not-chest",)),
        (("MR", None, None), True, ("modality-not-radiography",)),
        ((None, None, None), True, ()),
        (("DX", "CHEST", "AP"), False, ("tags-say-frontal-chest",)),
        (("DX", "CHEST", "LL"), False, ()),
        (("CT", "CHEST", None), False, ()),
    ],
)
def test_contradictions(said, passed, expected):
    assert contradictions(AcquisitionTags(*said), passed=passed) == expected


def test_a_file_without_tags_contradicts_nothing():
    assert contradictions(None, passed=True) == ()
