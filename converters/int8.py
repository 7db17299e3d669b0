"""The model that all files with int8 weights share: equalised, rounded, its ranges chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from xrayedge.bundle import Network
from xrayedge.engines import open_engine

from . import equalisation, ranges, rounding, tflite
from .calibration_set import CalibrationSet
from .outputs import Outputs, engine_outputs
from .quiet import quiet_converters

_THREADS = 2


@dataclass(frozen=True)
class Int8:
    """What all files with int8 weights share, so that they are one model.

    Parameters
    ----------
    model
        The model, equalised and with rounded kernels.
    ranges
        Ranges of its activations, by the method that came closest to the float model.
    tflite
        The int8 TFLite file made of the two.
    provenance
        The calibration set, and a comparison of the methods.
    """

    model: keras.Model
    ranges: ranges.Ranges
    tflite: bytes
    provenance: dict[str, Any]

    def comparison(self) -> str:
        """Describe which method was chosen and how the others compared."""
        compared = ", ".join(
            f"{method} {value:.4f}"
            for method, value in self.provenance["mean_difference_on_val"].items()
        )
        chosen = self.provenance["ranges"]
        return f"{chosen} ranges (mean score difference on val: {compared})"


def quantise(
    model: keras.Model,
    network: Network,
    calibration: CalibrationSet,
    inputs: NDArray[np.uint8],
    reference: Outputs,
    step: Callable[[str], None] = lambda _: None,
) -> Int8:
    """Equalise, round, and keep the ranges whose file comes closest to the float model.

    Parameters
    ----------
    model
        The float model.
    network
        How its outputs are read.
    calibration
        Images to observe activations on.
    inputs, reference
        Images to choose the ranges on, ``uint8 [N, S, S, 1]``, and the float model's outputs.
    step
        Called before each step with its name.

    Raises
    ------
    ConversionError
        The network is dead: see `equalisation.equalise`.
    """
    step("equalise the ranges of channels across layers")
    equalised = equalisation.equalise(model, calibration)
    step(f"round the kernels to int8 on {len(calibration.inputs)} images")
    rounded = rounding.round_kernels(equalised, calibration)
    step("observe the activations' ranges")
    candidates = ranges.observe(rounded, calibration)
    step(f"choose among {len(candidates)} methods of ranges on {len(inputs)} images")
    contents, differences = {}, {}
    for method, found in candidates.items():
        with quiet_converters():
            contents[method] = tflite.static_int8(rounded, found)
        engine = open_engine("litert", contents[method], threads=_THREADS)
        differences[method] = reference.mean_difference(engine_outputs(engine, inputs, network))
    best = min(differences, key=lambda method: differences[method])
    provenance = {
        "images": len(calibration.inputs),
        "sha256": calibration.digest,
        "ranges": best,
        "mean_difference_on_val": differences,
    }
    return Int8(rounded, candidates[best], contents[best], provenance)
