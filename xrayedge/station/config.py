"""`StationConfig`: the content of ``station.toml``, checked before anything starts."""

from __future__ import annotations

import ipaddress
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from ..bundle import DEFAULT_MODEL
from ..errors import StationError
from .tables import Table

ObjectKind = Literal["sr", "sc"]
Refusals = Literal["none", "sr"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOPBACK_NAMES = ("localhost", "localhost.")
_MAX_CONFIG_BYTES = 1_000_000
_LEAST_EVENTS = 1000  # a page that was away asks for half as many


@dataclass(frozen=True)
class Peer:
    """A unit that may send: its AE title, and the address it connects from (`None`: any)."""

    ae: str
    host: str | None = None


@dataclass(frozen=True)
class TlsConfig:
    """Certificate, key and certificate authority of mutual TLS, all PEM files."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class ListenConfig:
    """Where DICOM is received.

    Parameters
    ----------
    host, port, ae
        Address and application entity title of the station.
    allow
        Who may connect; may be empty if only this machine can connect.
    max_associations
        Largest number of simultaneous connections; further ones are refused.
    max_bytes
        Largest dataset of one image.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    ae: str = "XRAYEDGE"
    allow: tuple[Peer, ...] = ()
    max_associations: int = 16
    max_bytes: int = 512_000_000


@dataclass(frozen=True)
class Destination:
    """Where results are sent.

    Parameters
    ----------
    name
        Its name in the queue and the console.
    host, port, ae
        Of a DICOM peer; empty, 0 and empty if ``stow_url`` is set.
    kinds
        The objects to send: ``sr``, the report; ``sc``, the overlay.
    tls
        Whether to connect by TLS with the files of ``[tls]``.
    commitment
        Whether to request storage commitment from the peer.
    stow_url
        Of a DICOMweb service, such as ``http://pacs:8042/dicom-web/studies``.
    """

    name: str
    host: str = ""
    port: int = 0
    ae: str = ""
    kinds: tuple[ObjectKind, ...] = ("sr", "sc")
    tls: bool = False
    commitment: bool = False
    stow_url: str | None = None


@dataclass(frozen=True)
class ConsoleConfig:
    """Where the browser's page is served.

    Parameters
    ----------
    enabled
        Whether the page is served.
    host, port
        Its address; any but this machine's own requires ``cert``, ``key`` and ``password``.
    cert, key
        PEM files for HTTPS.
    password
        A file that holds the password's scrypt hash.
    hosts
        Further host names that a browser may use, besides ``host``.
    max_bytes
        Largest image that a browser may send.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 8765
    cert: Path | None = None
    key: Path | None = None
    password: Path | None = None
    hosts: tuple[str, ...] = ()
    max_bytes: int = 128_000_000  # a detector of 8,000 x 8,000 pixels of 16 bits


@dataclass(frozen=True)
class ScreenConfig:
    """How an image is screened.

    Parameters
    ----------
    model, operating_point, site
        See `screening.Screener`; ``site`` is a site profile's file.
    timeout
        Seconds for one image.
    threads
        Processor threads.
    min_age
        Years; an image whose tags say that the patient is younger is refused.
    manufacturers, station_names
        If not empty, an image whose tags name none of these is refused.
    refusals
        ``sr`` sends a report that says why an image was refused; ``none`` sends nothing.
    """

    model: str = DEFAULT_MODEL
    operating_point: str = "balanced"
    site: Path | None = None
    timeout: float = 60.0
    threads: int = 1
    min_age: float = 1.0  # the model card: children under one year are out of scope
    manufacturers: tuple[str, ...] = ()
    station_names: tuple[str, ...] = ()
    refusals: Refusals = "none"


@dataclass(frozen=True)
class FolderConfig:
    """A folder that a unit exports to.

    Parameters
    ----------
    path
        The folder. Files are moved out of it.
    pattern
        File names to take, as a shell pattern.
    every
        Seconds between two scans.
    patience
        Seconds without a change after which a file that can't be read is refused; until then it
        counts as an upload that has stalled.
    """

    path: Path
    pattern: str = "*"
    every: float = 1.0
    patience: float = 600.0


@dataclass(frozen=True)
class KeepConfig:
    """How long results are kept, and how much disk space must stay free.

    Parameters
    ----------
    days
        Days after which images and results are deleted, once every destination has them; `None`
        keeps them for ever.
    free_mb
        Free megabytes on the disk below which nothing more is received.
    events
        So many of the newest events are kept, whatever the clock says.
    """

    days: int | None = 30
    free_mb: int = 500
    events: int = 100_000


@dataclass(frozen=True)
class StationConfig:
    """The whole configuration; the default serves the console alone."""

    listen: ListenConfig | None = None
    tls: TlsConfig | None = None
    destinations: tuple[Destination, ...] = ()
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    folder: FolderConfig | None = None
    keep: KeepConfig = field(default_factory=KeepConfig)


def load_config(path: Path) -> StationConfig:
    """Read and check a configuration. Relative paths in it are relative to its folder.

    Raises
    ------
    StationError
        The file is missing, not TOML, or has a wrong key or value, which the message names.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise StationError(f"{path}: too large for a configuration")
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise StationError(f"{path}: can't be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StationError(f"{path}: not TOML ({error})") from None
    return parse_config(content, path)


def parse_config(content: dict[str, Any], path: Path) -> StationConfig:
    """Make a configuration from TOML tables; `path` is its file, for messages and relative paths.

    Raises the same errors as `load_config`.
    """
    top = Table(content, "", path)
    listen = top.table("listen")
    tls = top.table("tls")
    folder = top.table("folder")
    config = StationConfig(
        listen=None if listen is None else _listen(listen),
        tls=None if tls is None else _tls(tls),
        destinations=tuple(map(_destination, top.tables("destination"))),
        console=_console(top.table("console") or Table({}, "console", path)),
        screen=_screen(top.table("screen") or Table({}, "screen", path)),
        folder=None if folder is None else _folder(folder),
        keep=_keep(top.table("keep") or Table({}, "keep", path)),
    )
    top.done()
    _check_together(config, path)
    return config


def _check_together(config: StationConfig, path: Path) -> None:
    names = [one.name for one in config.destinations]
    for name in names:
        if names.count(name) > 1:
            raise StationError(f"{path}: two destinations are called {name!r}")
    for one in config.destinations:
        if one.tls and config.tls is None:
            raise StationError(f"{path}: destination {one.name!r} wants TLS; add a table [tls]")
        if one.commitment and config.listen is None:
            raise StationError(
                f"{path}: destination {one.name!r} wants storage commitment, whose answer comes "
                "to the station's own port; add a table [listen]"
            )
    console = config.console
    secured = console.cert and console.key and console.password
    if console.enabled and not is_loopback(console.host) and not secured:
        raise StationError(
            f"{path}: [console] host {console.host!r} is open to the network; "
            "set cert, key and password, or use 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES


def _listen(table: Table) -> ListenConfig:
    default = ListenConfig()
    listen = ListenConfig(
        host=table.host("host", default.host),
        port=table.integer("port", default.port, 1, 65535),
        ae=table.ae("ae", default.ae),
        allow=tuple(
            Peer(entry.ae("ae"), entry.optional_host("host")) for entry in table.entries("allow")
        ),
        max_associations=table.integer("max_associations", default.max_associations, 1, 1000),
        max_bytes=table.integer("max_bytes", default.max_bytes, 1_000, 4_000_000_000),
    )
    if not listen.allow and not is_loopback(listen.host):
        table.fail("allow", f"is empty, and {listen.host} is open to the network; list the units")
    table.done()
    return listen


def _tls(table: Table) -> TlsConfig:
    tls = TlsConfig(table.file("cert"), table.file("key"), table.file("ca"))
    table.done()
    return tls


def _destination(table: Table) -> Destination:
    name = table.text("name")
    if not _NAME.fullmatch(name):
        table.fail("name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
    kinds = table.texts("kinds", ("sr", "sc"))
    if not kinds or not set(kinds) <= set(get_args(ObjectKind)):
        table.fail("kinds", 'must list "sr", "sc" or both')
    chosen: tuple[ObjectKind, ...] = tuple(kind for kind in get_args(ObjectKind) if kind in kinds)
    url = table.text("stow_url", "") or None
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            table.fail("stow_url", "must begin with http:// or https:// and a host")
        destination = Destination(name, kinds=chosen, stow_url=url)
    else:
        destination = Destination(
            name,
            host=table.host("host"),
            port=table.integer("port", None, 1, 65535),
            ae=table.ae("ae"),
            kinds=chosen,
            tls=table.flag("tls", False),
            commitment=table.flag("commitment", False),
        )
    table.done()
    return destination


def _console(table: Table) -> ConsoleConfig:
    default = ConsoleConfig()
    console = ConsoleConfig(
        enabled=table.flag("enabled", default.enabled),
        host=table.host("host", default.host),
        port=table.integer("port", default.port, 0, 65535),
        cert=table.optional_file("cert"),
        key=table.optional_file("key"),
        password=table.optional_file("password"),
        hosts=table.texts("hosts", ()),
        max_bytes=table.integer("max_bytes", default.max_bytes, 1_000, 512_000_000),
    )
    if (console.cert is None) != (console.key is None):
        table.fail("cert", "and key belong together")
    table.done()
    return console


def _screen(table: Table) -> ScreenConfig:
    default = ScreenConfig()
    refusals = table.text("refusals", default.refusals)
    if refusals not in ("none", "sr"):
        table.fail("refusals", 'must be "none" or "sr"')
    screen = ScreenConfig(
        model=table.text("model", default.model),
        operating_point=table.text("operating_point", default.operating_point),
        site=table.optional_file("site"),
        timeout=table.number("timeout", default.timeout, 0.1, 86_400.0),
        threads=table.integer("threads", default.threads, 1, 1024),
        min_age=table.number("min_age", default.min_age, 0.0, 150.0),
        manufacturers=table.texts("manufacturers", ()),
        station_names=table.texts("station_names", ()),
        refusals="sr" if refusals == "sr" else "none",
    )
    table.done()
    return screen


def _folder(table: Table) -> FolderConfig:
    path = table.path(table.text("path"))
    default = FolderConfig(path)
    folder = FolderConfig(
        path=path,
        pattern=table.text("pattern", default.pattern),
        every=table.number("every", default.every, 0.05, 3600.0),
        patience=table.number("patience", default.patience, 0.0, 86_400.0),
    )
    if "/" in folder.pattern:
        table.fail("pattern", "matches names inside the folder and can't hold a slash")
    table.done()
    return folder


def _keep(table: Table) -> KeepConfig:
    default = KeepConfig()
    days = table.integer("days", default.days or 0, 0, 36_500)
    keep = KeepConfig(
        days or None,
        table.integer("free_mb", default.free_mb, 0, 10_000_000),
        table.integer("events", default.events, _LEAST_EVENTS, 100_000_000),
    )
    table.done()
    return keep
