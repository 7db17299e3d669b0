"""From two small training runs to a bundle that screens.

A long file, because its tests share the slow fixtures: two trained runs and a bundle.
"""

import csv
import json
import shutil
import subprocess
import sys
import venv
from dataclasses import replace

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from sklearn.metrics import roc_auc_score

from xrayedge import ModelBundle, golden
from xrayedge.bundle import MANIFEST
from xrayedge.converters import (
    calibration_set,
    equalisation,
    layer_noise,
    outputs,
    parity,
    ranges,
    rounding,
    tflite,
)
from xrayedge.converters import convert as conversion
from xrayedge.converters.convert import convert
from xrayedge.converters.trained import TrainedRun
from xrayedge.converters.variants import VARIANTS, variants_of
from xrayedge.data import Sample, load_dataset
from xrayedge.engines import open_engine
from xrayedge.errors import ConversionError, RunError
from xrayedge.preprocessing import Preprocessing
from xrayedge.scores import probabilities
from xrayedge.training.recipe import RECIPES, Phase
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Upright bars: the narrow are healthy, the wide are ill, and boxes say where."""
    root = tmp_path_factory.mktemp("bars")
    rng = np.random.default_rng(0)
    rows = [("file", "label", "opacity_boxes")]
    for label, half in (("healthy", 5), ("covid", 22)):
        (root / label).mkdir()
        for number in range(18):
            pixels = rng.integers(0, 60, (128, 128)).astype(np.uint8)
            column = int(rng.integers(50, 78))
            pixels[:, column - half : column + half] = 220
            cv2.imwrite(str(root / label / f"{number}.png"), pixels)
            box = [(column - half) / 128, 0.0, (column + half) / 128, 1.0]
            boxes = [] if label == "healthy" else [box]
            rows.append((f"{label}/{number}.png", label, json.dumps(boxes)))
    with (root / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return root / "manifest.csv"


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    phases = (Phase(epochs=6, learning_rate=2e-3, first_block=1),)
    small = replace(RECIPES["frontal"], phases=phases, batch_size=8)
    recipes = {
        "classifier": replace(small, turned_label=None, opacity=1.0),
        "frontal": replace(small, turned_label="covid"),
    }
    for name, recipe in recipes.items():
        dataset = load_dataset(data, turned_of=recipe.turned_label)
        train(dataset, recipe, folder / name, data_name={"name": "bars", "where": []})
    return folder


@pytest.fixture(scope="module")
def trained(data, runs):
    return {name: TrainedRun.open(runs / name, data) for name in ("classifier", "frontal")}


@pytest.fixture(scope="module")
def told():
    """What the conversion of `bundle` says."""
    return []


@pytest.fixture(scope="module")
def bundle(trained, runs, told):
    return convert(
        **trained,
        out=runs / "bars",
        name="bars",
        model_version="2.0.0",
        debug_layers=True,
        progress=told.append,
    )


@pytest.fixture(scope="module")
def model(runs):
    return keras.saving.load_model(runs / "classifier" / MODEL, compile=False)


@pytest.fixture(scope="module")
def chosen(trained):
    run = trained["classifier"]
    return calibration_set.choose(run.dataset.split("train"), run.record.recipe.preprocessing)


def test_the_bundle_carries_the_run(bundle, runs):
    record = RunRecord.read(runs / "classifier")
    assert (bundle.name, bundle.version) == ("bars", "2.0.0")
    assert bundle.classifier.classes == record.classes == ("covid", "healthy")
    assert bundle.classifier.preprocessing == record.recipe.preprocessing
    assert bundle.classifier.temperature == record.temperature
    assert bundle.frontal.threshold == RunRecord.read(runs / "frontal").threshold
    assert bundle.frontal.label == "covid"
    assert bundle.provenance["classifier"]["data"]["digest"] == record.data["digest"]
    assert len(bundle.provenance["classifier"]["calibration"]["sha256"]) == 64


ENGINE_OF = {"tflite": "litert", "onnx": "onnx"}


def scores(bundle, inputs, model_format, precision):
    variant = bundle.classifier.variant(model_format, precision)
    engine = open_engine(ENGINE_OF[model_format], bundle.read(variant), threads=1)
    return outputs.engine_outputs(engine, inputs, bundle.classifier).probabilities


@pytest.fixture(scope="module")
def inputs(bundle, data):
    images = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(data.parent.rglob("*.png"))
    ]
    return np.stack([bundle.classifier.preprocessing.apply(image) for image in images])


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


def test_the_bundle_says_what_its_points_and_opacities_promise(bundle):
    points = {point.name: point for point in bundle.classifier.operating_points}
    assert list(points) == ["balanced", "sensitive", "specific"]
    for point in points.values():
        assert point.sensitivity.low <= point.sensitivity.value <= point.sensitivity.high
    assert points["specific"].specificity.value >= 0.95
    at_the_point = bundle.val_curve.thresholds.index(0.0)
    assert bundle.val_curve.specificity[at_the_point] == points["balanced"].specificity.value
    images = bundle.val_curve.healthy + bundle.val_curve.ill
    assert sum(bundle.reference.frontal_score.counts) == images
    assert 0.05 <= bundle.classifier.opacity.threshold <= 0.95


def test_both_formats_hold_the_same_int8_model(bundle, inputs):
    litert, onnx = (scores(bundle, inputs, name, "int8") for name in ("tflite", "onnx"))
    assert np.abs(litert - onnx).max() < 1e-5


def test_the_conversion_says_what_it_measured(bundle, told):
    text = "\n".join(told)
    for model_format, precision in VARIANTS:
        assert f"classifier {model_format} {precision}:" in text
    assert "min on two cores" in told[0]
    assert told[1].startswith("[1/")
    for metric in ("accuracy", "macro AUC", "worst layers", "peak memory", "mean score difference"):
        assert metric in text
    assert "UNDER" not in text


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


def test_an_existing_bundle_is_replaced_only_by_force(bundle, trained, runs):
    fewer = {"name": "bars", "variants": variants_of(["tflite"], ["float16"])}
    with pytest.raises(ConversionError, match="already exists"):
        convert(**trained, out=bundle.folder, model_version="3.0.0", **fewer)
    assert ModelBundle.load(bundle.folder).version == "2.0.0"
    out = shutil.copytree(bundle.folder, runs / "again")
    convert(**trained, out=out, model_version="4.0.0", force=True, **fewer)
    assert ModelBundle.load(out).version == "4.0.0"
    assert not list(runs.glob(".again*"))


def test_force_replaces_nothing_but_a_bundle(trained, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConversionError, match="replaces bundles only"):
        convert(**trained, out=tmp_path, name="bars", model_version="1.0.0", force=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.fixture
def opposite(monkeypatch):
    """The float model's scores, of the other class each."""
    right = conversion.keras_outputs

    def swapped(*arguments):
        found = right(*arguments)
        return replace(found, probabilities=found.probabilities[:, ::-1])

    monkeypatch.setattr(conversion, "keras_outputs", swapped)


