"""Install a release from a file, an address, a memory stick or a bundle's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..bundle import MANIFEST
from ..errors import FleetError
from . import xeb
from .minisign import verify
from .source import fetch, fetch_keyring, is_address, look
from .store import Installed, Store


def install(store: Store, source: str, *, allow_unsigned: bool = False) -> Iterator[Installed]:
    """Install a release, or the newest of each model that a folder holds.

    A generator: each release is installed when the next item is asked for, so use up the iterator.

    Parameters
    ----------
    store
        Where to install.
    source
        A ``.xeb`` file or its address, a folder with such files and optionally a keyring, or a
        bundle's folder.
    allow_unsigned
        Accept a bundle without a signature, though never from an address.

    Yields
    ------
    Installed
        Each model, as soon as it is in use.

    Raises
    ------
    FleetError
        It was refused; see `Store.install`. What was yielded before stays installed.
    """
    folder = Path(source)
    if is_address(source) or not folder.is_dir():
        yield store.install(fetch(source), allow_unsigned=allow_unsigned)
        return
    if (folder / MANIFEST).is_file():
        if not allow_unsigned:
            raise FleetError(
                f"{folder}: a bundle's folder has no signature; --allow-unsigned installs it all "
                "the same"
            )
        yield store.install_folder(folder)
        return
    found = look(folder)
    if found.keyring is not None:
        store.follow(fetch_keyring(found.keyring))
    for path in _newest(store, found.releases):
        yield store.install(fetch(path), allow_unsigned=allow_unsigned)


def _newest(store: Store, paths: tuple[Path, ...]) -> list[Path]:
    """The release with the highest serial of each model, among those with a valid signature.

    If there is none, all the files: the attempt to install them reports what is wrong.
    """
    newest: dict[str, tuple[int, Path]] = {}
    for path in paths:
        release = _release(store, path)
        if release is not None:
            newest[release.name] = max(newest.get(release.name, (0, path)), (release.serial, path))
    return [path for _, path in newest.values()] or list(paths)


def _release(store: Store, path: Path) -> xeb.Release | None:
    try:
        offered = fetch(path)
        verify(offered.content, offered.signature or "", store.keyring().signers)
        return xeb.unpack(offered.content)[0]
    except FleetError:
        return None
