import numpy as np

from xrayedge import reference
from xrayedge.bundle import OperatingPoint
from xrayedge.scores import decide

CLASSES = ("covid", "healthy", "pneumonia")
POINT = OperatingPoint("balanced", {"covid": 2.0, "healthy": 1.0, "pneumonia": 0.5}, 0.5)


def some_probabilities(images=300):
    return np.random.default_rng(0).dirichlet(np.ones(3), images)


def test_the_illness_score_says_which_weight_on_healthy_makes_the_label_healthy():
    for row, score in zip(
        some_probabilities(),
        reference.illness_scores(some_probabilities(), CLASSES, POINT),
        strict=True,
    ):
        scores = dict(zip(CLASSES, row, strict=True))
        for further, called in ((score + 0.01, True), (score - 0.01, False)):
            weights = {**POINT.weights, "healthy": float(np.exp(further))}
            label, _ = decide(scores, OperatingPoint("site:a", weights, 0.5))
            assert (label == "healthy") == called


def test_the_curve_holds_what_counting_gives():
    scores = some_probabilities()
    labels = [("healthy", "covid", "other")[number % 3] for number in range(300)]
    curve = reference.val_curve(scores, labels, CLASSES, POINT)
    ill = reference.illness_scores(scores, CLASSES, POINT)
    healthy = np.array([label == "healthy" for label in labels])
    assert (curve.healthy, curve.ill) == (100, 200)
    at = curve.thresholds.index(0.0)
    assert curve.specificity[at] == (ill[healthy] <= 0).mean()
    assert np.isclose(curve.sensitivity[at], (ill[~healthy] > 0).mean())
    assert (curve.specificity[-1], curve.sensitivity[-1]) == (1.0, 0.0)


def test_no_curve_without_healthy_people():
    assert reference.val_curve(some_probabilities(2), ["covid", "other"], CLASSES, POINT) is None
    assert reference.val_curve(some_probabilities(2), ["a", "b"], ("a", "b", "c"), POINT) is None


def test_grey_statistics_do_not_depend_on_the_size():
    small = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4, np.ones((16, 16), np.uint8))
    large = np.kron(small, np.ones((4, 4), np.uint8))
    assert np.allclose(reference.grey(small), reference.grey(large), atol=0.5)
    assert np.allclose(reference.grey(small), (small.mean(), small.std()), atol=0.5)


def test_a_histogram_counts_every_value():
    found = reference.histogram(np.array([-5.0, 0.0, 0.49, 0.51, 1.0, 7.0]), 0.0, 1.0)
    assert (found.counts[0], found.counts[-1], sum(found.counts)) == (2, 2, 6)


def test_images_count_in_the_curve_as_they_are_told_to():
    scores = some_probabilities(4)
    labels = ["healthy", "healthy", "covid", "covid"]
    doubled = np.concatenate([scores, scores[:1]])
    counted = reference.val_curve(scores, labels, CLASSES, POINT, np.array([2.0, 1.0, 1.0, 1.0]))
    repeated = reference.val_curve(doubled, [*labels, "healthy"], CLASSES, POINT)
    assert np.allclose(counted.specificity, repeated.specificity)