def test_a_file_under_its_floor_is_not_written(trained, runs, opposite):
    told, floats = [], variants_of([], ["float32"])
    with pytest.raises(ConversionError, match="no file meets its floor"):
        convert(
            **trained,
            out=runs / "wrong",
            name="wrong",
            model_version="1",
            variants=floats,
            progress=told.append,
        )
    assert sum("not written" in line and "agreement" in line for line in told) == len(floats)
    assert not (runs / "wrong").exists()
    assert not list(runs.glob(".wrong*"))


def test_a_file_under_its_floor_is_marked_where_it_is_forced(trained, runs, opposite):
    variants = variants_of(["tflite"], ["float16"])
    out = runs / "forced"
    bundle = convert(
        **trained, out=out, name="forced", model_version="1", variants=variants, force=True
    )
    assert not bundle.classifier.variants[0].meets_floor
    assert (out / MANIFEST).is_file()


def test_variants_are_chosen_by_format_and_precision():
    assert variants_of() == VARIANTS
    assert variants_of(["onnx"]) == (("onnx", "float32"), ("onnx", "int8"))
    assert variants_of([], ["int8"]) == (("tflite", "int8"), ("onnx", "int8"))
    with pytest.raises(ConversionError, match="float32 in onnx"):
        variants_of(["onnx"], ["float16"])


