"""Process a stream: a bounded number of items at once, results in order, each when it is ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, at_once: int
) -> Iterator[_Result]:
    """Work on items that come one after another.

    A separate thread waits for the next item, so that results need not wait. It takes no item while
    ``at_once`` of them are in progress or their results are not fetched.

    Parameters
    ----------
    work
        What to do with each; called in several threads.
    items
        May be endless, and may block.
    at_once
        Items taken whose results are not yet returned.

    Raises
    ------
    Exception
        What ``work`` or ``items`` raised, in its place.
    """
    from concurrent.futures import Future, ThreadPoolExecutor  # they bring logging and more

    free = threading.Semaphore(at_once)
    running: SimpleQueue[Future[_Result] | None] = SimpleQueue()
    stopped = threading.Event()
    pool = ThreadPoolExecutor(at_once)

    def take() -> None:
        try:
            source = iter(items)
            while True:
                free.acquire()
                if stopped.is_set():
                    return
                try:
                    item = next(source)
                except StopIteration:
                    break
                try:
                    running.put(pool.submit(work, item))
                except RuntimeError:
                    if stopped.is_set():  # the pool was shut down while waiting for the item
                        return
                    raise  # no thread could be started
        except BaseException as error:
            broken: Future[_Result] = Future()
            broken.set_exception(error)
            running.put(broken)
        running.put(None)

    # A daemon thread, because it may wait for an item that never comes.
    threading.Thread(target=take, name="xrayedge-stream", daemon=True).start()
    try:
        while (future := running.get()) is not None:
            result = future.result()
            free.release()
            yield result
    finally:
        stopped.set()
        free.release()
        pool.shutdown(wait=False, cancel_futures=True)
