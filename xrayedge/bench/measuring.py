"""Measuring: rounds over every case, then scores, then stages; a report of what was done."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import machine
from ..bundle import ModelBundle
from ..data import Sample
from ..errors import BenchmarkError
from ..site import SiteProfile
from .accuracy import LabelledInputs, accuracy_metrics, agreement
from .cases import Case, float32_case
from .processes import run_job
from .report import Report, Row, StageRow
from .stages import kind, stage_cases, stage_row
from .statistics import Estimate, estimate, estimate_ratio

#: The interval of the median of 9 rounds leaves the fastest and the slowest out.
ROUNDS = 9
WARMUP = 5
#: With fewer runs the 99th percentile is their maximum, which says nothing.
MIN_RUNS_FOR_P99 = 100

#: Called before each step with the steps done, the steps in all and the next one's title.
Progress = Callable[[int, int, str], None]
_Result = dict[str, Any]


@dataclass
class _Found:
    """The measurements so far; a case with an error is not measured again."""

    latency: dict[Case, list[_Result]] = field(default_factory=dict)
    scores: dict[Case, NDArray[np.float64]] = field(default_factory=dict)
    stages: dict[tuple[Case, Path], list[_Result]] = field(default_factory=dict)
    errors: dict[Case, str] = field(default_factory=dict)
    stage_errors: dict[tuple[Case, Path], str] = field(default_factory=dict)


def measure(
    bundles: Sequence[ModelBundle],
    cases: Sequence[Case],
    *,
    rounds: int = ROUNDS,
    warmup: int = WARMUP,
    samples: Sequence[Sample] = (),
    images: Sequence[Path] = (),
    site: SiteProfile | None = None,
    progress: Progress = lambda *_: None,
) -> Report:
    """Measure every case, each time in a process of its own.

    Every round measures each case once, so that other load on the machine affects all alike.
    Ctrl-C ends it early with a report of what was measured.

    Parameters
    ----------
    bundles, cases
        What to measure, and the bundles that the cases are of.
    rounds
        Processes per case; from `statistics.MIN_ROUNDS` on the medians have intervals.
    warmup
        Runs before the timed ones.
    samples
        Labelled images, for the metrics of accuracy.
    images
        Files to time stage by stage.
    site
        Accuracy is that at this hospital's operating point.
    progress
        Called before each step.

    Raises
    ------
    DatasetError
        The labelled images can't be used.
    SiteError
        The site's profile is for other classes.
    """
    factors = {} if site is None else {one.folder: _factors(site, one) for one in bundles}
    of_folder = {bundle.folder: bundle for bundle in bundles}
    references = {case: float32_case(case, of_folder[case.folder]) for case in cases}
    staged = [(case, image) for case in stage_cases(cases) for image in images]
    scored = list(dict.fromkeys([*cases, *filter(None, references.values())])) if samples else []
    unreadable = 0
    total = rounds * (len(cases) + len(staged)) + len(scored)
    found = _Found()
    done = 0

    def step(title: str) -> None:
        nonlocal done
        progress(done, total, title)
        done += 1

    before = asdict(machine.readings())
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="xrayedge-bench-") as folder:
        try:
            inputs = LabelledInputs(samples, bundles, Path(folder)) if samples else None
            if inputs is not None:
                unreadable = len(samples) - len(inputs.samples)
                samples = inputs.samples
            for number in range(1, rounds + 1):
                for case in cases:
                    step(f"round {number} of {rounds}: {case.title}")
                    _measure_latency(found, case, warmup)
                for case, image in staged:
                    step(f"round {number} of {rounds}: stages of {case.title}")
                    _measure_stages(found, case, image, warmup)
            for case in scored:
                step(f"scoring {len(samples)} images: {case.title}")
                assert inputs is not None
                _score(found, case, inputs, of_folder[case.folder], factors.get(case.folder))
        except KeyboardInterrupt:
            interrupted = True
    rows = tuple(
        _row(found, case, references[case], samples, of_folder[case.folder]) for case in cases
    )
    return Report(
        machine={
            **asdict(machine.describe()),
            "before": before,
            "after": asdict(machine.readings()),
        },
        settings={
            "rounds": rounds,
            "warmup": warmup,
            "labelled_pictures": len(samples),
            **({"unreadable_images": unreadable} if unreadable else {}),
            **({"at_site": 1} if site is not None else {}),
        },
        rows=rows,
        stages=tuple(_stage_row(found, case, image) for case, image in staged),
        interrupted=interrupted,
    )


def _measure_latency(found: _Found, case: Case, warmup: int) -> None:
    if case in found.errors:
        return
    try:
        result = run_job("latency", case, warmup=warmup, spawned=time.monotonic())
    except BenchmarkError as error:
        found.errors[case] = str(error)
    else:
        found.latency.setdefault(case, []).append(result)


def _measure_stages(found: _Found, case: Case, image: Path, warmup: int) -> None:
    if (case, image) in found.stage_errors:
        return
    try:
        result = run_job("stages", case, warmup=warmup, image=str(image.resolve()))
    except BenchmarkError as error:
        found.stage_errors[case, image] = str(error)
    else:
        found.stages.setdefault((case, image), []).append(result)


def _factors(site: SiteProfile, bundle: ModelBundle) -> NDArray[np.float64]:
    """The weight of each class at a site, in the order of the bundle's."""
    weights = site.point_for(bundle).weights
    return np.array([weights[name] for name in bundle.classifier.classes])


