import numpy as np
import pytest

pytest.importorskip("sklearn")

from xrayedge.bundle import OperatingPoint
from xrayedge.data import Sample
from xrayedge.errors import DatasetError
from xrayedge.evaluation import (
    Metric,
    auc,
    check_labels,
    class_metrics,
    evaluate,
    evaluate_gate,
    intervals,
    mean,
)

CLASSES = ("covid", "healthy", "pneumonia")


def sample(label, group):
    return Sample(None, label, "test", group)


def test_metrics_of_a_case_worked_by_hand():
    samples = [
        sample("covid", "a"),
        sample("covid", "a"),
        sample("healthy", "b"),
        sample("healthy", "c"),
        sample("healthy", "d"),
        sample("healthy", "e"),
    ]
    scores = np.array(
        [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.1, 0.9, 0], [0.3, 0.7, 0], [0, 1, 0], [0.1, 0.3, 0.6]]
    )
    result = evaluate(samples, CLASSES, scores)
    assert (result.images, result.patients) == (6, 5)
    metrics = {name: metric.value for name, metric in result.metrics.items()}
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["recall/covid"] == pytest.approx(0.5)
    assert metrics["recall/healthy"] == pytest.approx(0.75)
    assert metrics["balanced_accuracy"] == pytest.approx(0.625)
    assert metrics["auc/covid"] == pytest.approx(7 / 8)  # one of eight pairs is the wrong way
    assert metrics["auc/healthy"] == pytest.approx(6 / 8)
    assert metrics["macro_auc"] == pytest.approx(0.8125)
    assert result.confusion["healthy"] == {"covid": 0, "healthy": 3, "pneumonia": 1}
    assert "pneumonia" not in result.confusion


