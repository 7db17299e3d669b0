"""What a bundle says about the images it was fitted on: operating points, curve, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrayedge import reference
from xrayedge.bundle import (
    FrontalGate,
    OpacitySettings,
    OperatingPoint,
    ReferenceHistograms,
    ValCurve,
)
from xrayedge.data import HEALTHY, Sample, read_sample
from xrayedge.engines import Engine
from xrayedge.evaluation.opacity_settings import fit_opacity_settings
from xrayedge.evaluation.operating_points import Scored, fit_operating_points
from xrayedge.preprocessing import Preprocessing

from .outputs import engine_outputs


@dataclass(frozen=True)
class ValDescription:
    """What the bundle holds of `val`.

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


def describe(
    samples: Sequence[Sample],
    classes: tuple[str, ...],
    probabilities: NDArray[np.float64],
    gate: FrontalGate,
    frontal: Engine,
) -> ValDescription:
    """Fit the points and measure the curve and the histograms.

    Parameters
    ----------
    samples
        The images of `val`, labels that are no classes included.
    classes
        Class names, in the order of the probabilities' columns.
    probabilities
        The float model's, ``float64 [N, classes]``.
    gate
        The bundle's frontal check.
    frontal
        An engine that holds the check's file.
    """
    scored = Scored(
        classes,
        probabilities,
        labels=[sample.label for sample in samples],
        sources=[sample.source for sample in samples],
        groups=[sample.group for sample in samples],
    )
    points = fit_operating_points(scored)
    healthy = scored.of(HEALTHY)
    curve = reference.val_curve(
        probabilities,
        scored.labels,
        classes,
        points[0],
        counts=scored.weights_of(healthy) + scored.weights_of(~healthy),
    )
    inputs, greys = [], []
    for sample in samples:
        image = read_sample(sample)
        inputs.append(gate.network.preprocessing.apply(image))
        greys.append(reference.grey(image))
    passed = engine_outputs(frontal, np.stack(inputs), gate.network).probabilities
    column = gate.network.classes.index(gate.label)
    histograms = reference.measure(probabilities, classes, passed[:, column], np.array(greys))
    return ValDescription(points, curve, histograms)


def opacity_settings(
    samples: Sequence[Sample], logits: NDArray[np.float32], preprocessing: Preprocessing
) -> OpacitySettings:
    """See `fit_opacity_settings`; ``logits`` are the channel's, ``float32 [N, h, w]``."""
    shapes = [read_sample(sample).shape for sample in samples]
    return fit_opacity_settings(
        logits, samples, preprocessing, [(height, width) for height, width in shapes]
    )
