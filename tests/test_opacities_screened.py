"""A network with a channel of opacities, from the file to the result."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from bundles import CLASSES, tiny_bundle, tiny_network, variant

from xrayedge import BundleError, EngineError, ModelBundle, Screener, golden
from xrayedge.bundle import OpacitySettings
from xrayedge.engines import available, open_engine

pytestmark = pytest.mark.skipif("onnx" not in available(), reason="wants ONNX Runtime")

SETTINGS = OpacitySettings(threshold=0.5, temperature=1.0, bias=0.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle", opacity=SETTINGS)


def spotted(height=560, width=700):
    """Dark, with one bright spot in the upper right and a fainter one in the lower left."""
    pixels = np.full((height, width), 30, np.uint8)
    pixels[80:160, 500:600] = 255
    pixels[400:480, 100:200] = 190
    return pixels


def test_opacities_are_boxes_in_pixels_strongest_first(bundle):
    result = Screener(bundle.folder).screen(spotted())
    assert result.status == "screened"
    strong, weak = result.opacities
    assert 1.0 > strong.score > weak.score > SETTINGS.threshold
    for found, expected in ((strong, (500, 80, 600, 160)), (weak, (100, 400, 200, 480))):
        assert np.abs(np.subtract(found.box, expected)).max() < 50  # half a place, 100 x 80 pixels
    written = json.loads(json.dumps(result.to_dict()))["opacities"]
    assert written == [{"box": list(one.box), "score": one.score} for one in (strong, weak)]


def test_the_channel_of_opacities_does_not_touch_the_classes(bundle, tmp_path):
    without = Screener(tiny_bundle(tmp_path / "without").folder).screen(spotted())
    result = Screener(bundle.folder).screen(spotted())
    assert result.probabilities == without.probabilities
    assert (without.opacities, without.to_dict()["opacities"]) == ((), [])
    assert result.activation_map.shape == (7, 7, len(CLASSES) + 1)


def test_the_overlay_outlines_them(bundle):
    outlined = Screener(bundle.folder).screen(spotted(), heatmap=True).heatmap == (255, 255, 0)
    assert outlined.all(axis=2).sum() > 300


def test_boxes_are_of_the_image_as_it_was_read(chest, tmp_path):
    """Turned images are put right; their boxes still lie where the file shows them."""
    folder = tiny_bundle(tmp_path / "b", opacity=SETTINGS, frontal_threshold=0.9).folder
    from xrayedge import read

    pixels = cv2.resize(read(chest).pixels, (600, 640), interpolation=cv2.INTER_AREA)
    screener = Screener(folder, auto_orient=True)
    upright = screener.screen(pixels)
    turned = screener.screen(np.ascontiguousarray(np.rot90(pixels)))
    assert turned.corrections == ("turned-270",)
    assert len(upright.opacities) == len(turned.opacities) > 0
    left, top, right, bottom = upright.opacities[0].box
    # Counter-clockwise, (x, y) goes to (y, width - x).
    expected = (top, 600 - right, bottom, 600 - left)
    assert np.allclose(turned.opacities[0].box, expected, atol=0.2)


def test_a_bundle_of_onnx_files_screens_without_being_told_the_engine(bundle):
    assert Screener(bundle.folder).engine == "onnx"


def test_the_engine_that_is_missing_is_named(bundle, monkeypatch):
    monkeypatch.setattr("xrayedge.engines.base.available", lambda: ("litert",))
    with pytest.raises(EngineError, match=r"onnx files only.*pip install onnxruntime"):
        Screener(bundle.folder)


@pytest.mark.parametrize(
    ("channels", "size", "message"),
    [
        (3, 56, r"\[1, 7, 7, 3\]; by the manifest it must be \[1, h, w, 4\]"),
        (5, 56, r"must be \[1, h, w, 4\]"),
        (4, 112, "takes no input of 56 x 56 pixels"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_describes_is_refused(
    tmp_path, channels, size, message
):
    bundle = tiny_bundle(tmp_path / "bundle", opacity=SETTINGS)
    content = tiny_network(channels, size)
    (bundle.folder / "classifier-int8.onnx").write_bytes(content)
    network = replace(bundle.classifier, variants=(variant("classifier-int8.onnx", content),))
    replace(bundle, classifier=network).write_manifest()
    with pytest.raises(BundleError, match=message):
        Screener(bundle.folder)


def opened(bundle):
    (file,) = bundle.classifier.variants
    return open_engine("onnx", bundle.read(file), threads=1)


def test_golden_vectors_cover_the_channel_of_opacities(bundle):
    vectors = golden.measure(bundle.classifier, opened(bundle), "int8")
    assert all(0.0 < vector.opacity < 1.0 for vector in vectors)
    assert golden.check(bundle.classifier, opened(bundle), vectors).within_tolerance
    # The classes are as they were, the opacities are not.
    biased = replace(bundle.classifier, opacity=replace(SETTINGS, bias=3.0))
    checked = golden.check(biased, opened(bundle), vectors)
    assert checked.largest_difference > 0.02
    assert not checked.within_tolerance
    # Bundles of before have none to compare with.
    older = [replace(vector, opacity=None) for vector in vectors]
    assert golden.check(biased, opened(bundle), older).within_tolerance


def test_golden_opacities_travel_with_the_manifest(bundle, tmp_path):
    vectors = golden.measure(bundle.classifier, opened(bundle), "int8")
    copied = tiny_bundle(tmp_path / "copied", opacity=SETTINGS)
    (file,) = copied.classifier.variants
    network = replace(copied.classifier, variants=(replace(file, golden=vectors),))
    replace(copied, classifier=network).write_manifest()
    assert ModelBundle.load(copied.folder).classifier.variants[0].golden == vectors
    with pytest.raises(ValueError, match="without that channel"):
        replace(network, opacity=None)
