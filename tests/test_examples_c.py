"""examples/c, built by CMake: the same inputs to the bit, and the golden scores.

ONNX Runtime's library is that of its Python wheel; its header comes from Debian's
libonnxruntime-dev, or from the folder that ONNXRUNTIME_INCLUDE names.
"""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import grey_noise

from xrayedge import Screener, golden, read
from xrayedge.bundle import SHIPPED, ModelBundle
from xrayedge.preprocessing import fill_range

EXAMPLE = Path(__file__).parents[1] / "examples" / "c"
BUNDLE = ModelBundle.load(SHIPPED / "vgg16-edge")
NETWORKS = dict(zip(("classifier", "frontal", "lungs"), BUNDLE.networks(), strict=True))

needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("cc") is None,
    reason="CMake and a C compiler are not installed",
)
pytestmark = needs_cmake


def onnxruntime_options(folder):
    """CMake's options for the wheel's library and for a header that is not the system's."""
    onnxruntime = pytest.importorskip("onnxruntime")
    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # the wheel has neither
        (folder / name).symlink_to(library)
    options = [f"-DONNXRUNTIME_LIBRARY={folder / 'libonnxruntime.so'}"]
    if "ONNXRUNTIME_INCLUDE" in os.environ:
        options.append(f"-DONNXRUNTIME_INCLUDE={os.environ['ONNXRUNTIME_INCLUDE']}")
    return options


def built_for(bundle, tmp_path_factory):
    folder, options = tmp_path_factory.mktemp("build"), [f"-DBUNDLE={bundle}"]
    options += onnxruntime_options(tmp_path_factory.mktemp("lib"))
    for command in (
        ["cmake", "-S", EXAMPLE, "-B", folder, *options],
        ["cmake", "--build", folder],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return built_for(BUNDLE.folder, tmp_path_factory)


@pytest.fixture(scope="module")
def global_build(tmp_path_factory):
    """For a bundle whose networks equalise the whole histogram."""
    bundle = tmp_path_factory.mktemp("global")
    manifest = json.loads((BUNDLE.folder / "manifest.json").read_text(encoding="utf-8"))
    for network in (manifest["classifier"], manifest["frontal"]["network"]):
        network["preprocessing"]["equalisation"] = "global"
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return built_for(bundle, tmp_path_factory)


@pytest.fixture(scope="module")
def screen(build):
    program = build / "screen"
    if not program.exists():
        pytest.skip("no onnxruntime_c_api.h: libonnxruntime-dev is not installed")

    def run(pixels, *arguments):
        height, width = pixels.shape
        done = subprocess.run(
            [program, BUNDLE.folder, str(width), str(height), *arguments],
            input=pixels.tobytes(),
            capture_output=True,
            check=False,
        )
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        return done.returncode, dict(lines), done.stderr.decode()

    return run


def prepared(build, name, pixels):
    height, width = pixels.shape
    command = [build / "prepare", name, str(width), str(height)]
    return subprocess.run(command, input=pixels.tobytes(), capture_output=True, check=True).stdout


@pytest.mark.parametrize("name", NETWORKS)
def test_the_golden_inputs_to_the_bit(build, name):
    for vector in NETWORKS[name].variants[0].golden:
        inputs = prepared(build, name, golden.phantom(vector.phantom))
        assert hashlib.sha256(inputs).hexdigest() == vector.input_sha256


@pytest.mark.parametrize("shape", [(448, 224), (161, 977), (1501, 1203), (2000, 2500)])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_image_to_the_bit(build, name, shape):
    rng = np.random.default_rng(shape[1])
    pixels = rng.integers(0, 256, shape, np.uint8)
    expected = NETWORKS[name].preprocessing.apply(pixels)
    assert prepared(build, name, pixels) == expected.tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_of_one_level_to_the_bit(build, name):
    pixels = np.full((448, 448), 77, np.uint8)
    expected = NETWORKS[name].preprocessing.apply(pixels)
    assert prepared(build, name, pixels) == expected.tobytes()


@pytest.mark.parametrize("name", ["classifier", "frontal"])
@pytest.mark.parametrize("spread", [0, 1, 20, 90])
def test_global_equalisation_to_the_bit(global_build, spread, name):
    pixels = grey_noise(spread, (301, 403))
    expected = replace(NETWORKS[name].preprocessing, equalisation="global")
    expected = expected.apply(fill_range(pixels))
    assert prepared(global_build, name, pixels) == expected.tobytes()


@pytest.mark.parametrize("shape", [(301, 403), (1023, 700), (1500, 903)])
@pytest.mark.parametrize("spread", [1, 9, 17, 19, 30])
def test_a_narrow_range_is_stretched_to_the_bit(build, spread, shape):
    pixels = grey_noise(spread, shape, marker=True)
    expected = NETWORKS["classifier"].preprocessing.apply(fill_range(pixels))
    assert prepared(build, "classifier", pixels) == expected.tobytes()


def test_the_golden_scores(screen):
    frontal = BUNDLE.frontal.network.variant("onnx", "int8").golden
    classifier = BUNDLE.classifier.variant("onnx", "int8").golden
    label = BUNDLE.frontal.network.classes.index(BUNDLE.frontal.label)
    for gate, vector in zip(frontal, classifier, strict=True):
        status, found, _ = screen(golden.phantom(vector.phantom), "any")
        assert status == 0
        expected = dict(zip(BUNDLE.classifier.classes, vector.probabilities, strict=True))
        expected["frontal_score"] = gate.probabilities[label]
        assert {name: float(score) for name, score in found.items()} == pytest.approx(
            expected, abs=vector.tolerance
        )


def test_a_real_radiograph_as_in_python(screen, chest):
    pixels = read(chest).pixels
    with Screener(engine="onnx") as screener:
        expected = screener.screen(pixels)
    status, scores, _ = screen(pixels)
    assert status == 0
    assert float(scores.pop("frontal_score")) == pytest.approx(expected.frontal_score, abs=1e-5)
    assert {name: float(score) for name, score in scores.items()} == pytest.approx(
        expected.probabilities, abs=1e-5
    )


def test_what_is_no_chest_is_rejected(screen, leg):
    status, found, _ = screen(read(leg).pixels)
    assert status == 1
    assert found["rejected"] == "not-frontal"


def test_too_few_bytes_are_an_error(screen):
    status, found, said = screen(np.zeros((111, 200), np.uint8))
    assert (status, found) == (2, {})
    assert "usage" in said
