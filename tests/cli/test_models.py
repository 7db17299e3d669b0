import json

import pytest
from click.testing import CliRunner

from xrayedge.bundle import SHIPPED
from xrayedge.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_models_lists_the_shipped_files():
    result = run("models")
    assert result.exit_code == 0
    assert "vgg16" in result.stdout
    assert "onnx" in result.stdout
    assert "note" in result.stdout  # every column has a head


def test_models_lists_any_bundle(tmp_path):
    result = run("models", "list", SHIPPED / "vgg16-edge")
    assert result.exit_code == 0
    assert "int8" in result.stdout
    assert run("models", "list", tmp_path).exit_code == 2


def test_doctor_prints_for_people_and_programs():
    result = run("doctor", "--model", "vgg16-edge", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["healthy"] else 1)
    assert {engine["name"] for engine in found["engines"]} == {"litert", "onnx"}
    assert found["machine"]["usable_cores"] >= 1
    assert {check["model"] for check in found["checks"]} == {"vgg16-edge"}
    text = run("doctor", "--model", "vgg16-edge").stdout
    for word in ("processor:", "features:", "engine litert:", "frontal-int8.tflite"):
        assert word in text
    last = text.splitlines()[-1]
    assert last == "fit to screen" if found["healthy"] else last.startswith("NOT fit to screen: ")


def test_doctor_warns_of_a_replaced_provider():
    pytest.importorskip("onnxruntime")
    result = run("doctor", "--model", "vgg16-edge", "--provider", "TensorrtExecutionProvider")
    assert "TensorrtExecutionProvider was asked for and CPUExecutionProvider" in result.stderr
