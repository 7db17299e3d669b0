"""The shipped models on the labelled radiographs; skipped where the data are not there."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

pytest.importorskip("sklearn")

from xrayedge import ModelBundle, shipped_bundles
from xrayedge.data import load_dataset, read_sample
from xrayedge.evaluation import ScoringModel, evaluate, evaluate_gate
from xrayedge.lungs import LungFiles, open_finder, window_for

pytestmark = pytest.mark.data


ENGINES = ("litert", "onnx")


@cache
def samples_of(data_root, part):
    if part == "frontal":
        path, where, turned = data_root / "frontal_manifest.csv", [("split", "test")], "frontal"
    else:
        path, where, turned = data_root / "manifest.csv", [("set", part), ("split", "test")], None
    return load_dataset(path, where, complete=False, turned_of=turned).samples


@cache
def inputs_of(data_root, part, preprocessing, name):
    """``uint8 [N, size, size, 1]``: reading the images takes longer than most models do.

    Framed as for the bundle ``name``; whole images with ``None``.
    """
    finder = open_finder(name and LungFiles.of(ModelBundle.load(name)))
    images = map(read_sample, samples_of(data_root, part))
    return np.stack([preprocessing.apply(window_for(finder, one).cut(one)) for one in images])


def scores_by(model, data_root, part, name=None):
    inputs = inputs_of(data_root, part, model.preprocessing, name)
    return np.stack([model.judge(one[np.newaxis])[0] for one in inputs])


@cache
def scores_of(data_root, part, name, engine, precision):
    model = ScoringModel.from_bundle(name, precision, engine, frontal=False)
    return scores_by(model, data_root, part, name)


#: In `paper` and `extended` the margins tell the class, and the models see the lungs alone: see the
#: model card.
LEAST_ACCURACY = {
    "paper": {"vgg16": 0.85, "vgg16-edge": 0.80},
    "extended": {"vgg16": 0.78, "vgg16-edge": 0.80},
}


@pytest.mark.parametrize("part", LEAST_ACCURACY)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", shipped_bundles())
def test_accuracy(data_root, name, engine, part):
    samples = samples_of(data_root, part)
    classes = ModelBundle.load(name).classifier.classes
    result = evaluate(samples, classes, scores_of(data_root, part, name, engine, "int8"))
    assert result.metrics["accuracy"].value >= LEAST_ACCURACY[part][name]


@pytest.mark.parametrize("name", shipped_bundles())
def test_both_engines_give_the_label_of_the_float_model_where_it_is_sure(data_root, name):
    """float16 stands for the float model: its arithmetic is float32, its weights are rounded."""
    reference = scores_of(data_root, "extended", name, "litert", "float16")
    ordered = np.sort(reference, axis=1)
    sure = ordered[:, -1] - ordered[:, -2] > 0.1
    assert sure.sum() > 0.8 * len(sure)
    for engine in ENGINES:
        found = scores_of(data_root, "extended", name, engine, "int8")
        assert np.array_equal(found.argmax(axis=1)[sure], reference.argmax(axis=1)[sure])


@pytest.mark.parametrize("name", shipped_bundles())
def test_both_engines_give_the_same_int8_scores(data_root, name):
    litert, onnx = (scores_of(data_root, "extended", name, engine, "int8") for engine in ENGINES)
    assert np.abs(litert - onnx).max() < 0.02


@pytest.mark.parametrize("name", shipped_bundles())
def test_the_operating_point_specific_calls_no_fewer_healthy(data_root, name):
    model = ScoringModel.from_bundle(
        name, "int8", "litert", frontal=False, operating_point="specific"
    )
    found = scores_by(model, data_root, "extended", name)
    usual = scores_of(data_root, "extended", name, "litert", "int8")
    assert found.sum(axis=1) == pytest.approx(1.0)
    healthy = model.classes.index("healthy")
    assert (found[:, healthy] > usual[:, healthy]).all()
    assert (found.argmax(axis=1) == healthy).sum() > (usual.argmax(axis=1) == healthy).sum()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", shipped_bundles())
def test_frontal_check(data_root, name, engine):
    model = ScoringModel.from_bundle(name, "int8", engine, frontal=True)
    scores = scores_by(model, data_root, "frontal")
    samples = samples_of(data_root, "frontal")
    metrics = evaluate_gate(samples, model.classes, scores, model.gate).metrics
    assert metrics["sensitivity"].value >= 0.99
    least = {"specificity": 0.97, "refused/lateral": 0.95}
    for name, metric in metrics.items():
        assert metric.value >= least.get(name, 0.98), name
