"""From training runs to a bundle: what it records, what it is compared with, what is refused."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from xrayedge import ModelBundle
from xrayedge.bundle import MANIFEST
from xrayedge.cli import main
from xrayedge.converters import convert as conversion
from xrayedge.converters import equalisation, outputs, parity
from xrayedge.converters.convert import convert, exchange_frontal
from xrayedge.converters.trained import TrainedRun
from xrayedge.converters.variants import VARIANTS, variants_of
from xrayedge.errors import ConversionError, RunError
from xrayedge.training.run import MODEL, RunRecord


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


def test_the_conversion_says_what_it_measured(bundle, told):
    text = "\n".join(told)
    for model_format, precision in VARIANTS:
        assert f"classifier {model_format} {precision}:" in text
    assert "min on two cores" in told[0]
    assert told[1].startswith("[1/")
    for metric in ("accuracy", "macro AUC", "worst layers", "peak memory", "mean score difference"):
        assert metric in text
    assert "UNDER" not in text


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
    for force in (False, True):
        with pytest.raises(ConversionError, match="replaces bundles only"):
            convert(**trained, out=tmp_path, name="bars", model_version="1.0.0", force=force)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(("name", "version"), [("", "1"), ("bars", ""), ("bars", "v" * 101)])
def test_a_name_that_no_bundle_may_have_is_refused_first(trained, tmp_path, name, version):
    with pytest.raises(ConversionError, match="1 to 100 printable characters"):
        convert(**trained, out=tmp_path / "out", name=name, model_version=version)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_replacement_leaves_the_old_bundle(tmp_path):
    out, new, aside = (tmp_path / name for name in ("out", "new", "aside"))
    out.mkdir()
    (out / "old").touch()

    class Interrupted(type(new)):
        def rename(self, target):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conversion._replace(out, Interrupted(new), aside)
    assert [path.name for path in out.iterdir()] == ["old"]


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


def with_bias(run, folder, number, value):
    """The run with one convolution's bias set to a value, and that convolution's name."""
    model = keras.saving.load_model(run.folder / MODEL, compile=False)
    layer = equalisation.convolutions(model)[number]
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, np.full_like(bias, value)])
    model.save(folder / MODEL)
    return replace(run, folder=folder), layer.name


def test_a_dead_network_is_named_before_int8_makes_numbers_of_it(trained, tmp_path):
    run, layer = with_bias(trained["classifier"], tmp_path, 1, -1e6)
    told_of = rf"{tmp_path}: {layer} outputs nothing .* lower learning rate"
    with pytest.raises(ConversionError, match=told_of):
        convert(
            run,
            trained["frontal"],
            tmp_path / "bundle",
            name="dead",
            model_version="1",
            variants=variants_of([], ["int8"]),
        )


def test_a_network_without_finite_values_is_refused(trained, tmp_path):
    run, _ = with_bias(trained["classifier"], tmp_path, -1, np.nan)
    with pytest.raises(ConversionError, match=rf"{tmp_path}: .* not finite"):
        convert(
            run,
            trained["frontal"],
            tmp_path / "bundle",
            name="broken",
            model_version="1",
            variants=variants_of(["onnx"], ["float32"]),
        )


def test_the_images_to_compare_on_are_those_of_val_where_there_is_no_test(trained):
    run = trained["classifier"]
    without = tuple(one for one in run.dataset.samples if one.split != "test")
    samples = conversion._compared(replace(run, dataset=replace(run.dataset, samples=without)), ())
    assert samples
    assert {sample.split for sample in samples} == {"val"}


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
    unknown = replace(found, accuracy_loss=float("nan"), macro_auc_loss=float("nan"))
    assert len(parity.FLOORS["int8"].misses(unknown)) == 3


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


def test_the_frontal_check_alone_is_exchanged(bundle, trained, tmp_path):
    other, val = ModelBundle.load("vgg16-edge"), trained["classifier"].held_out
    settings = {"name": "bars", "model_version": "2.0.1"}
    made = exchange_frontal(bundle, other, val, tmp_path / "new", **settings)
    assert (made.version, made.frontal) == ("2.0.1", other.frontal)
    assert made.provenance == {
        **bundle.provenance,
        "frontal": other.provenance["frontal"],
    }
    for kept in ("classifier", "lungs", "val_curve"):
        assert getattr(made, kept) == getattr(bundle, kept)
    for variant in bundle.classifier.variants:
        assert made.read(variant) == bundle.read(variant)
    scores = made.reference.frontal_score
    assert sum(scores.counts) == len(val)
    assert made.reference == replace(bundle.reference, frontal_score=scores)
    assert scores != bundle.reference.frontal_score
    with pytest.raises(ConversionError, match="already exists"):
        exchange_frontal(bundle, other, val, tmp_path / "new", **settings)


def test_the_command_that_exchanges_it(bundle, data, tmp_path):
    out = tmp_path / "new"
    command = ["convert", bundle.folder, "--keep-classifier", "--data", data, "--out", out]
    wrong = CliRunner().invoke(main, [*map(str, command), "--format", "onnx"])
    assert wrong.exit_code == 2
    assert "--format has no effect with --keep-classifier" in wrong.output
    done = CliRunner().invoke(main, [*map(str, command), "--name", "bars"])
    assert done.exit_code == 0, done.output
    made = ModelBundle.load(out)
    assert made.frontal == ModelBundle.load("vgg16-edge").frontal
    assert made.classifier == bundle.classifier


def test_other_data_than_the_run_was_trained_on_are_refused(runs, tmp_path):
    rng = np.random.default_rng(1)
    for label in ("narrow", "wide"):
        (tmp_path / label).mkdir()
        for number in range(8):
            pixels = rng.integers(0, 256, (30, 30), np.uint8)
            cv2.imwrite(str(tmp_path / label / f"{number}.png"), pixels)
    with pytest.raises(RunError, match="other data"):
        TrainedRun.open(runs / "classifier", tmp_path)
