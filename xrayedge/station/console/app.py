"""`create_app`: the console's application and its error answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from ...errors import StationError
from .api import Api
from .guard import Guard, Refusal, not_found


def create_app(api: Api, hosts: Sequence[str], report: Callable[[str], None]) -> ASGIApp:
    """The application that a server runs.

    Parameters
    ----------
    api
        What answers.
    hosts, report
        See `guard.Guard`.
    """
    app = Starlette(
        routes=api.routes(),
        exception_handlers={
            HTTPException: _http_error,
            Refusal: _refused,
            StationError: _unavailable,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return Guard(app, hosts=hosts, report=report)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return not_found().response()
    refusal = Refusal(error.status_code, f"{error.detail}.", "See docs/station.md, Console API.")
    response = refusal.response()
    response.headers.update(error.headers or {})
    return response


async def _unavailable(_request: Request, _error: Exception) -> Response:
    return Refusal(
        503, "The station's database can't be used now.", "Try again.", retry_after=5
    ).response()


async def _failed(_request: Request, _error: Exception) -> Response:
    return Refusal(
        500, "The console failed.", "Try again; see the station's events for the cause."
    ).response()
