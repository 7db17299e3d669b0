"""What a bundle says about the images it was fitted on: operating points, curve, histograms."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xrayedge import reference
from xrayedge.bundle import (
    OpacitySettings,
    OperatingPoint,
    ReferenceHistograms,
    ValCurve,
)
from xrayedge.data import HEALTHY, Sample, read_sample
from xrayedge.evaluation.opacity_settings import fit_opacity_settings
from xrayedge.evaluation.operating_points import Scored, fit_operating_points
from xrayedge.preprocessing import Preprocessing, Window


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The images of `val`, read once for everything that a conversion needs of them.

    Parameters
    ----------
    samples
        Including labels that are not classes.
    inputs
        Of the network that is converted, ``uint8 [N, size, size, 1]``.
    whole
        Inputs made of whole images, by the preprocessing that made them.
    shapes
        Height and width of each image's window, in pixels.
    greys
        See `reference.grey`, ``float64 [N, 2]``.
    """

    samples: Sequence[Sample]
    inputs: NDArray[np.uint8]
    whole: dict[Preprocessing, NDArray[np.uint8]]
    shapes: list[tuple[int, int]]
    greys: NDArray[np.float64]


@dataclass(frozen=True)
class ValDescription:
    """What the bundle records about `val`.

    Parameters
    ----------
    operating_points
        See `fit_operating_points`.
    curve
        See `reference.val_curve`.
    histograms
        See `reference.measure`.
    """

    operating_points: tuple[OperatingPoint, ...]
    curve: ValCurve | None
    histograms: ReferenceHistograms


def read_held_out(
    samples: Sequence[Sample],
    network: Preprocessing,
    of_the_whole: Collection[Preprocessing],
) -> HeldOut:
    """Read each image once and make every network's input from it.

    Parameters
    ----------
    samples
        The images, with windows where the network sees those alone.
    network
        Makes an input of the window.
    of_the_whole
        Make inputs of whole images, as the device's frontal check does.
    """
    inputs: list[NDArray[np.uint8]] = []
    whole: dict[Preprocessing, list[NDArray[np.uint8]]] = {one: [] for one in of_the_whole}
    shapes, greys = [], []
    for sample in samples:
        image = read_sample(replace(sample, window=None))
        window = sample.window or Window.whole(*image.shape)
        inputs.append(network.apply(window.cut(image)))
        for preprocessing, made in whole.items():
            made.append(preprocessing.apply(image))
        shapes.append(window.shape)
        greys.append(reference.grey(image))
    stacked = {preprocessing: np.stack(made) for preprocessing, made in whole.items()}
    return HeldOut(samples, np.stack(inputs), stacked, shapes, np.array(greys))


def describe(
    held_out: HeldOut,
    classes: tuple[str, ...],
    probabilities: NDArray[np.float64],
    frontal_scores: NDArray[np.float64],
) -> ValDescription:
    """Fit the points and measure the curve and the histograms.

    Parameters
    ----------
    held_out
        The images.
    classes
        Class names, in the order of the probabilities' columns.
    probabilities
        The float model's, ``float64 [N, classes]``.
    frontal_scores
        The frontal check's, ``float64 [N]``.
    """
    scored = Scored.from_samples(held_out.samples, classes, probabilities)
    points = fit_operating_points(scored)
    healthy = scored.of(HEALTHY)
    curve = reference.val_curve(
        probabilities,
        scored.labels,
        classes,
        points[0],
        counts=scored.weights_of(healthy) + scored.weights_of(~healthy),
    )
    histograms = reference.measure(probabilities, classes, frontal_scores, held_out.greys)
    return ValDescription(points, curve, histograms)


def opacity_settings(
    held_out: HeldOut, logits: NDArray[np.float32], preprocessing: Preprocessing
) -> OpacitySettings:
    """See `fit_opacity_settings`; ``logits`` are the channel's, ``float32 [N, h, w]``."""
    return fit_opacity_settings(logits, held_out.samples, preprocessing, held_out.shapes)
