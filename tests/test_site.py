import json
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
from bundles import CLASSES, tiny_bundle
from click.testing import CliRunner

from xrayedge import Screener, reference
from xrayedge.bundle import OperatingPoint
from xrayedge.cli import main
from xrayedge.engines import available
from xrayedge.errors import SiteError
from xrayedge.site import (
    SiteProfile,
    SiteScores,
    describe,
    exact_interval,
    fit,
    local_threshold,
)

pytestmark = pytest.mark.skipif("onnx" not in available(), reason="wants ONNX Runtime")

EVEN = OperatingPoint("balanced", dict.fromkeys(CLASSES, 1.0), 0.5)


def people(illness):
    """Scores of people of these illness scores: as `SiteScores`, ``[N, 3]``."""
    ratios = np.exp(np.asarray(illness, float))
    healthy = 1.0 / (1.0 + 2.0 * ratios)
    others = healthy * ratios
    probabilities = np.stack([others, healthy, others], axis=1)
    return SiteScores(probabilities, np.ones(len(ratios)), np.full((len(ratios), 2), 100.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle whose val says: healthy about -2, ill about 2, at one deviation."""
    plain = tiny_bundle(tmp_path_factory.mktemp("site") / "bundle")
    rng = np.random.default_rng(0)
    val = people(np.concatenate([rng.normal(-2, 1, 400), rng.normal(2, 1, 400)]))
    curve = reference.val_curve(
        val.probabilities, ["healthy"] * 400 + ["covid"] * 400, CLASSES, EVEN
    )
    specific = replace(EVEN, name="specific", weights={**EVEN.weights, "healthy": np.exp(0.5)})
    whole = replace(
        plain,
        val_curve=curve,
        classifier=replace(plain.classifier, operating_points=(EVEN, specific)),
    )
    whole.write_manifest()
    return whole


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Clopper and Pearson's own quantiles of the beta distribution, by scipy.stats.beta.ppf.
    [(9, 10, 0.5549839, 0.9974714), (0, 10, 0.0, 0.3084971), (10, 10, 0.6915029, 1.0),
     (18, 20, 0.6830173, 0.9876515), (150, 1000, 0.1284248, 0.1736581)],
)  # fmt: skip
def test_intervals_are_exact(successes, trials, low, high):
    found = exact_interval(successes, trials)
    assert np.allclose((found.low, found.high), (low, high), atol=2e-6)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 3.0])
@pytest.mark.parametrize("images", [10, 20, 40])
def test_the_share_of_new_healthy_people_is_what_was_asked_for(bundle, images, shift):
    """Wherever a hospital's scores lie, in the mean over draws of a few images."""
    rng = np.random.default_rng(images)
    new = rng.normal(-2 + shift, 1, 20_000)
    reached = [
        (new <= local_threshold(rng.normal(-2 + shift, 1, images), 0.9, bundle.val_curve)).mean()
        for _ in range(300)
    ]
    assert abs(np.mean(reached) - 0.9) < (0.1 if images == 10 else 0.05)


def test_ten_images_can_not_overdo_it(bundle):
    """Ten people of whom some look ill by chance move the threshold less than they would alone."""
    scores = np.linspace(0.0, 8.0, 10)
    alone = np.quantile(scores, 0.9, method="weibull")
    with_val, without = (local_threshold(scores, 0.9, c) for c in (bundle.val_curve, None))
    assert 0.0 < with_val < alone
    assert 0.0 < without < alone


def test_a_profile_moves_the_weight_on_healthy_and_says_what_it_costs(bundle):
    rng = np.random.default_rng(3)
    healthy, ill = people(rng.normal(1, 1, 40)), people(rng.normal(4, 1, 30))
    profile = fit(bundle, "north", healthy, specificity=0.9, ill=ill.probabilities)
    assert profile.point.name == "site:north"
    assert profile.point.weights["healthy"] > 1.0
    assert profile.point.weights["covid"] == profile.before.weights["covid"]
    assert profile.before.specificity.value < 0.5 < profile.point.specificity.value
    assert profile.point.specificity.low < 0.9 < profile.point.specificity.high
    before, after = profile.val_sensitivity
    assert 0.9 < before <= 1.0
    assert after < before
    assert profile.point.sensitivity.value < profile.before.sensitivity.value
    assert sum(profile.histograms.grey_mean.counts) == 40
    assert len(describe(profile)) == 5


def test_what_is_not_known_is_not_said(bundle):
    old = replace(bundle, val_curve=None)
    profile = fit(old, "north", people(np.linspace(-1, 1, 20)), specificity=0.9)
    assert (profile.val_sensitivity, profile.point.sensitivity, profile.ill) == (None, None, 0)
    assert ("the bundle's ill found, on its val", "unknown", "unknown") in describe(profile)


def test_ill_people_given_as_healthy_are_noticed(bundle):
    rng = np.random.default_rng(4)
    wrong = fit(bundle, "north", people(rng.normal(2, 1, 15)), specificity=0.9)
    assert any("right folder" in warning for warning in wrong.warnings)
    assert any("would be found" in warning for warning in wrong.warnings)
    assert fit(bundle, "north", people(rng.normal(-2, 1, 15)), specificity=0.9).warnings == ()


def test_too_few_images_and_a_model_without_healthy_people_are_refused(bundle):
    with pytest.raises(SiteError, match="9 usable images of healthy people; at least 10"):
        fit(bundle, "north", people(np.zeros(9)), specificity=0.9)
    with pytest.raises(SiteError, match="between 0 and 1"):
        fit(bundle, "north", people(np.zeros(20)), specificity=1.0)


def test_a_profile_survives_writing_and_damage_is_refused(bundle, tmp_path):
    profile = fit(bundle, "north", people(np.linspace(-1, 1, 20)), specificity=0.9)
    path = tmp_path / "north.json"
    profile.save(path)
    assert SiteProfile.load(path) == profile
    for change in ({"format_version": 7}, {"healthy": "many"}, {"name": "south"}, {"extra": 1}):
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(SiteError, match="calibrate"):
            SiteProfile.load(path)
        profile.save(path)
    path.write_text("[" * 100_000)
    with pytest.raises(SiteError, match="no site profile"):
        SiteProfile.load(path)
    with pytest.raises(SiteError, match="can't be read"):
        SiteProfile.load(tmp_path / "none.json")


def test_a_profile_of_another_model_is_used_with_a_warning(bundle, tmp_path):
    profile = fit(bundle, "north", people(np.linspace(-1, 1, 20)), specificity=0.9)
    other = tiny_bundle(tmp_path / "other")
    changed = replace(other, classifier=replace(other.classifier, temperature=2.0))
    with pytest.warns(RuntimeWarning, match="calibrate again"):
        assert profile.point_for(changed) == profile.point
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile.point_for(bundle)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Twelve healthy people's images, one of them twice, and one that is no image."""
    folder = tmp_path_factory.mktemp("hospital") / "healthy"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (160, 160)) * 0.2 + 110 + 2 * number
        cv2.imwrite(str(folder / f"{number}.png"), pixels.astype(np.uint8))
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "text.png").write_text("no image")
    return folder