def test_intervals_hold_the_metric_and_widen_when_patients_repeat():
    rng = np.random.default_rng(0)
    labels = ["covid", "healthy"] * 40
    scores = np.array([[0.7, 0.3, 0.0] if n == "covid" else [0.3, 0.7, 0.0] for n in labels])
    wrong = rng.random(80) < 0.2
    scores[wrong] = scores[wrong][:, [1, 0, 2]]
    alone = evaluate([sample(n, str(i)) for i, n in enumerate(labels)], CLASSES, scores)
    in_fours = evaluate([sample(n, str(i // 4)) for i, n in enumerate(labels)], CLASSES, scores)
    for result in (alone, in_fours):
        metric = result.metrics["accuracy"]
        assert metric.low < metric.value < metric.high
    assert in_fours.patients == 20
    assert alone.metrics["accuracy"].value == in_fours.metrics["accuracy"].value


def test_what_can_not_be_evaluated_is_refused():
    with pytest.raises(DatasetError, match="no class 'lateral'"):
        check_labels([sample("lateral", "a"), sample("covid", "b")], CLASSES)
    with pytest.raises(DatasetError, match="one class only"):
        check_labels([sample("covid", "a")], CLASSES)


def test_a_gate_worked_by_hand():
    samples = [sample("frontal", "a"), sample("frontal", "b"), sample("ct", "c"), sample("ct", "d")]
    samples.append(Sample(None, "artificial", "test", "e", source="noise", drawn=("noise", 0)))
    scores = np.array([[0.1, 0.9], [0.7, 0.3], [0.4, 0.6], [0.8, 0.2], [0.9, 0.1]])
    result = evaluate_gate(samples, ("ct", "frontal"), scores, ("frontal", 0.3))
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values == {
        "sensitivity": 1.0,
        "specificity": pytest.approx(2 / 3),
        "refused/artificial/noise": 1.0,
        "refused/ct": 0.5,
    }
    assert result.passed == {"artificial/noise": 0, "ct": 1, "frontal": 2}
    assert result.confusion["frontal"] == {"ct": 1, "frontal": 1}
    # Wilson's interval for 2 of 2: z^2 = 3.84, so from 2 / (2 + 3.84) to 1.
    assert result.metrics["sensitivity"].low == pytest.approx(2 / (2 + 1.96**2), abs=1e-3)
    assert result.metrics["sensitivity"].high == pytest.approx(1.0)
    with pytest.raises(DatasetError, match="and others"):
        evaluate_gate(samples[:2], ("ct", "frontal"), scores[:2], ("frontal", 0.3))


def test_metrics_are_those_of_scikit_learn_however_often_an_image_counts():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    scores = rng.dirichlet((1, 1, 1), 60).round(1)  # rounded: many ties
    times = rng.integers(0, 4, 60)
    found = class_metrics(labels, scores, CLASSES, times[np.newaxis].astype(float))
    repeated, given = labels.repeat(times), scores.repeat(times, axis=0)
    predicted = given.argmax(axis=1)
    expected = {
        "accuracy": sklearn.accuracy_score(repeated, predicted),
        "balanced_accuracy": sklearn.balanced_accuracy_score(repeated, predicted),
        "macro_precision": sklearn.precision_score(repeated, predicted, average="macro"),
        "macro_f1": sklearn.f1_score(repeated, predicted, average="macro"),
        "macro_auc": np.mean(
            [sklearn.roc_auc_score(repeated == index, given[:, index]) for index in range(3)]
        ),
        "recall/covid": sklearn.recall_score(repeated == 0, predicted == 0),
        "specificity/covid": sklearn.recall_score(repeated != 0, predicted != 0),
    }
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value), name


def test_the_interval_is_over_patients_and_leaves_out_what_is_not_known():
    values = np.array([0.0, 1.0, 1.0, np.nan])
    found = intervals(lambda weights: {"mean": mean(values, weights)}, ["a", "b", "b", "c"])
    assert found["mean"].value == pytest.approx(2 / 3)
    assert (found["mean"].low, found["mean"].high) == (0.0, 1.0)
    alike = intervals(lambda weights: {"mean": mean(np.ones(4), weights)}, list("abcd"))
    assert alike["mean"] == Metric(1.0, 1.0, 1.0)
    none = intervals(lambda weights: {"mean": mean(np.full(2, np.nan), weights)}, ["a", "b"])
    assert none == {}


def test_intervals_agree_with_drawing_patients_one_by_one():
    rng = np.random.default_rng(3)
    patients = rng.integers(0, 40, 90)
    positive = rng.random(90) < 0.4
    scores = positive * 0.5 + rng.random(90)
    found = intervals(lambda weights: {"auc": auc(positive, scores, weights)}, patients)["auc"]
    members = [np.flatnonzero(patients == one) for one in np.unique(patients)]
    sklearn = pytest.importorskip("sklearn.metrics")
    rounds = []
    for _ in range(400):
        rows = np.concatenate([members[one] for one in rng.integers(0, len(members), len(members))])
        rounds.append(sklearn.roc_auc_score(positive[rows], scores[rows]))
    low, high = np.percentile(rounds, (2.5, 97.5))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)


def test_one_class_says_what_it_can():
    samples = [sample("healthy", "a"), sample("healthy", "b"), sample("healthy", "c")]
    scores = np.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    metrics = evaluate(samples, CLASSES, scores).metrics
    assert set(metrics) == {"accuracy", "recall/healthy", "healthy_called_healthy"}
    assert metrics["healthy_called_healthy"].value == pytest.approx(2 / 3)


def test_labels_that_are_no_classes_count_among_the_ill_only():
    samples = [sample("healthy", "a"), sample("covid", "b"), sample("other", "c")]
    scores = np.array([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.1, 0.85, 0.05]])
    result = evaluate(samples, CLASSES, scores)
    values = {name: one.value for name, one in result.metrics.items()}
    assert values["accuracy"] == 1.0
    assert values["ill_not_called_healthy"] == 0.5
    assert values["not_called_healthy/other"] == 0.0
    assert values["auc/ill_v_healthy"] == 0.5
    assert values["auc/covid_v_healthy"] == 1.0
    assert result.confusion["other"] == {"covid": 0, "healthy": 1, "pneumonia": 0}
    alone = evaluate(samples[2:], CLASSES, scores[2:])
    assert set(alone.metrics) == {"ill_not_called_healthy", "not_called_healthy/other"}


def test_an_operating_point_moves_the_healthy_against_the_ill():
    samples = [sample("healthy", "a"), sample("covid", "b"), sample("covid", "c")]
    scores = np.array([[0.3, 0.7, 0.0], [0.9, 0.1, 0.0], [0.4, 0.6, 0.0]])
    points = [
        OperatingPoint("balanced", dict.fromkeys(CLASSES, 1.0), 0.65),
        OperatingPoint("sensitive", {"covid": 3.0, "healthy": 1.0, "pneumonia": 1.0}, 0.65),
    ]
    found = evaluate(samples, CLASSES, scores, points).operating_points
    balanced, sensitive = found["balanced"], found["sensitive"]
    assert (balanced["healthy_called_healthy"].value, balanced["recall/covid"].value) == (1.0, 0.5)
    assert (sensitive["healthy_called_healthy"].value, sensitive["recall/covid"].value) == (0, 1)
    assert balanced["certain"].value == pytest.approx(2 / 3)


def test_patients_are_unknown_where_the_data_do_not_name_them():
    samples = [Sample(None, name, "", name, patient_known=False) for name in ("covid", "healthy")]
    assert evaluate(samples, CLASSES, np.eye(3)[:2]).patients is None
