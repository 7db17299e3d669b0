"""Parse what a request contains; each mistake is a `Refusal`."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import datetime, timezone

from starlette.requests import Request

from .guard import MAPPED, Refusal

_MAX_JSON_BYTES = 10_000
_JSON_SECONDS = 10.0
_MOST_DIGITS = 18  # fits into SQLite's integers


def address(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host.removeprefix(MAPPED) if request.client else ""


def basic(request: Request) -> tuple[str, str] | None:
    """Name and password of HTTP Basic (RFC 7617), if they are given."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (name, password) if colon else None


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number from the query."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not _is_number(text) or not low <= int(text) <= high:
        raise Refusal(400, f"{name} is not a number from {low} to {high}.", "Mend the address.")
    return int(text)


def last_event(request: Request) -> int | None:
    """The last event that a page has seen, if it names one."""
    text = request.headers.get("last-event-id", "")
    return int(text) if _is_number(text) else None


def instant(request: Request, name: str) -> float | None:
    """A time from the query, ISO 8601, in seconds since 1970; UTC if it names no zone."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00").replace(" ", "+"))
        if found.tzinfo is None:
            found = found.replace(tzinfo=timezone.utc)
        return found.timestamp()
    except (ValueError, OverflowError):
        raise Refusal(400, f"{name} is not a time.", "Write it as 2026-01-31T08:00:00Z.") from None


async def texts(request: Request, *names: str) -> dict[str, str]:
    """The strings under these names in a small JSON object."""

    async def body() -> bytes:
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > _MAX_JSON_BYTES:
                raise Refusal(413, "The body is too large.", "Send less.")
        return bytes(content)

    try:
        found = json.loads(await asyncio.wait_for(body(), _JSON_SECONDS))
        values = {name: found[name] for name in names}
    except asyncio.TimeoutError:
        raise Refusal(408, "The body arrives too slowly.", "Send it again.") from None
    except (ValueError, RecursionError, KeyError, TypeError):
        values = {}
    if not values or not all(isinstance(value, str) for value in values.values()):
        raise Refusal(
            400, f"The body must be JSON with {' and '.join(names)}.", "See docs/station.md."
        )
    return values


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