def test_from_a_folder_to_screening_at_the_site(bundle, hospital, tmp_path):
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "north.json", tmp_path / "north.png"
    run = CliRunner().invoke(
        main,
        ["calibrate", "--healthy", str(hospital), "--ill", str(hospital), "--out", str(out),
         "--plot", str(plot), "--model", str(bundle.folder)],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert "12 images used (1 unreadable, 1 copies)" in run.output
    assert plot.read_bytes().startswith(b"\x89PNG")
    image = hospital / "11.png"
    at_site = Screener(bundle.folder, site=out).screen(image)
    usual = Screener(bundle.folder).screen(image)
    assert at_site.operating_point == "site:north"
    assert at_site.probabilities == usual.probabilities
    shown = CliRunner().invoke(
        main, ["screen", str(image), "--json", "--site", str(out), "--model", str(bundle.folder)]
    )
    assert json.loads(shown.stdout.splitlines()[-1])["operating_point"] == "site:north"


def test_two_operating_points_at_once_are_refused(bundle, hospital, tmp_path):
    arguments = ["screen", str(hospital), "--site", "north.json", "--operating-point", "specific"]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 2
    assert "--operating-point has no effect with --site" in run.output


def test_images_that_the_frontal_check_refuses_are_named(tmp_path, hospital):
    strict = tiny_bundle(tmp_path / "strict", frontal_threshold=1.0)
    run = CliRunner().invoke(
        main,
        ["calibrate", "--healthy", str(hospital), "--out", str(tmp_path / "a.json"),
         "--model", str(strict.folder)],
    )  # fmt: skip
    assert run.exit_code == 2
    assert "0 usable images" in run.output


def test_the_bench_counts_labels_at_the_site(bundle, hospital, tmp_path):
    """Healthy people who all look ill to the bundle are called healthy at their site."""
    data = tmp_path / "data"
    for label, shade in (("healthy", 150), ("covid", 250)):
        (data / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((160, 160), shade + number, np.uint8)
            cv2.imwrite(str(data / label / f"{number}.png"), pixels)
    profile = fit(bundle, "north", people(np.full(20, 2.0)), specificity=0.9)
    profile = replace(
        profile, point=replace(profile.point, weights={**profile.point.weights, "healthy": 1e3})
    )
    profile.save(tmp_path / "north.json")
    accuracies = []
    for site in ([], ["--site", str(tmp_path / "north.json")]):
        arguments = ["--model", str(bundle.folder), "--data", str(data), "--rounds", "1", "--json"]
        run = CliRunner().invoke(main, ["bench", *arguments, *site])
        assert run.exit_code == 0, run.output
        accuracies += [row["accuracy"] for row in json.loads(run.stdout)["rows"]]
    assert accuracies == [0.5, 1.0]
