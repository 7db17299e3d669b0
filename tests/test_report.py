"""The report of an evaluation, on pictures and scores made here."""

import json
import re

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from xrayedge.data import Sample
from xrayedge.evaluation import calibration_bins, evaluate, evaluate_by
from xrayedge.evaluation.report import Judged, write_report
from xrayedge.preprocessing import Preprocessing

CLASSES = ("covid", "healthy", "pneumonia")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    samples = []
    for number in range(12):
        path = folder / f"jane-doe-{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (90, 70), np.uint8))
        label = CLASSES[number % 3]
        columns = {"view": "PA" if number < 6 else "AP"}
        samples.append(Sample(path, label, "test", f"patient {number}", columns=columns))
    scores = rng.dirichlet((1, 1, 1), 12)
    maps = rng.normal(size=(12, 7, 7, 3)).astype(np.float32)
    return Judged(samples, CLASSES, Preprocessing(size=64), scores, maps)


@pytest.fixture(scope="module")
def report(judged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "report"
    parts = {"view": evaluate_by("view", judged.samples, CLASSES, judged.scores)}
    evaluation = evaluate(judged.samples, CLASSES, judged.scores)
    write_report(folder, "model on data", judged, evaluation, parts)
    return folder


def test_the_report_is_complete(report, judged):
    names = {path.name for path in report.iterdir()}
    figures = {"confusion.png", "roc.png", "reliability.png", "pictures.png", "equalisation.png"}
    assert names == figures | {"report.json", "index.html"}
    for name in figures:
        assert min(cv2.imread(str(report / name)).shape[:2]) > 200
    values = json.loads((report / "report.json").read_text())
    accuracy = (judged.scores.argmax(axis=1) == judged.labels).mean()
    assert values["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert {name: one["images"] for name, one in values["by"]["view"].items()} == {
        "AP": 6,
        "PA": 6,
    }


def test_the_page_stands_alone_and_names_no_file(report):
    page = (report / "index.html").read_text()
    sources = re.findall(r"src='(.{0,22})", page)
    assert len(sources) == 5
    assert set(sources) == {"data:image/png;base64,"}
    assert "jane-doe" not in page + (report / "report.json").read_text()
    assert "not a medical device" in page


def test_confidence_is_compared_with_how_often_it_is_right():
    scores = np.array([[0.95, 0.05], [0.92, 0.08], [0.45, 0.55], [0.4, 0.6]])
    low, high = calibration_bins(np.array([0, 0, 1, 1]), scores[[2, 0, 1, 2]])
    assert (low.images, high.images) == (2, 2)
    assert low.confidence == pytest.approx(0.55)
    assert low.accuracy == 0.5
    assert high.confidence == pytest.approx(0.935)
    assert high.accuracy == 0.5
