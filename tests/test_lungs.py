"""The classifier sees the lungs alone: what frames them, and everything in its place afterwards."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from bundles import tiny_bundle, tiny_lungs

from xrayedge import ModelBundle, Screener
from xrayedge.bundle import MANIFEST, OpacitySettings
from xrayedge.data import Sample, read_sample
from xrayedge.data.framing import framed
from xrayedge.errors import BundleError
from xrayedge.evaluation import ScoringModel, judge
from xrayedge.lungs import LungFiles, LungFinder, edges, window
from xrayedge.preprocessing import Window

BOX = (0.2, 0.1, 0.7, 0.9)
OPACITY = OpacitySettings(threshold=0.9, temperature=1.0, bias=0.0)


@pytest.fixture
def image():
    """Dark, but for a bright square that a window around `BOX` holds."""
    pixels = np.full((200, 400), 40, np.uint8)
    pixels[90:140, 190:270] = 250
    return pixels


@pytest.fixture
def framing(tmp_path):
    return tiny_bundle(tmp_path / "framing", opacity=OPACITY, lungs=BOX)


def test_edges_are_shares_of_the_image():
    assert edges(np.array([0.0, -800.0, 800.0])).tolist() == [0.5, 0.0, 1.0]


def test_a_window_is_whole_pixels_with_a_margin_inside_the_image():
    assert window((0.25, 0.5, 0.75, 0.99), 0.05, 200, 100) == Window(20, 90, 80, 200)
    assert window((0.005, 0.0, 1.0, 1.0), 0.0, 100, 100) == Window(1, 0, 100, 100)  # half: up


@pytest.mark.parametrize("box", [(0.4, 0.1, 0.6, 0.9), (0.1, 0.6, 0.9, 0.4)])
def test_what_is_no_pair_of_lungs_leaves_the_whole_image(box):
    assert window(box, 0.05, 30, 40) == Window.whole(30, 40)


def test_the_classifier_sees_the_window_alone(framing, image, tmp_path):
    whole = tiny_bundle(tmp_path / "whole", opacity=OPACITY)
    with Screener(framing.folder) as one, Screener(whole.folder) as other:
        found = one.screen(image)
        part = Window(*(int(edge) for edge in found.lungs))
        expected = other.screen(part.cut(image))
        plain = other.screen(image)
    assert part == Window(60, 10, 300, 190)
    assert found.probabilities == expected.probabilities != plain.probabilities
    assert plain.lungs is None
    (opacity,), (in_part,) = found.opacities, expected.opacities
    moved = np.add(in_part.box, (part.left, part.top) * 2)
    assert opacity.box == pytest.approx(moved)
    assert opacity.box[0] < 230 < opacity.box[2]
    assert opacity.box[1] < 115 < opacity.box[3]


def test_the_heatmap_covers_the_window(framing, image):
    with Screener(framing.folder) as screener:
        shown = screener.screen(image, heatmap=True)
    plain = cv2.cvtColor(
        cv2.resize(image, (768, 384), interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2BGR
    )
    coloured = np.abs(shown.heatmap[-384:, :768].astype(int) - plain).max(axis=2) > 12
    columns, rows = coloured.any(axis=0).nonzero()[0], coloured.any(axis=1).nonzero()[0]
    scale = 768 / 400
    assert 60 * scale - 2 <= columns[0]
    assert columns[-1] <= 300 * scale + 2
    assert rows[0] >= 10 * scale - 2
    assert rows[-1] <= 190 * scale + 2


def test_a_turned_image_has_its_lungs_where_they_lie(tmp_path, chest):
    upright = Screener(tiny_bundle(tmp_path / "one", lungs=BOX, frontal_threshold=0.5).folder)
    turned = Screener(upright.bundle.folder, auto_orient=True)
    from xrayedge import read

    pixels = read(chest).pixels
    height, width = pixels.shape
    expected = upright.screen(pixels)
    found = turned.screen(np.ascontiguousarray(np.rot90(pixels, 2)))
    left, top, right, bottom = expected.lungs
    assert found.corrections == ("turned-180",)
    assert found.lungs == (width - right, height - bottom, width - left, height - top)
    assert found.probabilities == expected.probabilities


def test_a_bundle_keeps_it(framing):
    loaded = ModelBundle.load(framing.folder)
    assert loaded.lungs == framing.lungs
    assert [variant.file for variant in loaded.variants()][-1] == "lungs-int8.onnx"
    assert loaded.digest() != replace(loaded, lungs=None).digest()
    assert loaded.digest() != replace(loaded, lungs=replace(loaded.lungs, margin=0.1)).digest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"margin": 0.6}, "margin"),
        ({"margin": "wide"}, "margin"),
        ({"network": {"classes": ["left", "right", "top", "bottom"]}}, "channels"),
    ],
)
def test_a_damaged_manifest_is_refused(framing, change, said):
    path = framing.folder / MANIFEST
    values = json.loads(path.read_text())
    for key, value in change.items():
        if isinstance(value, dict):
            values["lungs"][key].update(value)
        else:
            values["lungs"][key] = value
    path.write_text(json.dumps(values))
    with pytest.raises(BundleError, match=said):
        ModelBundle.load(framing.folder)


def test_files_in_a_folder_of_their_own(tmp_path):
    made = tiny_lungs(tmp_path / "made", BOX, 0.05)
    copy = made.copy_to(tmp_path / "copy")
    loaded = LungFiles.load(tmp_path / "copy")
    assert loaded == copy
    assert loaded.digest() == made.digest()
    assert LungFinder.open(loaded).find(np.zeros((90, 80), np.uint8), 900, 800).left == 120
    (tmp_path / "copy" / "lungs-int8.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match="sha256"):
        LungFinder.open(loaded)
    (tmp_path / "copy" / "lungs.json").write_text("{")
    with pytest.raises(BundleError, match=r"lungs\.json: damaged"):
        LungFiles.load(tmp_path / "copy")
    with pytest.raises(BundleError, match="no such file"):
        LungFiles.load(tmp_path / "nowhere")


def test_files_are_found_in_a_folder_and_in_a_bundle(framing, tmp_path):
    made = tiny_lungs(tmp_path / "made", BOX, 0.05).copy_to(tmp_path / "copy")
    assert LungFiles.find(tmp_path / "copy") == made
    assert LungFiles.find(str(framing.folder)).settings == framing.lungs
    whole = tiny_bundle(tmp_path / "whole")
    with pytest.raises(BundleError, match="nothing that frames the lungs"):
        LungFiles.find(whole.folder)
    with pytest.raises(BundleError, match="no model"):
        LungFiles.find("nowhere")


@pytest.fixture
def sample(tmp_path, image):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), image)
    boxes = ((0.5, 0.5, 0.6, 0.6), (0.7, 0.0, 0.9, 0.2), (0.9, 0.9, 1.0, 1.0))
    return Sample(path, "covid", "train", "a", opacity_boxes=boxes, lung_box=BOX)


def test_training_sees_the_window_too(tmp_path, sample, image):
    finder = LungFinder.open(tiny_lungs(tmp_path / "lungs", BOX, 0.05))
    (seen,) = framed([sample], finder)
    assert np.array_equal(read_sample(seen), image[10:190, 60:300])
    first, second = seen.opacity_boxes  # the third lies outside
    assert first == pytest.approx(((200 - 60) / 240, 0.5, (240 - 60) / 240, (120 - 10) / 180))
    assert second == pytest.approx(((280 - 60) / 240, 0.0, 1.0, (40 - 10) / 180))
    assert seen.lung_box is None


def test_an_evaluation_is_of_the_whole_image(framing, sample):
    model = ScoringModel.from_bundle(framing.folder, "int8", "onnx", frontal=False)
    judged = judge(model, [sample])
    with Screener(framing.folder) as screener:
        screened = screener.screen(sample.path)
    assert judged.scores[0].tolist() == pytest.approx(list(screened.probabilities.values()))
    ((box, score),) = judged.places(0).opacities
    (opacity,) = screened.opacities
    assert np.array(box) * (400, 200, 400, 200) == pytest.approx(opacity.box)
    assert score == pytest.approx(opacity.score)
    assert judged.places(0).peak[:2] == pytest.approx((230 / 400, 115 / 200), abs=0.1)
    assert judged.inputs(0).shape == (56, 56, 1)
