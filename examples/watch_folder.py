"""A service that screens whatever is put into a folder, through restarts and power cuts.

    python examples/watch_folder.py --inbox /data/inbox --state /data/xrayedge

A picture goes from the inbox to ``work/``, is screened, gets its row in ``results/`` (a file for
each day and model) onto the disk, and goes to ``done/DAY/``. Whatever moment the power fails at:
a picture in ``work/`` without a row is screened again, one with a row is only put away. A picture
is taken once its file has not changed between two looks. One that ends the process three times is
put into ``set-aside/``, so that it does not keep the service from the rest, and so is what the
service did not put into ``work/``. ``--keep-days`` deletes results and pictures of days long past.

The inbox and the state must be on one file system; nothing else is written. Messages hold no file
names, which may name patients. See `xrayedge-watch.service` beside this file.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from xrayedge import Screener, XrayEdgeError
from xrayedge.bundle import DEFAULT_MODEL
from xrayedge.output.results import ResultsFile

TRIES = 3
_NAME = "{stamp:%Y-%m-%dT%H%M%S.%f}_{attempt}_{name}"  # day first: it chooses the results file
_OURS = re.compile(r"(\d{4}-\d\d-\d\dT\d{6}\.\d{6})_(\d+)_(.*)", re.DOTALL)
_LONGEST = (
    200  # bytes of a picture's name that are kept: file systems take 255, with ours before it
)


class Watch:
    """The folders of the service, and what moves through them."""

    def __init__(self, inbox: Path, state: Path, screener: Screener) -> None:
        self.inbox, self.screener = inbox, screener
        self.work, self.done, self.results, self.set_aside = (
            state / name for name in ("work", "done", "results", "set-aside")
        )
        for folder in (inbox, self.work, self.done, self.results, self.set_aside):
            folder.mkdir(parents=True, exist_ok=True)
        self._seen: dict[Path, tuple[int, int]] = {}

    def take_up(self) -> None:
        """Finish what an earlier run left in ``work/``."""
        for path in sorted(self.work.iterdir()):
            ours = _OURS.fullmatch(path.name)
            if ours is not None and self._screened(path):
                self._put_away(path)
            elif ours is None or int(ours[2]) >= TRIES:
                path.replace(self.set_aside / path.name)
                print("stray, or ended the process again and again: set aside", file=sys.stderr)
            else:
                self._screen(path.replace(self.work / f"{ours[1]}_{int(ours[2]) + 1}_{ours[3]}"))

    def look(self, stop: threading.Event) -> None:
        """Screen the files that have not changed since the last look, unless told to stop."""
        seen, ready = {}, []
        for path in sorted(self.inbox.iterdir()):
            if not path.name.startswith(".") and path.is_file():
                with suppress(FileNotFoundError):  # its sender has renamed it meanwhile
                    info = path.stat()
                    seen[path] = (info.st_size, info.st_mtime_ns)
                    if self._seen.get(path) == seen[path]:
                        ready.append(path)
        self._seen = seen
        for path in ready:
            if stop.is_set():
                return
            # A name of its own: a unit may call its next picture the same.
            name = os.fsdecode(os.fsencode(path.name)[-_LONGEST:])
            name = _NAME.format(stamp=datetime.now(timezone.utc), attempt=1, name=name)
            try:
                taken = path.replace(self.work / name)
            except FileNotFoundError:
                continue
            self._screen(taken)

    def forget(self, days: int) -> None:
        """Delete results and pictures that are older than ``days``."""
        oldest = (datetime.now(timezone.utc).date() - timedelta(days=days)).isoformat()
        for path in (*self.results.iterdir(), *self.done.iterdir()):
            if _day(path) < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _results_of(self, path: Path) -> ResultsFile:
        bundle = self.screener.bundle  # a file holds rows of one model, and today's may be updated
        maker = f"{bundle.name}-{bundle.version}-{self.screener.engine}"
        return ResultsFile(self.results / f"{_day(path)}_{maker}.jsonl", self.screener)

    def _screened(self, path: Path) -> bool:
        with self._results_of(path) as results:
            return results.status(str(path)) is not None

    def _screen(self, path: Path) -> None:
        screening = self.screener.screen(path)
        with self._results_of(path) as results:
            results.write(screening)
        self._put_away(path)
        print(screening.status, screening.reason or "", flush=True)

    def _put_away(self, path: Path) -> None:
        folder = self.done / _day(path)
        folder.mkdir(exist_ok=True)
        path.replace(folder / path.name)


def _day(path: Path) -> str:
    """Of a name that begins with one."""
    return path.name[: len("2000-01-01")]


def main() -> int:
    """Watch until SIGTERM or Ctrl-C, which let the picture under way be finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inbox", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for a picture")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two looks")
    parser.add_argument("--keep-days", type=int, help="default: for ever")
    chosen = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        screener = Screener(chosen.model, threads=chosen.threads, timeout=chosen.timeout)
    except (XrayEdgeError, ValueError) as error:  # of the model and the options: no patient's name
        print(f"can't start: {error}", file=sys.stderr)
        return 2
    try:
        with screener:
            watch = Watch(chosen.inbox, chosen.state, screener)
            watch.take_up()
            print("watching", flush=True)
            while not stop.wait(chosen.every):
                watch.look(stop)
                if chosen.keep_days is not None:
                    watch.forget(chosen.keep_days)
    except (XrayEdgeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        print(f"stopped: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
