"""Where an archive's overhead lies: Dask's real scheduler with a million made-up rows.

    python benchmarks/archive_scale.py [--images 1000000] [--shard-size 500] [--workers 2]

Everything runs as in ``xrayedge archive``, except that rows are made up instead of screened. Each
step is timed separately: a list of paths to the manifest, a folder's files, the manifest to shards,
shards that do nothing (the scheduler), shards that write made-up rows (Parquet), `status`, and the
report. There is no graph: shards are given to Dask one by one, as many at a time as
`engine.screen_plan` submits ahead. Memory is the largest resident size observed of this process,
which is client and scheduler, and of its largest worker. Processor time is the sum over this
process and all workers; unlike wall-clock time it is the same on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

from xrayedge.archive import engine
from xrayedge.archive.plan import Plan, open_plan
from xrayedge.archive.process import Job
from xrayedge.archive.report import write_report
from xrayedge.archive.rows import File, Row, failed_row
from xrayedge.archive.settings import Settings
from xrayedge.archive.shard import Done, Shard
from xrayedge.archive.sources import LeftOut, Listed, open_input
from xrayedge.archive.status import status
from xrayedge.bench.tables import TextTable

#: A path as long as an archive's are.
PATH = "/archive/site-{site}/{year}/{number:08d}/1.2.840.113619.2.{number:016d}.dcm"
SITES, FIRST_YEAR, YEARS = 4, 2012, 12
FILES = 20_000  # of a folder that is listed
MILLISECONDS = {"read": 6.0, "frontal": 0.9, "preprocess": 0.6, "classify": 1.6}
PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
LOOK = 0.1  # seconds between two looks at the memory


class MadeUp:
    """Takes the place of `process.ScreeningProcess` on a worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def screen(self, images: tuple[Listed, ...]) -> list[Row]:
        """A row for each image: most screened, some not, few crashed; a newer site drifts."""
        settings = self._settings
        rng = np.random.default_rng(zlib.crc32(images[0].source.encode()))
        made = rng.dirichlet((1.0, 4.0, 1.0), len(images))
        times = rng.lognormal(0.0, 0.4, (len(images), len(MILLISECONDS)))
        chance = rng.random(len(images))
        frontal = rng.beta(20.0, 1.0, len(images))
        rows = []
        for number, image in enumerate(images):
            year = FIRST_YEAR + int(chance[number] * 1e6) % YEARS
            month = np.datetime64(f"{year}-01") + int(chance[number] * 1e8) % 12
            modified = month.astype("datetime64[us]").item()
            file = File(image.source, 7_000_000 + number, "0" * 64, modified)
            if chance[number] < 1e-5:
                rows.append(failed_row(file, "crashed", "ended by SIGSEGV, twice", settings))
                continue
            row = failed_row(file, "unreadable", "damaged", settings)
            if chance[number] > 0.01:
                shares = made[number]
                if "site-3" in image.source:
                    shares = shares[[1, 0, 2]]
                stages = dict(
                    zip(MILLISECONDS, times[number] * [*MILLISECONDS.values()], strict=True)
                )
                row |= {
                    "status": "screened",
                    "reason": None,
                    "detail": None,
                    "label": settings.classes[int(shares.argmax())],
                    "certain": bool(shares.max() > 0.5),
                    "probabilities": dict(zip(settings.classes, map(float, shares), strict=True)),
                    "frontal_score": float(frontal[number]),
                    "timings_ms": {**stages, "total": sum(stages.values())},
                }
            rows.append(row)
        return rows


class Memory:
    """The largest resident size of this process, and of the largest of some others."""

    def __init__(self, others: list[int]) -> None:
        self._processes = [os.getpid(), *others]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.own = self.other = 0.0

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            own, *others = map(_resident, self._processes)
            self.own, self.other = max(self.own, own), max(self.other, *others, 0.0)


