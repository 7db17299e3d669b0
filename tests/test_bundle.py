import json
import os
import shutil
from dataclasses import replace

import pytest

from xrayedge import BundleError, ModelBundle, shipped_bundles
from xrayedge.bundle import MANIFEST, SHIPPED


@pytest.fixture
def copied(tmp_path):
    """A copy of a shipped bundle with the frontal check's files only, to damage."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in SHIPPED.glob("vgg16/*"):
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
    for network in (bundle.classifier, bundle.frontal.network):
        assert {"tflite", "onnx"} == {v.format for v in network.variants if v.precision == "int8"}
        for variant in network.variants:
            assert len(bundle.read(variant)) == variant.size_bytes


def test_vgg16_is_shipped():
    assert "vgg16" in shipped_bundles()
    assert ModelBundle.load("vgg16").classifier.classes == ("covid", "healthy", "pneumonia")


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