def _score(
    found: _Found,
    case: Case,
    inputs: LabelledInputs,
    bundle: ModelBundle,
    factors: NDArray[np.float64] | None,
) -> None:
    if case in found.errors:
        return
    try:
        scores = inputs.scores(case, bundle)
        if factors is not None:
            scores = scores * factors
            scores = scores / scores.sum(axis=1, keepdims=True)
        found.scores[case] = scores
    except BenchmarkError as error:
        found.errors[case] = str(error)


def _row(
    found: _Found,
    case: Case,
    reference: Case | None,
    samples: Sequence[Sample],
    bundle: ModelBundle,
) -> Row:
    values: _Result = {"error": found.errors.get(case)}
    if case in found.latency:
        values |= _latency_values(found.latency[case])
    if reference in found.latency and case in found.latency:
        values |= _estimated(
            "speed_vs_float32",
            estimate_ratio(_medians(found.latency[reference]), _medians(found.latency[case])),
        )
    if case in found.scores:
        scores = found.scores[case]
        values |= asdict(accuracy_metrics(samples, bundle.classifier.classes, scores))
        if reference in found.scores:
            values["agreement_with_float32"] = agreement(scores, found.scores[reference])
    return Row(
        model=case.model,
        version=case.version,
        format=case.format,
        precision=case.precision,
        engine=case.engine,
        threads=case.threads,
        size_bytes=case.size_bytes,
        **values,
    )


def _latency_values(rounds: Sequence[_Result]) -> _Result:
    runs = np.concatenate([one["latencies_ms"] for one in rounds])
    p90, p95, p99 = map(float, np.percentile(runs, (90, 95, 99)))
    p50 = estimate(_medians(rounds))
    values: _Result = {
        "provider": rounds[0]["provider"],
        "rounds": len(rounds),
        "runs": len(runs),
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99 if len(runs) >= MIN_RUNS_FOR_P99 else None,
        "pictures_per_second": 1000.0 / p50.value,
        **_estimated("p50_ms", p50),
    }
    for name in ("load_ms", "first_result_ms", "peak_rss_mb"):
        if rounds[0][name] is not None:
            values |= _estimated(name, estimate([one[name] for one in rounds]))
    energy = [one["energy_j_per_picture"] for one in rounds]
    if None not in energy:
        values["energy_mj_per_picture"] = 1000.0 * float(np.median(energy))
    return values


def _stage_row(found: _Found, case: Case, image: Path) -> StageRow:
    rounds = found.stages.get((case, image))
    if rounds:
        return stage_row(case, image, rounds)
    return StageRow(
        model=case.model,
        precision=case.precision,
        engine=case.engine,
        threads=case.threads,
        picture=kind(image),
        error=found.stage_errors.get((case, image)),
    )


def _medians(rounds: Sequence[_Result]) -> list[float]:
    return [float(np.median(one["latencies_ms"])) for one in rounds]


def _estimated(name: str, found: Estimate) -> _Result:
    return {name: found.value, f"{name}_interval": found.interval}
