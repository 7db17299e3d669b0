"""Estimate the time and memory of a conversion before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from xrayedge.training.network import ARCHITECTURES
from xrayedge.training.pruning import layer_costs
from xrayedge.training.run import RunRecord

from .calibration_set import IMAGES
from .variants import INT8_WEIGHTS, VariantName

#: GB: of TensorFlow and the calibration images, and for each million weights, as both bundles took.
_BASE_MEMORY, _MEMORY_PER_MILLION = 1.9, 0.18
#: Multiply-accumulates per second of two cores with AVX-512, in float32: a rough guide.
_RATE = 60e9
#: Passes of the calibration images through the network, and of `val` before any file exists.
_CALIBRATION_PASSES, _VAL_PASSES = 5, 1
#: Methods of choosing ranges; `val` is scored with a file made by each.
_RANGE_METHODS = 3


def expected(record: RunRecord, names: Sequence[VariantName], val: int, compared: int) -> str:
    """Describe the time and memory that the conversion of a network takes.

    Parameters
    ----------
    record
        The run to convert.
    names
        The files to make.
    val, compared
        Number of images in `val`, and of those that the files are compared on.
    """
    recipe = record.recipe
    architecture = ARCHITECTURES[recipe.architecture]
    widths = recipe.widths or architecture.blocks
    size = recipe.preprocessing.size
    costs = layer_costs(widths, size, len(record.classes), architecture.pool_last)
    operations, weights = map(sum, costs)
    passes = _VAL_PASSES * val + compared * (1 + len(names))
    if any(precision in INT8_WEIGHTS for _, precision in names):
        passes += _CALIBRATION_PASSES * IMAGES + _RANGE_METHODS * val
    minutes = passes * operations / _RATE / 60.0
    memory = _BASE_MEMORY + _MEMORY_PER_MILLION * weights / 1e6
    return (
        f"about {max(1, round(minutes))} min on two cores of a workstation, and {memory:.1f} GB "
        f"of memory ({operations / 1e9:.2f} G multiply-accumulates, {weights / 1e6:.1f} M weights)"
    )
