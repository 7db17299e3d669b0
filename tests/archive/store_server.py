"""Web and S3 servers on loopback, which tests read images from."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "only-for-the-tests-server"


class S3:
    """moto's server, in a thread."""

    def __init__(self) -> None:
        server = pytest.importorskip("moto.server")
        self._server = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"

    def environment(self) -> dict[str, str]:
        """What lets botocore in."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            # Pages as small as this make a listing of a few objects one of several pages.
            "MOTO_S3_DEFAULT_MAX_KEYS": "3",
        }

    def client(self):
        """A client that may do anything."""
        session = pytest.importorskip("botocore.session")
        return session.get_session().create_client("s3")

    def ask_for_credentials(self, *, yes: bool) -> None:
        """Whether keys are looked at; moto takes any otherwise."""
        import urllib3

        counted = b"0" if yes else b"inf"
        urllib3.request("POST", f"{self.endpoint}/moto-api/reset-auth", body=counted)

    def stop(self) -> None:
        self._server.stop()


class Behaviour(BaseHTTPRequestHandler):
    """Answers by the path: ``/status/503``, ``/cut/image.png``, ...; else the image."""

    protocol_version = "HTTP/1.1"
    image = b""
    password = base64.b64encode(b"reader:secret").decode()
    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        type(self).asked[self.path] += 1
        kind, _, rest = self.path.strip("/").partition("/")
        if kind == "status":
            self._answer(int(rest.split("/")[0]), b"")
        elif kind == "busy" and self.asked[self.path] == 1:
            self._answer(503, b"", retry_after="0")
        elif kind == "cut" and self.asked[self.path] == 1:
            self._answer(200, self.image[:100], length=len(self.image))
            self.close_connection = True
        elif kind == "declared":
            self._answer(200, b"", length=10**12)
            self.close_connection = True
        elif kind == "endless":
            self._answer(200, self.image, length=None)
            self.close_connection = True
        elif kind == "drip":
            self._answer(200, b"", length=len(self.image))
            for byte in self.image[:50]:
                time.sleep(0.05)
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:
                    return
        elif kind == "moved":
            self._answer(302, b"", location=f"/{rest}")
        else:
            self._answer(200, self.image)

    def _answer(self, status: int, body: bytes, length: int | None = -1, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("content-length", str(len(body) if length < 0 else length))
        self.send_header("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def web(image: bytes) -> Iterator[str]:
    """A web server's URL."""
    handler = type("Handler", (Behaviour,), {"image": image, "asked": Counter()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
