"""What each converted file computes, and whether runtimes and other tools take it."""

import json
import subprocess
import sys
import venv

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from xrayedge import golden
from xrayedge.converters import outputs, tflite
from xrayedge.converters.variants import VARIANTS
from xrayedge.engines import open_engine
from xrayedge.scores import probabilities

ENGINE_OF = {"tflite": "litert", "onnx": "onnx"}


def scores(bundle, inputs, model_format, precision):
    variant = bundle.classifier.variant(model_format, precision)
    engine = open_engine(ENGINE_OF[model_format], bundle.read(variant), threads=1)
    return outputs.engine_outputs(engine, inputs, bundle.classifier).probabilities


@pytest.mark.parametrize(("model_format", "precision"), VARIANTS)
def test_every_file_gives_the_float_scores(bundle, model, inputs, model_format, precision):
    expected = outputs.keras_outputs(model, inputs, bundle.classifier).probabilities
    found = scores(bundle, inputs, model_format, precision)
    tolerance = {"float32": 1e-4, "float16": 0.01}.get(precision, 0.1)
    assert np.abs(found - expected).max() < tolerance
    assert bundle.classifier.variant(model_format, precision).meets_floor


@pytest.mark.parametrize(("model_format", "precision"), VARIANTS)
def test_every_file_gives_the_float_opacities(bundle, model, inputs, model_format, precision):
    expected = outputs.keras_outputs(model, inputs, bundle.classifier).opacity
    variant = bundle.classifier.variant(model_format, precision)
    engine = open_engine(ENGINE_OF[model_format], bundle.read(variant), threads=1)
    found = outputs.engine_outputs(engine, inputs, bundle.classifier).opacity
    assert found.shape == (len(inputs), 3, 3)
    difference = np.abs(found - expected)
    assert difference.max() < {"float32": 1e-3, "float16": 0.01}.get(precision, 0.2)
    assert variant.parity["opacity_mean_difference"] <= variant.parity["opacity_largest_difference"]


def test_both_formats_hold_the_same_int8_model(bundle, inputs):
    litert, onnx = (scores(bundle, inputs, name, "int8") for name in ("tflite", "onnx"))
    assert np.abs(litert - onnx).max() < 1e-5


def test_int8_files_hold_int8_arithmetic(bundle):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    variant = bundle.classifier.variant("tflite", "int8")
    opened = interpreter.Interpreter(
        model_content=bundle.read(variant),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    opened.allocate_tensors()
    tensors = {tensor["index"]: tensor for tensor in opened.get_tensor_details()}
    convolutions = [op for op in opened._get_ops_details() if op["op_name"] == "CONV_2D"]
    assert len(convolutions) == 6
    for op in (convolutions[0], convolutions[-1]):
        assert tensors[op["inputs"][1]]["dtype"] == np.float32
    for op in convolutions[1:-1]:
        kernel, output = tensors[op["inputs"][1]], tensors[op["outputs"][0]]
        types = [tensors[index]["dtype"] for index in (*op["inputs"][:2], *op["outputs"])]
        assert types == [np.int8] * 3
        assert len(kernel["quantization_parameters"]["scales"]) == kernel["shape"][0]
        assert not output["quantization_parameters"]["zero_points"].any()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_onnx_files_fit_the_ecosystem(bundle, precision):
    onnx = pytest.importorskip("onnx")
    content = bundle.read(bundle.classifier.variant("onnx", precision))
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [tensor.name for tensor in model.graph.input] == ["image"]
    assert [tensor.name for tensor in model.graph.output] == ["activation_map"]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    network = bundle.classifier
    assert json.loads(properties["xrayedge.classes"]) == list(network.classes)
    assert json.loads(properties["xrayedge.preprocessing"]) == network.preprocessing.to_dict()
    assert json.loads(properties["xrayedge.temperature"]) == network.temperature
    assert properties["xrayedge.version"] == "2.0.0"
    engine = open_engine("onnx", content, threads=1)
    assert engine.run(np.zeros((5, 96, 96, 1), np.uint8)).shape == (5, 3, 3, 3)


def test_onnx_int8_is_symmetric_as_tensorrt_wants_it(bundle):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_model_from_string(
        bundle.read(bundle.classifier.variant("onnx", "int8"))
    ).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantised = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    zeros = [constants[node.input[2]] for node in quantised]
    assert len(zeros) >= 5
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)


def test_tflite_files_need_no_custom_operators(bundle):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    for variant in bundle.variants():
        if variant.format == "tflite":
            opened = interpreter.Interpreter(model_content=bundle.read(variant))
            names = {op["op_name"] for op in opened._get_ops_details()}
            assert not any(name.startswith("Flex") or name == "CUSTOM" for name in names)


@pytest.fixture(scope="module")
def old_python(request):
    """A Python with the last tflite-runtime there ever was; kept in pytest's cache."""
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14 is for Python up to 3.11")
    folder = request.config.cache.mkdir("tflite-runtime-2.14.0")
    python = folder / "bin" / "python"
    check = [python, "-c", "import tflite_runtime.interpreter"]
    if not python.exists() or subprocess.run(check, capture_output=True).returncode:
        venv.create(folder, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "tflite-runtime==2.14.0", "numpy<2"]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"pip can't install tflite-runtime: {done.stderr.strip()[-200:]}")
    return python


OLD_RUNTIME = """
import sys, numpy as np
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1])
interpreter.allocate_tensors()
source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
maps = []
for one in np.load(sys.argv[2]):
    interpreter.set_tensor(source["index"], one[np.newaxis])
    interpreter.invoke()
    maps.append(interpreter.get_tensor(target["index"])[0])
np.save(sys.argv[3], maps)
"""


@pytest.mark.network
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_tflite_runtime_2_14_gives_the_same_scores(old_python, bundle, inputs, tmp_path, precision):
    np.save(tmp_path / "inputs.npy", inputs)
    path = bundle.folder / bundle.classifier.variant("tflite", precision).file
    subprocess.run(
        [old_python, "-c", OLD_RUNTIME, path, tmp_path / "inputs.npy", tmp_path / "maps.npy"],
        check=True,
    )
    maps = np.load(tmp_path / "maps.npy")[..., : len(bundle.classifier.classes)]
    found = probabilities(maps, bundle.classifier.temperature)
    expected = scores(bundle, inputs, "tflite", precision)
    assert np.abs(found - expected).max() < (0.02 if precision == "int8" else 1e-4)


def test_golden_vectors_are_in_every_file_and_hold(bundle):
    for network in (bundle.classifier, bundle.frontal.network):
        for variant in network.variants:
            engine = open_engine(ENGINE_OF[variant.format], bundle.read(variant), threads=1)
            result = golden.check(network, engine, variant.golden)
            assert result.within_tolerance
            assert result.same_inputs
            assert result.largest_difference < 1e-5


def test_float16_halves_the_weights(model):
    assert len(tflite.float16(model)) < 0.6 * 4 * model.count_params()
