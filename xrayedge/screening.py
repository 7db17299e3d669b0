"""`Screener`: the whole way from a picture to its result, on the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .bundle import ModelBundle, Precision
from .classifier import Classifier
from .engines import EngineName, preferred_engine
from .errors import PictureError
from .frontal import FrontalCheck
from .heatmap import overlay
from .imaging import Limits, Source, read
from .scores import decide

Status = Literal["screened", "rejected", "failed"]

#: Shorter side, in pixels, under which a picture is refused: half of the classifier's input.
MIN_SIDE = 112

_STAGES = ("read", "frontal", "preprocess", "classify")


@dataclass(frozen=True, eq=False)
class Screening:
    """The result of one picture.

    Parameters
    ----------
    source
        The path as the caller gave it, ``<bytes>`` or ``<array>``.
    status
        ``screened``; ``rejected``, a picture that must not be screened; or ``failed``.
    reason
        Why not screened, for a program: ``not-frontal``, ``too-small``, ``unreadable``, ...
    detail
        The same in a sentence, for a person.
    label
        The class that the operating point chooses.
    certain
        Whether the label is more than a coin's toss: its share of the probability, as the
        operating point weighs it, reaches the point's ``abstain_below``.
    probabilities
        Of each class; they sum to 1.
    frontal_score
        Probability that the picture is an upright frontal chest radiograph.
    model, version, precision, engine, operating_point
        What made the result.
    timings_ms
        Milliseconds for ``read``, ``frontal``, ``preprocess``, ``classify`` and ``total``;
        ``None`` for a stage that was not reached.
    activation_map
        ``float32 [h, w, classes]``, logits at each place.
    heatmap
        The overlay picture, where it was asked for; see `heatmap.overlay`.
    """

    source: str
    status: Status
    reason: str | None
    detail: str | None
    label: str | None
    certain: bool | None
    probabilities: dict[str, float] | None
    frontal_score: float | None
    model: str
    version: str
    precision: Precision
    engine: EngineName
    operating_point: str
    timings_ms: dict[str, float | None]
    activation_map: NDArray[np.float32] | None = field(default=None, repr=False)
    heatmap: NDArray[np.uint8] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the command line's contract."""
        return {
            "source": self.source,
            "status": self.status,
            "reason": self.reason,
            "label": self.label,
            "certain": self.certain,
            "probabilities": self.probabilities,
            "frontal_score": self.frontal_score,
            "model": self.model,
            "version": self.version,
            "precision": self.precision,
            "engine": self.engine,
            "operating_point": self.operating_point,
            "timings_ms": self.timings_ms,
        }


class Screener:
    """Screens chest radiographs with one model.

    May be shared by threads, and gives each the result that it would get alone. A LiteRT
    interpreter serves one thread at a time, so its calls wait for each other while the rest of a
    screening goes on; an ONNX Runtime session runs calls at once. Where cores are idle, a screener
    for each thread makes LiteRT use them, for a model's memory each (``benchmarks/soak.py``).

    Parameters
    ----------
    model
        A shipped bundle's name or a bundle's folder.
    precision
        Which of the bundle's files to use: ``int8``, ``float16``, ...
    engine
        ``litert`` or ``onnx``; without one, the first that is installed.
    threads
        Processor threads for one picture.
    operating_point
        ``balanced``, or ``sensitive``: finds more COVID-19 and raises more false alarms.
    limits
        Largest file and picture accepted.

    Raises
    ------
    BundleError
        The bundle is missing, damaged or altered, or has no such operating point.
    EngineError
        No engine is installed, or the bundle has no such file for it.
    """

    def __init__(
        self,
        model: str | Path = "vgg16",
        *,
        precision: Precision = "int8",
        engine: EngineName | None = None,
        threads: int = 1,
        operating_point: str = "balanced",
        limits: Limits | None = None,
    ) -> None:
        self.bundle = ModelBundle.load(model)
        self.precision = precision
        self.engine = engine or preferred_engine()
        self._point = self.bundle.classifier.operating_point(operating_point)
        self._limits = limits or Limits()
        self._frontal = FrontalCheck.open(self.bundle, self.engine, threads)
        self._classifier = Classifier.open(
            self.bundle, self.bundle.classifier, precision, self.engine, threads
        )

    def screen(self, source: Source, *, heatmap: bool = False) -> Screening:
        """Screen one picture. A bad picture gives a `Screening` that says so, never an exception.

        Parameters
        ----------
        source
            A path, a file's bytes, or an array; see `imaging.read`.
        heatmap
            Whether to draw the overlay.
        """
        clock = _Clock()
        name = _name(source)
        try:
            with clock.stage("read"):
                pixels = read(source, self._limits).pixels
        except PictureError as error:
            return self._result(name, "failed", clock, reason=error.reason, detail=str(error))
        if min(pixels.shape) < MIN_SIDE:
            detail = (
                f"{name}: {pixels.shape[1]} x {pixels.shape[0]} pixels; "
                f"the shorter side must have at least {MIN_SIDE}"
            )
            return self._result(name, "rejected", clock, reason="too-small", detail=detail)
        with clock.stage("frontal"):
            frontal_score = self._frontal.score(pixels)
        if not self._frontal.passes(frontal_score):
            return self._result(
                name,
                "rejected",
                clock,
                reason="not-frontal",
                detail=f"{name}: not an upright frontal chest radiograph",
                frontal_score=frontal_score,
            )
        with clock.stage("preprocess"):
            inputs = self._classifier.preprocess(pixels)
        with clock.stage("classify"):
            probabilities, activation_map = self._classifier.classify(inputs)
        label, certain = decide(probabilities, self._point)
        drawn = None
        if heatmap:
            preprocessing = self.bundle.classifier.preprocessing
            drawn = overlay(pixels, activation_map, preprocessing, probabilities, label)
        return self._result(
            name,
            "screened",
            clock,
            label=label,
            certain=certain,
            probabilities=probabilities,
            frontal_score=frontal_score,
            activation_map=activation_map,
            heatmap=drawn,
        )

    def _result(
        self,
        source: str,
        status: Status,
        clock: _Clock,
        *,
        reason: str | None = None,
        detail: str | None = None,
        label: str | None = None,
        certain: bool | None = None,
        probabilities: dict[str, float] | None = None,
        frontal_score: float | None = None,
        activation_map: NDArray[np.float32] | None = None,
        heatmap: NDArray[np.uint8] | None = None,
    ) -> Screening:
        return Screening(
            source=source,
            status=status,
            reason=reason,
            detail=detail,
            label=label,
            certain=certain,
            probabilities=probabilities,
            frontal_score=frontal_score,
            model=self.bundle.name,
            version=self.bundle.version,
            precision=self.precision,
            engine=self.engine,
            operating_point=self._point.name,
            timings_ms=clock.timings(),
            activation_map=activation_map,
            heatmap=heatmap,
        )


class _Clock:
    """Milliseconds of each stage, and of the whole from its making."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages: dict[str, float | None] = dict.fromkeys(_STAGES)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = _milliseconds(started)

    def timings(self) -> dict[str, float | None]:
        return {**self._stages, "total": _milliseconds(self._started)}


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000.0, 3)


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return "<bytes>"
    return "<array>" if isinstance(source, np.ndarray) else str(source)
