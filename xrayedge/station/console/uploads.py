"""`Uploads`: what a browser sends becomes a job like any other, or is refused early.

An image arrives as the raw bytes of one file. It is written to the disk piece by piece, whatever
length it declares; one that arrives too slowly or grows too large is dropped.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ..inputs.folder import sop_instance_uid
from ..records import Job, Origin
from ..state import StateFolder, random_name
from .guard import Refusal

#: Uploads at once, and jobs that may wait to be screened.
MOST_UPLOADS, MOST_WAITING = 8, 500
#: Seconds without a byte, and the average bytes per second required after that time.
SILENCE_SECONDS, LEAST_BYTES_PER_SECOND, SLOW_AFTER = 15.0, 10_000, 30.0
_PIECE = 1 << 20
_NOT_RAW = ("multipart/", "application/x-www-form-urlencoded")
_BUSY = "Try again in a moment."


class Uploads:
    """Receives images.

    Parameters
    ----------
    state
        Where they go.
    max_bytes
        Of one image.
    operating_point
        The configuration's.
    """

    def __init__(self, state: StateFolder, max_bytes: int, operating_point: str) -> None:
        self._state, self._max_bytes = state, max_bytes
        self._operating_point = operating_point
        self._at_once = 0

    async def take(self, request: Request, sender: str) -> tuple[Job, bool]:
        """The job of a request's body, and whether it is new. Raises `Refusal`."""
        self._look_at_headers(request)
        await self._find_room()
        if self._at_once >= MOST_UPLOADS:
            raise Refusal(503, "Too many images come at once.", _BUSY, retry_after=2)
        self._at_once += 1
        temporary = self._state.tmp / random_name()
        try:
            await self._write(temporary, request.stream())
            return await run_in_threadpool(self._receive, temporary, "console", sender)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room() from None
            raise
        finally:
            self._at_once -= 1
            with suppress(OSError):
                temporary.unlink()

    async def take_example(self, path: Path, sender: str) -> tuple[Job, bool]:
        """The same for a file on this machine, which is sent to no destination."""
        await self._find_room()
        return await run_in_threadpool(self._receive_example, path, sender)

    def _receive_example(self, path: Path, sender: str) -> tuple[Job, bool]:
        temporary = self._state.tmp / random_name()
        try:
            temporary.write_bytes(path.read_bytes())
            return self._receive(temporary, "example", sender)
        finally:
            temporary.unlink(missing_ok=True)

    def _receive(self, temporary: Path, origin: Origin, sender: str) -> tuple[Job, bool]:
        # Without a UID the example is a new job each time, never "the same instance".
        uid = None if origin == "example" else sop_instance_uid(temporary)
        receipt = self._state.take_in(
            temporary,
            origin=origin,
            sender=sender,
            sop_instance_uid=uid,
            operating_point=self._state.operating_point(self._operating_point),
        )
        job = self._state.store.jobs.get(receipt.job)
        assert job is not None
        return job, receipt.new

    def _look_at_headers(self, request: Request) -> None:
        kind = request.headers.get("content-type", "").strip().lower()
        if kind.startswith(_NOT_RAW) or request.headers.get("content-encoding"):
            raise Refusal(
                415,
                "The body must be the bytes of one image file.",
                "Send the file itself, not a form and not compressed.",
            )
        declared = request.headers.get("content-length", "")
        if declared == "0":
            raise _empty()
        if declared.isdecimal() and int(declared) > self._max_bytes:
            raise self._too_large()

    async def _find_room(self) -> None:
        counts = await run_in_threadpool(self._state.store.jobs.counts)
        if counts.get("received", 0) >= MOST_WAITING:
            raise Refusal(503, "Too many images wait to be screened.", _BUSY, retry_after=30)
        if not self._state.has_room():
            raise _no_room()

    async def _write(self, path: Path, pieces: AsyncIterator[bytes]) -> None:
        started, size = time.monotonic(), 0
        buffer = bytearray()
        with path.open("xb") as stream:
            while (piece := await _next(pieces)) is not None:
                size += len(piece)
                buffer += piece
                if size > self._max_bytes:
                    raise self._too_large()
                late = time.monotonic() - started - SLOW_AFTER
                if size < late * LEAST_BYTES_PER_SECOND:
                    raise _too_slow()
                if len(buffer) >= _PIECE:
                    if not self._state.has_room():
                        raise _no_room()
                    await run_in_threadpool(stream.write, bytes(buffer))
                    buffer.clear()
            await run_in_threadpool(stream.write, bytes(buffer))
        if not size:
            raise _empty()

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            f"The image is larger than {self._max_bytes} bytes.",
            "Export a smaller image, or raise [console] max_bytes.",
        )


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await asyncio.wait_for(anext(pieces), SILENCE_SECONDS)
    except StopAsyncIteration:
        return None
    except asyncio.TimeoutError:
        raise _too_slow() from None


def _empty() -> Refusal:
    return Refusal(422, "The body is empty.", "Send the bytes of one image file.")


def _too_slow() -> Refusal:
    return Refusal(408, "The image arrives too slowly.", "Send it again over a better connection.")


def _no_room() -> Refusal:
    return Refusal(
        503,
        "The disk is nearly full.",
        "Free space on it, or lower [keep] days.",
        retry_after=60,
    )
