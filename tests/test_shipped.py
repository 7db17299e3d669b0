"""Models that come in distributions of their own."""

import re
import shutil
from pathlib import Path

import pytest

from xrayedge import ModelBundle, shipped_bundles
from xrayedge.bundle import SHIPPED
from xrayedge.errors import BundleError
from xrayedge.shipped import shipped_folder

PROJECT = Path(__file__).parent.parent
ENTRY_POINTS = "[xrayedge.models]\nsmall = some_models\n"


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """An installed distribution that ships the model ``small``, a copy of the default one."""
    package = tmp_path / "some_models"
    shutil.copytree(SHIPPED / "vgg16-edge", package / "small")
    (package / "__init__.py").write_text("raise RuntimeError('nobody imports me')\n")
    metadata = tmp_path / "some_models-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-models\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_its_model_is_found_by_name(distribution):
    assert "small" in shipped_bundles()
    assert shipped_folder("small") == distribution / "small"
    bundle = ModelBundle.load("small")
    assert bundle.folder == distribution / "small"
    assert bundle.read(bundle.classifier.variants[0])


def test_its_own_bundle_comes_before_another_distribution_s(distribution):
    (distribution / "small").rename(distribution / "vgg16-edge")
    text = ENTRY_POINTS.replace("small", "vgg16-edge")
    (distribution.parent / "some_models-1.0.dist-info" / "entry_points.txt").write_text(text)
    assert ModelBundle.load("vgg16-edge").folder == SHIPPED / "vgg16-edge"


def test_without_it_the_name_is_unknown():
    with pytest.raises(BundleError, match="no model 'small'"):
        ModelBundle.load("small")


def test_a_distribution_that_lost_its_bundle_ships_nothing(distribution):
    shutil.rmtree(distribution / "small")
    assert "small" not in shipped_bundles()


def test_a_separate_model_of_ours_that_is_not_there_says_what_installs_it(monkeypatch):
    monkeypatch.setattr("xrayedge.bundle.shipped_folder", lambda name: None)
    with pytest.raises(BundleError, match=r"pip install 'xrayedge\[vgg16\]'"):
        ModelBundle.load("vgg16")


def test_the_distribution_of_a_model_has_its_bundle_s_version():
    project = PROJECT / "distributions" / "vgg16"
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]
    folders = (project / "xrayedge_vgg16" / "vgg16", SHIPPED / "vgg16")
    (folder,) = (one for one in folders if one.exists())
    assert ModelBundle.load(folder).version == version
