"""The frontal check: a small network that runs first and rejects everything but frontal chests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .bundle import FrontalGate, ModelBundle
from .classifier import Classifier
from .engines import EngineName
from .preprocessing import halved_for


@dataclass(frozen=True)
class Correction:
    """What makes an image upright with bright bones.

    Parameters
    ----------
    quarter_turns
        Counter-clockwise turns of 90 degrees.
    invert
        Whether dark and bright change places.
    """

    quarter_turns: int
    invert: bool

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The corrected image, ``uint8``; height and width may change places."""
        pixels = 255 - pixels if self.invert else pixels
        return np.ascontiguousarray(np.rot90(pixels, self.quarter_turns))

    def names(self) -> tuple[str, ...]:
        """As results name it: ``inverted``, ``turned-90``, ``turned-180``, ``turned-270``."""
        names = ["inverted"] if self.invert else []
        return (*names, *([f"turned-{90 * self.quarter_turns}"] if self.quarter_turns else []))


_CORRECTIONS = tuple(
    Correction(turns, invert) for invert, turns in product((False, True), range(4))
)[1:]


@dataclass(frozen=True)
class FrontalCheck:
    """Rejects lateral views, rotated images, other radiographs, CT, MRI and photographs.

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
    def open(
        cls,
        bundle: ModelBundle,
        engine: EngineName,
        threads: int,
        providers: Sequence[str] = (),
    ) -> FrontalCheck:
        """Load a bundle's check; always its int8 file."""
        gate = bundle.frontal
        return cls(gate, Classifier.open(bundle, gate.network, "int8", engine, threads, providers))

    def score(self, pixels: NDArray[np.uint8]) -> float:
        """Probability, 0 to 1, that ``uint8 [H, W]`` is an upright frontal chest radiograph."""
        scores, _ = self.classifier.classify(self.classifier.preprocess(pixels))
        return scores[self.gate.label]

    def correction(self, pixels: NDArray[np.uint8]) -> tuple[Correction, float] | None:
        """The correction that makes a rejected ``uint8 [H, W]`` pass, and its score; or `None`."""
        # The image is turned and not its input: a pad of odd width has its odd row at the end.
        small = halved_for(pixels, [self.classifier.network.preprocessing])
        scores = {one: self.score(one.apply(small)) for one in _CORRECTIONS}
        best = max(scores, key=lambda correction: scores[correction])
        return (best, scores[best]) if self.passes(scores[best]) else None

    def passes(self, score: float) -> bool:
        """Whether an image of this score may be screened."""
        return score >= self.gate.threshold
