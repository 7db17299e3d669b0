"""`Screener`: from an image to its result, on the device."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import opacities, reference
from .bundle import DEFAULT_MODEL, ModelBundle, OperatingPoint, Precision
from .classifier import Classifier
from .deadline import Clock, TimedWork
from .engines import EngineName, preferred_engine
from .errors import EngineError, ImageError
from .frontal import Correction, FrontalCheck
from .heatmap import overlay, part_of
from .imaging import Limits, Source, contradictions, read, source_name
from .lungs import LungFiles, LungFinder, open_finder
from .opacities import Box, Opacity
from .preprocessing import Window, fill_range, halved_for
from .result import Screening
from .scores import decide
from .streams import in_order

if TYPE_CHECKING:
    from .site import SiteProfile

#: Images whose shorter side has fewer pixels are rejected, whatever the model: one with a larger
#: input gets an image enlarged.
MIN_SIDE = 112

#: In `Screening.corrections`, of an image that `fill_range` stretched.
CONTRAST = "contrast"


@dataclass(frozen=True)
class _Networks:
    """A bundle's networks, loaded; ``lungs`` where its classifier sees only those."""

    frontal: FrontalCheck
    lungs: LungFinder | None
    classifier: Classifier

    def all(self) -> tuple[Classifier, ...]:
        """Each of them."""
        finder = () if self.lungs is None else (self.lungs.network,)
        return self.frontal.classifier, *finder, self.classifier

    def halved(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image for all that see the whole of it; see `halved_for`."""
        *others, last = (one.network.preprocessing for one in self.all())
        return halved_for(pixels, others if self.lungs is not None else [*others, last])


class Screener:
    """Screens chest radiographs with one model.

    Threads may share it; each gets the result that it would get alone. A LiteRT
    interpreter serves one thread at a time, so its calls wait for each other while the rest of a
    screening continues; an ONNX Runtime session runs calls in parallel. To use idle cores with
    LiteRT, give each thread its own screener, at the cost of a model's memory each
    (``benchmarks/soak.py``).

    Also a context manager, which calls `close` at the end.

    Parameters
    ----------
    model
        A shipped bundle's name or a bundle's folder.
    precision
        Which of the bundle's files to use: ``int8``, ``float16``, ...
    engine
        ``litert`` or ``onnx``; without one, the first that is installed and has files in the
        bundle.
    threads
        Processor threads for one image: the engine's, and those that decode JPEG 2000.
    operating_point
        ``balanced``; ``sensitive``, which misses fewer COVID-19 cases and raises more false alarms;
        or ``specific``, which raises fewer false alarms and misses more.
    site
        A hospital's profile, or the file of one, whose operating point takes the place of the
        bundle's; see `site`.
    limits
        Largest file and image accepted.
    auto_orient
        Whether to correct and screen a rotated or inverted image instead of rejecting it.
    timeout
        Seconds after which an image fails with the reason ``timeout``. Its current stage ends in
        the background; until then it holds its image, and the next image waits for it, within its
        own timeout, so that no work piles up.
    providers
        ONNX Runtime's execution providers in order of preference, such as
        ``TensorrtExecutionProvider``; see `engines.onnx.OnnxEngine`. By default the CPU.

    Raises
    ------
    BundleError
        The bundle is missing, damaged or altered, or has no such operating point.
    EngineError
        No engine is installed, or the bundle has no such file for it.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        precision: Precision = "int8",
        engine: EngineName | None = None,
        threads: int = 1,
        operating_point: str = "balanced",
        site: SiteProfile | str | Path | None = None,
        limits: Limits | None = None,
        auto_orient: bool = False,
        timeout: float | None = None,
        providers: Sequence[str] = (),
    ) -> None:
        if timeout is not None and not 0.0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"timeout must be more than 0 seconds and at most {threading.TIMEOUT_MAX:.0f}, "
                f"not {timeout}"
            )
        self.bundle = ModelBundle.load(model)
        self.precision = precision
        self.engine = engine or preferred_engine(self.bundle.formats(precision))
        self._point = _operating_point(self.bundle, operating_point, site)
        self.operating_point = self._point.name
        self._limits = limits or Limits()
        self._threads = threads
        self._auto_orient = auto_orient
        self._timeout = timeout
        self._timed_work: TimedWork[Screening] = TimedWork()
        self._networks: _Networks | None = _Networks(
            FrontalCheck.open(self.bundle, self.engine, threads, providers),
            open_finder(LungFiles.of(self.bundle), self.engine, threads, providers),
            Classifier.open(
                self.bundle, self.bundle.classifier, precision, self.engine, threads, providers
            ),
        )

    def __enter__(self) -> Screener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the engines and their memory; screenings in other threads finish first.

        Screening afterwards raises `EngineError`; closing again does nothing.
        """
        self._networks = None

    def warm_up(self) -> None:
        """Run all networks once, so that the first image takes no longer than the next."""
        for one in self._loaded().all():
            size = one.network.preprocessing.size
            one.classify(np.zeros((1, size, size, 1), np.uint8))

    def screen_stream(
        self, sources: Iterable[Source], *, heatmap: bool = False, ahead: int = 2
    ) -> Iterator[Screening]:
        """Screen a stream of images; results come in order, each as soon as it is ready.

        Parameters
        ----------
        sources
            May be endless and may block, as a queue does; see `screen`.
        heatmap
            Whether to draw the overlays.
        ahead
            Images in progress at once. No more are taken from ``sources`` before their results are
            fetched, so memory stays bounded however fast images arrive.
        """
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, not {ahead}")
        return in_order(partial(self.screen, heatmap=heatmap), sources, at_once=ahead)

    def screen(
        self,
        source: Source,
        *,
        heatmap: bool = False,
        grey: bool = False,
        name: str | None = None,
    ) -> Screening:
        """Screen one image. A bad image gives a `Screening` that says why, never an exception.

        Parameters
        ----------
        source
            A path, a file's bytes, or an array; see `imaging.read`. A C-contiguous
            ``uint8 [H, W]`` array is not copied, and may be reused when `screen` returns (after a
            timeout, only when its work has ended).
        heatmap
            Whether to draw the overlay.
        grey
            Whether to measure the grey values, for a monitor.
        name
            What the result calls bytes or an array that came from somewhere, such as their URL.
        """
        networks = self._loaded()
        name = name or source_name(source)
        clock = Clock(name, self._timeout)
        blank = Screening(
            source=name,
            status="failed",
            reason=None,
            detail=None,
            label=None,
            certain=None,
            probabilities=None,
            frontal_score=None,
            model=self.bundle.name,
            version=self.bundle.version,
            precision=self.precision,
            engine=self.engine,
            operating_point=self.operating_point,
            timings_ms={},
        )

        def attempt() -> Screening:
            # An exception that leaves the thread would keep the image until the garbage collector
            # runs.
            try:
                return self._screen(source, heatmap, grey, networks, clock, blank)
            except ImageError as error:
                return _failed(blank, error)

        try:
            result = attempt() if self._timeout is None else self._timed_work.run(attempt, clock)
        except ImageError as error:
            result = _failed(blank, error)
        return replace(result, timings_ms=clock.timings())

    def _loaded(self) -> _Networks:
        networks = self._networks  # read once: another thread may close it
        if networks is None:
            raise EngineError("the screener is closed; create a new one")
        return networks

    def _screen(
        self,
        source: Source,
        heatmap: bool,
        grey: bool,
        networks: _Networks,
        clock: Clock,
        result: Screening,
    ) -> Screening:
        frontal, classifier = networks.frontal, networks.classifier
        with clock.stage("read"):
            image = read(source, self._limits, name=result.source, threads=self._threads)
        pixels = image.pixels
        result = replace(result, status="rejected", tags=image.tags)
        if min(pixels.shape) < MIN_SIDE:
            detail = (
                f"{result.source}: {pixels.shape[1]} x {pixels.shape[0]} pixels; "
                f"the shorter side must have at least {MIN_SIDE}"
            )
            return replace(result, reason="too-small", detail=detail)
        with clock.stage("frontal"):
            pixels = fill_range(pixels)
            small = networks.halved(pixels)
            score = frontal.score(small)
            passed = frontal.passes(score)
            found = None if passed else frontal.correction(pixels)
        corrections: tuple[str, ...] = () if pixels is image.pixels else (CONTRAST,)
        result = replace(result, frontal_score=score)
        if not passed and found is None:
            return replace(
                result,
                reason="not-frontal",
                detail=f"{result.source}: not an upright frontal chest radiograph",
                warnings=contradictions(image.tags, passed=False),
            )
        if found is not None:
            correction, score = found
            if not self._auto_orient:
                return replace(
                    result,
                    reason="turned" if correction.quarter_turns else "inverted",
                    detail=f"{result.source}: {_as_it_lies(correction)}; export it upright with "
                    "bones bright, or ask for auto-orient",
                )
            pixels = correction.apply(pixels)
            small = networks.halved(pixels)
            result = replace(result, frontal_score=score)
            corrections += correction.names()
        with clock.stage("preprocess"):
            seen, window = small, Window.whole(*pixels.shape)
            if networks.lungs is not None:
                window = networks.lungs.find(small, *pixels.shape)
                seen = window.cut(pixels)
            inputs = classifier.preprocess(seen)
        with clock.stage("classify"):
            probabilities, activation_map = classifier.classify(inputs)
        label, certain = decide(probabilities, self._point)
        network = classifier.network
        shown: tuple[Opacity, ...] = ()
        if network.opacity is not None:
            logits = activation_map[:, :, -1]
            shown = opacities.find(logits, network.opacity, network.preprocessing, window)
        drawn = None
        if heatmap:
            drawn = overlay(
                pixels,
                activation_map,
                network.preprocessing,
                probabilities,
                label,
                shown,
                part_of(window.box, *pixels.shape),
            )
        measured = None
        if grey:  # a monitor is to notice images that had to be stretched
            stretched = CONTRAST in corrections
            measured = reference.grey(networks.halved(image.pixels) if stretched else small)
        turns = found[0].quarter_turns if found is not None else 0

        def as_read(box: Box) -> Box:
            return opacities.turned_back(box, turns, *pixels.shape)

        return replace(
            result,
            status="screened",
            label=label,
            certain=certain,
            probabilities=probabilities,
            warnings=contradictions(image.tags, passed=True),
            corrections=corrections,
            opacities=tuple(replace(one, box=as_read(one.box)) for one in shown),
            lungs=None if networks.lungs is None else as_read(window.box),
            activation_map=activation_map,
            grey=measured,
            heatmap=drawn,
        )


def _operating_point(
    bundle: ModelBundle, name: str, site: SiteProfile | str | Path | None
) -> OperatingPoint:
    if site is None:
        return bundle.classifier.operating_point(name)
    from .site import open_site  # most devices have no profile, and need not load this

    return open_site(site).point_for(bundle)


def _failed(result: Screening, error: ImageError) -> Screening:
    return replace(result, reason=error.reason, detail=str(error))


def _as_it_lies(correction: Correction) -> str:
    faults = []
    if correction.quarter_turns:
        faults.append(f"turned by {90 * correction.quarter_turns} degrees clockwise")
    if correction.invert:
        faults.append("inverted, bones dark")
    return "a frontal chest radiograph that is " + " and ".join(faults)
