import json

import cv2
import pytest
from click.testing import CliRunner

from xrayedge.bundle import SHIPPED
from xrayedge.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("no picture")
    return path


def test_one_call_screens_rejects_and_fails(chest, leg, shoulder_mr, text_file):
    result = run("screen", chest, leg, shoulder_mr, text_file, "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("screened", None),
        ("rejected", "not-frontal"),
        ("rejected", "not-frontal"),
        ("failed", "unreadable"),
    ]
    assert [row["source"] for row in rows] == list(map(str, (chest, leg, shoulder_mr, text_file)))
    assert result.exit_code == 1


def test_all_screened_is_status_zero(chest):
    result = run("screen", chest)
    assert result.exit_code == 0
    assert str(chest) in result.stdout


def test_a_folder_and_its_heatmaps(chest, tmp_path):
    folder, heatmaps = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "one.dcm").write_bytes(chest.read_bytes())
    (folder / "list.csv").touch()
    result = run("screen", folder, "--heatmap", heatmaps, "--json")
    assert result.exit_code == 0
    assert [path.name for path in heatmaps.iterdir()] == ["one.dcm.png"]
    assert cv2.imread(str(heatmaps / "one.dcm.png")).shape[0] > 768
    assert len(result.stdout.splitlines()) == 1
    assert "1 files in folders" in result.stderr


def test_an_empty_folder_is_not_a_success(tmp_path):
    result = run("screen", tmp_path)
    assert result.exit_code == 1
    assert "no picture found" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["screen"],
        ["screen", "a.png", "--model", "nothing-like-it"],
        ["screen", "a.png", "--precision", "int2"],
        ["screen", "a.png", "--engine", "tensorrt"],
        ["screen", "a.png", "--threads", "0"],
        ["screen", "a.png", "--precision", "float32", "--engine", "litert"],
        ["train", "no-such-folder", "--out", "run"],
        ["train", "no-such-folder", "--out", "run", "--recipe", "resnet"],
        ["train", "no-such-folder", "--out", "run", "--where", "set"],
    ],
)
def test_wrong_usage_is_status_two_and_one_message(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


def test_models_lists_the_shipped_files():
    result = run("models")
    assert result.exit_code == 0
    assert "vgg16" in result.stdout
    assert "onnx" in result.stdout


def test_models_lists_any_bundle(tmp_path):
    result = run("models", SHIPPED / "vgg16")
    assert result.exit_code == 0
    assert "int8" in result.stdout
    assert run("models", tmp_path).exit_code == 2


def test_doctor_prints_for_people_and_programs():
    result = run("doctor", "--model", "vgg16", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["healthy"] else 1)
    assert {engine["name"] for engine in found["engines"]} == {"litert", "onnx"}
    assert found["processor"]["cores"] >= 1
    assert {check["model"] for check in found["checks"]} == {"vgg16"}
    text = run("doctor", "--model", "vgg16").stdout
    for word in ("processor:", "features:", "engine litert:", "frontal-int8.tflite"):
        assert word in text


def test_doctor_warns_of_a_replaced_provider():
    pytest.importorskip("onnxruntime")
    result = run("doctor", "--model", "vgg16", "--provider", "TensorrtExecutionProvider")
    assert "TensorrtExecutionProvider was asked for and CPUExecutionProvider" in result.stderr
