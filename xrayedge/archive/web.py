"""Images behind http(s) URLs."""

from __future__ import annotations

import netrc
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)
from urllib3.util import Retry, Timeout, make_headers

from ..errors import ArchiveError, ImageError
from ..imaging import Limits
from .reading import (
    ACCESS_DENIED,
    CHUNK,
    CONNECT_SECONDS,
    IMAGE_SECONDS,
    NOT_FOUND,
    READ_SECONDS,
    TRIES,
    UNREACHABLE,
    collected,
)

_OK = (200, 206)
_BAD_RANGE = 416  # of an empty file
_REASONS = {401: ACCESS_DENIED, 403: ACCESS_DENIED, 404: NOT_FOUND, 410: NOT_FOUND}
#: Worth another try, after what ``Retry-After`` says.
_PASSING = (429, 500, 502, 503, 504)
_REDIRECTS = 5
#: Parameters that let whoever has the URL in: AWS's, Google's and Azure's signatures, and tokens.
_SECRET = re.compile(r"(x-\w+-)?(signature|credential|security-token)|sig|.*token|.*password|"
                     r".*secret|.*api[-_]?key", re.IGNORECASE)  # fmt: skip


def check(url: str) -> None:
    """Refuse a URL that is none, or that a manifest must not keep.

    Raises
    ------
    ArchiveError
        It holds credentials, or names no host. The message names the host only.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise ArchiveError("a URL of the list names no host")
    if parts.username or parts.password:
        raise ArchiveError(
            f"a URL of {host} holds a password, which the manifest would keep; put it into ~/.netrc"
        )
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET.fullmatch(name):
            raise ArchiveError(
                f"a URL of {host} is signed ({name}), which the manifest would keep; give s3:// "
                "URLs, or put a password into ~/.netrc"
            )


class Web:
    """Reads http(s) URLs; threads may share it.

    A host's password comes from ``~/.netrc`` (or the file that ``NETRC`` names) and goes out over
    https only.
    """

    def __init__(self) -> None:
        self._passwords = _passwords()
        self._pool = urllib3.PoolManager(
            headers={
                "user-agent": f"xrayedge/{version('xrayedge')}",
                "accept-encoding": "identity",
            },
            timeout=Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=Retry(
                total=None,
                connect=TRIES - 1,
                read=TRIES - 1,
                status=TRIES - 1,
                other=0,
                redirect=_REDIRECTS,
                status_forcelist=_PASSING,
                backoff_factor=0.2,
                raise_on_status=False,
            ),
        )

    def read(self, source: str, limits: Limits) -> tuple[bytes, datetime | None]:
        """The bytes behind a URL, and when they were last changed; see `Stores.read`."""
        until = time.monotonic() + IMAGE_SECONDS
        for tries_left in reversed(range(TRIES)):
            answer = self._ask(source)
            try:
                declared = answer.headers.get("content-length", "")
                if declared.isascii() and declared.isdigit():
                    limits.check_bytes(int(declared), source)
                return collected(_chunks(answer), source, limits, until), _modified(answer)
            except HTTPError as error:  # the connection broke in the middle
                if not tries_left or time.monotonic() > until:
                    raise _unreachable(source, error) from None
            finally:
                answer.close()
        raise AssertionError("the last try returns or raises")

    def probe(self, source: str) -> None:
        """Ask for the first byte; raises what `read` raises."""
        self._ask(source, {"range": "bytes=0-0"}).close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _ask(
        self, source: str, more: dict[str, str] | None = None
    ) -> urllib3.response.BaseHTTPResponse:
        headers = {**self._pool.headers, **self._password(source), **(more or {})}
        try:
            answer = self._pool.request("GET", source, headers=headers, preload_content=False)
        except LocationValueError:
            raise ImageError(f"{source}: not a URL", reason=NOT_FOUND) from None
        except HTTPError as error:
            raise _unreachable(source, error) from None
        if answer.status in _OK or answer.status == _BAD_RANGE:
            return answer
        answer.close()
        reason = _REASONS.get(answer.status, UNREACHABLE)
        raise ImageError(f"{source}: HTTP status {answer.status}", reason=reason)

    def _password(self, url: str) -> dict[str, str]:
        if self._passwords is None or not url.lower().startswith("https://"):
            return {}
        entry = self._passwords.authenticators(urlsplit(url).hostname or "")
        return make_headers(basic_auth=f"{entry[0]}:{entry[2]}") if entry else {}


def _chunks(answer: urllib3.response.BaseHTTPResponse) -> Iterator[bytes]:
    """Whatever has arrived, so that a slow server can't hold up the look at the clock."""
    while chunk := answer.read1(CHUNK):
        yield chunk


def _unreachable(source: str, error: HTTPError) -> ImageError:
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    said = {
        NameResolutionError: "its host has no address",
        NewConnectionError: "its host can't be reached",
        SSLError: "its host's certificate is not trusted",
    }.get(type(cause), type(cause).__name__)
    return ImageError(f"{source}: can't be read ({said})", reason=UNREACHABLE)


def _modified(answer: urllib3.response.BaseHTTPResponse) -> datetime | None:
    try:
        said = parsedate_to_datetime(answer.headers.get("last-modified", ""))
    except ValueError:
        return None
    return said if said.tzinfo else said.replace(tzinfo=timezone.utc)


def _passwords() -> netrc.netrc | None:
    path = os.environ.get("NETRC") or Path.home() / ".netrc"
    try:
        return netrc.netrc(path)
    except FileNotFoundError:
        return None
    except (OSError, netrc.NetrcParseError):  # its text may be a password
        raise ArchiveError(f"{path}: can't be read; mend it, or unset NETRC") from None
