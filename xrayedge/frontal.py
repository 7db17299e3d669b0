"""Is this an upright frontal chest radiograph? A small trained network that runs first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bundle import FrontalGate, ModelBundle
from .classifier import Classifier
from .engines import EngineName


@dataclass(frozen=True)
class FrontalCheck:
    """Refuses lateral views, turned pictures, other radiographs, CT, MRI and photographs.

    Parameters
    ----------
    gate
        The label that may pass and its threshold.
    classifier
        The gate's network, loaded.
    """

    gate: FrontalGate
    classifier: Classifier

    @classmethod
    def open(cls, bundle: ModelBundle, engine: EngineName, threads: int) -> FrontalCheck:
        """Load a bundle's check; always its int8 file."""
        gate = bundle.frontal
        return cls(gate, Classifier.open(bundle, gate.network, "int8", engine, threads))

    def score(self, pixels: NDArray[np.uint8]) -> float:
        """Probability, 0 to 1, that ``uint8 [H, W]`` is an upright frontal chest radiograph."""
        scores, _ = self.classifier.classify(self.classifier.preprocess(pixels))
        return scores[self.gate.label]

    def passes(self, score: float) -> bool:
        """Whether a picture of this score may be screened."""
        return score >= self.gate.threshold
