"""A bundle or a run, ready to score labelled images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundle import ModelBundle, OpacitySettings, OperatingPoint, Precision
from ..classifier import Classifier
from ..data import Sample, TrainingData, read_sample
from ..engines import EngineName, preferred_engine
from ..lungs import LungFiles, LungFinder, open_finder, window_for
from ..preprocessing import Preprocessing, Window
from ..site import SiteProfile, open_site

#: Probabilities and activation map of one image.
Judgement = tuple[NDArray[np.float64], NDArray[np.float32]]


@dataclass(frozen=True)
class ScoringModel:
    """A bundle's or a run's model, ready to score samples.

    Parameters
    ----------
    classes
        In the order of the scores.
    preprocessing
        What makes its input.
    judge
        From an input ``uint8 [1, size, size, 1]`` to probabilities ``float64 [classes]`` and the
        activation map ``float32 [h, w, channels]``.
    gate
        A frontal check's label that may pass, and the least score that does.
    points
        Operating points to judge labels at; none where the scores are weighted by one already.
    opacity
        How the map's last channel is read; ``None``: all are of classes.
    trained_on
        What the model learnt from, if that is known.
    lungs
        What frames the lungs; ``None``: the model sees whole images.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    judge: Callable[[NDArray[np.uint8]], Judgement]
    gate: tuple[str, float] | None = None
    points: tuple[OperatingPoint, ...] = ()
    opacity: OpacitySettings | None = None
    trained_on: TrainingData | None = None
    lungs: LungFinder | None = None

    @classmethod
    def from_bundle(
        cls,
        folder: str | Path,
        precision: Precision,
        engine: EngineName | None,
        *,
        frontal: bool,
        operating_point: str | None = None,
        site: SiteProfile | str | Path | None = None,
    ) -> ScoringModel:
        """A bundle's classifier or frontal check, in the engine that a device would use.

        With an operating point, or that of a site's profile, the scores are the probabilities
        after its weights, so that the largest is the label that a device gives there.
        """
        bundle = ModelBundle.load(folder)
        network = bundle.frontal.network if frontal else bundle.classifier
        threads = os.cpu_count() or 1
        engine = engine or preferred_engine(network.formats(precision))
        classifier = Classifier.open(bundle, network, precision, engine, threads)
        files = None if frontal else LungFiles.of(bundle)

        point = None
        if site is not None:
            point = open_site(site).point_for(bundle)
        elif operating_point is not None:
            point = network.operating_point(operating_point)
        weights = np.ones(len(network.classes))
        if point is not None:
            weights = np.array([point.weights[name] for name in network.classes])

        def judge(inputs: NDArray[np.uint8]) -> Judgement:
            scores, found = classifier.classify(inputs)
            weighted = np.asarray(list(scores.values())) * weights
            return weighted / weighted.sum(), found

        made_of = bundle.provenance.get("frontal" if frontal else "classifier") or {}
        return cls(
            network.classes,
            network.preprocessing,
            judge,
            (bundle.frontal.label, bundle.frontal.threshold) if frontal else None,
            network.operating_points if point is None else (),
            network.opacity,
            TrainingData.from_record(made_of.get("data") or {}, made_of.get("recipe") or {}),
            open_finder(files, engine, threads),
        )

    def window(self, pixels: NDArray[np.uint8]) -> Window:
        """The part of ``uint8 [H, W]`` that the model sees."""
        return window_for(self.lungs, pixels)

    def inputs(self, pixels: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        """That part as the model reads it, ``uint8 [1, size, size, 1]``."""
        return self.preprocessing.apply(window.cut(pixels))[np.newaxis]

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Probabilities, ``float64 [classes]``."""
        pixels = read_sample(sample)
        return self.judge(self.inputs(pixels, self.window(pixels)))[0]
