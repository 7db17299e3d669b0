"""A network loaded into an engine: image in, probabilities and activation map out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .bundle import Network, Precision, Variant
from .engines import ENGINES, Engine, EngineName, open_engine
from .errors import BundleError, EngineError
from .scores import probabilities


class ModelFiles(Protocol):
    """Where a network's files are: a bundle, or `lungs.LungFiles`."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def folder(self) -> Path:
        """Where the files are."""

    def read(self, variant: Variant) -> bytes:
        """The bytes of a file, checked; `BundleError` if they are not the ones described."""


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
        files: ModelFiles,
        network: Network,
        precision: Precision,
        engine: EngineName,
        threads: int,
        providers: Sequence[str] = (),
    ) -> Classifier:
        """Load a network's file of this precision; see `engines.open_engine`.

        Raises
        ------
        EngineError
            The engine is missing, or the bundle has no such file for it.
        BundleError
            The file is missing or altered, or is not the network that the manifest describes.
        """
        variant = network.variant(ENGINES[engine].model_format, precision)
        if variant is None:
            there = ", ".join(f"{v.precision} ({v.format})" for v in network.variants)
            raise EngineError(
                f"{files.name} has no {precision} file for the engine {engine}; it has {there}"
            )
        content = files.read(variant)
        opened = cls(network, open_engine(engine, content, threads=threads, providers=providers))
        opened._check(files.folder / variant.file)
        return opened

    def preprocess(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``uint8 [H, W]`` to the engine's input, ``uint8 [1, size, size, 1]``."""
        return self.network.preprocessing.apply(pixels)[np.newaxis]

    def classify(self, inputs: NDArray[np.uint8]) -> tuple[dict[str, float], NDArray[np.float32]]:
        """Probability of each class, and the activation map ``float32 [h, w, channels]``.

        The map's first channels are the classes'; where ``network.opacity`` is there, the last is
        that of opacities.

        Raises
        ------
        EngineError
            The engine can't run, or gives what are no numbers.
        """
        activation_map = self.engine.run(inputs)[0]
        of_classes = activation_map[:, :, : len(self.network.classes)]
        scores = probabilities(of_classes, self.network.temperature)
        if not np.isfinite(scores).all():
            raise EngineError("the model gives values that are no numbers; see `xrayedge doctor`")
        return dict(zip(self.network.classes, map(float, scores), strict=True)), activation_map

    def _check(self, path: Path) -> None:
        """Run once on black: what no manifest can promise is seen here, and not on an image."""
        size = self.network.preprocessing.size
        try:
            maps = self.engine.run(np.zeros((1, size, size, 1), np.uint8))
        except EngineError as error:
            raise BundleError(
                f"{path}: takes no input of {size} x {size} pixels, which the manifest says "
                f"({error})"
            ) from error
        channels = self.network.channels
        if maps.ndim != 4 or maps.shape[0] != 1 or maps.shape[3] != channels or maps.size == 0:
            raise BundleError(
                f"{path}: gives an output of shape {list(maps.shape)}; by the manifest it must be "
                f"[1, h, w, {channels}]"
            )
        if not np.isfinite(maps).all():
            raise BundleError(f"{path}: gives values that are no numbers")
