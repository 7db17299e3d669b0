"""Workers, scheduler and client killed at random, again and again: each image has one row.

XRAYEDGE_ARCHIVE_IMAGES and XRAYEDGE_ARCHIVE_KILLS make it shorter than it is by default.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from images import DEADLY, comparable, place

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("distributed")

from xrayedge.archive.rows import CRASHED

IMAGES = int(os.environ.get("XRAYEDGE_ARCHIVE_IMAGES", "10000"))
KILLS = int(os.environ.get("XRAYEDGE_ARCHIVE_KILLS", "30"))
SHARD = max(1, IMAGES // 200)
DEADLY_NAMES = ("deadly-segfault.png", "deadly-abort.png", "deadly-loop.png")
WORKERS = 2
#: Seconds without a new part after which the test gives up.
STALLED = 600.0


class Processes:
    """A scheduler, workers and a client, each started again when it has ended."""

    def __init__(self, client, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}"
        dask = [sys.executable, "-m"]
        self._commands = {
            "scheduler": [
                *(*dask, "distributed.cli.dask_scheduler", "--host", "127.0.0.1"),
                *("--port", str(port), "--no-dashboard"),
            ],
            **{
                f"worker-{number}": [
                    *(*dask, "distributed.cli.dask_worker", address, "--no-nanny"),
                    *("--nthreads", "1", "--no-dashboard", "--local-directory", str(log.parent)),
                ]
                for number in range(WORKERS)
            },
            "client": [*client, "--scheduler", address],
        }
        self._log = log.open("ab")
        self.running = {}
        self.statuses = []

    def keep_up(self):
        """Start what has ended; the client's exit status is noted."""
        for name, command in self._commands.items():
            process = self.running.get(name)
            if process is not None and process.poll() is None:
                continue
            if name == "client" and process is not None:
                self.statuses.append(process.returncode)
                if process.returncode in (0, 1):
                    continue
            environment = os.environ | {"PYTHONPATH": str(DEADLY)}
            self.running[name] = subprocess.Popen(
                command, stdout=self._log, stderr=self._log, env=environment
            )

    def finished(self):
        return bool(self.statuses) and self.statuses[-1] in (0, 1)

    def kill(self, name):
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()

    def end(self):
        for process in self.running.values():
            process.kill()
            process.wait()
        self._log.close()


@pytest.mark.slow
def test_every_image_has_one_row_after_kills_of_everything(originals, expected, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    names = {}
    for number in range(IMAGES - len(DEADLY_NAMES)):
        original = "broken" if number % 100 == 0 else ("chest", "leg", "small")[number % 3]
        name = f"{number // 1000:03d}/{number:06d}-{original}.png"
        names[str(folder / name)] = original
        place(originals[original], folder / name)
    for number, name in enumerate(DEADLY_NAMES):
        place(originals["chest"], folder / f"{number:03d}" / name)
    command = [sys.executable, "-m", "xrayedge", "archive", str(folder), "--out", str(out)]
    command += ["--shard-size", str(SHARD), "--time-limit", "30"]
    chance = random.Random(24)
    processes = Processes(command, tmp_path / "log")
    kills = []
    parts, grew = 0, time.monotonic()
    try:
        while not processes.finished():
            processes.keep_up()
            time.sleep(0.5)
            now = len([*out.glob("parts/part-*")])
            if now > parts:
                parts, grew = now, time.monotonic()
            assert time.monotonic() - grew < STALLED, (tmp_path / "log").read_text()[-3000:]
            # Spread over the archive, so that there is always something left to kill for.
            if len(kills) < KILLS and parts > len(kills) * IMAGES // SHARD // (KILLS + 1):
                kills.append(chance.choice(["client", "scheduler", *processes.running]))
                processes.kill(kills[-1])
    finally:
        processes.end()
    assert len(kills) == KILLS
    assert {"client", "scheduler", "worker-0"} <= set(kills)
    seen = {}
    for path in sorted(out.glob("parts/part-*")):
        for row in pq.read_table(path).to_pylist():
            assert row["source"] not in seen
            seen[row["source"]] = row
    assert len(seen) == IMAGES
    for source, row in seen.items():
        if Path(source).name in DEADLY_NAMES:
            assert row["reason"] == CRASHED
        else:
            assert comparable(row) == expected[names[source]], source
    assert not [*out.glob("parts/.xrayedge-*")]
