"""`Sessions`: identifies the user of a request; the routes to log in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..store import Store
from .asking import address, basic, texts
from .auth import SESSION_SECONDS, Auth, Identity, LoginRefused, Role
from .guard import Refusal

_T = TypeVar("_T")

_MOST_LOGINS = 8  # that wait for their turn: each takes 16 MB and a good part of a second


class Sessions:
    """The session cookie and the checks based on it.

    Parameters
    ----------
    auth
        Who may do what.
    store
        Where the audit is.
    secure
        Whether browsers connect by HTTPS.
    """

    def __init__(self, auth: Auth, store: Store, *, secure: bool) -> None:
        self._auth, self._store, self._secure = auth, store, secure
        # With the prefix a browser takes the cookie from this very host by HTTPS alone.
        self._cookie = "__Host-xrayedge" if secure else "xrayedge"
        self._turn, self._waiting = asyncio.Semaphore(1), 0

    def token(self, request: Request) -> str | None:
        """The session's token that a request brings."""
        return request.cookies.get(self._cookie)

    def require(self, request: Request, role: Role) -> Identity:
        """The user, who must have at least this role; raises `Refusal` otherwise."""
        identity = self._auth.identity(self.token(request))
        if identity is None:
            raise Refusal(401, "You are not logged in, or your session has ended.", "Log in.")
        if not identity.may(role):
            raise Refusal(
                403, f"Your role, {identity.role}, may not do this.", "Ask your administrator."
            )
        return identity

    async def require_program(self, request: Request) -> Identity:
        """A reader, by the cookie or by name and password in each request (HTTP Basic)."""
        given = basic(request)
        if given is None or not self._auth.login_required:
            return self.require(request, "reader")
        return await self._in_turn(self._auth.check, *given, address(request))

    async def session(self, request: Request) -> Response:
        """Who asks."""
        identity = self._auth.identity(self.token(request))
        return JSONResponse(
            {
                "user": identity and identity.user,
                "role": identity and identity.role,
                "login_required": self._auth.login_required,
            }
        )

    async def log_in(self, request: Request) -> Response:
        """Begin a session; the browser's previous one is ended."""
        asked = await texts(request, "user", "password")
        if not self._auth.login_required:
            raise Refusal(409, "This console has no log-in.", "Set [console] password to add one.")
        token = await self._in_turn(
            self._log_in, asked["user"], asked["password"], address(request)
        )
        self._auth.log_out(self.token(request))
        response = Response(status_code=204)
        response.set_cookie(
            self._cookie,
            token,
            max_age=int(SESSION_SECONDS),
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        self._auth.log_out(self.token(request))
        response = Response(status_code=204)
        response.delete_cookie(self._cookie, secure=self._secure, httponly=True, samesite="strict")
        return response

    async def _in_turn(self, check: Callable[[str, str, str], _T], *asked: str) -> _T:
        """Check a password, one at a time; raises `Refusal` if it is wrong."""
        if self._waiting >= _MOST_LOGINS:
            raise _too_many(1.0)
        self._waiting += 1
        try:
            async with self._turn:
                return await run_in_threadpool(check, *asked)
        except LoginRefused as refused:
            if refused.wait:
                raise _too_many(refused.wait) from None
            raise Refusal(
                401, "The name or the password is wrong.", "Try again, or ask your administrator."
            ) from None
        finally:
            self._waiting -= 1

    def _log_in(self, user: str, password: str, address: str) -> str:
        token, identity = self._auth.log_in(user, password, address)
        self._store.audit.record(identity.user, "logged in")
        return token


def _too_many(wait: float) -> Refusal:
    return Refusal(429, "Too many log-ins have failed.", "Wait, then try again.", retry_after=wait)
