"""A console over real HTTP, with the real worker behind it, and what asks it."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from pacs import SECONDS, wait_for

from xrayedge.station.config import ConsoleConfig, Destination, ScreenConfig, StationConfig
from xrayedge.station.console.server import Console
from xrayedge.station.state import StateFolder
from xrayedge.station.worker import Worker

API = "/api/v1"
#: Nobody delivers to it: what is sent stays queued until a test says otherwise.
PACS = Destination("pacs", "127.0.0.1", 1, "PACS")


@dataclass(frozen=True)
class Running:
    """A state folder and a worker that screens what comes into it."""

    state: StateFolder
    worker: Worker

    @contextmanager
    def console(self, **options):
        """A console on a free port of loopback; a client that has its address."""
        config = StationConfig(
            destinations=(PACS,), console=ConsoleConfig(**{"port": 0, **options})
        )
        console = Console(config, self.state, self.worker)
        console.start()
        try:
            with client_of(console.url) as client:
                yield client
        finally:
            console.stop()
            console.join(SECONDS)
            assert not console.is_alive()
            assert console.failure is None


def client_of(url, **options):
    return httpx.Client(base_url=url, timeout=SECONDS, trust_env=False, **options)


@contextmanager
def running(folder):
    with StateFolder(folder) as state:
        # Patient: the machine may be busy, and a result is what is waited for.
        screen = ScreenConfig(timeout=SECONDS)
        worker = Worker(StationConfig(destinations=(PACS,), screen=screen), state)
        worker.start()
        yield Running(state, worker)
        worker.stop()
        worker.join(SECONDS)
        assert worker.failure is None


def send(client, content):
    """The id that an image gets."""
    answer = client.post(f"{API}/screenings", content=content)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def finished(client, public):
    """A screening when it has its result."""

    def look():
        found = client.get(f"{API}/screenings/{public}").json()
        return found if found["state"] not in ("received", "screening") else None

    return wait_for(look, "the image is screened")


class Stream:
    """The console's events, as a browser reads them."""

    def __init__(self, client, **headers) -> None:
        self._context = client.stream("GET", f"{API}/events", headers=headers)
        self.answer = self._context.__enter__()
        self._lines = self.answer.iter_lines() if self.answer.status_code == 200 else iter(())
        self.last_id: str | None = None

    def messages(self):
        """Kind and data of each message, until the stream ends."""
        kind, data = None, None
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
            elif not line and kind is not None:
                yield kind, data
                kind, data = None, None

    def ready(self):
        """When the server listens for it: what happens from then on is told."""
        for line in self._lines:
            if line.startswith("id: "):
                self.last_id = line[4:]
                return self
        raise AssertionError("no stream")

    def until(self, wanted):
        """The first message that `wanted(kind, data)` holds of."""
        return next(data for kind, data in self.messages() if wanted(kind, data))

    def close(self):
        self._context.__exit__(None, None, None)


def connect(client):
    """A plain connection to the same console."""
    where = urlsplit(str(client.base_url))
    return socket.create_connection((where.hostname, where.port), timeout=SECONDS)
