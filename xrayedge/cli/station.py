"""`station`: run and maintain a screening station."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import StationError
from ..files import write_atomically
from ..station.config import StationConfig, load_config
from ..station.store import Store
from .printing import messages, printable

if TYPE_CHECKING:
    from ..station.console.auth import Role

_NOT_THERE = 1
_DEFAULT_STATE = Path("xrayedge-station")


@click.group(invoke_without_command=True)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="station.toml; without it the station serves only browsers on this machine.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=_DEFAULT_STATE,
    show_default=True,
    metavar="DIR",
    help="Folder of the queue, the images and the results.",
)
@click.pass_context
def station(ctx: click.Context, config_path: Path | None, state: Path) -> None:
    """Run a screening station: receive images by DICOM or from a folder, send results to a PACS.

    Stops on SIGTERM or Ctrl-C when the current image is finished.
    """
    ctx.obj = (config_path, state)
    if ctx.invoked_subcommand is None:
        _require()
        _run(_config(config_path), state)


def _run(config: StationConfig, state: Path) -> None:
    from ..station.service import Station, open_state

    with ExitStack() as stack:
        running = Station(config, open_state(state, config, stack))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: running.request_stop())
        running.start()
        port, url = running.dicom_port, running.url
        messages.print(
            "station: ready"
            + (f", DICOM on port {port}" if port else "")
            + (f", console at {url}" if url else "")
        )
        running.run()
        messages.print("station: stopped")


@station.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Check the configuration, and echo every destination.

    Exit status: 0 all answer, 1 one doesn't, 2 the configuration is wrong.
    """
    import tempfile

    from ..station.console.server import check_console
    from ..station.inputs.dicom import DicomListener
    from ..station.service import check_destinations
    from ..station.state import StateFolder

    _require()
    config = _config(ctx.obj[0])
    with tempfile.TemporaryDirectory() as folder, StateFolder(Path(folder)) as state:
        check_console(config.console)
        if config.listen is not None:  # names and certificates
            DicomListener(config.listen, config.tls, config.destinations, state, "")
        found = check_destinations(config, state)
    for name, (there, said) in found.items():
        click.echo(f"{'ok  ' if there else 'FAIL'}  {name}: {said}")
    if not found:
        click.echo("the configuration is right; it names no destination")
    if not all(there for there, _ in found.values()):
        ctx.exit(_NOT_THERE)


@station.command()
@click.option("--retry", metavar="ID", multiple=True, help="Retry: J12 a job, S7 a send.")
@click.option("--drop", metavar="ID", multiple=True, help="Drop: J12 a job, S7 a send.")
@click.pass_context
def queue(ctx: click.Context, retry: tuple[str, ...], drop: tuple[str, ...]) -> None:
    """Show what is waiting, what failed and what was set aside; retry or drop it.

    Works while the station runs. Shows no patient data.
    """
    store = _store(ctx.obj[1])
    try:
        for chosen, of_job, of_send, done in (
            (retry, store.jobs.retry, store.sends.retry, "queued again"),
            (drop, store.jobs.drop, store.sends.drop, "dropped"),
        ):
            for one in chosen:
                kind, number = _id(one)
                if not (of_job if kind == "J" else of_send)(number):
                    raise StationError(f"{one}: nothing that can be {done}")
                store.audit.record("station queue", f"{done} {one.upper()}")
                click.echo(f"{one.upper()} {done}")
        if not retry and not drop:
            _show(store)
    finally:
        store.close()


def _show(store: Store) -> None:
    for state, count in sorted(store.jobs.counts().items()):
        click.echo(f"{count} jobs {state}")
    for job in store.jobs.search(states=("set-aside", "refused"), limit=100):
        click.echo(f"J{job.id}  {job.state}  {printable(job.detail or '')}")
    for send in store.sends.search(states=("queued", "failed")):
        detail = f"  {printable(send.detail)}" if send.detail else ""
        what = f"{send.kind} of J{send.job} to {send.destination}"
        click.echo(f"S{send.id}  {send.state}  {what}{detail}")


@station.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default="station.toml")
def init(path: Path) -> None:
    """Write a configuration with comments to PATH (station.toml), to be edited."""
    if path.exists():
        raise StationError(f"{path}: already exists; choose another name")
    try:
        write_atomically(path, TEMPLATE.encode())
    except OSError as error:
        raise StationError(f"{path}: can't be written ({error.strerror})") from None
    click.echo(f"{path} written; edit it, then: xrayedge station --config {path} check")


