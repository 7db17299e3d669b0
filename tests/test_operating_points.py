"""Operating points fitted on scores whose right answer is known."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn")

from xrayedge.evaluation.operating_points import (
    Scored,
    fit_operating_points,
    health_evidence,
    recall,
    sensitivity,
    specificity,
    with_rates,
)

CLASSES = ("covid", "healthy", "pneumonia")


def hospital(rng, name, count, shift, label, lean):
    """Images of one label at one hospital, whose scores all lean towards ``healthy`` by a shift."""
    logits = rng.normal(0.0, 1.0, (count, 3)) + np.eye(3)[CLASSES.index(lean)] * 2.0
    logits[:, 1] += shift
    scores = np.exp(logits)
    rows = scores / scores.sum(axis=1, keepdims=True)
    return rows, [label] * count, [name] * count, [f"{name} {label} {n // 2}" for n in range(count)]


@pytest.fixture(scope="module")
def scored():
    """One large hospital, three small ones; one of them sends tuberculosis, which is no class."""
    rng = np.random.default_rng(3)
    parts = [
        hospital(rng, "large", 600, 0.0, "covid", "covid"),
        hospital(rng, "large", 500, 0.0, "healthy", "healthy"),
        hospital(rng, "north", 40, -1.5, "healthy", "healthy"),
        hospital(rng, "north", 40, -1.5, "other", "pneumonia"),
        hospital(rng, "south", 40, 1.0, "healthy", "healthy"),
        hospital(rng, "south", 40, 1.0, "pneumonia", "pneumonia"),
        hospital(rng, "journal", 3, 0.0, "covid", "covid"),
    ]
    rows, *columns = zip(*parts, strict=True)
    labels, sources, groups = ([one for part in column for one in part] for column in columns)
    return Scored(CLASSES, np.concatenate(rows), labels, sources, groups)


@pytest.fixture(scope="module")
def points(scored):
    return {point.name: point for point in fit_operating_points(scored)}


def plain_rates(scored, weights, source):
    """Sensitivity to the ill and specificity of one hospital, counted by hand."""
    ill, healthy = [], []
    for row, label, where in zip(scored.probabilities, scored.labels, scored.sources, strict=True):
        if where == source:
            called = CLASSES[int(np.argmax(row * [weights[name] for name in CLASSES]))]
            (healthy if label == "healthy" else ill).append(called == "healthy")
    return 1.0 - np.mean(ill) if ill else None, np.mean(healthy) if healthy else None


def test_balanced_calls_as_many_ill_people_ill_as_healthy_people_healthy(points):
    balanced = points["balanced"]
    assert balanced.sensitivity.value == pytest.approx(balanced.specificity.value, abs=0.01)
    assert balanced.weights["covid"] == balanced.weights["pneumonia"] == 1.0


def test_hospitals_count_alike_whatever_their_size(scored, points):
    weights = points["balanced"].weights
    sites = ("large", "north", "south")
    rates = [plain_rates(scored, weights, site) for site in sites]
    assert points["balanced"].specificity.value == pytest.approx(np.mean([one for _, one in rates]))
    # The three images of the journal count three tenths of a hospital.
    journal, _ = plain_rates(scored, weights, "journal")
    expected = (sum(one for one, _ in rates) + 0.3 * journal) / 3.3
    assert points["balanced"].sensitivity.value == pytest.approx(expected)


def test_a_label_that_is_no_class_counts_as_ill(scored, points):
    only = Scored(
        CLASSES,
        scored.probabilities,
        ["pneumonia" if label == "other" else label for label in scored.labels],
        scored.sources,
        scored.groups,
    )
    renamed = {point.name: point for point in fit_operating_points(only)}
    assert renamed["balanced"].weights == points["balanced"].weights


def test_sensitive_finds_covid_as_often_as_it_promises(scored, points):
    weights = points["sensitive"].weights
    found = recall("covid", weights, scored)
    assert 0.95 - 1e-9 <= found.value < 0.96
    assert weights["healthy"] == points["balanced"].weights["healthy"]
    less = {**weights, "covid": weights["covid"] * 0.97}
    assert recall("covid", less, scored).value < 0.95


def test_specific_calls_the_healthy_healthy_as_often_as_it_promises(scored, points):
    assert 0.95 - 1e-9 <= points["specific"].specificity.value < 0.97
    assert points["specific"].sensitivity.value < points["balanced"].sensitivity.value


def test_the_least_doubtful_image_decides_no_point(scored, points):
    evidence = health_evidence(CLASSES, scored.probabilities)
    for name in ("balanced", "specific"):
        threshold = -np.log(points[name].weights["healthy"])
        assert np.abs(evidence - threshold).min() > 0.0
        called = scored.called(points[name].weights) == CLASSES.index("healthy")
        assert np.array_equal(called, evidence > threshold)


def test_intervals_are_over_patients(scored, points):
    weights = points["balanced"].weights
    wide = specificity(weights, scored)
    assert wide.low < wide.value < wide.high
    single = specificity(
        weights, replace(scored, groups=[str(n) for n in range(len(scored.labels))])
    )
    assert single.value == wide.value
    assert (single.low, single.high) != (wide.low, wide.high)


def test_the_points_keep_their_weights_on_other_images(scored, points):
    rows = np.roll(scored.probabilities, 1, axis=1)
    elsewhere = replace(scored, probabilities=rows)
    moved = with_rates(points["balanced"], elsewhere)
    assert moved.weights == points["balanced"].weights
    assert moved.sensitivity == sensitivity(moved.weights, elsewhere)
    assert moved.specificity.value < 0.5


def test_a_classifier_without_the_healthy_takes_the_most_probable():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet((1.0, 1.0), 40)
    labels = ["narrow", "wide"] * 20
    found = fit_operating_points(Scored(("narrow", "wide"), scores, labels, [""] * 40, labels))
    (point,) = found
    assert point.name == "balanced"
    assert set(point.weights.values()) == {1.0}
    assert point.sensitivity is point.specificity is None


def test_val_without_ill_people_fits_no_threshold():
    scores = np.random.default_rng(0).dirichlet((1.0, 1.0), 8)
    found = fit_operating_points(
        Scored(("covid", "healthy"), scores, ["healthy"] * 8, [""] * 8, list("abcdefgh"))
    )
    assert [point.name for point in found] == ["balanced"]