def test_equalisation_changes_ranges_and_not_the_model(model, chosen):
    equalised = equalisation.equalise(model, chosen)
    before, after = (one.predict(chosen.inputs, verbose=0) for one in (model, equalised))
    assert np.allclose(before, after, rtol=1e-3, atol=1e-3)

    def spread(network):
        maxima = equalisation._channel_maxima(network, chosen)
        return sum(np.log(one[one > 0]).std() for one in maxima)

    assert spread(equalised) < 0.8 * spread(model)


def test_a_dead_network_is_named_before_int8_makes_numbers_of_it(trained, tmp_path):
    run = trained["classifier"]
    dead = keras.saving.load_model(run.folder / MODEL, compile=False)
    layer = equalisation.convolutions(dead)[1]
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, np.full_like(bias, -1e6)])
    dead.save(tmp_path / MODEL)
    told_of = rf"{tmp_path}: {layer.name} outputs nothing .* lower learning rate"
    with pytest.raises(ConversionError, match=told_of):
        convert(
            replace(run, folder=tmp_path),
            trained["frontal"],
            tmp_path / "bundle",
            name="dead",
            model_version="1",
            variants=variants_of([], ["int8"]),
        )


def test_rounded_kernels_are_on_the_steps_of_int8(model, chosen):
    equalised = equalisation.equalise(model, chosen)
    last = equalisation.convolutions(equalised)[-1].get_weights()[0]
    found = rounding.round_kernels(equalised, chosen)
    *rounded, untouched = equalisation.convolutions(found)
    for layer in rounded:
        kernel = layer.get_weights()[0]
        steps = kernel / (np.abs(kernel).max(axis=(0, 1, 2)) / 127)
        assert np.allclose(steps, np.round(steps), atol=1e-3)
    assert np.array_equal(untouched.get_weights()[0], last)


def test_what_one_rounded_weight_loses_the_others_make_up_for(model, chosen):
    nearest = keras.models.clone_model(model)
    nearest.set_weights(model.get_weights())
    for layer in equalisation.convolutions(nearest)[:-1]:
        kernel, bias = layer.get_weights()
        step = np.abs(kernel).max(axis=(0, 1, 2)) / 127
        layer.set_weights([np.round(kernel / step) * step, bias])
    wanted, plain, better = (
        one.predict(chosen.inputs, verbose=0)
        for one in (model, nearest, rounding.round_kernels(model, chosen))
    )
    assert np.abs(better - wanted).mean() < 0.8 * np.abs(plain - wanted).mean()


def test_ranges_clip_less_the_more_a_method_trusts_its_outliers(model, chosen):
    found = ranges.observe(model, chosen)
    for layer, largest in found["min-max"].items():
        assert 0.0 < found["percentile"][layer] <= largest
        assert 0.3 * largest <= found["mse"][layer] <= largest
    hidden = keras.Model(model.inputs[0], model.get_layer("block1_conv1").output)
    expected = hidden.predict(chosen.inputs, verbose=0).max()
    assert found["min-max"]["block1_conv1"] == pytest.approx(expected, rel=1e-5)


def test_a_layer_that_int8_serves_badly_is_named(model, chosen):
    good = ranges.observe(model, chosen)["min-max"]
    bad = {**good, "block3_conv1": 0.02 * good["block3_conv1"]}
    right = layer_noise.signal_to_noise(model, good, chosen.inputs)
    wrong = layer_noise.signal_to_noise(model, bad, chosen.inputs)
    assert right["block2_conv1"] == pytest.approx(wrong["block2_conv1"], abs=0.1)
    assert wrong["block3_conv1"] < 3.0 < 15.0 < right["block3_conv1"]
    assert "block3_conv1" in layer_noise.report(model, bad, chosen.inputs)[-1]


def labelled(rng, images=90, classes=3):
    labels = rng.integers(0, classes, images)
    reference = rng.dirichlet(np.ones(classes), images)
    reference[np.arange(images), labels] += 0.4
    groups = np.arange(images) // 2
    found = outputs.Outputs(reference, None)
    return parity.ParitySet(np.zeros((images, 1, 1, 1), np.uint8), labels, groups, found)


