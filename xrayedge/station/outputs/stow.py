"""`StowCarrier`: STOW-RS to one DICOMweb service (PS3.18, 10.5)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from ..config import Destination
from ..records import Send
from .delivery import Answer, PeerAway

_SECONDS = 60.0
_FAILED = "00081198"  # FailedSOPSequence
_BUSY = (408, 425, 429)


class StowCarrier:
    """Sends to one DICOMweb service, with a separate request for each object."""

    def __init__(self, destination: Destination) -> None:
        if destination.stow_url is None:
            raise ValueError("a destination without stow_url")
        self._url = destination.stow_url

    def send(self, sends: Sequence[Send], outbox: Path) -> Iterator[tuple[Send, Answer]]:
        """See `delivery.Carrier`."""
        with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
            for one in sends:
                path = outbox / one.file
                if not path.exists():
                    yield one, Answer("refused", "its file is missing")
                    continue
                yield one, self._store(client, path.read_bytes())

    def _store(self, client: httpx.Client, content: bytes) -> Answer:
        boundary = secrets.token_hex(16)
        body = (
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        try:
            response = client.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:  # its text may contain the address with a password
            raise PeerAway(f"can't be reached ({type(error).__name__})") from None
        return _judge(response)

    def ask_commitment(self, transaction_uid: str, sends: Sequence[Send]) -> None:
        """Unavailable: DICOMweb's answer to STOW is final."""
        raise PeerAway("DICOMweb has no storage commitment")

    def echo(self) -> str:
        """See `delivery.Carrier`."""
        try:
            with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
                status = client.get(self._url, params={"limit": "1"}).status_code
        except httpx.HTTPError as error:
            raise PeerAway(f"can't be reached ({type(error).__name__})") from None
        if status >= 400 and status != 405:  # a service may accept objects without listing any
            raise PeerAway(f"HTTP status {status}")
        return f"answers, HTTP status {status}"


def _judge(response: httpx.Response) -> Answer:
    """Read an answer: an object may be stored with a warning, or refused in spite of status 200."""
    said = f"HTTP status {response.status_code}"
    if response.status_code >= 500 or response.status_code in _BUSY:
        return Answer("busy", said)
    if response.status_code not in (200, 202):
        return Answer("refused", f"refused, {said}")
    if _names_a_failure(response):
        return Answer("refused", f"refused in its answer, {said}")
    return Answer("stored", None if response.status_code == 200 else f"stored, {said}")


def _names_a_failure(response: httpx.Response) -> bool:
    try:
        answer: Any = response.json()
    except ValueError:  # XML, or nothing
        return False
    if isinstance(answer, list):
        answer = answer[0] if answer else {}
    return isinstance(answer, dict) and bool(answer.get(_FAILED, {}).get("Value"))
