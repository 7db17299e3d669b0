import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import VGG16

from xrayedge import BundleError, EngineError, ModelBundle, read
from xrayedge.bench import stages, verdict
from xrayedge.bench.cases import choose_cases, load_bundles
from xrayedge.bench.compare import changes, differences
from xrayedge.bench.plot import draw, pareto_front, points
from xrayedge.bench.processes import run_job
from xrayedge.bench.report import Report, Row
from xrayedge.bench.statistics import estimate, estimate_ratio
from xrayedge.bundle import DEFAULT_MODEL, OperatingPoint
from xrayedge.cli import main
from xrayedge.engines import available
from xrayedge.errors import BenchmarkError

CONTRACT = {
    "model", "format", "precision", "engine", "threads", "size_bytes", "load_ms", "p50_ms",
    "p95_ms", "peak_rss_mb", "accuracy", "balanced_accuracy", "macro_auc",
    "agreement_with_float32",
}  # fmt: skip

PROVIDERS = {"litert": "XNNPACK", "onnx": "CPUExecutionProvider"}


def run(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A bundle whose classifier is the shipped frontal check; its TFLite file is float32 too."""
    shipped = ModelBundle.load(VGG16)
    folder = tmp_path_factory.mktemp("bundles") / "small"
    folder.mkdir()
    network = shipped.frontal.network
    tflite = network.variant("tflite", "int8")
    for variant in network.variants:
        (folder / variant.file).write_bytes(shipped.read(variant))
    variants = []
    for variant, precision in (*((one, "int8") for one in network.variants), (tflite, "float32")):
        file = f"classifier-{precision}.{variant.format}"
        (folder / file).write_bytes(shipped.read(variant))
        variants.append(replace(variant, file=file, precision=precision))
    point = OperatingPoint("balanced", dict.fromkeys(network.classes, 1.0), 0.0)
    classifier = replace(network, variants=tuple(variants), operating_points=(point,))
    made_of = {"folder": folder, "name": "small", "classifier": classifier}
    replace(shipped, **made_of, reference=None, lungs=None).write_manifest()
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, chest, leg, shoulder_mr):
    root = tmp_path_factory.mktemp("labelled")
    for label, path in {"frontal": chest, "other_xray": leg, "mri": shoulder_mr}.items():
        (root / label).mkdir()
        (root / label / "a.dcm").write_bytes(path.read_bytes())
    return root


@pytest.fixture(scope="module")
def saved(small, labelled, tmp_path_factory):
    """A report of two rounds with accuracy, made by the command."""
    result = run("--model", small, "--rounds", 2, "--data", labelled, "--threads", "1,2", "--json")
    assert result.exit_code == 0, result.output
    path = tmp_path_factory.mktemp("reports") / "report.json"
    path.write_text(result.stdout)
    return path


def test_the_json_object_is_the_contract(saved, small):
    report = json.loads(saved.read_text())
    rows = report["rows"]
    assert {"machine", "rows"} <= set(report)
    assert all(set(row) >= CONTRACT for row in rows)
    found = {(row["precision"], row["engine"], row["threads"]) for row in rows}
    assert found == {
        (precision, engine, threads)
        for precision, engine in (("int8", "litert"), ("float32", "litert"), ("int8", "onnx"))
        for threads in (1, 2)
    }
    for row in rows:
        assert row["error"] is None
        assert row["rounds"] == 2
        assert row["runs"] >= 24
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert 0 < row["load_ms"] < row["first_result_ms"]
        assert 10 < row["peak_rss_mb"] < 1000
        assert row["provider"] == PROVIDERS[row["engine"]]
    assert {"before", "after", "cpu", "versions"} <= set(report["machine"])


def test_accuracy_and_the_float32_row(saved):
    for row in Report.read(saved).rows:
        assert (row.accuracy, row.balanced_accuracy, row.macro_auc) == (1.0, 1.0, 1.0)
        assert row.covid_sensitivity is None  # this model knows no covid
        assert row.agreement_with_float32 == 1.0
        if row.precision == "float32":
            assert row.speed_vs_float32 == 1.0
        else:
            assert row.speed_vs_float32 > 0


def test_a_floor_under_agreement(small, labelled, saved):
    arguments = ["--model", small, "--rounds", 1, "--warmup", 0, "--precision", "int8"]
    assert run(*arguments, "--data", labelled, "--min-agreement", 0.99).exit_code == 0
    report = Report.read(saved)
    worse = replace(report.rows[0], agreement_with_float32=0.98)
    unknown = replace(report.rows[1], agreement_with_float32=None)
    gated = replace(report, rows=(worse, unknown, *report.rows[2:]))
    assert gated.under(0.99) == [worse, unknown]
    assert gated.under(0.97) == [unknown]


def test_a_model_without_float32_does_not_pass_a_floor(small, labelled, tmp_path):
    bundle = ModelBundle.load(small)
    folder = tmp_path / "int8-only"
    shutil.copytree(small, folder)
    (folder / "classifier-float32.tflite").unlink()
    int8 = tuple(one for one in bundle.classifier.variants if one.precision == "int8")
    classifier = replace(bundle.classifier, variants=int8)
    replace(bundle, folder=folder, classifier=classifier).write_manifest()
    result = run(
        "--model", folder, "--rounds", 1, "--data", labelled, "--min-agreement", 0.5
    )  # fmt: skip
    assert result.exit_code == 1
    assert "under --min-agreement" in result.stderr


def test_a_table_markdown_and_csv(small):
    arguments = ["--model", small, "--rounds", 1, "--warmup", 0, "--engine", "onnx"]
    table, markdown, values = (run(*arguments, *form) for form in ([], ["--markdown"], ["--csv"]))
    for result in (table, markdown):
        assert "| accuracy" not in result.stdout
    assert "CPUExecutionProvider" in markdown.stdout
    assert "p50 ms" in markdown.stdout
    rows = list(csv.DictReader(io.StringIO(values.stdout)))
    assert [row["engine"] for row in rows] == ["onnx"]
    assert float(rows[0]["p50_ms"]) > 0


def test_stages_from_a_file_to_its_heatmap(chest):
    result = run(
        "--model", DEFAULT_MODEL, "--precision", "int8", "--engine", "onnx", "--rounds", 1,
        "--warmup", 0, "--image", chest, "--json",
    )  # fmt: skip
    (row,) = json.loads(result.stdout)["stages"]
    assert row["picture"] == "DCM uncompressed, 1841 x 1955"
    assert chest.name not in result.stdout
    parts = sum(row[stage] for stage in ("read", "frontal", "preprocess", "classify", "heatmap"))
    assert 0.5 * row["total"] < parts < 1.5 * row["total"]


def test_an_image_that_is_refused_has_no_stages(leg):
    arguments = ["--precision", "int8", "--engine", "onnx", "--rounds", 1, "--image", leg]
    result = run("--model", DEFAULT_MODEL, *arguments, "--json")
    (row,) = json.loads(result.stdout)["stages"]
    assert result.exit_code == 1
    assert row["total"] is None
    assert "the image was rejected" in row["error"]


def test_realistic_images_come_in_each_transfer_syntax(chest, tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs")
    monkeypatch.setattr(stages, "SHORTER_SIDES", (300,))  # quick; the real ones have 2048 pixels
    first, *others = stages.realistic_images(tmp_path)
    assert [stages.kind(path) for path in (first, *others)] == [
        "DCM uncompressed", "JPG", "DCM JPEG lossless", "DCM JPEG-LS", "DCM JPEG 2000",
        "DCM HTJ2K", "DCM RLE",
    ]  # fmt: skip
    expected = read(first).pixels
    for path in others[1:]:
        assert np.array_equal(read(path).pixels, expected), stages.kind(path)


def case_row(precision, latency, accuracy=None, size=100, engine="onnx", **values):
    interval = (0.9 * latency, 1.1 * latency)
    return Row("m", "1", "onnx", precision, engine, 1, size, p50_ms=latency,
               p50_ms_interval=interval, accuracy=accuracy, **values)  # fmt: skip


def test_the_fastest_file_that_is_as_accurate_as_the_best_is_shipped():
    float32 = case_row("float32", 10.0, 0.90, size=400, accuracy_interval=(0.86, 0.94))
    int8 = case_row("int8", 2.0, 0.88, accuracy_interval=(0.84, 0.92))
    dynamic = case_row("dynamic", 1.0, 0.70, accuracy_interval=(0.65, 0.75))
    rows = [float32, dynamic, int8]
    assert verdict.choose(rows) is int8
    assert verdict.ranked(rows) == [int8, float32, dynamic]
    # int8's interval, 0.84 to 0.92, holds float32's 0.90.
    assert (
        verdict.sentence(rows) == "Ship: m int8 onnx: 2.00 ms, 0.0 MB, accuracy as float32 (0.880)"
    )


def test_of_files_whose_times_can_not_be_told_apart_the_smallest_is_shipped():
    one, other = case_row("float16", 2.0, size=200), case_row("int8", 2.1, size=100)
    assert verdict.choose([one, other]) is other
    assert verdict.choose([one, replace(other, p50_ms_interval=(2.3, 2.4))]) is one


def test_what_lost_too_much_or_did_not_run_is_not_shipped():
    good, fast = case_row("float32", 5.0), case_row("int8", 1.0)
    assert verdict.choose([good, fast], {fast.key}) is good
    assert verdict.choose([replace(good, p50_ms=None, error="no memory")]) is None
    assert "nothing" in verdict.sentence([replace(good, p50_ms=None, error="no memory")])


def test_the_usual_output_fits_80_columns_and_ends_with_the_verdict(small, labelled):
    arguments = ["--model", small, "--rounds", 1, "--warmup", 0, "--engine", "litert"]
    result = run(*arguments, "--data", labelled)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("Ship: small ")
    assert "not available" not in result.stdout
    # In a pipe a line a step, with the time that is left.
    steps = [line for line in result.stderr.splitlines() if " of 4: " in line]
    assert len(steps) == 4
    assert "left" not in steps[0]
    assert "about 0:0" in steps[1]
    verbose = run(*arguments, "--verbose").stdout
    assert "XNNPACK" in verbose
    assert verbose.splitlines()[-1].startswith("Ship: ")


def test_damaged_labelled_images_are_counted_and_left_out(small, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "data")
    (tmp_path / "data" / "mri" / "bad.dcm").write_bytes(b"no image")
    result = run("--model", small, "--rounds", 1, "--warmup", 0, "--engine", "onnx",
                 "--data", tmp_path / "data")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Accuracy on 3 labelled images." in result.stdout
    assert "1 labelled images can't be read" in result.stdout


def test_labels_of_the_plot_lie_apart_and_inside(saved):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    row = Report.read(saved).rows[0]
    rows = tuple(
        replace(row, model=f"model-{number}", p50_ms=1.0 + 0.02 * (number % 4),
                accuracy=0.9 + 0.001 * (number // 4))
        for number in range(12)
    )  # fmt: skip
    metric, labels = draw(replace(Report.read(saved), rows=rows))
    renderer = FigureCanvasAgg(metric).get_renderer()
    boxes = [Text.get_window_extent(label, renderer) for label in labels]
    assert len(boxes) == 12
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        assert box.x0 >= 0
        assert box.x1 <= metric.bbox.x1
    (front,) = [line for line in metric.axes[0].lines if line.get_label().startswith("Pareto")]
    assert len(front.get_xdata()) >= 3  # drawn though one file is best in both


def test_the_figure_marks_the_pareto_front(small, labelled, tmp_path, saved):
    pytest.importorskip("matplotlib")
    path = tmp_path / "figure.svg"
    arguments = ["--model", small, "--rounds", 1, "--warmup", 0, "--data", labelled]
    assert run(*arguments, "--plot", path).exit_code == 0
    assert b"<svg" in path.read_bytes()
    row = Report.read(saved).rows[0]
    rows = [
        replace(row, p50_ms=latency, accuracy=accuracy)
        for latency, accuracy in ((5.0, 0.9), (1.0, 0.8), (2.0, 0.7), (6.0, 0.9), (None, 1.0))
    ]
    front = [(point.latency_ms, point.accuracy) for point in pareto_front(points(rows))]
    assert front == [(1.0, 0.8), (5.0, 0.9)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "tensorrt"], "'litert', 'onnx'"),
        (["--precision", "int2"], "'int8'"),
        (["--precision", "dynamic", "--engine", "onnx"], "int8 in onnx"),
        (["--model", "no-such-model"], "vgg16"),
        (["--threads", "1,0"], "threads"),
        (["--min-agreement", "0.99"], "--data"),
        (["--plot", "figure.png"], "--data"),
        (["--data", "no-such-folder"], "no such folder"),
        (["--compare", "old.json", "new.json"], "can't be read"),
    ],
)
def test_wrong_usage_is_status_two_and_one_message(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_engine_that_is_not_installed_lists_those_that_are(small, monkeypatch):
    monkeypatch.setattr("xrayedge.bench.cases.available", lambda: ("litert",))
    with pytest.raises(EngineError, match=r"onnx is not installed.*installed: litert"):
        choose_cases([ModelBundle.load(small)], engines=["onnx"])


def test_an_altered_bundle_is_left_out(small, tmp_path):
    bundle = ModelBundle.load(small)
    altered = tmp_path / "altered"
    altered.mkdir()
    for file in small.iterdir():
        content = file.read_bytes()
        (altered / file.name).write_bytes(content[:-1] + b"x" if ".tfl" in file.name else content)
    whole, damaged = load_bundles([altered, small])
    assert whole == [bundle]
    assert "sha256" in str(damaged[0])
    assert isinstance(damaged[0], BundleError)
    alone = run("--model", altered)
    assert alone.exit_code == 2
    assert "sha256" in alone.stderr


def test_a_file_that_no_engine_loads_does_not_stop_the_others(small, tmp_path):
    bundle = ModelBundle.load(small)
    folder = tmp_path / "broken"
    shutil.copytree(small, folder)
    (good, broken, _) = bundle.classifier.variants
    (folder / broken.file).write_bytes(b"no model")
    sha256 = hashlib.sha256(b"no model").hexdigest()
    broken = replace(broken, size_bytes=len(b"no model"), sha256=sha256)
    (folder / "classifier-float32.tflite").unlink()
    network = replace(bundle.classifier, variants=(broken, good))
    replace(bundle, folder=folder, classifier=network).write_manifest()
    result = run("--model", folder, "--rounds", 2, "--json")
    failed, measured = json.loads(result.stdout)["rows"]
    assert result.exit_code == 1
    assert "can't load" in failed["error"]
    assert failed["p50_ms"] is None
    assert measured["rounds"] == 2


def test_a_worker_that_dies_is_one_error(small):
    (case, *_) = choose_cases([ModelBundle.load(small)])
    with pytest.raises(BenchmarkError, match=r"ended with status 1 \(TypeError"):
        run_job("score", case, nonsense=1)
    with pytest.raises(BenchmarkError, match="no dynamic file"):
        run_job("latency", replace(case, precision="dynamic"), warmup=0, spawned=0.0)


def test_ctrl_c_keeps_the_rounds_that_are_done(small, monkeypatch):
    done = []

    def interrupted_run_job(*arguments, **named):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(run_job(*arguments, **named))
        return done[-1]

    monkeypatch.setattr("xrayedge.bench.measuring.run_job", interrupted_run_job)
    result = run("--model", small, "--json")
    assert result.exit_code == 130
    report = json.loads(result.stdout)
    assert report["interrupted"]
    assert [row["rounds"] for row in report["rows"]] == [2, 1, 1]
    assert all(row["p50_ms"] > 0 for row in report["rows"])


def report_of(*medians):
    rows = tuple(
        Row("m", "1", "onnx", "int8", "onnx", threads, 100, p50_ms=sum(interval) / 2,
            p50_ms_interval=interval)
        for threads, interval in enumerate(medians, start=1)
    )  # fmt: skip
    return Report({"cpu": "a"}, {"rounds": 9, "warmup": 5}, rows, (), False)


def test_a_comparison_tells_changes_from_noise(tmp_path):
    old = report_of((9.9, 10.1), (9.0, 11.0), (9.9, 10.1))
    new = report_of((5.0, 5.2), (9.5, 12.0), (10.9, 11.2))
    found = changes(old, new)
    assert [change.verdict for change in found] == ["better", "within noise", "worse"]
    assert found[0].ratio == pytest.approx(0.51)
    assert found[0].interval == pytest.approx((5.0 / 10.1, 5.2 / 9.9))
    moved = replace(new, machine={"cpu": "b"}, rows=(replace(new.rows[0], size_bytes=90),))
    assert differences(old, moved) == [
        "m onnx int8 onnx 2: only in the old report",
        "m onnx int8 onnx 3: only in the old report",
        "m onnx int8 onnx 1: size_bytes 100 -> 90",
        "machine: cpu a -> b",
    ]


def test_saved_reports_are_compared_by_the_command(saved, tmp_path):
    result = run("--compare", saved, saved)
    assert result.exit_code == 0
    assert "no interval" in result.stdout  # two rounds are too few
    other = tmp_path / "other.json"
    for text in ("", "[]", '{"rows": []}', '{"format_version": 99}', '{"format_version": 1}'):
        other.write_text(text)
        result = run("--compare", saved, other)
        assert result.exit_code == 2
        assert "other.json" in result.stderr


def test_the_interval_of_a_median():
    assert estimate([3.0, 1.0, 2.0]).value == 2.0
    assert estimate([1.0] * 5).interval is None
    assert estimate([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]).interval == (1.0, 6.0)
    assert estimate([float(value) for value in range(1, 10)]).interval == (2.0, 8.0)
    # For 30 values a table gives the 10th and the 21st: Conover, table A3.
    assert estimate([float(value) for value in range(1, 31)]).interval == (10.0, 21.0)


def test_a_ratio_of_the_same_rounds_is_free_of_what_slows_both():
    noise = [1.0, 5.0, 2.0, 3.0, 1.5, 4.0]
    found = estimate_ratio([4.0 * one for one in noise], noise)
    assert found.value == 4.0
    assert found.interval == (4.0, 4.0)


def test_evaluate_and_bench_of_a_bundle_need_neither_keras_nor_scikit_learn(small, labelled):
    """With both made impossible to import, as on a device."""
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['keras', 'tensorflow', 'sklearn', 'scipy', 'matplotlib'])\n"
        "from xrayedge.cli import main\n"
        "main()"
    )
    for verb in (
        ["evaluate", small, labelled, "--precision", "int8"],
        ["bench", "--model", small, "--data", labelled, "--rounds", "1", "--precision", "int8"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, verb)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "accuracy" in done.stdout


def test_every_engine_is_measured_without_naming_one(small):
    found = {case.engine for case in choose_cases([ModelBundle.load(small)])}
    assert found == set(available())
