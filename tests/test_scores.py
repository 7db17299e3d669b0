import pytest

from xrayedge.bundle import OperatingPoint
from xrayedge.scores import decide

EVEN = OperatingPoint("balanced", {"covid": 1.0, "healthy": 1.0, "pneumonia": 1.0}, 0.5)
SENSITIVE = OperatingPoint("sensitive", {"covid": 4.0, "healthy": 1.0, "pneumonia": 1.0}, 0.5)


@pytest.mark.parametrize(
    ("covid", "healthy", "pneumonia", "point", "decision"),
    [
        (0.2, 0.7, 0.1, EVEN, ("healthy", True)),
        (0.2, 0.7, 0.1, SENSITIVE, ("covid", True)),  # 0.8 of 1.6, just enough
        (0.1, 0.8, 0.1, SENSITIVE, ("healthy", True)),
        (0.3, 0.3, 0.4, EVEN, ("pneumonia", False)),
    ],
)
def test_weights_choose_the_label_and_a_coins_toss_is_named(
    covid, healthy, pneumonia, point, decision
):
    probabilities = {"covid": covid, "healthy": healthy, "pneumonia": pneumonia}
    assert decide(probabilities, point) == decision
