"""Medians and their intervals from rounds of measurements, without assuming a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

#: Least share of repetitions in which an interval holds the true median.
CONFIDENCE = 0.95
#: Fewer rounds give no interval: the whole range of 5 holds the median in 94 % of cases.
MIN_ROUNDS = 6

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A median over rounds.

    Parameters
    ----------
    value
        The median.
    interval
        Its interval at `CONFIDENCE`; `None` with fewer than `MIN_ROUNDS` rounds.
    """

    value: float
    interval: Interval | None


def estimate(values: Sequence[float]) -> Estimate:
    """Median of one value per round, with the interval between two of its order statistics.

    A round is below the true median with probability 1/2, so the number below is binomial, and
    the k-th smallest and k-th largest of n hold the median with probability
    1 - 2 P(Bin(n, 1/2) < k) (Conover, Practical Nonparametric Statistics, section 3.2).
    """
    ordered = sorted(values)
    return Estimate(median(ordered), _median_interval(ordered))


def estimate_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Median ratio of two cases measured in the same rounds: what slows both cancels out."""
    return estimate([a / b for a, b in zip(numerators, denominators, strict=False)])


def ratio_interval(numerator: Interval, denominator: Interval) -> Interval:
    """The ratios that two intervals of separate runs allow; above 1 or below it: a change."""
    return numerator[0] / denominator[1], numerator[1] / denominator[0]


def _median_interval(ordered: Sequence[float]) -> Interval | None:
    count = len(ordered)
    if count < MIN_ROUNDS:
        return None
    tail, chosen = 0.0, 0
    for k in range(count // 2):
        tail += comb(count, k) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        chosen = k
    return ordered[chosen], ordered[count - 1 - chosen]
