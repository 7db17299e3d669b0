"""Checks that memory and results of a long-running screener don't change; exit status 1 if they do.

    python benchmarks/soak.py --model vgg16-edge --screenings 10000 --threads 4

Screens pydicom-data's images (a chest, a leg, a shoulder MR) and a file that is not an image,
cyclically, first in one thread and then in several that share the screener. Every result must equal
the first one of the same source, and memory must not grow. Then the same threads run with a
screener each, to measure what sharing costs or saves. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from pydicom.data import get_testdata_file
from rich.console import Console
from rich.progress import track

from xrayedge import ModelBundle, Screener, Screening
from xrayedge.bundle import DEFAULT_MODEL, Precision
from xrayedge.engines import EngineName
from xrayedge.machine import memory_mb

#: Of the resident memory after warm-up, in 10^6 bytes.
MAX_GROWTH_MB = 5.0
WARMUP_SHARE = 0.2
#: Fewest screenings of each thread: until then memory still grows, as threads allocate at the same
#: time in new combinations (for ONNX Runtime with three threads 30 were enough on an idle machine,
#: 40 not always on a busy one).
WARMUP_PER_THREAD = 60
_SAMPLES = 100  # of the memory, over the whole soak
_WINDOW = 10  # samples at each end whose medians are compared
_console = Console(stderr=True)

Screen = Callable[[Path], Screening]


@dataclass(frozen=True)
class Soak:
    """The results of one phase.

    Parameters
    ----------
    threads, screenings
        How many.
    per_second
        Screenings, all threads together.
    rss_mb
        Resident memory after warm-up.
    growth_mb
        Of the resident memory from then to the end, medians of several samples each.
    different
        Screenings whose result was not the source's first.
    """

    threads: int
    screenings: int
    per_second: float
    rss_mb: float
    growth_mb: float
    different: int


def soak(screen: Screen, sources: list[Path], screenings: int, threads: int, title: str) -> Soak:
    """Screen the sources cyclically, in several threads, and watch memory and results."""
    expected = {source: _result(screen(source)) for source in sources}
    resident = []
    different = 0
    block = max(len(sources) * threads, screenings // _SAMPLES)
    work = [sources[number % len(sources)] for number in range(screenings)]
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for first in track(range(0, screenings, block), title, console=_console, transient=True):
            part = work[first : first + block]
            found = pool.map(screen, part)
            different += sum(
                _result(one) != expected[source] for one, source in zip(found, part, strict=True)
            )
            resident.append(memory_mb("VmRSS") or float("nan"))
    seconds = time.perf_counter() - started
    warmup = max(screenings * WARMUP_SHARE, WARMUP_PER_THREAD * threads)
    warm = resident[math.ceil(warmup / block) :]
    window = min(_WINDOW, max(1, len(warm) // 2))
    return Soak(
        threads=threads,
        screenings=screenings,
        per_second=screenings / seconds,
        rss_mb=statistics.median(warm[:window]),
        growth_mb=statistics.median(warm[-window:]) - statistics.median(warm[:window]),
        different=different,
    )


def _result(screening: Screening) -> dict[str, Any]:
    """All of a result but its timings, the activation map bit by bit."""
    values = screening.to_dict()
    del values["timings_ms"]
    found = screening.activation_map
    return {**values, "activation_map": None if found is None else found.tobytes()}


def main() -> int:
    """Run the soak test; 1 if memory grew or a result changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--precision", choices=get_args(Precision), default="int8")
    parser.add_argument("--engine", choices=get_args(EngineName))
    parser.add_argument("--screenings", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=4)
    chosen = parser.parse_args()
    if chosen.screenings < 2 * WARMUP_PER_THREAD * chosen.threads:
        parser.error(
            f"{2 * WARMUP_PER_THREAD} screenings a thread at least, to warm up and to judge"
        )
    options = {"precision": chosen.precision, "engine": chosen.engine}
    bundle = ModelBundle.load(chosen.model)
    names = ("RG1_UNCR.dcm", "RG3_UNCR.dcm", "MR2_UNCR.dcm")
    sources = [Path(str(get_testdata_file(name))) for name in names] + [Path(__file__)]

    shared = Screener(chosen.model, **options)
    phases = {
        "one thread": soak(shared.screen, sources, chosen.screenings, 1, "one thread"),
        "threads share one screener": soak(
            shared.screen, sources, chosen.screenings, chosen.threads, "shared"
        ),
    }
    steady = all(
        phase.growth_mb < MAX_GROWTH_MB and phase.different == 0 for phase in phases.values()
    )
    own = threading.local()

    def screen_with_own(source: Path) -> Screening:
        if not hasattr(own, "screener"):
            own.screener = Screener(chosen.model, **options)
        screening: Screening = own.screener.screen(source)
        return screening

    apart = soak(screen_with_own, sources, chosen.screenings, chosen.threads, "a screener each")
    print(
        json.dumps(
            {
                "model": bundle.name,
                "version": bundle.version,
                **options,
                "engine": shared.engine,
                "phases": {name: asdict(phase) for name, phase in phases.items()},
                "steady": steady,
                "a screener for each thread": asdict(apart),
            },
            indent=2,
        )
    )
    return 0 if steady else 1


if __name__ == "__main__":
    sys.exit(main())
