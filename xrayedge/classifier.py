"""A network loaded into an engine: pictures in, probabilities and activation map out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bundle import ModelBundle, Network, Precision
from .engines import ENGINES, Engine, EngineName, open_engine
from .errors import EngineError
from .scores import probabilities


@dataclass(frozen=True)
class Classifier:
    """A network and the engine that runs it.

    Parameters
    ----------
    network
        Classes, preprocessing and temperature.
    engine
        The engine, with one of the network's files loaded.
    """

    network: Network
    engine: Engine

    @classmethod
    def open(
        cls,
        bundle: ModelBundle,
        network: Network,
        precision: Precision,
        engine: EngineName,
        threads: int,
        providers: Sequence[str] = (),
    ) -> Classifier:
        """Load a network's file of the precision that was asked for; see `engines.open_engine`.

        Raises
        ------
        EngineError
            The engine is missing, or the bundle has no such file for it.
        BundleError
            The file is missing or altered.
        """
        variant = network.variant(ENGINES[engine].model_format, precision)
        if variant is None:
            there = ", ".join(f"{v.precision} ({v.format})" for v in network.variants)
            raise EngineError(
                f"{bundle.name} has no {precision} file for the engine {engine}; it has {there}"
            )
        content = bundle.read(variant)
        return cls(network, open_engine(engine, content, threads=threads, providers=providers))

    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``uint8 [H, W]`` to the engine's input, ``uint8 [1, size, size, 1]``."""
        return self.network.preprocessing.apply(pixels)[np.newaxis]

    def classify(self, inputs: NDArray[np.uint8]) -> tuple[dict[str, float], NDArray[np.float32]]:
        """Probability of each class, and the activation map ``float32 [h, w, classes]``."""
        activation_map = self.engine.run(inputs)[0]
        scores = probabilities(activation_map, self.network.temperature)
        return dict(zip(self.network.classes, map(float, scores), strict=True)), activation_map