def test_parity_of_a_model_with_itself_is_perfect():
    images = labelled(np.random.default_rng(0))
    found = parity.compare(images.reference, images)
    assert (found.agreement, found.largest_difference) == (1.0, 0.0)
    assert found.accuracy_loss == found.accuracy_loss_low == found.accuracy_loss_high == 0.0
    assert not parity.FLOORS["float32"].misses(found)


def test_a_label_that_the_float_model_hardly_prefers_is_a_tie():
    reference = np.tile([0.5, 0.3, 0.2], (4, 1))
    reference[0] = reference[1] = [0.402, 0.398, 0.2]
    reference[2] = [0.42, 0.38, 0.2]
    right = outputs.Outputs(reference, None)
    labels, groups = np.array([0, 1, 2, 0]), np.arange(4)
    images = parity.ParitySet(np.zeros((4, 1, 1, 1), np.uint8), labels, groups, right)
    probabilities = reference.copy()
    probabilities[[0, 2]] = [0.3, 0.5, 0.2]
    found = parity.compare(outputs.Outputs(probabilities, None), images)
    assert (found.agreement, found.ties) == (0.5, 0.25)
    lossless = replace(found, accuracy_loss=0.0, macro_auc_loss=0.0)
    assert parity.Floor(agreement=0.75, loss=0.005).misses(lossless) == []
    assert len(parity.Floor(agreement=0.76, loss=0.005).misses(lossless)) == 1


def test_parity_finds_what_was_lost():
    rng = np.random.default_rng(1)
    images = labelled(rng)
    right = images.reference.probabilities
    noisy = right + rng.normal(0.0, 0.5, right.shape)
    found = parity.compare(outputs.Outputs(noisy, None), images)
    expected = [
        np.mean([roc_auc_score(images.labels == label, one[:, label]) for label in range(3)])
        for one in (right, noisy)
    ]
    assert found.macro_auc_loss == pytest.approx(expected[0] - expected[1])
    assert found.macro_auc_loss_low < found.macro_auc_loss < found.macro_auc_loss_high
    accuracy = (images.labels == noisy.argmax(axis=1)).mean()
    assert found.accuracy == pytest.approx(accuracy)
    assert len(parity.FLOORS["int8"].misses(found)) == 3


def test_a_classifier_is_no_frontal_check(trained, runs):
    classifier = trained["classifier"]
    with pytest.raises(ConversionError, match="not the run of a frontal check"):
        convert(classifier, classifier, runs / "other", name="other", model_version="1.0.0")


def test_the_frontal_check_of_another_bundle_is_taken_over(bundle, trained, runs):
    made = convert(
        trained["classifier"],
        bundle,
        runs / "taken-over",
        name="taken-over",
        model_version="1.0.0",
        variants=[("onnx", "float32")],
    )
    assert made.frontal == bundle.frontal
    assert made.provenance["frontal"] == bundle.provenance["frontal"]
    for variant in made.frontal.network.variants:
        assert made.read(variant) == bundle.read(variant)


def test_other_data_than_the_run_was_trained_on_are_refused(runs, tmp_path):
    rng = np.random.default_rng(1)
    for label in ("narrow", "wide"):
        (tmp_path / label).mkdir()
        for number in range(8):
            pixels = rng.integers(0, 256, (30, 30), np.uint8)
            cv2.imwrite(str(tmp_path / label / f"{number}.png"), pixels)
    with pytest.raises(RunError, match="other data"):
        TrainedRun.open(runs / "classifier", tmp_path)


def test_calibration_takes_training_images_of_every_class_and_source(data):
    samples = [
        Sample(path, path.parent.name, "train", str(path), source=str(index % 3))
        for index, path in enumerate(sorted(data.parent.rglob("*.png")))
    ]
    preprocessing = Preprocessing(32, equalisation="none")
    chosen = calibration_set.choose(samples, preprocessing, images=6)
    again = calibration_set.choose(samples, preprocessing, images=6)
    other = calibration_set.choose(samples, preprocessing, images=6, seed=1)
    assert chosen.inputs.shape == (6, 32, 32, 1)
    assert chosen.digest == again.digest != other.digest
    with pytest.raises(ConversionError, match="training split"):
        calibration_set.choose([replace(samples[0], split="test")], preprocessing)


def test_float16_halves_the_weights(model):
    assert len(tflite.float16(model)) < 0.6 * 4 * model.count_params()
