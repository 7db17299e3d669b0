"""The report of an evaluation, on images and scores made here."""

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from matplotlib.figure import Figure as Canvas

from xrayedge.bundle import OpacitySettings, OperatingPoint
from xrayedge.data import Sample
from xrayedge.evaluation import Judged, calibration_bins
from xrayedge.evaluation.report import _draw_opacities, write_report
from xrayedge.preprocessing import Preprocessing, Window

CLASSES = ("covid", "healthy", "pneumonia")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    samples = []
    for number in range(14):
        path = folder / f"jane-doe-{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (90, 70), np.uint8))
        label = CLASSES[number % 3] if number < 12 else "other"
        columns = {"view": "PA" if number < 6 else "AP"}
        boxes = ((0.1, 0.1, 0.5, 0.5),) if label == "covid" else ()
        sample = Sample(path, label, "test", f"patient {number}", columns=columns)
        samples.append(replace(sample, opacity_boxes=boxes, lung_box=(0.0, 0.0, 1.0, 0.5)))
    scores = rng.dirichlet((1, 1, 1), 14)
    maps = rng.normal(size=(14, 7, 7, 4)).astype(np.float32)
    maps[..., 3] -= 4.0
    maps[::3, 1, 2, 3] = 5.0  # an opacity inside the box of each case of COVID-19
    return Judged(
        samples,
        CLASSES,
        Preprocessing(size=64),
        scores,
        maps,
        np.array([(90, 70)] * 14),
        [Window.whole(90, 70)] * 14,
        points=(OperatingPoint("balanced", dict.fromkeys(CLASSES, 1.0), 0.5),),
        opacity=OpacitySettings(threshold=0.5, temperature=1.0, bias=0.0),
    )


@pytest.fixture(scope="module")
def report(judged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "report"
    parts = {"view": judged.evaluate_by("view")}
    write_report(folder, "model on data", judged, judged.evaluate(), parts)
    return folder


def test_the_report_is_complete(report, judged):
    names = {path.name for path in report.iterdir()}
    figures = {"confusion.png", "roc.png", "reliability.png", "images.png", "equalisation.png"}
    assert names == figures | {"report.json", "index.html"}
    for name in figures:
        assert min(cv2.imread(str(report / name)).shape[:2]) > 200
    values = json.loads((report / "report.json").read_text())
    accuracy = (judged.scores[:12].argmax(axis=1) == judged.labels[:12]).mean()
    assert values["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert {name: one["images"] for name, one in values["by"]["view"].items()} == {
        "AP": 8,
        "PA": 6,
    }
    assert values["localisation"]["pointing_game"]["value"] == 1.0
    assert set(values["operating_points"]) == {"balanced"}


def test_the_page_stands_alone_and_names_no_file(report):
    page = (report / "index.html").read_text()
    sources = re.findall(r"src='(.{0,22})", page)
    assert len(sources) == 5
    assert set(sources) == {"data:image/png;base64,"}
    assert "jane-doe" not in page + (report / "report.json").read_text()
    assert "not a medical device" in page


def test_only_a_table_scrolls_sideways_never_the_page(report):
    page = (report / "index.html").read_text()
    assert page.count("<table") == page.count("<div class='table'><table") == 3
    assert ".table{overflow-x:auto" in page
    assert "max-width:100%" in page


def test_outlines_are_drawn_where_an_opacity_is_found_and_marked(judged):
    canvas = Canvas()
    axes = canvas.subplots()
    _draw_opacities(axes, judged, 0)
    found, marked = (axes.patches[row].get_bbox() for row in (1, 0))
    assert (marked.x0, marked.y0, marked.x1, marked.y1) == pytest.approx((6.4, 6.4, 32, 32))
    # Place (1, 2) of 7 x 7, enlarged to 64 pixels.
    assert found.x0 < 2.5 * 64 / 7 < found.x1
    assert found.y0 < 1.5 * 64 / 7 < found.y1
    assert axes.texts[0].get_text().startswith("0.9")


def test_confidence_is_compared_with_how_often_it_is_right():
    scores = np.array([[0.95, 0.05], [0.92, 0.08], [0.45, 0.55], [0.4, 0.6]])
    low, high = calibration_bins(np.array([0, 0, 1, 1]), scores[[2, 0, 1, 2]])
    assert (low.images, high.images) == (2, 2)
    assert low.confidence == pytest.approx(0.55)
    assert low.accuracy == 0.5
    assert high.confidence == pytest.approx(0.935)
    assert high.accuracy == 0.5
