import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import VGG16

from xrayedge import BundleError, ModelBundle, reference, shipped_bundles
from xrayedge.bundle import MANIFEST, SHIPPED, Interval, OpacitySettings


@pytest.fixture
def copied(tmp_path):
    """A copy of a shipped bundle with the frontal check's files only, to damage."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in SHIPPED.glob("vgg16-edge/*"):
        if not path.name.startswith("classifier"):
            shutil.copy(path, folder)
    return folder


def edit(folder, change):
    path = folder / MANIFEST
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("name", shipped_bundles())
def test_shipped_files_are_what_their_manifest_says(name):
    bundle = ModelBundle.load(name)
    assert bundle.name == name
    for network in bundle.networks():
        assert {"tflite", "onnx"} == {v.format for v in network.variants if v.precision == "int8"}
        for variant in network.variants:
            assert len(bundle.read(variant)) == variant.size_bytes


def test_the_models_of_the_checkout_know_the_same_classes():
    assert "vgg16-edge" in shipped_bundles()
    for model in ("vgg16-edge", VGG16):
        assert ModelBundle.load(model).classifier.classes == ("covid", "healthy", "pneumonia")


def test_an_unknown_name_lists_the_right_ones():
    with pytest.raises(BundleError, match=r"vgg61.*shipped bundles \(.*vgg16"):
        ModelBundle.load("vgg61")


def test_one_altered_bit_is_refused(copied):
    bundle = ModelBundle.load(copied)
    variant = bundle.frontal.network.variants[0]
    content = bytearray((copied / variant.file).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / variant.file).write_bytes(content)
    with pytest.raises(BundleError, match="sha256"):
        bundle.read(variant)


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_link_is_refused_where_it_leads_elsewhere(copied, tmp_path, make):
    """A symbolic link is never followed; a hard link is a plain file, and its bytes are checked."""
    bundle = ModelBundle.load(copied)
    variant = bundle.frontal.network.variants[0]
    (tmp_path / "elsewhere").write_bytes(b"something else")
    (copied / variant.file).unlink()
    make(tmp_path / "elsewhere", copied / variant.file)
    with pytest.raises(BundleError, match="a link" if make is os.symlink else "sha256"):
        bundle.read(variant)


def test_a_manifest_that_is_a_link_is_refused(copied, tmp_path):
    (copied / MANIFEST).rename(tmp_path / MANIFEST)
    (copied / MANIFEST).symlink_to(tmp_path / MANIFEST)
    with pytest.raises(BundleError, match="a link"):
        ModelBundle.load(copied)


def test_a_pipe_does_not_wait_for_a_writer(copied):
    bundle = ModelBundle.load(copied)
    variant = bundle.frontal.network.variants[0]
    (copied / variant.file).unlink()
    os.mkfifo(copied / variant.file)
    with pytest.raises(BundleError, match="no plain file"):
        bundle.read(variant)


def test_a_file_larger_than_the_manifest_says_is_not_read_to_its_end(copied):
    bundle = ModelBundle.load(copied)
    variant = bundle.frontal.network.variants[0]
    with (copied / variant.file).open("ab") as stream:
        stream.truncate(10**10)  # sparse: takes no room
    with pytest.raises(BundleError, match="larger than"):
        bundle.read(variant)


def test_a_file_that_the_manifest_does_not_name_is_refused(copied):
    bundle = ModelBundle.load(copied)
    stranger = replace(bundle.frontal.network.variants[0], file="stranger.onnx")
    with pytest.raises(BundleError, match="names no such file"):
        bundle.read(stranger)
    (copied / "stranger.onnx").write_bytes(b"not named, so not checked")
    with pytest.raises(BundleError, match=r"stranger\.onnx: the manifest names no such file"):
        ModelBundle.load(copied)


def test_a_missing_model_file_is_one_clear_error(copied):
    bundle = ModelBundle.load(copied)
    with pytest.raises(BundleError, match="install or copy"):
        bundle.read(bundle.classifier.variants[0])


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "sub/model.tflite", "..", "a\\b"])
def test_a_manifest_can_only_name_files_of_its_folder(copied, file):
    edit(copied, lambda values: values["classifier"]["variants"][0].update(file=file))
    with pytest.raises(BundleError, match="damaged manifest"):
        ModelBundle.load(copied)


@pytest.mark.parametrize(
    ("release", "advice"),
    [("3.1.0", "'xrayedge>=3.1.0'"), ("1; rm -rf", "a newer xrayedge"), (None, "a newer xrayedge")],
)
def test_a_newer_format_says_which_release_reads_it(copied, release, advice):
    edit(copied, lambda values: values.update(format_version=99, needs_release=release))
    with pytest.raises(BundleError, match="format 99") as caught:
        ModelBundle.load(copied)
    assert str(caught.value).endswith(f"pip install --upgrade {advice}")


@pytest.mark.parametrize(
    "change",
    [
        {"size_bytes": 0},
        {"size_bytes": "1"},
        {"sha256": "00"},
        {"precision": "int4"},
        {"format": "onnx"},
        {"golden": [{"phantom": 0}]},
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(copied, change):
    edit(copied, lambda values: values["frontal"]["network"]["variants"][0].update(change))
    with pytest.raises(BundleError, match="damaged manifest"):
        ModelBundle.load(copied)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_makes_no_probabilities_is_refused(copied, temperature):
    edit(copied, lambda values: values["classifier"].update(temperature=temperature))
    with pytest.raises(BundleError, match="temperature"):
        ModelBundle.load(copied)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": 1}'])
def test_a_damaged_manifest_is_one_clear_error(copied, text):
    (copied / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match="manifest"):
        ModelBundle.load(copied)


def test_a_manifest_survives_writing(copied):
    bundle = ModelBundle.load(copied)
    bundle.write_manifest()
    assert ModelBundle.load(copied) == bundle
    written = (copied / MANIFEST).read_bytes()
    bundle.write_manifest()
    assert (copied / MANIFEST).read_bytes() == written


CLASSES = ("covid", "healthy", "pneumonia")


def set_in(values, path, value):
    """Set the value at a path of keys and indices, such as classifier.operating_points.0.name."""
    *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for key in way:
        values = values[key]
    values[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("classifier.classes", ["covid", "healthy"]),
        ("classifier.classes", ["covid", "healthy", "healthy"]),
        ("classifier.classes", "covid"),
        ("classifier.classes.0", 7),
        ("classifier.classes.0", "covid\u001b[2J"),
        ("classifier.temperature", "1"),
        ("classifier.temperature", True),
        ("classifier.temperature", 1e-300),
        ("classifier.temperature", 10**400),
        ("classifier.preprocessing.size", 112.5),
        ("classifier.preprocessing.size", 10**9),
        ("classifier.preprocessing.clahe_clip", None),
        ("classifier.preprocessing.clahe_tiles", 4096),
        ("classifier.operating_points", []),
        ("classifier.operating_points.0.weights", {"covid": 1.0, "healthy": 1.0}),
        ("classifier.operating_points.0.weights.covid", 0.0),
        ("classifier.operating_points.0.weights.covid", "2"),
        ("classifier.operating_points.0.abstain_below", 1.5),
        ("classifier.operating_points.1.name", "balanced"),
        ("classifier.operating_points.0.surprise", 1),
        ("classifier.variants.0.parity", []),
        ("classifier.opacity", {"threshold": 2.0, "temperature": 1.0, "bias": 0.0}),
        ("classifier.opacity", {"threshold": 0.5, "temperature": 0.0, "bias": 0.0}),
        ("frontal.label", "sideways"),
        ("frontal.threshold", -0.1),
        ("frontal", None),
        ("name", "\ud800"),
        ("version", 3),
        ("provenance", []),
        ("val_curve", {"thresholds": [0.0, 1.0], "specificity": [0.5, 0.4],
                       "sensitivity": [0.5, 0.4], "healthy": 3, "ill": 3}),
    ],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_refused_where_it_is_read(copied, path, value):
    edit(copied, lambda values: set_in(values, path, value))
    with pytest.raises(BundleError, match=r"damaged manifest|can't be read"):
        ModelBundle.load(copied)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(copied, number):
    text = (copied / MANIFEST).read_text()
    (copied / MANIFEST).write_text(text.replace('"covid": 1.0', f'"covid": {number}', 1))
    with pytest.raises(BundleError, match="manifest"):
        ModelBundle.load(copied)


def test_json_too_deep_to_parse_is_refused(copied):
    (copied / MANIFEST).write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(BundleError, match="can't be read"):
        ModelBundle.load(copied)


def test_format_1_loads_and_says_nothing_of_what_it_has_not(copied):
    def as_written_then(values):
        values["format_version"] = 1
        for key in ("val_curve", "reference"):
            del values[key]
        del values["classifier"]["opacity"]
        for variant in values["classifier"]["variants"]:
            for vector in variant["golden"]:
                del vector["opacity"]

    edit(copied, as_written_then)
    bundle = ModelBundle.load(copied)
    assert (bundle.classifier.opacity, bundle.val_curve, bundle.reference) == (None, None, None)
    assert bundle.classifier.channels == len(CLASSES)


def test_all_of_format_2_survives_writing(copied):
    bundle = ModelBundle.load(copied)
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(3), 40)
    labels = ["healthy", "covid", "other", "pneumonia"] * 10
    point = replace(
        bundle.classifier.operating_points[0],
        sensitivity=Interval(0.9, 0.8, 0.95),
        specificity=Interval(0.85, 0.85, 1.0),
    )
    complete = replace(
        bundle,
        classifier=replace(
            bundle.classifier,
            operating_points=(point,),
            opacity=OpacitySettings(threshold=0.4, temperature=1.5, bias=-0.2),
        ),
        val_curve=reference.val_curve(scores, labels, CLASSES, point),
        reference=reference.measure(scores, CLASSES, rng.random(40), rng.random((40, 2)) * 200),
    )
    complete.write_manifest()
    assert ModelBundle.load(copied) == complete
    assert complete.classifier.channels == len(CLASSES) + 1


def test_a_bundle_that_would_not_load_is_not_written(copied):
    bundle = ModelBundle.load(copied)
    written = (copied / MANIFEST).read_bytes()
    with pytest.raises(ValueError, match="version"):
        replace(bundle, version="").write_manifest()
    assert (copied / MANIFEST).read_bytes() == written
