"""The shipped models on the labelled radiographs; skipped where the data are not there."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

pytest.importorskip("sklearn")

from xrayedge import ModelBundle, shipped_bundles
from xrayedge.data import load_dataset
from xrayedge.evaluation import ScoringModel, evaluate, evaluate_gate

pytestmark = pytest.mark.data


ENGINES = ("litert", "onnx")


def samples_of(data_root, part):
    where = [("set", part), ("split", "test")]
    return load_dataset(data_root / "manifest.csv", where, complete=False).samples


@cache
def scores_of(data_root, part, name, engine, precision):
    model = ScoringModel.from_bundle(name, precision, engine, frontal=False)
    return np.stack([model.score(sample) for sample in samples_of(data_root, part)])


@pytest.mark.parametrize(("part", "least"), [("paper", 0.85), ("extended", 0.80)])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", shipped_bundles())
def test_accuracy(data_root, name, engine, part, least):
    samples = samples_of(data_root, part)
    classes = ModelBundle.load(name).classifier.classes
    result = evaluate(samples, classes, scores_of(data_root, part, name, engine, "int8"))
    assert result.metrics["accuracy"].value >= least


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
    found = np.stack([model.score(sample) for sample in samples_of(data_root, "extended")])
    usual = scores_of(data_root, "extended", name, "litert", "int8")
    assert found.sum(axis=1) == pytest.approx(1.0)
    healthy = model.classes.index("healthy")
    assert (found[:, healthy] > usual[:, healthy]).all()
    assert (found.argmax(axis=1) == healthy).sum() > (usual.argmax(axis=1) == healthy).sum()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", shipped_bundles())
def test_frontal_check(data_root, name, engine):
    model = ScoringModel.from_bundle(name, "int8", engine, frontal=True)
    samples = load_dataset(
        data_root / "frontal_manifest.csv", [("split", "test")], complete=False, turned_of="frontal"
    ).samples
    scores = np.stack([model.score(sample) for sample in samples])
    metrics = evaluate_gate(samples, model.classes, scores, model.gate).metrics
    assert metrics["sensitivity"].value >= 0.99
    least = {"specificity": 0.97, "refused/lateral": 0.95}
    for name, metric in metrics.items():
        assert metric.value >= least.get(name, 0.98), name
