"""Whether recent images are distributed as the reference's: the population stability index.

Between shares ``p`` and ``q`` of the same bins it is the sum of ``(p - q) * log(p / q)``. By the
usual rule of thumb up to 0.1 is no change and from 0.25 on a large one (Siddiqi 2006, "Credit risk
scorecards"), whatever the number of images. Without any change it is about
``(1/n + 1/m) * chi2(bins - 1)`` (Yurdakul and Naranjo 2020, "Statistical properties of the
population stability index", Journal of Risk Model Validation), so with few images chance alone
passes 0.25. An index therefore counts as a change where it passes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

#: With fewer images on either side nothing is compared.
LEAST_IMAGES = 100
#: An index up to here is no large change, however many images show it.
LARGE_CHANGE = 0.25
#: How often chance alone may pass the limit, each time that one measure is looked at.
FALSE_ALARM = 1e-4
#: Least share of all images in a bin; smaller bins are merged with the next.
LEAST_SHARE = 0.1
#: Added to each bin, so that an empty one has a logarithm (Jeffreys' prior).
_SMOOTHING = 0.5


@dataclass(frozen=True)
class Stability:
    """How far a measure's recent values are from the reference.

    Parameters
    ----------
    index
        The population stability index.
    limit
        Beyond this the images changed.
    """

    index: float
    limit: float

    @property
    def changed(self) -> bool:
        """Whether the index is beyond the limit."""
        return self.index > self.limit


def stability(
    reference: Sequence[int], recent: Sequence[int], *, join: bool = True
) -> Stability | None:
    """Compare two histograms of the same bins; `None` where one has under `LEAST_IMAGES`.

    Parameters
    ----------
    reference, recent
        Counts of each bin.
    join
        Whether neighbours are merged until each bin has `LEAST_SHARE` of both sides' images.
    """
    counts = np.array([reference, recent], np.float64)
    images = counts.sum(axis=1)
    if images.min() < LEAST_IMAGES:
        return None
    if join:
        counts = _joined(counts, LEAST_SHARE)
    bins = counts.shape[1]
    shares = (counts + _SMOOTHING) / (images[:, None] + _SMOOTHING * bins)
    index = float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))
    chance = float((1.0 / images).sum()) * _chi_square(bins - 1)
    return Stability(index, max(LARGE_CHANGE, chance))


def _joined(counts: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Merge neighbours from the left until each bin has this share of both sides' mean."""
    weights = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    starts, weight = [0], 0.0
    for number, one in enumerate(weights[:-1]):
        weight += one
        # Both this bin and what is left must be large enough.
        if weight >= share and weights[number + 1 :].sum() >= share:
            starts.append(number + 1)
            weight = 0.0
    return np.asarray(np.add.reduceat(counts, starts, axis=1))


def _chi_square(degrees: int) -> float:
    """The quantile at 1 - `FALSE_ALARM`, after Wilson and Hilferty (1931); 0 for no degrees."""
    if degrees < 1:
        return 0.0
    normal = NormalDist().inv_cdf(1.0 - FALSE_ALARM)
    spread = 2.0 / (9.0 * degrees)
    return float(degrees * (1.0 - spread + normal * spread**0.5) ** 3)
