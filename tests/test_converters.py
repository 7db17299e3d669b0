"""From two small training runs to a bundle that screens."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from xrayedge.converters import calibration, parity, tflite
from xrayedge.converters.convert import TrainedRun, convert

from xrayedge import ModelBundle
from xrayedge.classifier import Classifier
from xrayedge.engines import open_engine
from xrayedge.errors import ConversionError, RunError
from xrayedge.preprocessing import Preprocessing
from xrayedge.training.data import Sample, load_dataset
from xrayedge.training.recipe import RECIPES, Phase
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Upright bars that are wide or narrow."""
    root = tmp_path_factory.mktemp("bars")
    rng = np.random.default_rng(0)
    for label, half in (("narrow", 5), ("wide", 22)):
        (root / label).mkdir()
        for number in range(18):
            pixels = rng.integers(0, 60, (128, 128)).astype(np.uint8)
            column = int(rng.integers(50, 78))
            pixels[:, column - half : column + half] = 220
            cv2.imwrite(str(root / label / f"{number}.png"), pixels)
    return root


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    phases = (Phase(epochs=6, learning_rate=2e-3, first_block=1),)
    small = replace(RECIPES["frontal"], phases=phases, batch_size=8)
    recipes = {
        "classifier": replace(small, turned_label=None),
        "frontal": replace(small, turned_label="wide"),
    }
    for name, recipe in recipes.items():
        dataset = load_dataset(data, turned_of=recipe.turned_label)
        train(dataset, recipe, folder / name, data_name={"name": "bars", "where": []})
    return folder


@pytest.fixture(scope="module")
def bundle(data, runs):
    classifier, frontal = (TrainedRun.open(runs / name, data) for name in ("classifier", "frontal"))
    return convert(classifier, frontal, runs / "bars", name="bars", model_version="2.0.0")


def test_the_bundle_carries_the_run(bundle, runs):
    record = RunRecord.read(runs / "classifier")
    assert (bundle.name, bundle.version) == ("bars", "2.0.0")
    assert bundle.classifier.classes == record.classes == ("narrow", "wide")
    assert bundle.classifier.preprocessing == record.recipe.preprocessing
    assert bundle.classifier.temperature == record.temperature
    assert bundle.frontal.threshold == RunRecord.read(runs / "frontal").threshold
    assert bundle.frontal.label == "wide"
    assert bundle.provenance["classifier"]["data"]["digest"] == record.data["digest"]
    assert len(bundle.provenance["classifier"]["calibration"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("engine", "precision"), [("litert", "int8"), ("litert", "float16"), ("onnx", "int8")]
)
def test_every_file_gives_the_float_scores(bundle, runs, data, engine, precision):
    model = keras.saving.load_model(runs / "classifier" / MODEL, compile=False)
    classifier = Classifier.open(bundle, bundle.classifier, precision, engine, threads=1)
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(data.rglob("*.png"))]
    inputs = np.stack([bundle.classifier.preprocessing.apply(picture) for picture in pictures])
    expected = parity.float_probabilities(model, inputs, bundle.classifier.temperature)
    found = [list(classifier.classify(one[np.newaxis])[0].values()) for one in inputs]
    tolerance = 0.01 if precision == "float16" else 0.1
    assert np.abs(np.array(found) - expected).max() < tolerance


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
    for op in convolutions:
        types = [tensors[index]["dtype"] for index in (*op["inputs"][:2], *op["outputs"])]
        assert types == [np.int8] * 3
    kernels = [tensors[op["inputs"][1]] for op in convolutions]
    assert all(
        len(kernel["quantization_parameters"]["scales"]) == kernel["shape"][0] for kernel in kernels
    )


def test_onnx_files_take_any_batch_and_name_their_tensors(bundle):
    onnx = pytest.importorskip("onnx")
    variant = bundle.classifier.variant("onnx", "int8")
    graph = onnx.load_model_from_string(bundle.read(variant)).graph
    assert [tensor.name for tensor in graph.input] == ["image"]
    assert [tensor.name for tensor in graph.output] == ["activation_map"]
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    engine = open_engine("onnx", bundle.read(variant), threads=1)
    assert engine.run(np.zeros((5, 96, 96, 1), np.uint8)).shape == (5, 3, 3, 2)


def test_an_existing_bundle_is_never_overwritten(bundle, runs, data):
    classifier, frontal = (TrainedRun.open(runs / name, data) for name in ("classifier", "frontal"))
    with pytest.raises(ConversionError, match="already exists"):
        convert(classifier, frontal, bundle.folder, name="bars", model_version="3.0.0")
    assert ModelBundle.load(bundle.folder).version == "2.0.0"


def test_a_file_that_disagrees_is_not_written(runs, data, monkeypatch):
    classifier, frontal = (TrainedRun.open(runs / name, data) for name in ("classifier", "frontal"))
    opposite = parity.float_probabilities
    monkeypatch.setattr(parity, "float_probabilities", lambda *a: opposite(*a)[:, ::-1])
    with pytest.raises(ConversionError, match="agrees with the float model on"):
        convert(classifier, frontal, runs / "wrong", name="wrong", model_version="1.0.0")
    assert not (runs / "wrong").exists()
    assert not list(runs.glob(".wrong*"))


def test_a_classifier_is_no_frontal_check(runs, data):
    classifier = TrainedRun.open(runs / "classifier", data)
    with pytest.raises(ConversionError, match="not the run of a frontal check"):
        convert(classifier, classifier, runs / "other", name="other", model_version="1.0.0")


def test_other_data_than_the_run_was_trained_on_are_refused(runs, tmp_path):
    rng = np.random.default_rng(1)
    for label in ("narrow", "wide"):
        (tmp_path / label).mkdir()
        for number in range(8):
            pixels = rng.integers(0, 256, (30, 30), np.uint8)
            cv2.imwrite(str(tmp_path / label / f"{number}.png"), pixels)
    with pytest.raises(RunError, match="other data"):
        TrainedRun.open(runs / "classifier", tmp_path)


def test_calibration_takes_training_pictures_of_every_class_and_source(data):
    samples = [
        Sample(path, path.parent.name, "train", str(path), source=str(index % 3))
        for index, path in enumerate(sorted(data.rglob("*.png")))
    ]
    preprocessing = Preprocessing(32, equalisation="none")
    chosen = calibration.choose(samples, preprocessing, pictures=6)
    again = calibration.choose(samples, preprocessing, pictures=6)
    other = calibration.choose(samples, preprocessing, pictures=6, seed=1)
    assert chosen.inputs.shape == (6, 32, 32, 1)
    assert chosen.digest == again.digest != other.digest
    with pytest.raises(ConversionError, match="training split"):
        calibration.choose([replace(samples[0], split="test")], preprocessing)


def test_float16_halves_the_weights(runs):
    model = keras.saving.load_model(runs / "classifier" / MODEL, compile=False)
    assert len(tflite.float16(model)) < 0.6 * 4 * model.count_params()
