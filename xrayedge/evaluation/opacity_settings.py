"""How the channel of opacities is read: its calibration and threshold, both fitted on `val`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..bundle import OpacitySettings
from ..data import HEALTHY, Box, Sample
from ..opacities import find
from ..preprocessing import Preprocessing, Window

#: Thresholds that are tried.
_THRESHOLDS = np.linspace(0.05, 0.95, 19)
#: Without boxes to fit by: the network's own probability, and more likely than not.
_UNFITTED = OpacitySettings(threshold=0.5, temperature=1.0, bias=0.0)
#: Where radiologists' boxes and images without any are told apart without error, the best
#: temperature is 0: so far at least, and at most, it is from the network's own.
_LOG_TEMPERATURE = (np.log(0.05), np.log(20.0))


def fit_opacity_settings(
    logits: NDArray[np.floating],
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    shapes: Sequence[tuple[int, int]],
) -> OpacitySettings:
    """Fit calibration and threshold.

    The calibration is Platt's (1999): the temperature and bias at which the score of the strongest
    place is the probability that the image has any box. The threshold is that of the largest
    ``(S + 1 - F) / 2``, with S the share of radiologists' boxes that hold the centre of an opacity
    found, and F the opacities an image whose centre lies in no box.

    Fitted on the images that a radiologist read for opacities, and on healthy ones, which have
    none. Without images of both kinds nothing is fitted: threshold 0.5, the scores as they come.

    Parameters
    ----------
    logits
        The channel of each image, ``float [N, h, w]``.
    samples
        Whose boxes and labels to fit by.
    preprocessing
        What made the network's inputs.
    shapes
        Height and width of each image, in pixels.
    """
    known = [
        index
        for index, sample in enumerate(samples)
        if sample.opacity_boxes is not None or sample.label == HEALTHY
    ]
    boxes = [samples[index].opacity_boxes or () for index in known]
    some = np.array([bool(one) for one in boxes], bool)
    if not some.any() or some.all():
        return _UNFITTED
    temperature, bias = _fit_platt(logits[known].max(axis=(1, 2)), some)
    best, best_value = _UNFITTED, -np.inf
    for threshold in _THRESHOLDS:
        settings = OpacitySettings(float(round(threshold, 2)), temperature, bias)
        found, false = 0, 0
        for index, marked in zip(known, boxes, strict=True):
            height, width = shapes[index]
            opacities = find(logits[index], settings, preprocessing, Window.whole(height, width))
            centres = [_centre(opacity.box, height, width) for opacity in opacities]
            found += sum(any(_holds(box, centre) for centre in centres) for box in marked)
            false += sum(not any(_holds(box, centre) for box in marked) for centre in centres)
        value = found / sum(map(len, boxes)) - false / len(known)
        if value > best_value:
            best, best_value = settings, value
    return best


def _fit_platt(strongest: NDArray[np.floating], some: NDArray[np.bool_]) -> tuple[float, float]:
    """Temperature and bias of the least negative log likelihood, with Platt's softened targets."""
    from scipy.optimize import minimize

    with_box, without = some.sum(), (~some).sum()
    wanted = np.where(some, (with_box + 1) / (with_box + 2), 1 / (without + 2))

    def loss(parameters: NDArray[np.float64]) -> float:
        log_temperature, bias = parameters
        shifted = (strongest + bias) / np.exp(log_temperature)
        return float((np.logaddexp(0.0, shifted) - wanted * shifted).mean())

    start = np.array([0.0, -float(np.median(strongest))])
    reach = float(np.abs(strongest).max()) + 20.0
    fitted = minimize(loss, start, method="L-BFGS-B", bounds=[_LOG_TEMPERATURE, (-reach, reach)]).x
    return float(np.exp(fitted[0])), float(fitted[1])


def _centre(box: Box, height: int, width: int) -> tuple[float, float]:
    return (box[0] + box[2]) / 2.0 / width, (box[1] + box[3]) / 2.0 / height


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]
