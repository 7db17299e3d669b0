"""Activation ranges: the largest value that each layer's int8 represents, by three methods.

Both formats quantise with the same ranges, so their int8 files are one model. Int8 is symmetric
about zero (TensorRT takes no other), so a range is one number.
"""

from __future__ import annotations

from typing import Literal, get_args

import keras
import numpy as np
from numpy.typing import NDArray

from .calibration_set import CalibrationSet
from .equalisation import INT8_MAX, convolutions

Method = Literal["min-max", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)

#: By layer name: the output value that is mapped to the largest int8.
Ranges = dict[str, float]

PERCENTILE = 99.999
_BINS = 4096
_BATCH = 4
_STRIDE = 2  # a quarter of the places is enough for the histogram; the maximum is exact
#: Clipping points tried by ``mse``, as shares of the largest value.
_SHARES = np.linspace(0.3, 1.0, 71)


def observe(model: keras.Model, calibration: CalibrationSet) -> dict[Method, Ranges]:
    """Ranges of every convolution but the last, by each method.

    ``min-max``: the largest value seen. ``percentile``: the value that all but 0.001 % stay below.
    ``mse``: the value at which rounding and clipping together give the least squared error.
    """
    hidden = convolutions(model)[:-1]
    observer = keras.Model(model.inputs[0], [layer.output for layer in hidden])
    batches = range(0, len(calibration.inputs), _BATCH)
    largest = np.zeros(len(hidden))
    for start in batches:
        outputs = observer.predict_on_batch(calibration.inputs[start : start + _BATCH])
        np.maximum(largest, [float(output.max()) for output in outputs], out=largest)
    counts = np.zeros((len(hidden), _BINS))
    for start in batches:
        outputs = observer.predict_on_batch(calibration.inputs[start : start + _BATCH])
        for index, output in enumerate(outputs):
            sampled = output[:, ::_STRIDE, ::_STRIDE]
            counts[index] += np.histogram(sampled, bins=_BINS, range=(0.0, largest[index]))[0]
    found: dict[Method, Ranges] = {method: {} for method in METHODS}
    for layer, count, top in zip(hidden, counts, largest, strict=True):
        found["min-max"][layer.name] = float(top)
        found["percentile"][layer.name] = _percentile(count, float(top))
        found["mse"][layer.name] = _least_squares(count, float(top))
    return found


def _percentile(count: NDArray[np.float64], top: float) -> float:
    cumulative = np.cumsum(count) / count.sum()
    return float((np.searchsorted(cumulative, PERCENTILE / 100.0) + 1) / _BINS * top)


def _least_squares(count: NDArray[np.float64], top: float) -> float:
    centres = (np.arange(_BINS) + 0.5) / _BINS * top
    clips = _SHARES * top

    def cost(clip: float) -> float:
        step = clip / INT8_MAX
        rounded = np.minimum(np.round(centres / step), INT8_MAX) * step
        return float((count * (centres - rounded) ** 2).sum())

    return float(min(clips, key=cost))
