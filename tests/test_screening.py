import dataclasses
import json
import threading

import cv2
import numpy as np
import pytest
from conftest import VGG16

from xrayedge import BundleError, EngineError, ModelBundle, Screener, read, shipped_bundles
from xrayedge.engines import available
from xrayedge.screening import MIN_SIDE

CONTRACT = [
    "source", "status", "reason", "label", "certain", "probabilities", "frontal_score", "model",
    "version", "precision", "engine", "operating_point", "timings_ms", "tags", "warnings",
    "corrections", "opacities", "lungs",
]  # fmt: skip


@pytest.fixture(scope="module", params=available())
def screener(request):
    return Screener(engine=request.param)


def test_a_chest_is_screened(screener, chest):
    screening = screener.screen(chest)
    assert screening.status == "screened"
    assert screening.reason is None
    assert screening.source == str(chest)
    assert screening.engine == screener.engine
    assert set(screening.probabilities) == {"covid", "healthy", "pneumonia"}
    assert sum(screening.probabilities.values()) == pytest.approx(1.0)
    assert screening.probabilities[screening.label] == max(screening.probabilities.values())
    assert screening.frontal_score >= screener.bundle.frontal.threshold
    assert all(time > 0 for time in screening.timings_ms.values())


def test_an_operating_point_moves_the_label_and_nothing_else(chest):
    usual, sensitive = (Screener(operating_point=name) for name in ("balanced", "sensitive"))
    weights = sensitive.bundle.classifier.operating_point("sensitive").weights
    one, other = usual.screen(chest), sensitive.screen(chest)
    assert one.probabilities == other.probabilities
    assert (one.operating_point, other.operating_point) == ("balanced", "sensitive")
    assert other.label == max(weights, key=lambda name: weights[name] * other.probabilities[name])
    for name in shipped_bundles():
        favoured = ModelBundle.load(name).classifier.operating_point("specific").weights
        assert favoured["healthy"] > favoured["covid"] == favoured["pneumonia"] == 1.0
    with pytest.raises(BundleError, match="it has balanced, sensitive, specific"):
        Screener(operating_point="brave")


def test_a_leg_and_an_mr_are_rejected(screener, leg, shoulder_mr):
    for path in (leg, shoulder_mr):
        screening = screener.screen(path)
        assert (screening.status, screening.reason) == ("rejected", "not-frontal")
        assert screening.label is None
        assert screening.probabilities is None
        assert screening.frontal_score < screener.bundle.frontal.threshold
        assert screening.timings_ms["classify"] is None


def as_it_lies(pixels, turns, inverted):
    """An image turned counter-clockwise, and inverted."""
    return np.rot90(255 - pixels if inverted else pixels, turns)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_chest_that_is_turned_or_inverted_has_a_reason_of_its_own(
    screener, chest, turns, inverted
):
    screening = screener.screen(as_it_lies(read(chest).pixels, turns, inverted))
    if not turns and not inverted:
        assert screening.status == "screened"
        return
    assert screening.status == "rejected"
    assert screening.reason == ("turned" if turns else "inverted")
    assert ("inverted" in screening.detail) == inverted
    assert (f"turned by {360 - 90 * turns} degrees clockwise" in screening.detail) == bool(turns)
    assert screening.probabilities is None


@pytest.mark.parametrize(("low", "high"), [(0, 38), (90, 167), (178, 255)])
def test_an_image_in_a_narrow_band_of_grey_is_stretched_first(screener, chest, low, high):
    pixels = read(chest).pixels
    levels = np.rint(np.linspace(low, high, 256)).astype(np.uint8)
    expected = screener.screen(pixels, grey=True)
    found = screener.screen(levels[pixels], grey=True)
    assert expected.corrections == ()
    share = (high - low) / 255
    assert found.grey == pytest.approx(
        (low + share * expected.grey[0], share * expected.grey[1]), abs=0.5
    )
    assert (found.status, found.corrections) == ("screened", ("contrast",))
    assert found.label == expected.label
    assert found.probabilities == pytest.approx(dict(expected.probabilities), abs=0.15)


@pytest.mark.parametrize(("turns", "inverted"), [(1, False), (2, False), (0, True), (3, True)])
def test_auto_orient_screens_the_upright_image(chest, turns, inverted):
    screener = Screener(auto_orient=True)
    upright = screener.screen(chest)
    assert upright.corrections == ()
    found = screener.screen(as_it_lies(read(chest).pixels, turns, inverted))
    assert found.status == "screened"
    expected = ["inverted"] * inverted + [f"turned-{360 - 90 * turns}"] * bool(turns)
    assert list(found.corrections) == expected
    assert found.probabilities == upright.probabilities