class Table:
    """Steps and what they took."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, ...]] = []

    @contextmanager
    def step(self, name: str, images: int, others: list[int], shards: int = 0) -> Iterator[None]:
        """Time a step of so many images in so many shards."""
        started, used = time.perf_counter(), time.process_time()
        others_used = sum(map(_processor, others))
        with Memory(others) as memory:
            yield
        seconds, used = time.perf_counter() - started, time.process_time() - used
        others_used = sum(map(_processor, others)) - others_used
        cells = (
            name,
            f"{images:,}",
            f"{seconds:.1f}",
            f"{used:.1f}",
            f"{others_used:.1f}" if others else "",
            f"{1e3 * used / shards:.2f}" if shards else "",
            f"{1e6 * (used + others_used) / images:.1f}",
            f"{memory.own:.0f}",
            f"{memory.other:.0f}" if others else "",
        )
        self._rows.append(cells)
        print(*cells, sep="\t", flush=True)

    def print(self) -> None:
        """In Markdown."""
        headings = (
            "step", "images", "s", "CPU s here", "CPU s of workers", "CPU ms here a shard",
            "CPU us an image", "MB here", "MB of a worker",
        )  # fmt: skip
        print("\n" + TextTable(headings, tuple(self._rows)).to_markdown())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--shard-size", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the archive there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(
            Path(folder),
            arguments.keep or Path(folder) / "out",
            arguments.images,
            arguments.shard_size,
            arguments.workers,
        )


def measure(work: Path, out: Path, images: int, shard_size: int, workers: int) -> None:
    """Run all steps and print what each took."""
    table = Table()
    job, settings = Job("vgg16-edge").settled()
    shards = -(-images // shard_size)
    source = _list_of(images, work)
    out.mkdir(parents=True, exist_ok=True)
    with table.step("list of paths to manifest", images, []):
        plan, _ = open_plan(out, open_input(str(source)), settings, shard_size=shard_size)
    folder = _folder_of(FILES, work)
    with table.step("folder of files, listed", FILES, []):
        assert sum(1 for _ in open_input(str(folder)).listed(LeftOut())) == FILES
    with table.step("manifest to shards", images, [], shards):
        sizes = [len(pickle.dumps(shard)) for shard in plan.pending(frozenset())]
    with engine.local_cluster(workers) as client:
        others = list(client.run(os.getpid).values())
        client.run(_replace, "screen_shard", _does_nothing)
        with table.step("shards that do nothing", images, others, shards):
            _screen(plan, job, client)
    with engine.local_cluster(workers) as client:
        others = list(client.run(os.getpid).values())
        client.run(_replace, "_taken", lambda _job, settings: MadeUp(settings))
        for quarter in range(4):
            until = shards * (quarter + 1) // 4
            here = until - shards * quarter // 4
            name = f"shards of made-up rows, quarter {quarter + 1}"
            with table.step(name, here * shard_size, others, here):
                _screen(plan, job, client, here if until < shards else None)
    parts = [path.stat().st_size for path in (out / "parts").iterdir()]
    with table.step("status", images, [], shards):
        assert status(out).images == images
    with table.step("report", images, [], shards):
        write_report(out, out / "report.html")
    table.print()
    print(
        f"manifest {(out / 'manifest.parquet').stat().st_size / images:.1f} bytes an image, parts "
        f"{sum(parts) / images:.1f}; a shard goes through the scheduler as "
        f"{np.mean(sizes) / 1e3:.1f} kB"
    )


def _screen(plan: Plan, job: Job, client: Client, shards: int | None = None) -> None:
    """Screen so many shards of a plan, or all."""
    finished = 0
    for now in engine.screen_plan(plan, job, client):
        finished += now.done is not None
        if finished == shards:
            return


def _replace(name: str, by: Callable[..., Any]) -> None:
    setattr(engine, name, by)


def _does_nothing(shard: Shard, *_: object) -> Done:
    return Done(shard.number, len(shard.images), {}, 0.0)


def _list_of(images: int, work: Path) -> Path:
    path = work / "list.parquet"
    schema = pa.schema([("source", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, images, 50_000):
            numbers = range(first, min(first + 50_000, images))
            paths = [
                PATH.format(site=one * SITES // images, year=FIRST_YEAR + one % YEARS, number=one)
                for one in numbers
            ]
            writer.write_table(pa.table({"source": paths}, schema=schema))
    return path


def _folder_of(files: int, work: Path) -> Path:
    folder = work / "folder"
    for number in range(files):
        one = folder / f"{number // 1000:03d}"
        one.mkdir(parents=True, exist_ok=True)
        (one / f"{number:06d}.dcm").touch()
    return folder


def _resident(process: int) -> float:
    """Megabytes; none of a process that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / 1e6
    except OSError:
        return 0.0


def _processor(process: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
