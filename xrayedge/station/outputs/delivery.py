"""`Delivery`: send what is queued for one destination, however long that is unreachable.

A peer that is unreachable or out of resources is tried again after 10 s, 20 s, ... 15 min, without
limit. If it refuses an object five times, the send has failed and is shown as such. Waiting times
use a clock that can't be set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ...errors import StorageFullError
from ..config import Destination
from ..records import Send
from ..store import Store

FIRST_WAIT, LONGEST_WAIT = 10.0, 900.0  # seconds
_LOOK_SECONDS = 5.0  # to notice sends that another process has queued again
#: Seconds after which an unanswered request for storage commitment is repeated.
COMMITMENT_PATIENCE = 3600.0
_BATCH = 100


class PeerAway(Exception):  # noqa: N818 - a state of the peer
    """The peer can't be reached, or the connection broke; says nothing about the object."""


@dataclass(frozen=True)
class Answer:
    """A peer's answer to an object.

    Parameters
    ----------
    kind
        ``stored``; ``refused``, which counts; or ``busy``, out of resources, which does not.
    detail
        Its status, as text.
    """

    kind: Literal["stored", "refused", "busy"]
    detail: str | None = None


class Carrier(Protocol):
    """One way to reach a destination."""

    def send(self, sends: Sequence[Send], outbox: Path) -> Iterator[tuple[Send, Answer]]:
        """Send objects one after another; raises `PeerAway`."""
        ...

    def ask_commitment(self, transaction_uid: str, sends: Sequence[Send]) -> None:
        """Request storage commitment for these; raises `PeerAway`."""
        ...

    def echo(self) -> str:
        """A line saying that the peer answers; raises `PeerAway`."""
        ...


class Delivery(threading.Thread):
    """One thread that delivers to one destination until `stop` is called.

    Parameters
    ----------
    destination
        The destination of the sends.
    store, outbox
        Hold the sends and their files.
    carrier
        Sends them.
    new_uid
        Makes a transaction's UID.
    """

    def __init__(
        self,
        destination: Destination,
        store: Store,
        outbox: Path,
        carrier: Carrier,
        new_uid: Callable[[], str],
    ) -> None:
        super().__init__(name=f"delivery-{destination.name}", daemon=True)
        self._name, self._commitment = destination.name, destination.commitment
        self._store, self._outbox, self._carrier = store, outbox, carrier
        self._new_uid = new_uid
        self._halt, self._wake = threading.Event(), threading.Event()
        self._absences = 0
        self._not_before = 0.0
        self._later: dict[tuple[int, int], float] = {}
        self._asked_at = -COMMITMENT_PATIENCE
        #: The error that ended the thread, if it was not `stop`.
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Deliver until stopped."""
        try:
            while not self._halt.is_set():
                try:
                    busy = time.monotonic() >= self._not_before and self.deliver()
                except StorageFullError:
                    # What was sent is sent again, as the same object.
                    busy = False
                    self._not_before = time.monotonic() + FIRST_WAIT
                if not busy:
                    self._wake.wait(_LOOK_SECONDS)
                    self._wake.clear()
        except BaseException as error:
            self.failure = error

    def wake(self) -> None:
        """Say that there may be something new to send."""
        self._wake.set()

    def stop(self) -> None:
        """End after the current object."""
        self._halt.set()
        self._wake.set()

    def deliver(self) -> bool:
        """Send what is due; returns whether there was anything."""
        try:
            sent = self._send_due()
            if self._commitment:
                self._ask()
            self._absences = 0
            return sent
        except PeerAway as error:
            wait = _wait(self._absences)
            self._absences += 1
            self._not_before = time.monotonic() + wait
            self._store.sends.mark_waiting(self._name, str(error))
            return False

    def _send_due(self) -> bool:
        now = time.monotonic()
        queued = self._store.sends.search(destination=self._name, states=("queued",))
        self._later = {
            key: at for key, at in self._later.items() if key in {_key(one) for one in queued}
        }
        due = [one for one in queued if self._later.get(_key(one), 0.0) <= now][:_BATCH]
        if not due:
            return False
        for send, answer in self._carrier.send(due, self._outbox):
            if answer.kind == "stored":
                self._store.sends.mark_sent(send.id, answer.detail)
            elif answer.kind == "refused":
                detail = answer.detail or "refused"
                if self._store.sends.mark_refused(send.id, detail) == "queued":
                    again = (send.id, send.refusals + 1)
                    self._later[again] = time.monotonic() + _wait(send.refusals)
            else:
                raise PeerAway(answer.detail or "out of resources")
            if self._halt.is_set():
                break
        return True

    def _ask(self) -> None:
        if time.monotonic() - self._asked_at >= COMMITMENT_PATIENCE:
            self._store.sends.forget_commitment(self._name)
            self._asked_at = time.monotonic()
        sends = self._store.sends.to_commit(self._name)
        if sends:
            uid = self._new_uid()
            # Before it is asked: the answer may come before the question is back.
            self._store.sends.ask_commitment([one.id for one in sends], uid)
            try:
                self._carrier.ask_commitment(uid, sends)
            except PeerAway:
                self._store.sends.forget_transaction(uid)
                raise


def _key(send: Send) -> tuple[int, int]:
    """Include the refusals: a retry by hand resets them, and ends the wait."""
    return send.id, send.refusals


def _wait(before: int) -> float:
    return min(FIRST_WAIT * 2.0 ** min(before, 30), LONGEST_WAIT)


def judge(status: int) -> Answer:
    """The meaning of a C-STORE status for the queue (PS3.4, B.2.3; PS3.7, C)."""
    said = f"status {status:04X}"
    if status == 0x0000:
        return Answer("stored")
    if status & 0xF000 == 0xB000:  # coerced, or elements left out, but stored
        return Answer("stored", f"stored with a warning, {said}")
    if status & 0xFF00 == 0xA700:
        return Answer("busy", f"out of resources, {said}")
    return Answer("refused", f"refused, {said}")
