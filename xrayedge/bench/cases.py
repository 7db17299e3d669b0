"""What to measure: every variant of the bundles, in every installed engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import ModelBundle, ModelFormat, Precision, Variant
from ..engines import ENGINES, EngineName, available, preferred_engine
from ..errors import BundleError, EngineError
from .report import Key


@dataclass(frozen=True)
class Case:
    """One file in one engine.

    Parameters
    ----------
    folder
        The bundle's.
    model, version
        The bundle's name and version.
    format, precision, size_bytes
        Of the file.
    engine, threads
        What runs it, and how many processor threads it may use.
    meets_floor
        Whether it kept the float model's labels when it was converted.
    """

    folder: Path
    model: str
    version: str
    format: ModelFormat
    precision: Precision
    size_bytes: int
    engine: EngineName
    threads: int
    meets_floor: bool = True

    @property
    def key(self) -> Key:
        """What names its row in a report."""
        return self.model, self.format, self.precision, self.engine, self.threads

    @property
    def title(self) -> str:
        """For a person."""
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        return f"{self.model} {self.precision} {self.engine}, {threads}"


def load_bundles(models: Iterable[str | Path]) -> tuple[list[ModelBundle], list[BundleError]]:
    """The bundles whose every file is what its manifest says, and what is wrong with the others."""
    whole, damaged = [], []
    for model in models:
        try:
            bundle = ModelBundle.load(model)
            for variant in bundle.variants():
                bundle.read(variant)
        except BundleError as error:
            damaged.append(error)
        else:
            whole.append(bundle)
    return whole, damaged


def choose_cases(
    bundles: Sequence[ModelBundle],
    *,
    precisions: Sequence[Precision] = (),
    engines: Sequence[EngineName] = (),
    threads: Sequence[int] = (1,),
) -> list[Case]:
    """Every variant of the bundles in every engine that runs it.

    Parameters
    ----------
    bundles
        Where the variants are.
    precisions, engines
        Those to keep; all where none is named.
    threads
        Each case appears with each of these numbers.

    Raises
    ------
    EngineError
        An engine is not installed, or nothing is left; the message lists what there is.
    """
    preferred_engine()  # an error of its own where no engine at all is installed
    installed = available()
    for engine in engines:
        if engine not in installed:
            raise EngineError(
                f"the engine {engine} is not installed; {ENGINES[engine].remedy}; "
                f"installed: {', '.join(installed)}"
            )
    cases = [
        _case(bundle, variant, engine, count)
        for bundle in bundles
        for variant in bundle.classifier.variants
        if not precisions or variant.precision in precisions
        for engine in engines or installed
        if ENGINES[engine].model_format == variant.format
        for count in threads
    ]
    if not cases:
        there = sorted(
            {
                f"{variant.precision} in {engine}"
                for bundle in bundles
                for variant in bundle.classifier.variants
                for engine in installed
                if ENGINES[engine].model_format == variant.format
            }
        )
        raise EngineError(f"nothing to measure; there is {', '.join(there) or 'nothing'}")
    return cases


def float32_case(case: Case, bundle: ModelBundle) -> Case | None:
    """The case's float32 reference: in its own engine, else in any that is installed."""
    for engine in (case.engine, *available()):
        variant = bundle.classifier.variant(ENGINES[engine].model_format, "float32")
        if variant is not None:
            return _case(bundle, variant, engine, case.threads)
    return None


def _case(bundle: ModelBundle, variant: Variant, engine: EngineName, threads: int) -> Case:
    return Case(
        folder=bundle.folder,
        model=bundle.name,
        version=bundle.version,
        format=variant.format,
        precision=variant.precision,
        size_bytes=variant.size_bytes,
        engine=engine,
        threads=threads,
        meets_floor=variant.meets_floor,
    )
