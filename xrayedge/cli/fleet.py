"""Verbs of `models` for signed models, for manufacturers and for devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from ..errors import FleetError
from .printing import messages, results

if TYPE_CHECKING:
    from ..fleet import Installed, PublicKey, SecretKey, Store

_FILE = click.Path(path_type=Path, dir_okay=False)


def _secret_key(path: Path) -> SecretKey:
    from ..fleet import PasswordNeededError, SecretKey

    try:
        return SecretKey.read(path)
    except PasswordNeededError:
        return SecretKey.read(path, click.prompt(f"Password of {path}", hide_input=True, err=True))


def _public_keys(paths: tuple[Path, ...]) -> tuple[PublicKey, ...]:
    from ..fleet import PublicKey

    return tuple(PublicKey.read(path) for path in paths)


def _store() -> Store:
    from ..fleet import Store

    return Store()


@click.command("new-key")
@click.argument("path", type=_FILE)
def new_key(path: Path) -> None:
    """Make a key in minisign's format: the secret one at PATH, the public one at PATH.pub.

    The secret key has no password: keep it offline. `minisign -G` makes a key with a password.
    """
    from ..fleet import SecretKey
    from ..fleet.minisign import write_public

    key = SecretKey.create()
    key.write(path)
    public = path.with_name(path.name + ".pub")
    write_public(key.public(), public)
    messages.print(f"{path}, {public}: key {key.public().id}")


@click.command("sign")
@click.argument("bundle")
@click.option("--key", required=True, type=_FILE, help="A minisign secret key.")
@click.option("--out", type=_FILE, show_default="NAME-VERSION.xeb here")
@click.option(
    "--serial",
    type=click.IntRange(min=1),
    show_default="seconds since 1970",
    help="Must be higher than that of every earlier release of this model.",
)
def sign(bundle: str, key: Path, out: Path | None, serial: int | None) -> None:
    """Make one signed file from BUNDLE, with its signature in FILE.minisig beside it."""
    from ..fleet import sign as sign_bundle

    path = sign_bundle(bundle, _secret_key(key), out, serial=serial)
    messages.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, signed")


@click.command("keyring")
@click.option("--key", required=True, type=_FILE, help="The secret key of a root.")
@click.option("--serial", required=True, type=click.IntRange(min=1), help="Higher than before.")
@click.option(
    "--root", "roots", multiple=True, required=True, type=_FILE, help="May sign keyrings."
)
@click.option("--release", "releases", multiple=True, type=_FILE, help="May sign releases.")
@click.option(
    "--revoke", "revoked", multiple=True, type=_FILE, help="A key that may no longer sign."
)
@click.option("--out", type=_FILE, default=Path("keyring.json"))
def keyring(
    key: Path,
    serial: int,
    roots: tuple[Path, ...],
    releases: tuple[Path, ...],
    revoked: tuple[Path, ...],
    out: Path,
) -> None:
    """Write the public keys (.pub) that devices trust from now on, signed by a root."""
    from ..fleet import Keyring, write_keyring

    keys = Keyring(serial, _public_keys(roots), _public_keys(releases), _public_keys(revoked))
    write_keyring(keys, _secret_key(key), out)
    messages.print(f"{out}: keyring {serial}, signed")


@click.command("trust")
@click.argument("source")
def trust(source: str) -> None:
    """Trust a root's public key (K.pub), or adopt a keyring that a trusted root signed.

    SOURCE is a file, or a keyring's address.
    """
    from ..fleet import fetch_keyring

    store = _store()
    if source.endswith(".pub"):
        (key,) = _public_keys((Path(source),))
        store.pin(key)
        messages.print(f"trusted: key {key.id}")
    else:
        serial = store.follow(fetch_keyring(source)).serial
        messages.print(f"trusted: the keys of keyring {serial}")


@click.command("install")
@click.argument("source")
@click.option("--trust", "roots", multiple=True, type=_FILE, help="Trust this public key first.")
@click.option("--allow-unsigned", is_flag=True, help="Also install a bundle without a signature.")
def install(source: str, roots: tuple[Path, ...], allow_unsigned: bool) -> None:
    """Verify, test and switch to the release at SOURCE: a file, an address, or a folder.

    From a folder with signed files, such as a memory stick, the keyring is adopted first, then
    the newest release of each model is installed. If anything is wrong, nothing changes.

    Exit status: 0 installed, 2 refused.
    """
    from ..fleet import install as install_from

    store = _store()
    for root in _public_keys(roots):
        store.pin(root)
    for installed in install_from(store, source, allow_unsigned=allow_unsigned):
        messages.print(f"installed: {_in_words(installed)}")


@click.command("rollback")
@click.argument("name")
def rollback(name: str) -> None:
    """Go back to the model NAME that was in use before; its release file is not needed."""
    from ..bundle import ModelBundle

    bundle = ModelBundle.load(_store().rollback(name))
    messages.print(f"in use: {bundle.name} {bundle.version}")


@click.command("verify")
@click.argument("name")
def verify(name: str) -> None:
    """Verify every byte of the installed model NAME against its signature.

    Exit status: 0 as signed, 2 altered, unsigned, or signed by a key that is no longer trusted.
    """
    messages.print(f"as signed: {_in_words(_store().verify(name))}")


def print_installed() -> None:
    """A table of what is installed; empty if nothing is."""
    try:
        installed = _store().installed()
    except FleetError as error:  # without the extra nothing can be installed
        messages.print(f"xrayedge: {error}")
        return
    table = Table("installed", "version", "serial", "signed by", "")
    for one in installed:
        in_use = "in use" if one.in_use else ""
        signer = "not verified" if one.fault else one.signer or "nobody"
        table.add_row(one.name, one.version, str(one.serial or ""), signer, in_use)
    results.print(table)
    for one in installed:
        if one.fault:
            messages.print(f"xrayedge: {one.fault}")


def _in_words(installed: Installed) -> str:
    by = f"signed by {installed.signer}" if installed.signer else "unsigned"
    serial = f", serial {installed.serial}" if installed.serial else ""
    return f"{installed.name} {installed.version}{serial}, {by}"
