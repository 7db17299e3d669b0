"""Make a release from a bundle: the manufacturer's side."""

from __future__ import annotations

import time
from pathlib import Path

from ..bundle import ModelBundle
from ..errors import FleetError
from ..files import write_atomically
from . import xeb
from .keyring import Keyring, sign_keyring
from .minisign import SecretKey
from .source import SIGNATURE_SUFFIX, read_bundle


def sign(
    model: str | Path, key: SecretKey, out: Path | None = None, *, serial: int | None = None
) -> Path:
    """Write a bundle as one file, and its signature beside it.

    Parameters
    ----------
    model
        A shipped bundle's name or a bundle's folder.
    key
        Signs it.
    out
        The file; by default ``NAME-VERSION.xeb`` here. The signature is ``OUT.minisig``.
    serial
        Must be higher than in earlier releases of this model; by default the seconds since 1970
        according to this workstation's clock. No device compares it with its own clock.

    Returns
    -------
    The file's path.

    Raises
    ------
    BundleError
        There is no such bundle, or one of its files has been altered.
    FleetError
        It has no golden vectors, so no device could test it; ``serial`` is less than 1; or the
        file can't be written.
    """
    bundle = ModelBundle.load(model)
    untried = [variant.file for variant in bundle.variants() if not variant.golden]
    if untried:
        raise FleetError(f"{bundle.folder}: no golden vectors of {untried[0]}; convert it again")
    serial = int(time.time()) if serial is None else serial
    release = xeb.Release(bundle.name, bundle.version, serial)
    content = xeb.pack({**read_bundle(bundle.folder), xeb.RELEASE: release.to_bytes()})
    path = out or Path(f"{release.name}-{release.version}{xeb.SUFFIX}")
    comment = f"xrayedge {release.name} {release.version} serial {release.serial}"
    _write(path, content, key.sign(content, comment))
    return path


def write_keyring(keyring: Keyring, root: SecretKey, path: Path) -> None:
    """Write a keyring, and its signature to ``PATH.minisig``.

    Raises
    ------
    FleetError
        See `keyring.sign_keyring`; or the files can't be written.
    """
    _write(path, *sign_keyring(keyring, root))


def _write(path: Path, content: bytes, signature: str) -> None:
    try:
        write_atomically(path, content)
        write_atomically(path.with_name(path.name + SIGNATURE_SUFFIX), signature.encode())
    except OSError as error:
        raise FleetError(f"{path}: can't be written ({error.strerror})") from error
