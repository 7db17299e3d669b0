import numpy as np
import pytest

pytest.importorskip("sklearn")

from xrayedge.data import Sample
from xrayedge.errors import DatasetError
from xrayedge.evaluation import check_labels, evaluate, evaluate_gate

CLASSES = ("covid", "healthy", "pneumonia")


def sample(label, group):
    return Sample(None, label, "test", group)


def test_figures_of_a_case_worked_by_hand():
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
    assert (result.pictures, result.patients) == (6, 5)
    figures = {name: figure.value for name, figure in result.figures.items()}
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["recall/covid"] == pytest.approx(0.5)
    assert figures["recall/healthy"] == pytest.approx(0.75)
    assert figures["balanced_accuracy"] == pytest.approx(0.625)
    assert figures["auc/covid"] == pytest.approx(7 / 8)  # one of eight pairs is the wrong way
    assert figures["auc/healthy"] == pytest.approx(6 / 8)
    assert figures["macro_auc"] == pytest.approx(0.8125)
    assert result.confusion["healthy"] == {"covid": 0, "healthy": 3, "pneumonia": 1}
    assert "pneumonia" not in result.confusion


def test_intervals_hold_the_figure_and_widen_when_patients_repeat():
    rng = np.random.default_rng(0)
    labels = ["covid", "healthy"] * 40
    scores = np.array([[0.7, 0.3, 0.0] if n == "covid" else [0.3, 0.7, 0.0] for n in labels])
    wrong = rng.random(80) < 0.2
    scores[wrong] = scores[wrong][:, [1, 0, 2]]
    alone = evaluate([sample(n, str(i)) for i, n in enumerate(labels)], CLASSES, scores)
    in_fours = evaluate([sample(n, str(i // 4)) for i, n in enumerate(labels)], CLASSES, scores)
    for result in (alone, in_fours):
        figure = result.figures["accuracy"]
        assert figure.low < figure.value < figure.high
    assert in_fours.patients == 20
    assert alone.figures["accuracy"].value == in_fours.figures["accuracy"].value


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
    values = {name: figure.value for name, figure in result.figures.items()}
    assert values == {
        "sensitivity": 1.0,
        "specificity": pytest.approx(2 / 3),
        "refused/artificial/noise": 1.0,
        "refused/ct": 0.5,
    }
    assert result.passed == {"artificial/noise": 0, "ct": 1, "frontal": 2}
    assert result.confusion["frontal"] == {"ct": 1, "frontal": 1}
    # Wilson's interval for 2 of 2: z^2 = 3.84, so from 2 / (2 + 3.84) to 1.
    assert result.figures["sensitivity"].low == pytest.approx(2 / (2 + 1.96**2), abs=1e-3)
    assert result.figures["sensitivity"].high == pytest.approx(1.0)
    with pytest.raises(DatasetError, match="and others"):
        evaluate_gate(samples[:2], ("ct", "frontal"), scores[:2], ("frontal", 0.3))
