"""What a stranger, a slow line or a full disk does to the console; SIGTERM with streams open."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

for package in ("highdicom", "httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from consoles import API, Stream, client_of, connect, finished, send
from pacs import SECONDS, wait_for

from xrayedge.station.console import events, server, uploads


@pytest.fixture(scope="module")
def client(station):
    with station.console(max_bytes=1_000_000) as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_left(station):
    yield
    wait_for(lambda: not list(station.state.tmp.iterdir()), "nothing is left in tmp")


def head(client, *lines):
    host = f"Host: {client.base_url.host}"
    return "\r\n".join([f"POST {API}/screenings HTTP/1.1", host, *lines, "", ""]).encode()


def received(connection):
    """All that the other side sends until it closes."""
    content = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return content
        if not piece:
            return content
        content += piece


def test_a_length_over_the_limit_is_refused_before_a_byte_came(client):
    connection = connect(client)
    connection.sendall(head(client, "Content-Length: 99999999999"))
    answer = b""
    while b"1000000 bytes" not in answer:
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    connection.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_without_a_length_is_cut_off_at_the_limit(client, station):
    before = len(station.state.store.jobs.search())
    connection = connect(client)
    connection.sendall(head(client, "Transfer-Encoding: chunked"))
    piece = b"%x\r\n" % 65536 + b"\0" * 65536 + b"\r\n"
    for _ in range(16):
        connection.sendall(piece)
    answer = connection.recv(65536)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert len(station.state.store.jobs.search()) == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({}, 422),
    ],
)
def test_what_is_no_image_file_is_no_job(client, station, headers, status):
    before = len(station.state.store.jobs.search())
    content = b"x" if headers else b""
    answer = client.post(f"{API}/screenings", content=content, headers=headers)
    assert answer.status_code == status
    assert len(station.state.store.jobs.search()) == before


def test_a_body_that_stops_is_given_up(client, monkeypatch):
    monkeypatch.setattr(uploads, "SILENCE_SECONDS", 0.2)
    connection = connect(client)
    connection.sendall(head(client, "Content-Length: 1000") + b"x")
    assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
    connection.close()


def test_a_body_that_trickles_is_given_up(client, monkeypatch):
    monkeypatch.setattr(uploads, "SLOW_AFTER", 0.0)
    connection = connect(client)
    connection.sendall(head(client, "Content-Length: 1000"))
    connection.settimeout(0.05)
    answer = b""
    deadline = time.monotonic() + SECONDS
    while not answer and time.monotonic() < deadline:
        connection.sendall(b"x")
        try:
            answer = connection.recv(65536)
        except TimeoutError:
            continue
    connection.close()
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_upload_that_breaks_off_leaves_nothing(client, station):
    before = len(station.state.store.jobs.search())
    connection = connect(client)
    connection.sendall(head(client, "Content-Length: 1000") + b"x")
    connection.close()
    assert client.get("/v2/health/live").status_code == 200
    assert len(station.state.store.jobs.search()) == before


def test_headers_that_do_not_come_end_the_connection(client, monkeypatch):
    monkeypatch.setattr(server, "HEADERS_SECONDS", 0.2)
    silent, slow, second = (connect(client) for _ in range(3))
    slow.sendall(b"GET / HTTP/1.1\r\nHost:")
    # Nor those of a second request, which uvicorn would wait for without an end.
    second.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT")
    assert received(silent) == b""
    assert received(slow) == b""
    assert received(second).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\0" * 100_000,
    ],
)
def test_garbage_is_refused_and_the_next_request_is_answered(client, garbage):
    connection = connect(client)
    try:
        connection.sendall(garbage)
        answer = received(connection)
    except (BrokenPipeError, ConnectionResetError):
        answer = b""
    connection.close()
    assert answer == b"" or answer.split()[1] in (b"400", b"421")
    assert client.get("/v2/health/live").status_code == 200


def test_so_many_event_streams_and_no_more(client):
    asked = f"GET {API}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    streams = []
    for _ in range(events.MOST_LISTENERS):
        streams.append(connect(client))
        streams[-1].sendall(asked)
        assert streams[-1].recv(65536).startswith(b"HTTP/1.1 200 ")
    answer = client.get(f"{API}/events")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert client.get(f"{API}/session").status_code == 200
    for one in streams:
        one.close()

    def room():
        stream = Stream(client)
        stream.close()
        return stream.answer.status_code == 200

    wait_for(room, "streams that were left make room")


def test_connections_over_the_limit_are_dropped_and_those_before_go_on(station, monkeypatch):
    with station.console() as client:
        assert client.get("/v2/health/live").status_code == 200
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
        held = [connect(client) for _ in range(2)]
        dropped = connect(client)
        assert received(dropped) == b""
        assert client.get("/v2/health/live").status_code == 200  # on its own connection
        for one in (*held, dropped):
            one.close()
        wait_for(lambda: _answers(client), "connections that ended make room")


def _answers(client):
    with client_of(client.base_url) as another:
        try:
            return another.get("/v2/health/live").status_code == 200
        except OSError:
            return False
        except Exception as error:
            return type(error).__name__ not in ("RemoteProtocolError", "ReadError")


def test_busy_is_said_and_when_to_come_again(client, station, monkeypatch, leg):
    def refused(error):
        answer = client.post(f"{API}/screenings", content=leg.read_bytes()[:1000])
        assert answer.status_code == 503
        assert answer.json()["error"] == error
        assert int(answer.headers["retry-after"]) > 0

    with monkeypatch.context() as patched:
        patched.setattr(uploads, "MOST_WAITING", 0)
        refused("Too many images wait to be screened.")
    with monkeypatch.context() as patched:
        patched.setattr(uploads, "MOST_UPLOADS", 0)
        refused("Too many images come at once.")
    with monkeypatch.context() as patched:
        patched.setattr(station.state, "has_room", lambda: False)
        refused("The disk is nearly full.")
        assert client.post(f"{API}/example").status_code == 503
        assert client.get("/v2/health/ready").status_code == 503


def test_a_stop_waits_for_no_stream_and_no_upload(station):
    with station.console() as client:
        page = client_of(client.base_url)
        stream = Stream(page).ready()
        half = connect(client)
        half.sendall(head(client, "Content-Length: 1000") + b"x")
    assert list(stream.messages()) == []  # it ended, and not by an error
    half.close()
    page.close()


class Process:
    """``xrayedge station`` as a user starts it, but for the port."""

    def __init__(self, folder: Path) -> None:
        config = folder / "station.toml"
        config.write_text("[console]\nport = 0\n")
        command = [sys.executable, "-m", "xrayedge", "station", "--config", str(config)]
        self._process = subprocess.Popen(
            [*command, "--state", str(folder / "state")],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        said = ""
        for line in self._process.stderr:
            said += line
            found = re.search(r"console at (http://127\.0\.0\.1:\d+/)", line)
            if found:
                self.client = client_of(found[1])
                return
        raise AssertionError(said)

    def end(self, number):
        self._process.send_signal(number)
        said = self._process.communicate(timeout=SECONDS)[1]
        return self._process.returncode, said


def test_a_restart_keeps_the_history_and_shows_nothing_old_as_new(tmp_path, chest, leg):
    first = Process(tmp_path)
    stream = Stream(first.client).ready()
    shown = finished(first.client, send(first.client, chest.read_bytes()))
    stream.until(lambda kind, data: kind == "screening" and data["state"] == "done")
    status, said = first.end(signal.SIGTERM)
    assert (status, said.strip().splitlines()[-1]) == (0, "station: stopped")
    assert "Traceback" not in said
    assert list(stream.messages())[1:] == []  # at most what waits, and then its end

    second = Process(tmp_path)
    again = second.client.get(f"{API}/screenings").json()["screenings"]
    assert again == [shown]
    # A page that comes back is told what it has not seen: nothing.
    stream = Stream(second.client, **{"Last-Event-ID": stream.last_id}).ready()
    new = send(second.client, leg.read_bytes())
    kind, data = next(iter(stream.messages()))
    assert (kind, data["id"]) == ("screening", new)
    assert data["received"] > shown["received"]
    stream.close()
    second.end(signal.SIGKILL)

    third = Process(tmp_path)
    found = third.client.get(f"{API}/screenings").json()["screenings"]
    assert [one["id"] for one in found] == [new, shown["id"]]
    assert finished(third.client, new)["state"] == "refused"
    status, said = third.end(signal.SIGTERM)
    assert status == 0
    assert json.dumps(shown["id"]) not in said
