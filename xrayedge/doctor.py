"""Diagnose a device: engines, processor, and every model file against its golden vectors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from . import golden
from .bundle import ModelBundle, Network, Variant
from .engines import ENGINES, EngineName, available, open_engine
from .errors import XrayEdgeError
from .machine import Machine, describe, has_vnni

_DISTRIBUTIONS: dict[EngineName, tuple[str, ...]] = {
    "litert": ("ai-edge-litert", "tflite-runtime"),
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
}

Status = Literal["ok", "differs", "failed", "not-checked"]


@dataclass(frozen=True)
class EngineReport:
    """An inference engine.

    Parameters
    ----------
    name
        As ``--engine`` takes it.
    package, version
        What is installed; ``None`` where nothing is.
    providers
        ONNX Runtime's execution providers; empty for LiteRT, whose delegates a check names.
    """

    name: EngineName
    package: str | None
    version: str | None
    providers: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One model file in one engine on this device.

    Parameters
    ----------
    model, file, engine
        What was checked.
    status
        ``ok``; ``differs`` from the golden vectors; ``failed`` to load or run; ``not-checked``,
        the bundle has no golden vectors.
    provider
        What ran it.
    largest_difference
        Of any one probability from its golden value.
    detail
        What is wrong, in a sentence.
    """

    model: str
    file: str
    engine: EngineName
    status: Status
    provider: str | None = None
    largest_difference: float | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `diagnose` found.

    Parameters
    ----------
    machine, engines, checks
        See their classes.
    threads
        Processor threads that the checks ran with.
    warnings
        Sentences for people about what works differently from what was requested.
    """

    machine: Machine
    threads: int
    engines: tuple[EngineReport, ...]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is an engine and no file differs or fails."""
        return bool(available()) and all(
            check.status in ("ok", "not-checked") for check in self.checks
        )

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain JSON values."""
        return {**asdict(self), "healthy": self.healthy}


def diagnose(
    models: Sequence[str | Path], *, threads: int = 1, provider: str | None = None
) -> Diagnosis:
    """Examine the device and check the models' files in every engine that is installed.

    Parameters
    ----------
    models
        Shipped bundles' names or bundles' folders.
    threads
        Processor threads for the checks.
    provider
        An execution provider to run ONNX files with, such as ``TensorrtExecutionProvider``.

    Raises
    ------
    BundleError
        There is no such bundle, or its manifest is damaged.
    """
    machine = describe()
    engines = tuple(_report(name) for name in ENGINES)
    notes = _notes(machine)
    checks: list[Check] = []
    for model in models:
        bundle = ModelBundle.load(model)
        for network in bundle.networks():
            for variant in network.variants:
                for name in available():
                    if ENGINES[name].model_format == variant.format:
                        checks.append(
                            _check(bundle, network, variant, name, threads, provider, notes)
                        )
    return Diagnosis(
        machine=machine,
        threads=threads,
        engines=engines,
        checks=tuple(checks),
        warnings=tuple(dict.fromkeys(notes)),
    )


def _report(name: EngineName) -> EngineReport:
    if name not in available():
        return EngineReport(name, None, None, ())
    package, found = None, None
    for distribution in _DISTRIBUTIONS[name]:
        try:
            package, found = distribution, version(distribution)
            break
        except PackageNotFoundError:
            continue
    providers: tuple[str, ...] = ()
    if name == "onnx":
        import onnxruntime

        found = found or onnxruntime.__version__
        providers = tuple(onnxruntime.get_available_providers())
    return EngineReport(name, package, found, providers)


def _notes(machine: Machine) -> list[str]:
    notes = []
    if not available():
        remedies = " or ".join(kind.remedy for kind in ENGINES.values())
        notes.append(f"no inference engine is installed; {remedies}")
    features = machine.cpu_features
    if "sse4_1" in features and not has_vnni(features) and "onnx" in available():
        notes.append(
            "the processor has no VNNI: ONNX Runtime runs int8 files with slower, exact kernels"
        )
    return notes


def _check(
    bundle: ModelBundle,
    network: Network,
    variant: Variant,
    name: EngineName,
    threads: int,
    provider: str | None,
    notes: list[str],
) -> Check:
    about = (bundle.name, variant.file, name)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            providers = [provider] if provider is not None and name == "onnx" else []
            engine = open_engine(name, bundle.read(variant), threads=threads, providers=providers)
        notes += [str(warning.message) for warning in warned]
        if not variant.golden:
            detail = "the bundle has no golden vectors; convert it again"
            return Check(*about, "not-checked", engine.provider, detail=detail)
        result = golden.check(network, engine, variant.golden)
    except XrayEdgeError as error:
        return Check(*about, "failed", detail=str(error))
    if not result.same_inputs:
        notes.append(
            f"{bundle.name}: OpenCV preprocesses a little otherwise here than where the model "
            "was made; the checks say whether it matters"
        )
    difference = result.largest_difference
    if result.within_tolerance:
        return Check(*about, "ok", engine.provider, difference)
    detail = "scores differ from the golden vectors; don't screen with this file on this device"
    return Check(*about, "differs", engine.provider, difference, detail)
