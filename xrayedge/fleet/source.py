"""Where a release comes from: a file, an address, a folder such as a memory stick, or a bundle."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..bundle import MANIFEST, ModelBundle
from ..errors import FleetError
from . import xeb
from .keyring import KEYRING
from .keyring import MAX_BYTES as MAX_KEYRING_BYTES

SIGNATURE_SUFFIX = ".minisig"
_MAX_SIGNATURE_BYTES = 8192
#: After this long without a byte, a download fails.
_TIMEOUT_SECONDS = 30.0
_SCHEMES = ("http", "https")


@dataclass(frozen=True)
class Signed:
    """A file's bytes and their claimed signature.

    Parameters
    ----------
    name
        Where they come from, for messages.
    content
        The file's bytes.
    signature
        The text of the ``.minisig`` beside it; ``None`` if there is none.
    """

    name: str
    content: bytes
    signature: str | None


@dataclass(frozen=True)
class Folder:
    """The releases and the keyring in a folder.

    Parameters
    ----------
    releases
        Its ``.xeb`` files.
    keyring
        Its ``keyring.json``, if it has one.
    """

    releases: tuple[Path, ...]
    keyring: Path | None


def is_address(source: str) -> bool:
    """Whether a source is a web address rather than a path.

    Raises
    ------
    FleetError
        It starts like an address, and is none.
    """
    try:
        return urllib.parse.urlsplit(source).scheme in _SCHEMES
    except ValueError as error:
        raise FleetError(f"{source}: not an address ({error})") from error


def fetch(source: str | Path, largest: int = xeb.MAX_BYTES) -> Signed:
    """The bytes of a file or an address, and those of ``SOURCE.minisig``.

    An address without a signature is refused: nobody could tell what was downloaded.

    Raises
    ------
    FleetError
        It can't be read, or is larger than ``largest`` bytes.
    """
    if isinstance(source, str) and is_address(source):
        parts = urllib.parse.urlsplit(source)
        beside = urllib.parse.urlunsplit(parts._replace(path=parts.path + SIGNATURE_SUFFIX))
        # The small file first: without it the large one is useless.
        signature = _download(beside, _MAX_SIGNATURE_BYTES)
        return Signed(source, _download(source, largest), signature.decode(errors="replace"))
    path = Path(source)
    beside_path = Path(f"{path}{SIGNATURE_SUFFIX}")
    text = None
    if beside_path.exists():
        text = _read(beside_path, _MAX_SIGNATURE_BYTES).decode(errors="replace")
    return Signed(str(path), _read(path, largest), text)


def fetch_keyring(source: str | Path) -> Signed:
    """A keyring and its signature; see `fetch`."""
    return fetch(source, MAX_KEYRING_BYTES)


def look(folder: Path) -> Folder:
    """The releases in a folder that is not a bundle; `FleetError` if there is nothing to use."""
    try:
        names = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise FleetError(f"{folder}: can't be read ({error.strerror})") from error
    keyring = folder / KEYRING
    releases = tuple(path for path in names if path.suffix == xeb.SUFFIX)
    if not releases and not keyring.is_file():
        raise FleetError(f"{folder}: holds neither a {xeb.SUFFIX} file nor {MANIFEST}")
    return Folder(releases, keyring if keyring.is_file() else None)


def read_bundle(folder: Path) -> dict[str, bytes]:
    """A bundle's files by name, checked against the manifest; `BundleError` if one differs."""
    bundle = ModelBundle.load(folder)
    files = {variant.file: bundle.read(variant) for variant in bundle.variants()}
    return {MANIFEST: _read(folder / MANIFEST, xeb.MAX_BYTES), **files}


def _read(path: Path, largest: int) -> bytes:
    try:
        if not path.is_file():  # reading a pipe could block for ever
            raise FleetError(f"{path}: there is no such file")
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
    except OSError as error:
        raise FleetError(f"{path}: can't be read ({error.strerror})") from error
    if len(content) > largest:
        raise FleetError(f"{path}: larger than the {largest} bytes that it may have")
    return content


def _download(address: str, largest: int) -> bytes:
    try:
        with _opener().open(address, timeout=_TIMEOUT_SECONDS) as response:
            content: bytes = response.read(largest + 1)
            length = response.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        raise FleetError(f"{address}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FleetError(f"{address}: can't be fetched ({reason})") from error
    if len(content) > largest:
        raise FleetError(f"{address}: larger than the {largest} bytes that it may have")
    if length is not None and length.isdigit() and len(content) != int(length):
        raise FleetError(f"{address}: broke off after {len(content)} bytes; try again")
    return content


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, through the proxies of the environment, and nothing else: no file, no FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
