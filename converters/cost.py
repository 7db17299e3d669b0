"""What a conversion will take, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from xrayedge.training.network import ARCHITECTURES
from xrayedge.training.pruning import layer_costs
from xrayedge.training.run import RunRecord

from .calibration_set import IMAGES
from .variants import INT8_WEIGHTS, VariantName

#: GB: of TensorFlow alone, and for each million weights, as vgg16 took with its ONNX files.
_BASE_MEMORY, _MEMORY_PER_MILLION = 1.3, 0.38
#: Multiply-accumulates a second of two cores with AVX-512, in float32; a guide, no more.
_RATE = 60e9
#: How often the calibration images go through the network, and those of `val` without a file.
_CALIBRATION_PASSES, _VAL_PASSES = 5, 1
#: Ways to choose ranges, each of which makes a file that `val` goes through.
_RANGE_METHODS = 3


def expected(record: RunRecord, names: Sequence[VariantName], val: int, compared: int) -> str:
    """Time and memory of a network's conversion, for a person.

    Parameters
    ----------
    record
        The run to convert.
    names
        The files to make.
    val, compared
        How many images of `val` there are, and to compare the files on.
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