def test_what_a_file_says_is_reported_and_a_contradiction_warned_of(screener, chest, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    screening = screener.screen(chest)
    assert screening.to_dict()["tags"] == {
        "modality": "CR", "body_part": "CHEST", "view_position": "PA",
    }  # fmt: skip
    assert screening.warnings == ()
    lying = pydicom.dcmread(chest)
    lying.Modality, lying.BodyPartExamined, lying.ViewPosition = "CT", "KNEE", "LL"
    lying.save_as(tmp_path / "lying.dcm")
    screening = screener.screen(tmp_path / "lying.dcm")
    assert screening.status == "screened"  # the image is what it was
    assert screening.warnings == (
        "modality-not-radiography", "body-part-not-chest", "view-not-frontal",
    )  # fmt: skip


def test_tags_do_not_make_a_leg_a_chest(screener, leg, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    lying = pydicom.dcmread(leg)
    lying.BodyPartExamined, lying.ViewPosition = "CHEST", "PA"
    lying.save_as(tmp_path / "lying.dcm")
    screening = screener.screen(tmp_path / "lying.dcm")
    assert (screening.status, screening.reason) == ("rejected", "not-frontal")
    assert screening.warnings == ("tags-say-frontal-chest",)


def test_a_tiny_image_is_rejected(screener):
    screening = screener.screen(np.zeros((500, MIN_SIDE - 1), np.uint8))
    assert (screening.status, screening.reason) == ("rejected", "too-small")
    assert screening.frontal_score is None


def test_a_bad_file_fails_without_an_exception(screener, tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("no image")
    screening = screener.screen(path)
    assert (screening.status, screening.reason) == ("failed", "unreadable")
    assert "note.txt" in screening.detail


def test_a_path_bytes_and_pixels_of_one_image_score_the_same(screener, chest, tmp_path):
    pixels = read(chest).pixels
    path = tmp_path / "chest.png"
    cv2.imwrite(str(path), pixels)
    scores = [
        screener.screen(source).probabilities
        for source in (chest, chest.read_bytes(), pixels, path, str(path))
    ]
    assert all(score == scores[0] for score in scores)


def test_the_json_object_is_the_contract(screener, chest, leg):
    for path in (chest, leg):
        values = screener.screen(path).to_dict()
        assert list(values) == CONTRACT
        assert list(values["timings_ms"]) == ["read", "frontal", "preprocess", "classify", "total"]
        assert json.loads(json.dumps(values)) == values


def test_a_result_can_not_be_changed(screener, leg):
    with pytest.raises(dataclasses.FrozenInstanceError):
        screener.screen(leg).status = "screened"


def test_threads_share_one_screener(screener, chest, leg):
    expected = [screener.screen(path).probabilities for path in (chest, leg)]
    found = [None] * 8

    def work(index):
        found[index] = screener.screen((chest, leg)[index % 2]).probabilities

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(found))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == expected * 4


def test_float16_is_close_to_int8(chest):
    int8, half = (Screener(precision=name).screen(chest) for name in ("int8", "float16"))
    assert int8.label == half.label
    for name, probability in half.probabilities.items():
        assert int8.probabilities[name] == pytest.approx(probability, abs=0.1)


def test_a_precision_that_is_not_there_lists_those_that_are():
    with pytest.raises(EngineError, match=r"no dynamic file.*int8 \(tflite\)"):
        Screener(VGG16, precision="dynamic", engine="litert")


def test_the_heatmap_shows_the_image_and_explains_the_label(screener, chest):
    screening = screener.screen(chest, heatmap=True)
    height, width = screening.heatmap.shape[:2]
    assert screening.heatmap.dtype == np.uint8
    assert max(height, width) > 768
    assert screener.screen(chest).heatmap is None
    index = list(screening.probabilities).index(screening.label)
    logits = screening.activation_map.mean(axis=(0, 1))
    assert logits.argmax() == index


def test_bytes_of_any_kind_are_named_and_not_quoted(screener):
    for content in (b"not an image", bytearray(b"not an image"), memoryview(b"not an image")):
        screening = screener.screen(content)
        assert (screening.source, screening.reason) == ("<bytes>", "unreadable")
