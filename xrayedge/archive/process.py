"""A process that screens for another and may be killed by an image, which then gets a row.

The parent sends sources and receives a row for each. If the process ends before a row has arrived,
the image that it was working on is retried once, alone and first, in a new process. If that process
ends too, the image gets a row `rows.CRASHED`, and the others are unaffected. So a crash costs one
restart, and an endless loop two time limits, however large the shard.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import cv2

from ..bundle import Precision
from ..engines import EngineName
from ..errors import ArchiveError, ImageError, XrayEdgeError
from ..imaging import Limits
from ..screening import Screener
from ..site import SiteProfile
from .rows import CRASHED, File, Row, failed_row, row
from .settings import Settings
from .sources import Listed, read_source

#: Libraries read these when they load; by default they reserve memory for a thread on each core.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: Times that a process may end while it loads the model: processes may be killed at random.
_STARTS = 3


@dataclass(frozen=True)
class Job:
    """How to screen: what `Screener` is made with, and what an image may cost.

    Parameters
    ----------
    model
        A bundle's name, or its folder as an absolute path.
    precision, engine, operating_point, site, limits, auto_orient
        As in `Screener`.
    threads
        Processor threads of a process.
    memory
        Bytes of data that a process may hold (``RLIMIT_DATA``); ``None`` sets no limit.
    time_limit
        Seconds that a process may spend on one image before it is ended.
    """

    model: str
    precision: Precision = "int8"
    engine: EngineName | None = None
    operating_point: str = "balanced"
    site: SiteProfile | None = None
    limits: Limits = field(default_factory=Limits)
    auto_orient: bool = False
    threads: int = 1
    memory: int | None = None
    time_limit: float = 120.0

    def open(self) -> tuple[Screener, Settings]:
        """The screener, and what it makes rows with."""
        screener = Screener(
            self.model,
            precision=self.precision,
            engine=self.engine,
            threads=self.threads,
            operating_point=self.operating_point,
            site=self.site,
            limits=self.limits,
            auto_orient=self.auto_orient,
        )
        settings = Settings.of(screener, self.site, self.limits, auto_orient=self.auto_orient)
        return screener, settings

    def settled(self) -> tuple[Job, Settings]:
        """The same job independent of the working folder, and the settings of its rows.

        Raises
        ------
        XrayEdgeError
            The model can't be used.
        """
        screener, settings = self.open()
        with screener:
            folder = Path(self.model).absolute()
            is_folder = folder.is_dir() and folder.samefile(screener.bundle.folder)
        return replace(self, model=str(folder) if is_folder else self.model), settings


class ScreeningProcess:
    """Screens in a separate process, which is started when it is needed.

    Parameters
    ----------
    job
        How to screen.
    settings
        The settings that the rows must have; a process with others is refused.
    """

    def __init__(self, job: Job, settings: Settings) -> None:
        self.job = job
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def screen(self, images: Sequence[Listed]) -> list[Row]:
        """A row for each image.

        Raises
        ------
        ArchiveError
            The model can't be loaded here, or is a different one; or no image can be read.
        """
        rows: list[Row] = []
        suspect: int | None = None
        while len(rows) < len(images):
            for made in self._until_it_ends(images[len(rows) :]):
                rows.append(made)
            if len(rows) == len(images):
                break
            end = self._end()
            if suspect != len(rows):
                suspect = len(rows)
                continue
            image = images[suspect]
            detail = f"{image.source}: the process that screened it {end}, twice"
            file = File(image.source, image.size)
            rows.append(failed_row(file, CRASHED, detail, self.settings))
            suspect = None
        return rows

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def __enter__(self) -> ScreeningProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _until_it_ends(self, images: Sequence[Listed]) -> Iterator[Row]:
        """Rows of the first images, until the process ends."""
        connection = self._started()
        try:
            connection.send(list(images))
            for _ in images:
                answer = connection.recv()
                if isinstance(answer, str):
                    self.close()
                    raise ArchiveError(answer)
                yield answer
        except (EOFError, OSError):
            return

    def _started(self) -> Connection:
        if self._connection is not None:
            return self._connection
        for _ in range(_STARTS):
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | dict.fromkeys(_THREADS, str(self.job.threads)),
                )
            self._connection = Connection(ours.detach())
            try:
                self._connection.send((self.job, self.settings))
                problem = self._connection.recv()
            except (EOFError, OSError):
                end = self._end()
                continue
            if problem is None:
                return self._connection
            self.close()
            raise ArchiveError(problem)
        raise ArchiveError(
            f"a process {end} before it had loaded the model; give it more memory or fewer workers"
        )

    def _end(self) -> str:
        """How the process ended; another one can be started."""
        assert self._process is not None
        assert self._connection is not None
        self._connection.close()
        status = self._process.wait()
        self._process = self._connection = None
        if status == -signal.SIGALRM:
            return f"took longer than {self.job.time_limit:g} seconds"
        if status >= 0:
            return f"ended with status {status}"
        return f"was ended by {signal.Signals(-status).name}"


def _serve(connection: Connection) -> None:
    """Screen what arrives until the parent closes the connection."""
    job, expected = connection.recv()
    if job.memory is not None:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        memory = job.memory if most == resource.RLIM_INFINITY else min(job.memory, most)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    cv2.setNumThreads(job.threads)
    try:
        screener, settings = job.open()
    except XrayEdgeError as error:
        connection.send(str(error))
        return
    if settings != expected:
        differences = "; ".join(expected.differences(settings))
        connection.send(
            f"{socket.gethostname()}: screens otherwise than the archive: {differences}"
        )
        return
    connection.send(None)
    while True:
        for image in connection.recv():
            signal.setitimer(signal.ITIMER_REAL, job.time_limit)
            try:
                answer: Row | str = screen_one(image, job.limits, screener, settings)
            except XrayEdgeError as error:
                answer = str(error)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            connection.send(answer)


def screen_one(image: Listed, limits: Limits, screener: Screener, settings: Settings) -> Row:
    """Screen an image where the caller is, and make its row.

    Raises
    ------
    ArchiveError
        None of its store can be read.
    """
    file = File(image.source, image.size)
    try:
        file, data = read_source(image.source, limits)
        return row(screener.screen(data, name=image.source), file, settings)
    except ImageError as error:
        return failed_row(file, error.reason, str(error), settings)
    except XrayEdgeError:
        raise
    except Exception as error:  # such as a MemoryError: this image's alone
        return failed_row(file, CRASHED, f"{image.source}: {type(error).__name__}", settings)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends this
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is nothing to keep gigabytes of
    with suppress(EOFError, OSError), Connection(int(sys.argv[1])) as connection:
        _serve(connection)
    os._exit(0)


if __name__ == "__main__":
    _main()
