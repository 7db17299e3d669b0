"""From boxes around lungs to a bundle whose classifier sees the lungs alone."""

import csv
import json
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from xrayedge import Screener
from xrayedge.bundle import ModelBundle
from xrayedge.cli import main
from xrayedge.converters.convert import convert
from xrayedge.converters.lungs import FLOOR, convert_lungs
from xrayedge.converters.trained import TrainedRun
from xrayedge.data import load_dataset, read_sample
from xrayedge.errors import ConversionError, DatasetError, RunError
from xrayedge.evaluation import judge
from xrayedge.heatmap import part_of
from xrayedge.lungs import LungFiles, LungFinder
from xrayedge.training.augmentation import Augmentation
from xrayedge.training.averaging import average
from xrayedge.training.bundles import run_from_bundle
from xrayedge.training.distillation import distil
from xrayedge.training.lungs import EdgeLoss, moved, overlap
from xrayedge.training.recipe import RECIPES, Phase
from xrayedge.training.run import RunRecord, lungs_of
from xrayedge.training.scoring import scoring_model
from xrayedge.training.train import train

STILL = {one.name: 0.0 for one in fields(Augmentation)}
SIDE = 128


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    """Two dark lungs somewhere on grey; those of the ill hold a bright disc."""
    root = tmp_path_factory.mktemp("chests")
    rng = np.random.default_rng(0)
    rows = [("file", "label", "split", "source", "opacity_boxes", "lung_box")]
    for number in range(72):
        label = ("healthy", "covid")[number % 2]
        split = ("train", "train", "train", "val", "val", "test")[number // 2 % 6]
        pixels = rng.integers(150, 170, (SIDE, SIDE)).astype(np.uint8)
        left, top = (int(value) for value in rng.integers(8, 40, 2))
        width, height = (int(value) for value in rng.integers(60, 80, 2))
        for side in (0, 1):
            start = left + side * (width // 2 + 4)
            pixels[top : top + height, start : start + width // 2 - 4] = 60
        boxes = []
        if label == "covid":
            x, y = left + width // 4, top + height // 2
            cv2.circle(pixels, (x, y), 9, 240, -1)
            boxes = [[(x - 9) / SIDE, (y - 9) / SIDE, (x + 9) / SIDE, (y + 9) / SIDE]]
        cv2.imwrite(str(root / f"{number}.png"), pixels)
        lungs = [left / SIDE, top / SIDE, (left + width) / SIDE, (top + height) / SIDE]
        place = (f"{number}.png", label, split, "one")
        rows.append((*place, json.dumps(boxes), json.dumps(lungs)))
    with (root / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return root / "manifest.csv"


@pytest.fixture(scope="module")
def finder_run(chests, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "lungs"
    phase = Phase(epochs=40, learning_rate=2e-3, first_block=1)
    augmentation = Augmentation(**{**STILL, "shift": 0.1, "zoom": 0.1})
    recipe = replace(
        RECIPES["lungs"], phases=(phase,), batch_size=12, augmentation=augmentation, dropout=0.0
    )
    dataset = load_dataset(chests, non_classes=True).with_lung_boxes()
    record = train(dataset, recipe, out, data_name={"name": "chests", "where": []})
    assert record.history[-1].accuracy > record.history[0].accuracy + 0.2
    return out


@pytest.fixture(scope="module")
def files(chests, finder_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "lungs"
    return convert_lungs(TrainedRun.open(finder_run, chests), out)


@pytest.fixture(scope="module")
def run(chests, files, tmp_path_factory):
    """A classifier that saw the lungs alone."""
    out = tmp_path_factory.mktemp("runs") / "classifier"
    recipe = replace(
        RECIPES["frontal"],
        turned_label=None,
        phases=(Phase(epochs=8, learning_rate=2e-3, first_block=1),),
        augmentation=Augmentation(**{**STILL, "shift": 0.03}),
        batch_size=8,
        opacity=1.0,
    )
    data_name = {"name": "chests", "where": []}
    train(load_dataset(chests), recipe, out, data_name=data_name, lungs=files)
    return out


def test_the_finder_finds_lungs_that_it_has_not_seen(chests, files):
    finder, off = LungFinder.open(files), []
    for sample in load_dataset(chests).split("test"):
        window = finder.find(pixels := read_sample(sample), *pixels.shape)
        left, top, right, bottom = part_of(window.box, *pixels.shape)
        margin = finder.margin
        found = np.array([left + margin, top + margin, right - margin, bottom - margin])
        off.append(np.abs(found - sample.lung_box))
    assert np.mean(off) < 0.04


def test_both_files_are_the_float_model(files):
    assert [variant.file for variant in files.settings.network.variants] == [
        "lungs-int8.tflite",
        "lungs-int8.onnx",
    ]
    for variant in files.settings.network.variants:
        assert variant.parity["mean_difference"] < FLOOR
        assert variant.golden


def test_only_the_run_of_a_finder_becomes_one(chests, run, files, tmp_path):
    with pytest.raises(ConversionError, match="not the run of a network that frames"):
        convert_lungs(TrainedRun.open(run, chests), tmp_path / "out")
    with pytest.raises(ConversionError, match="already exists"):
        convert_lungs(TrainedRun.open(run, chests), files.folder)


def test_data_without_boxes_teach_no_finder(tmp_path, chests):
    dataset = load_dataset(chests)
    without = tuple(replace(sample, lung_box=None) for sample in dataset.samples)
    with pytest.raises(DatasetError, match="lung_box"):
        replace(dataset, samples=without).with_lung_boxes()


def test_a_run_keeps_what_framed_its_images(run, files):
    assert RunRecord.read(run).lungs == files.digest()
    kept = lungs_of(run)
    assert kept.settings == files.settings
    assert kept.folder == run / "lungs"


def test_what_continues_from_a_run_sees_the_same(chests, run, files, tmp_path):
    dataset = load_dataset(chests)
    recipe = replace(RunRecord.read(run).recipe, phases=(Phase(1, 1e-4, first_block=1),))
    data_name = {"name": "chests", "where": []}
    train(dataset, recipe, tmp_path / "on", data_name=data_name, start=run)
    average([run, tmp_path / "on"], dataset, tmp_path / "mean")
    distil(tmp_path / "on", [run], dataset, tmp_path / "student", view_count=1, epochs=1)
    for name in ("on", "mean", "student"):
        assert lungs_of(tmp_path / name).digest() == files.digest()
        assert RunRecord.read(tmp_path / name).lungs == files.digest()


def test_a_failed_start_leaves_nothing(chests, files, run, tmp_path, monkeypatch):
    def fail(*_arguments, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("xrayedge.training.train.TrainingBatches", fail)
    recipe, data_name = RunRecord.read(run).recipe, {"name": "chests", "where": []}
    with pytest.raises(KeyboardInterrupt):
        train(load_dataset(chests), recipe, tmp_path / "cut", data_name=data_name, lungs=files)
    assert not (tmp_path / "cut").exists()


def test_other_parts_may_be_averaged_but_not_taught(chests, run, files, tmp_path):
    dataset = load_dataset(chests)
    record = RunRecord.read(run)
    data_name = {"name": "chests", "where": []}
    recipe = replace(record.recipe, phases=(Phase(1, 1e-4, first_block=1),))
    train(dataset, recipe, tmp_path / "whole", data_name=data_name)
    average([run, tmp_path / "whole"], dataset, tmp_path / "mean")
    assert lungs_of(tmp_path / "mean").digest() == files.digest()
    average([tmp_path / "whole", run], dataset, tmp_path / "whole-mean")
    assert RunRecord.read(tmp_path / "whole-mean").lungs is None
    assert lungs_of(tmp_path / "whole-mean") is None
    with pytest.raises(RunError, match="the same part of the images"):
        distil(run, [tmp_path / "whole"], dataset, tmp_path / "student")


def test_whole_image_networks_teach_and_learn_from_the_lungs(chests, run, files, tmp_path):
    dataset, whole = load_dataset(chests), tmp_path / "whole"
    recipe = replace(RunRecord.read(run).recipe, phases=(Phase(1, 1e-4, first_block=1),))
    train(dataset, recipe, whole, data_name={"name": "chests", "where": []})
    views, taught = tmp_path / "views", tmp_path / "taught"
    briefly = f"--teacher {whole} --data {chests} --view-count 1 --epochs 1 --views {views}"
    command = ["distil", str(whole), *briefly.split(), "--out"]
    framed = ("--lungs", str(files.folder))
    result = CliRunner().invoke(main, [*command, str(taught), *framed])
    assert result.exit_code == 0, result.output
    assert RunRecord.read(taught).lungs == lungs_of(taught).digest() == files.digest()
    # A student with another equalisation: its inputs lie beside the others.
    equalised = RunRecord.read(taught).recipe.preprocessing
    other = ["--equalisation", "global"]
    result = CliRunner().invoke(main, [*command, str(tmp_path / "other"), *framed, *other])
    assert result.exit_code == 0, result.output
    expected = replace(equalised, equalisation="global")
    assert RunRecord.read(tmp_path / "other").recipe.preprocessing == expected
    shown = [
        np.load(views / f"inputs-{equalised.size}-{how}-0.npy")
        for how in (equalised.equalisation, "global")
    ]
    assert shown[0].shape == shown[1].shape
    assert not np.array_equal(*shown)
    mean = average([taught, tmp_path / "other"], dataset, tmp_path / "mean")
    assert mean.recipe.preprocessing == equalised
    # Views of whole images are others.
    result = CliRunner().invoke(main, [*command, str(tmp_path / "whole-student")])
    assert result.exit_code == 2
    assert "holds views for another teacher" in result.output


@pytest.fixture(scope="module")
def bundle(chests, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "framed"
    frontal = ModelBundle.load("vgg16-edge")
    return convert(TrainedRun.open(run, chests), frontal, out, name="framed", model_version="1")


def test_the_bundle_screens_as_the_run_does(bundle, run, chests):
    samples = load_dataset(chests).split("test")
    judged = judge(scoring_model(run), samples)
    with Screener(bundle.folder, precision="float32") as screener:
        for row, sample in enumerate(samples):
            pixels = read_sample(sample)
            seen = screener._networks.lungs.find(pixels, *pixels.shape)
            assert seen == judged.windows[row]
    assert (
        bundle.lungs.network.variants[0].sha256 == lungs_of(run).settings.network.variants[0].sha256
    )
    assert bundle.reference.grey_mean.counts


def test_a_run_made_from_the_bundle_has_it(bundle, files, tmp_path):
    record = run_from_bundle(bundle, tmp_path / "run")
    assert record.lungs == files.digest()
    assert LungFiles.load(tmp_path / "run" / "lungs").settings == files.settings


def test_the_commands_of_the_readme(chests, run, tmp_path):
    def call(*arguments):
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output

    made, files, on = tmp_path / "run", tmp_path / "lungs", tmp_path / "on"
    call("train", chests, "--recipe", "lungs", "--epochs", 1, "--out", made)
    assert RunRecord.read(made).recipe.epochs == 1
    call("convert", made, "--data", chests, "--out", files)
    call(
        *("train", chests, "--start", run, "--lungs", files, "--recipe", "hospitals"),
        *("--epochs", 1, "--equalisation", "global", "--out", on),
    )
    assert RunRecord.read(on).recipe.preprocessing.equalisation == "global"
    assert RunRecord.read(on).lungs == LungFiles.load(files).digest() != RunRecord.read(run).lungs


@pytest.mark.parametrize(
    "changes", [{"flip": 1.0}, {"zoom": 0.15, "shift": 0.05, "stretch": 0.12}, {"rotation": 6.0}]
)
def test_a_box_moves_with_its_image(changes):
    image = np.zeros((200, 300), np.uint8)
    image[50:150, 60:180] = 255
    augmentation = Augmentation(**{**STILL, **changes})
    varied, matrix = augmentation.vary(image, image, np.random.default_rng(2))
    left, top, right, bottom = moved((0.2, 0.25, 0.6, 0.75), varied.shape, matrix)
    middle, centre = round((left + right) * 150), round((top + bottom) * 100)
    columns, rows = (varied[centre] > 127).nonzero()[0], (varied[:, middle] > 127).nonzero()[0]
    expected = columns[0] / 300, rows[0] / 200, (columns[-1] + 1) / 300, (rows[-1] + 1) / 200
    assert (left, top, right, bottom) == pytest.approx(expected, abs=0.012)


def test_the_loss_and_the_overlap():
    true = np.array([[0.2, 0.2, 0.6, 0.6]], np.float32)
    found = np.array([[0.4, 0.2, 0.8, 0.61]], np.float32)
    logits = np.log(found / (1 - found))
    loss = np.asarray(EdgeLoss().call(true, logits))
    off = np.array([0.2, 0.0, 0.2, 0.01])
    expected = np.where(off < 0.05, off**2 / 2, 0.05 * (off - 0.025)).mean()
    assert loss == pytest.approx([expected], rel=1e-3)
    shared, union = 0.2 * 0.4, 0.4 * 0.4 + 0.4 * 0.41 - 0.2 * 0.4
    assert np.asarray(overlap(true, logits)) == pytest.approx([shared / union], rel=1e-3)
    assert np.asarray(overlap(true, -logits[:, ::-1])) < 1.0
