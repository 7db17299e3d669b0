"""An archive with one worker, two workers, and a plain process pool, on the same shards.

    python benchmarks/archive.py --images 2000 --shard-size 100 --rounds 5

Copies of pydicom-data's chest as JPEG, screened into parts in a temporary folder. Clusters and pool
stay up over the rounds, and each has its models loaded before the first one. Prints one JSON
object: how many times faster two workers are than one, and what Dask and the processes that
isolate crashes cost over `concurrent.futures`, as ratios of times with 95 % intervals; and the peak
memory of the client and two workers, screening processes included (proportional set size).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import psutil
from distributed import Client
from pydicom.data import get_testdata_file

from xrayedge import Screener, read
from xrayedge.archive.engine import local_cluster, screen_plan
from xrayedge.archive.plan import Plan, open_plan
from xrayedge.archive.process import Job, screen_one
from xrayedge.archive.rows import Row
from xrayedge.archive.settings import Settings
from xrayedge.archive.shard import Shard, screen_shard
from xrayedge.archive.sources import Listed, open_input
from xrayedge.bench.statistics import estimate_ratio
from xrayedge.bundle import DEFAULT_MODEL

WORKERS = 2
_SAMPLE = 0.2  # seconds between two looks at the memory


class InPlace:
    """Screens where it is: what the plain pool's processes do."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._screener, self._settings = job.open()

    def screen(self, images: Sequence[Listed]) -> list[Row]:
        one: Screener = self._screener
        return [screen_one(image, self._job.limits, one, self._settings) for image in images]


_here: InPlace | None = None


def _open(job: Job) -> None:
    global _here
    cv2.setNumThreads(1)
    _here = InPlace(job)


def _pooled(shard: Shard, folder: Path, settings: Settings) -> int:
    assert _here is not None
    return screen_shard(shard, folder, settings, _here).images


def with_pool(pool: ProcessPoolExecutor, plan: Plan) -> None:
    """Every shard of a plan, by the plain pool."""
    waiting = [
        pool.submit(_pooled, shard, plan.folder, plan.settings)
        for shard in plan.pending(frozenset())
    ]
    assert sum(one.result() for one in waiting) == plan.images


def with_dask(client: Client, job: Job, plan: Plan) -> None:
    """Every shard of a plan, by Dask."""
    done = [progress.done for progress in screen_plan(plan, job, client) if progress.done]
    assert sum(one.images for one in done) == plan.images


@contextmanager
def peak_memory(found: dict[str, float]) -> Iterator[None]:
    """Note the most that this process and its children hold together, in 10^6 bytes."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE):
            held = 0
            for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
                try:
                    held += process.memory_full_info().pss
                except psutil.Error:
                    continue
            found["peak_mb"] = max(found.get("peak_mb", 0.0), held / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--shard-size", type=int, default=100)
    parser.add_argument("--side", type=int, default=1024, help="pixels of the JPEG's shorter side")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    job, settings = Job(chosen.model).settled()
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        root = Path(name)
        _make_images(root / "in", chosen.images, chosen.side)
        plan, _ = open_plan(
            root / "out", open_input(str(root / "in")), settings, shard_size=chosen.shard_size
        )
        spawn = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(WORKERS, spawn, _open, (job,)))
        both = stack.enter_context(local_cluster(WORKERS, dashboard=False))
        alone = stack.enter_context(local_cluster(1, dashboard=False))
        contenders: dict[str, Callable[[], None]] = {
            "pool": lambda: with_pool(pool, plan),
            "two": lambda: with_dask(both, job, plan),
            "one": lambda: with_dask(alone, job, plan),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(-1, chosen.rounds):  # the first round loads the models
            for kind, screen in contenders.items():
                shutil.rmtree(plan.folder / "parts", ignore_errors=True)
                started = time.perf_counter()
                screen()
                if number >= 0:
                    times[kind].append(time.perf_counter() - started)
        pool.shutdown()
        alone.shutdown()
        shutil.rmtree(plan.folder / "parts")
        with peak_memory(memory):
            with_dask(both, job, plan)
    faster = estimate_ratio(times["one"], times["two"])
    over_pool = estimate_ratio(times["two"], times["pool"])
    found = {
        "model": chosen.model,
        "images": chosen.images,
        "shard_size": chosen.shard_size,
        "load": os.getloadavg()[0],
        "images per second, two workers": round(chosen.images / min(times["two"]), 1),
        "two workers against one": {"times faster": faster.value, "interval": faster.interval},
        "two workers against the pool": {"time": over_pool.value, "interval": over_pool.interval},
        "peak_mb": round(memory["peak_mb"]),
    }
    print(json.dumps(found, indent=2))


def _make_images(folder: Path, count: int, side: int) -> None:
    pixels = read(str(get_testdata_file("RG1_UNCR.dcm"))).pixels
    shape = (side, round(side * pixels.shape[0] / pixels.shape[1]))
    small = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    folder.mkdir()
    first = folder / "000000.jpg"
    cv2.imwrite(str(first), small)
    for number in range(1, count):
        os.link(first, folder / f"{number:06d}.jpg")


if __name__ == "__main__":
    main()
