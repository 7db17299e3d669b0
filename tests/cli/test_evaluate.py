"""`xrayedge evaluate` of a shipped bundle, on images made here."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from xrayedge.cli import main

LABELS = ("covid", "healthy", "other", "pneumonia")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    for label in LABELS:
        (root / label).mkdir()
        for number in range(3):
            pixels = rng.integers(0, 256, (150, 120), np.uint8)
            cv2.imwrite(str(root / label / f"{number}.png"), pixels)
    return root


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", "vgg16-edge", *map(str, arguments)])


def test_metrics_of_classes_of_the_ill_and_of_each_operating_point(folder):
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "12 images; whose they are is not known" in result.stdout
    for name in ("balanced_accuracy", "auc/covid_v_healthy", "not_called_healthy/other"):
        assert name in result.stdout
    assert "operating point" in result.stdout
    assert "sensitive" in result.stdout


def test_a_damaged_image_is_counted_and_the_rest_goes_on(folder, tmp_path):
    data = tmp_path / "data"
    for label in ("covid", "healthy"):
        (data / label).mkdir(parents=True)
        content = (folder / label / "0.png").read_bytes()
        (data / label / "good.png").write_bytes(content)
    (data / "covid" / "bad.png").write_bytes(b"no image")
    result = run(data, "--out", tmp_path / "report")
    assert result.exit_code == 1
    assert "bad.png" in result.stderr
    assert "1 of 3 images can't be read; left out" in result.stderr
    assert "2 images" in result.stdout
    values = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (values["images"], values["unreadable"]) == (2, 1)
    assert "(1 more could not be read)" in (tmp_path / "report" / "index.html").read_text()
    (data / "covid" / "good.png").unlink()
    (data / "healthy" / "good.png").write_bytes(b"no image")
    result = run(data, "--where", "label=covid")
    assert result.exit_code == 2
    assert "none of 1 images can be read" in result.stderr


def test_one_class_alone_is_evaluated(folder):
    result = run(folder, "--where", "label=healthy")
    assert result.exit_code == 0, result.output
    assert "healthy_called_healthy" in result.stdout
    result = run(folder, "--where", "label=other")
    assert result.exit_code == 0, result.output
    assert "ill_not_called_healthy" in result.stdout


def test_a_label_that_the_model_does_not_know_is_named(folder, tmp_path):
    (tmp_path / "covdi").mkdir()
    (tmp_path / "covdi" / "0.png").write_bytes((folder / "covid" / "0.png").read_bytes())
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "covdi: is named after no class; there are covid, healthy, pneumonia" in result.stderr


def test_several_sets_are_evaluated_together_and_by_column(folder, tmp_path):
    for name in ("a", "b"):
        lines = [
            f"{folder}/{label}/{number}.png,{label},{name},{name}{label}{number},test"
            for label in LABELS
            for number in range(3)
        ]
        text = "\n".join(["file,label,set,patient_id,split", *lines])
        (tmp_path / f"{name}.csv").write_text(text)
    result = run(tmp_path / "a.csv", tmp_path / "b.csv", "--by", "set")
    assert result.exit_code == 0, result.output
    assert "24 images of 24 patients" in result.stdout
    assert result.stdout.count("12") >= 2
