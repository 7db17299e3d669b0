"""Run shards on Dask: a bounded number at a time, each until its part exists."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from uuid import uuid4

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker
from distributed.system import MEMORY_LIMIT

from ..errors import ArchiveError, XrayEdgeError
from .plan import Plan
from .process import Job, ScreeningProcess
from .settings import Settings
from .shard import Done, Shard, screen_shard

#: Shards given to Dask for each of its threads: the next one waits where it will be screened.
_AHEAD = 3
#: Times that the worker of one shard may be killed. Images can't do that: see `process`.
_MOST_KILLS = 100
#: Seconds between two checks of the cluster.
_LOOK = 5.0
#: Run by each worker at its start. In a terminal Ctrl-C goes to all processes of a command; the
#: first of them ends the others.
_IGNORES_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
_CONNECT = 30  # seconds that a scheduler may take to answer


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Parameters
    ----------
    done
        The shard that has just been finished; ``None`` when nothing was finished for a while.
    workers, threads
        Dask's, at the last check.
    """

    done: Done | None
    workers: int
    threads: int


def share(job: Job, workers: int | None) -> tuple[int, Job]:
    """Share this machine's cores: how many workers, and the job with the threads of each."""
    workers = workers or CPU_COUNT
    return workers, replace(job, threads=max(1, CPU_COUNT // workers))


@contextmanager
def local_cluster(workers: int, *, dashboard: bool = True) -> Iterator[Client]:
    """A scheduler and workers on this machine, of a thread each, for this process alone.

    Parameters
    ----------
    workers
        How many; the machine's memory is shared among them.
    dashboard
        Whether to serve Dask's pages, on a free port of the loopback device.
    """
    quiet = {
        # A child of the worker does the screening, with its own limit.
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        # Samples each thread's stack every 10 ms, only to find it waiting for the child.
        "distributed.worker.profile.enabled": False,
    }
    with dask.config.set(quiet), ExitStack() as stack:
        with _uninterrupted():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=MEMORY_LIMIT // workers,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": dashboard},
                silence_logs=logging.CRITICAL,
                preload=[_IGNORES_CTRL_C],
            )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        yield client


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C: a half-started cluster can't be shut down."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def cluster_at(address: str) -> Iterator[Client]:
    """The cluster whose scheduler has this address.

    Raises
    ------
    ArchiveError
        It does not answer.
    """
    try:
        client = Client(address, timeout=_CONNECT)
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{address}: no scheduler of Dask answers there ({error})") from error
    with client:
        yield client


def screen_plan(plan: Plan, job: Job, client: Client) -> Iterator[Progress]:
    """Screen the shards of a plan whose parts don't exist yet.

    Parameters
    ----------
    plan
        What to screen.
    job
        How to. Without a memory limit, each worker shares its own among its threads.
    client
        Of the cluster. Its workers may come and go.

    Raises
    ------
    ArchiveError
        The scheduler is gone, a worker can't screen, or a part can't be written. What is finished
        stays, and the next run resumes.
    """
    run = uuid4().hex
    over: SimpleQueue[Future] = SimpleQueue()
    waiting = plan.pending(plan.finished())
    shards: dict[str, Shard] = {}
    kills: dict[int, int] = {}
    futures: dict[str, Future] = {}

    def submit(shard: Shard) -> None:
        key = f"shard-{shard.number:06d}-{run}-{kills.get(shard.number, 0)}"
        shards[key] = shard
        futures[key] = client.submit(
            _screen, shard, plan.folder, plan.settings, job, key=key, pure=False
        )
        futures[key].add_done_callback(over.put)

    workers = threads = 0
    look_at = time.monotonic()
    try:
        while True:
            if client.status != "running":
                raise _gone()
            if time.monotonic() >= look_at:
                workers, threads = _look(client, (workers, threads))
                look_at = time.monotonic() + _LOOK
            room = max(1, _AHEAD * threads) - len(shards)
            for _, shard in zip(range(room), waiting, strict=False):
                submit(shard)
            if not shards:
                return
            try:
                future = over.get(timeout=_LOOK)
            except Empty:
                yield Progress(None, workers, threads)
                continue
            shard = shards.pop(future.key)
            del futures[future.key]
            done = _result(future, shard, kills)
            if done is None:
                submit(shard)
            else:
                yield Progress(done, workers, threads)
    finally:
        if futures and client.status == "running":
            client.cancel(list(futures.values()), force=True)


def _look(client: Client, before: tuple[int, int]) -> tuple[int, int]:
    """Workers and their threads; as before where the scheduler is too busy to say."""
    try:
        threads = client.nthreads()
    except (OSError, asyncio.TimeoutError):
        return before
    return len(threads), sum(threads.values())


def _gone() -> ArchiveError:
    return ArchiveError("the scheduler is gone; restart it, then run the same command to resume")


def _result(future: Future, shard: Shard, kills: dict[int, int]) -> Done | None:
    """The outcome of a shard; ``None`` if its worker was killed and it must be repeated."""
    try:
        done: Done = future.result()
        return done
    except XrayEdgeError:
        raise
    except (KilledWorker, CancelledError) as error:
        if future.client.status != "running":
            raise _gone() from error
        kills[shard.number] = kills.get(shard.number, 0) + 1
        if kills[shard.number] > _MOST_KILLS:
            raise ArchiveError(
                f"shard {shard.number}: its worker was killed {_MOST_KILLS} times; find out why, "
                "then run the same command to resume"
            ) from error
        return None
    except Exception as error:
        if future.client.status != "running":
            raise _gone() from error
        raise ArchiveError(f"shard {shard.number}: {type(error).__name__}: {error}") from error


#: Of this worker: processes that have a model loaded and wait for a shard.
_idle: list[ScreeningProcess] = []
_lock = threading.Lock()


def _screen(shard: Shard, folder: Path, settings: Settings, job: Job) -> Done:
    """On a worker: screen a shard in one of this worker's processes."""
    if job.memory is None:
        worker = get_worker()
        limit = worker.memory_manager.memory_limit
        job = replace(job, memory=limit // worker.state.nthreads if limit else None)
    process = _taken(job, settings)
    try:
        done = screen_shard(shard, folder, settings, process)
    except BaseException:
        process.close()
        raise
    with _lock:
        _idle.append(process)
    return done


def _taken(job: Job, settings: Settings) -> ScreeningProcess:
    """An idle process with the model loaded, or a new one; those of another job are ended."""
    with _lock:
        while _idle:
            process = _idle.pop()
            if (process.job, process.settings) == (job, settings):
                return process
            process.close()
    return ScreeningProcess(job, settings)
