"""`Guard`: what is refused before any handler sees it, and the headers of every answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: How a socket of both IP versions writes an address of version 4 (RFC 4291, 2.5.5.2).
MAPPED = "::ffff:"

_SAFE_METHODS = ("GET", "HEAD")
_OWN_SITE = ("same-origin", "none")  # `none`: typed, or a bookmark
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_ADDED = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]


class Refusal(Exception):  # noqa: N818 - an answer
    """An answer that says what is wrong and what to do.

    Parameters
    ----------
    status
        Of HTTP.
    error, remedy
        A sentence each.
    retry_after
        Seconds after which the same may be granted.
    """

    def __init__(
        self, status: int, error: str, remedy: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.remedy = status, error, remedy
        self.retry_after = retry_after

    def response(self) -> JSONResponse:
        """The same as an answer."""
        wait = self.retry_after
        headers = {} if wait is None else {"retry-after": str(max(1, math.ceil(wait)))}
        content = {"error": self.error, "remedy": self.remedy}
        return JSONResponse(content, self.status, headers)


def not_found() -> Refusal:
    """The answer to an unknown address."""
    return Refusal(404, "There is nothing here.", "Begin at the console's first page.")


class Guard:
    """Refuses foreign host names and cross-site requests, and adds the headers.

    Parameters
    ----------
    app
        What answers.
    hosts
        Names that a browser may call the console by. Any port is right: a tunnel has its own. The
        address that a connection came in at is right too.
    report
        Called with a line on an unexpected error, without the request's content.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str], report: Callable[[str], None]
    ) -> None:
        self._app, self._report = app, report
        self._hosts = {host.casefold().rstrip(".") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_ADDED]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal.response()(scope, receive, with_headers)
            return
        try:
            await self._app(scope, receive, with_headers)
        except ClientDisconnect:
            return
        except Exception as error:  # it was answered with 500
            line = f"the console failed on {scope['method']} ({type(error).__name__})"
            await run_in_threadpool(self._report, line)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if not self._is_ours(host, scope):
            return Refusal(
                421,
                "The console is not called by this name.",
                "Use the address that it was started with, or add the name to [console] hosts.",
            )
        site = headers.get("sec-fetch-site", "none")
        safe = scope["method"] in _SAFE_METHODS
        # A link on another page may lead here; nothing else of another site's may.
        is_link = safe and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        foreign = site not in _OWN_SITE and not is_link
        origin = headers.get("origin")
        if not safe and origin is not None:
            foreign = foreign or urlsplit(origin).netloc.casefold() != host.casefold()
        if foreign:
            return Refusal(
                403,
                "Another site asked for this.",
                "Open the console's own page, and do it there.",
            )
        return None

    def _is_ours(self, host: str, scope: Scope) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if not name or "@" in host or "/" in host:
            return False
        reached = scope["server"][0].removeprefix(MAPPED)
        return name.rstrip(".") in self._hosts or name == reached
