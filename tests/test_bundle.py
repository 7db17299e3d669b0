import json
import shutil

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


def test_a_missing_model_file_is_one_clear_error(copied):
    bundle = ModelBundle.load(copied)
    with pytest.raises(BundleError, match="install or copy"):
        bundle.read(bundle.classifier.variants[0])


@pytest.mark.parametrize("file", ["../secret", "/etc/passwd", "sub/model.tflite", "..", "a\\b"])
def test_a_manifest_can_only_name_files_of_its_folder(copied, file):
    edit(copied, lambda values: values["classifier"]["variants"][0].update(file=file))
    with pytest.raises(BundleError, match="damaged manifest"):
        ModelBundle.load(copied)


def test_another_format_version_is_refused(copied):
    edit(copied, lambda values: values.update(format_version=99))
    with pytest.raises(BundleError, match="format 99"):
        ModelBundle.load(copied)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": 1}'])
def test_a_damaged_manifest_is_one_clear_error(copied, text):
    (copied / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match="manifest"):
        ModelBundle.load(copied)


def test_a_manifest_survives_writing(copied):
    bundle = ModelBundle.load(copied)
    before = (copied / MANIFEST).read_bytes()
    bundle.write_manifest()
    assert (copied / MANIFEST).read_bytes() == before
