"""A shipped bundle as the start of a run."""

import hashlib
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

keras = pytest.importorskip("keras")

from xrayedge import ModelBundle
from xrayedge.bundle import MANIFEST
from xrayedge.cli import main
from xrayedge.data import Dataset, load_dataset, model_inputs
from xrayedge.engines import open_engine
from xrayedge.errors import BundleError, RunError
from xrayedge.evaluation import evaluate
from xrayedge.golden import phantom
from xrayedge.training.bundles import finished_run, read_convolutions, run_from_bundle
from xrayedge.training.network import activation_map_model
from xrayedge.training.recipe import RECIPES, Phase
from xrayedge.training.run import MODEL, RunRecord
from xrayedge.training.scoring import predict
from xrayedge.training.train import train


@pytest.fixture(scope="module")
def bundle():
    return ModelBundle.load("vgg16-edge")


@pytest.fixture(scope="module")
def run(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "edge"
    run_from_bundle(bundle, folder)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return keras.saving.load_model(run / MODEL, compile=False)


def test_the_run_is_the_bundle_s(bundle, run):
    record = RunRecord.read(run)
    assert record.finished
    assert record.classes == bundle.classifier.classes
    assert record.temperature == bundle.classifier.temperature
    assert record.recipe.preprocessing == bundle.classifier.preprocessing
    assert record.bundle["name"] == "vgg16-edge"
    assert record.bundle["version"] == bundle.version


def test_its_maps_are_those_of_the_float_file(bundle, model):
    variant = bundle.classifier.variant("tflite", "float32")
    engine = open_engine("litert", bundle.read(variant), threads=1)
    inputs = np.stack([bundle.classifier.preprocessing.apply(phantom(number)) for number in (0, 2)])
    expected = np.concatenate([engine.run(one[np.newaxis]) for one in inputs])
    found = activation_map_model(model).predict_on_batch(inputs)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_its_weights_are_those_of_the_file_to_the_bit(bundle, model):
    wanted = read_convolutions(bundle.read(bundle.classifier.variant("tflite", "float32")))
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer, arrays in zip(layers, wanted, strict=True):
        for found, expected in zip(layer.get_weights(), arrays, strict=True):
            assert np.array_equal(found, expected)


def test_a_float16_file_gives_them_in_half_precision(bundle):
    exact, halved = (
        read_convolutions(bundle.read(bundle.classifier.variant("tflite", precision)))
        for precision in ("float32", "float16")
    )
    for one, other in zip(exact, halved, strict=True):
        for wide, narrow in zip(one, other, strict=True):
            assert np.array_equal(wide.astype(np.float16).astype(np.float32), narrow)


def test_an_int8_file_is_refused(bundle):
    with pytest.raises(RunError, match="not float32 or float16"):
        read_convolutions(bundle.read(bundle.classifier.variant("tflite", "int8")))


def test_a_name_a_folder_and_a_run_are_all_starts(bundle, run):
    for start in ("vgg16-edge", bundle.folder):
        with finished_run(start) as folder:
            assert RunRecord.read(folder).bundle["name"] == "vgg16-edge"
        assert not folder.exists()
    with finished_run(run) as folder:
        assert folder == run
    assert run.exists()
    with pytest.raises(BundleError, match="no model 'vgg17'"), finished_run("vgg17"):
        pass


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_keras_policy_changes_nothing(bundle, run, tmp_path, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        run_from_bundle(bundle, tmp_path / "run")
        assert keras.config.dtype_policy().name == policy
    finally:
        keras.config.set_dtype_policy(before)
    found, expected = (
        keras.saving.load_model(folder / MODEL, compile=False) for folder in (tmp_path / "run", run)
    )
    assert [layer.dtype_policy for layer in found.layers] == [
        layer.dtype_policy for layer in expected.layers
    ]
    for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_a_folder_that_holds_a_run_is_kept(bundle, run):
    before = (run / MODEL).read_bytes()
    with pytest.raises(RunError, match="holds a run"):
        run_from_bundle(bundle, run)
    assert (run / MODEL).read_bytes() == before


@pytest.fixture
def copied(bundle, tmp_path):
    """Writes a copy of the bundle whose manifest is changed by a function."""

    def copy(change):
        folder = tmp_path / "copy"
        shutil.copytree(bundle.folder, folder)
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        change(values, folder)
        (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
        return folder

    return copy


def test_a_bundle_without_recipe_is_named(copied, tmp_path):
    folder = copied(lambda values, _: values["provenance"]["classifier"].pop("recipe"))
    with pytest.raises(RunError, match="names no recipe"):
        run_from_bundle(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_of_another_network_is_named(copied, tmp_path):
    def narrower(values, _):
        values["provenance"]["classifier"]["recipe"]["widths"][0][0] = 8

    with pytest.raises(RunError, match="not the network of the recipe"):
        run_from_bundle(copied(narrower), tmp_path / "run")


def test_other_scores_than_the_manifest_s_are_named(copied, tmp_path):
    def another_file(values, folder):
        for variant in values["classifier"]["variants"]:
            if variant["file"] == "classifier-float32.tflite":
                path = folder / variant["file"]
                content = bytearray(path.read_bytes())
                largest = max(
                    (arrays[0] for arrays in read_convolutions(bytes(content))), key=np.size
                )
                stored = largest.transpose(3, 0, 1, 2).tobytes()
                start = bytes(content).index(stored)
                content[start : start + len(stored)] = bytes(len(stored))
                path.write_bytes(content)
                variant["sha256"] = hashlib.sha256(content).hexdigest()

    with pytest.raises(RunError, match="scores differ"):
        run_from_bundle(copied(another_file), tmp_path / "run")


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """A hospital that has no pneumonia to show."""
    root = tmp_path_factory.mktemp("hospital")
    rng = np.random.default_rng(0)
    for number, label in enumerate(("covid", "healthy")):
        (root / label).mkdir()
        for image in range(8):
            pixels = phantom(number + 2 * (image % 2)) // 2 + rng.integers(0, 99, (352, 320))
            cv2.imwrite(str(root / label / f"{image}.png"), pixels.astype(np.uint8))
    return root


def test_training_goes_on_from_a_bundle_and_keeps_a_class_that_the_data_lack(
    two_classes, model, tmp_path, monkeypatch
):
    # The last epoch's: a warm-up's first step has the rate 0, and might be the best.
    short = replace(RECIPES["own-hospital"], phases=(Phase(2, 1e-4, first_block=1),), keep="last")
    monkeypatch.setitem(RECIPES, "own-hospital", short)
    command = ["train", str(two_classes), "--start", "vgg16-edge"]
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    record = RunRecord.read(tmp_path / "run")
    assert record.start["bundle"]["name"] == "vgg16-edge"
    assert record.recipe.name == "own-hospital"
    assert record.classes == ("covid", "healthy", "pneumonia")
    trained = keras.saving.load_model(tmp_path / "run" / MODEL, compile=False)
    before, after = (
        one.get_layer("activation_map").get_weights()[0][0, 0].T[: len(record.classes)]
        for one in (model, trained)
    )
    moved = dict(zip(record.classes, np.abs(after - before).max(axis=1), strict=True))
    assert moved["pneumonia"] < 0.02 * min(moved["covid"], moved["healthy"])


@pytest.mark.parametrize("parents", [0.0, 1.0])
def test_without_boxes_a_channel_of_opacities_is_neither_made_nor_lost(run, two_classes, parents):
    record = RunRecord.read(run)
    parent = replace(record, recipe=replace(record.recipe, opacity=parents))
    recipe, _ = parent.continued(RECIPES["own-hospital"], load_dataset(two_classes))
    assert bool(recipe.opacity) == bool(parents)


@pytest.mark.slow
@pytest.mark.data
def test_what_the_missing_class_knew_is_kept(data_root, run, tmp_path):
    """Pneumonia is told from the rest as before, after a training without any."""
    manifest = load_dataset(data_root / "manifest.csv", [("set", "extended")])
    taught = [sample for sample in manifest.samples if sample.label != "pneumonia"]
    own = Dataset(tuple(taught), ("covid", "healthy"))
    recipe, own = RunRecord.read(run).continued(RECIPES["own-hospital"], own)
    record = train(own, recipe, tmp_path / "run", data_name={"name": "own"}, start=run)
    asked = manifest.split("val")
    inputs = model_inputs(asked, recipe.preprocessing)
    before, after = (
        evaluate(asked, record.classes, predict(folder / MODEL, inputs, 1.0)).metrics
        for folder in (run, tmp_path / "run")
    )
    assert after["auc/pneumonia"].value > before["auc/pneumonia"].value - 0.05


def test_a_class_that_the_bundle_does_not_know_is_refused(run, two_classes, tmp_path):
    shutil.copytree(two_classes, tmp_path / "data")
    (tmp_path / "data" / "covid").rename(tmp_path / "data" / "tuberculosis")
    with pytest.raises(RunError, match="hold the classes healthy, tuberculosis; the model knows"):
        RunRecord.read(run).load_data(tmp_path / "data")


@pytest.mark.data
def test_bundles_and_runs_are_averaged_alike(data_root, run, model, tmp_path):
    data = [f"--data={data_root / name}" for name in ("manifest.csv", "sites_manifest.csv")]
    command = ["average", "vgg16-edge", str(run), *data, "--out", str(tmp_path / "mean")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    mean = keras.saving.load_model(tmp_path / "mean" / MODEL, compile=False)
    for one, other in zip(mean.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(one, other)