@station.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--user", required=True, metavar="NAME", help="Name of the console's user.")
@click.option(
    "--role",
    type=click.Choice(["reader", "operator", "admin"]),
    default="reader",
    show_default=True,
    help="A reader looks; an operator sends images too; an admin changes settings too.",
)
@click.option("--remove", is_flag=True, help="Remove the user instead.")
def password(path: Path, user: str, role: Role, remove: bool) -> None:
    """Set a user's password and role in PATH, the file of [console] password.

    A running console applies it at once; other sessions of this user end.
    """
    from ..station.console.auth import remove_user, set_password

    if remove:
        remove_user(path, user)
        click.echo(f"{user} removed from {path}")
        return
    given = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    set_password(path, user, role, given)
    click.echo(f"{user} may log in as {role}; [console] password = {str(path)!r}")


@station.group()
def audit() -> None:
    """The record of who changed what."""


@audit.command()
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Check that no entry was changed, removed or inserted."""
    store = _store(ctx.obj[1])
    try:
        click.echo(f"{store.audit.verify()} entries, none altered")
        for last in store.audit.newest(limit=1):
            click.echo(f"hash of the last one: {last.hash}")
    finally:
        store.close()


def _config(path: Path | None) -> StationConfig:
    return StationConfig() if path is None else load_config(path)


def _store(state: Path) -> Store:
    path = state / "station.db"
    if not path.is_file():
        raise StationError(f"{state}: no station has its state here; give its folder with --state")
    return Store(path)


def _id(text: str) -> tuple[str, int]:
    kind, number = text[:1].upper(), text[1:]
    if kind not in ("J", "S") or not number.isascii() or not number.isdigit():
        raise StationError(f"{text}: not an ID such as J12 or S7")
    return kind, int(number)


def _require() -> None:
    needed = ("pynetdicom", "highdicom", "httpx", "starlette", "uvicorn")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise StationError(f"a station needs {missing[0]}; pip install 'xrayedge[station]'")


TEMPLATE = """\
# A screening station. Research software, not a medical device.
# Start it:  xrayedge station --config station.toml --state /var/lib/xrayedge

[listen]                      # images by DICOM; without this table there is no DICOM listener
host = "127.0.0.1"            # "0.0.0.0" for every network of this machine
port = 11112
ae = "XRAYEDGE"
# Who may send. Required unless host is this machine's own.
allow = [
    # {ae = "UNIT1", host = "192.168.1.20"},
]
max_associations = 16
max_bytes = 512_000_000       # of one image

# [tls]                       # mutual TLS, for [listen] and for destinations with tls = true
# cert = "station.pem"
# key = "station.key"
# ca = "ca.pem"

# [[destination]]             # a PACS; may be given several times
# name = "pacs"
# host = "192.168.1.10"
# port = 4242
# ae = "ORTHANC"
# kinds = ["sr", "sc"]        # the report, the overlay
# tls = false
# commitment = false          # ask for storage commitment; the answer comes to [listen]

# [[destination]]             # a DICOMweb service
# name = "web"
# stow_url = "http://192.168.1.10:8042/dicom-web/studies"

# [folder]                    # a folder that a unit exports to; files are taken out of it
# path = "/data/inbox"
# pattern = "*"

[screen]
model = "vgg16-edge"
operating_point = "balanced"
timeout = 60                  # seconds for one image
min_age = 1                   # years; younger patients' images are refused
manufacturers = []            # if not empty, images of others are refused
station_names = []
refusals = "none"             # "sr": a refused image gets a report that says why

[console]                     # the browser's page
host = "127.0.0.1"            # any other address needs cert, key and password
port = 8765
# cert = "station.pem"
# key = "station.key"
# password = "users"          # written by: xrayedge station password users --user anna --role admin
# hosts = ["station.hospital"]  # names that browsers call this machine by
max_bytes = 128_000_000       # of one image that a browser sends

[keep]
days = 30                     # then deleted, once every destination has it; 0: kept for ever
free_mb = 500                 # nothing is received when the disk has less
events = 100_000              # the newest; older ones are deleted
"""
