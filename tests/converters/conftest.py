"""Two small training runs and the bundle made of them, once for all files here."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from xrayedge.converters import calibration_set
from xrayedge.converters.convert import convert
from xrayedge.converters.trained import TrainedRun
from xrayedge.data import load_dataset
from xrayedge.training.recipe import RECIPES, Phase
from xrayedge.training.run import MODEL
from xrayedge.training.train import train


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    phases = (Phase(epochs=6, learning_rate=2e-3, first_block=1),)
    recipe = RECIPES["frontal"]
    # Six epochs are too few to learn every exposure.
    augmentation = replace(recipe.augmentation, contrast=0.2, brightness=0.1)
    small = replace(recipe, phases=phases, batch_size=8, augmentation=augmentation)
    recipes = {
        "classifier": replace(small, turned_label=None, opacity=1.0),
        "frontal": replace(small, turned_label="covid"),
    }
    for name, recipe in recipes.items():
        dataset = load_dataset(data, turned_of=recipe.turned_label)
        train(dataset, recipe, folder / name, data_name={"name": "bars", "where": []})
    return folder


@pytest.fixture(scope="session")
def trained(data, runs):
    return {name: TrainedRun.open(runs / name, data) for name in ("classifier", "frontal")}


@pytest.fixture(scope="session")
def told():
    """What the conversion of `bundle` says."""
    return []


@pytest.fixture(scope="session")
def bundle(trained, runs, told):
    return convert(
        **trained,
        out=runs / "bars",
        name="bars",
        model_version="2.0.0",
        debug_layers=True,
        progress=told.append,
    )


@pytest.fixture(scope="session")
def model(runs):
    return keras.saving.load_model(runs / "classifier" / MODEL, compile=False)


@pytest.fixture(scope="session")
def chosen(trained):
    run = trained["classifier"]
    return calibration_set.choose(run.dataset.split("train"), run.record.recipe.preprocessing)


@pytest.fixture(scope="session")
def inputs(bundle, data):
    images = [
        cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(data.parent.rglob("*.png"))
    ]
    return np.stack([bundle.classifier.preprocessing.apply(image) for image in images])
