"""A device's models: slots on disk, one of them in use, with rollback.

    STORE/trust.json                    keys that this device trusts
    STORE/NAME/current -> slots/...     the slot in use; switched by one rename
    STORE/NAME/state.json               highest serial, order of slots, first run
    STORE/NAME/slots/SERIAL-VERSION-ID  a bundle's folder, and its signature

Every file is synced before the rename that activates it, so a power cut at any moment leaves either
the old slot in use, or the new one, complete and examined.
"""

from __future__ import annotations

import fcntl
import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..bundle import ModelBundle, shipped_bundles
from ..errors import FleetError, XrayEdgeError
from ..files import sync_folder, write_atomically
from ..installed import LINK, SIGNATURE_FILE, UNSIGNED_FILE, models_folder
from ..shipped import shipped_folder
from . import source, xeb
from .disk import remove, write_synced
from .examine import examine
from .keyring import Keyring
from .minisign import PublicKey, verify
from .source import Signed
from .state import State
from .xeb import Release

_TRUST, _STATE, _SLOTS, _LOCK = "trust.json", "state.json", "slots", ".lock"
_RELEASE_FILE = ".release.json"
_REMEDY = "install the model again"


@dataclass(frozen=True)
class Installed:
    """A bundle in a slot.

    Parameters
    ----------
    name, version
        Of the model.
    serial, signer
        Of its release, and the id of the key that signed it; ``None`` if it is unsigned.
    folder
        The slot, a bundle's folder.
    in_use
        Whether the model's name refers to this slot.
    fault
        Why the slot can't be used now, such as an altered file or a key that is no longer trusted;
        ``None`` if it can.
    """

    name: str
    version: str
    serial: int | None
    signer: str | None
    folder: Path
    in_use: bool
    fault: str | None = None


class Store:
    """Installs, switches and checks models in one folder.

    Parameters
    ----------
    root
        The folder; by default ``XRAYEDGE_MODELS``, or ``xrayedge/models`` of the user's data.
    check
        Called with a new bundle's folder before it is used; raises `FleetError` if the device can't
        run it. By default ``doctor`` in a separate process.
    """

    def __init__(
        self, root: Path | None = None, *, check: Callable[[Path], None] = examine
    ) -> None:
        self.root = root or models_folder()
        self._check = check

    # Trust

    def keyring(self) -> Keyring:
        """The keys that this device trusts."""
        path = self.root / _TRUST
        try:
            return Keyring.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return Keyring()
        except OSError as error:
            raise FleetError(f"{path}: can't be read ({error.strerror})") from error
        except FleetError as error:
            raise FleetError(
                f"{path}: {error}. If it is damaged, remove it and trust the root key again"
            ) from error

    def pin(self, root: PublicKey) -> None:
        """Trust a root key from now on; `FleetError` if it is revoked."""
        with self._locked():
            self._write(self.root / _TRUST, self.keyring().pin(root).to_bytes())

    def follow(self, offered: Signed) -> Keyring:
        """Adopt a keyring that a trusted root signed; see `Keyring.follow`.

        If the slot in use was signed by a key that is now revoked, the model goes back to a valid
        slot. If the device has none, the slot stays in use until the next release: no model at all
        would be worse.
        """
        if offered.signature is None:
            raise FleetError(f"{offered.name}: no signature ({source.SIGNATURE_SUFFIX}) beside it")
        with self._locked():
            try:
                keyring = self.keyring().follow(offered.content, offered.signature)
            except FleetError as error:
                raise FleetError(f"{offered.name}: {error}") from error
            self._write(self.root / _TRUST, keyring.to_bytes())
            for name in self._names():
                slot = self._current(name)
                if slot is not None and not self._is_good(slot):
                    self._go_back(name)
        return keyring

    # Installing

    def install(self, offered: Signed, *, allow_unsigned: bool = False) -> Installed:
        """Verify a release, unpack and examine it, and switch to it.

        Raises
        ------
        FleetError
            It is not signed by a key that this device trusts, is older than what was installed
            before, is damaged, or does not run on this device. The slot in use stays in use.
        """
        try:
            signer = self._signer(offered, allow_unsigned)
            release, files = xeb.unpack(offered.content)
            if signer is None:
                return self._install_unsigned(release.name, release.version, files)
            with self._locked():
                if signer not in self.keyring().signers:  # revoked while another process installed
                    raise FleetError(f"signed with the key {signer.id}, which is no longer trusted")
                state = self._state(release.name)
                digest = hashlib.blake2b(offered.content).hexdigest()
                if release.serial < state.serial:
                    raise FleetError(
                        f"serial {release.serial} is older than {state.serial}, which was "
                        "installed here; `xrayedge models rollback` goes back"
                    )
                if release.serial == state.serial and digest != state.digest:
                    raise FleetError(f"serial {release.serial} was installed with other contents")
                extra = {
                    _RELEASE_FILE: release.to_bytes(),
                    SIGNATURE_FILE: (offered.signature or "").encode(),
                }
                current = self._current(release.name)
                if current is not None and self._holds(current, release):
                    self._prune(release.name, state)
                    return self._describe(current)
                state = replace(state, serial=release.serial, digest=digest)
                prefix = str(release.serial)
                return self._put(release.name, release.version, prefix, {**files, **extra}, state)
        except FleetError as error:
            raise FleetError(f"{offered.name}: {error}") from error

    def install_folder(self, folder: Path) -> Installed:
        """Install an unsigned bundle from its folder; the caller has checked that it is wanted."""
        bundle = ModelBundle.load(folder)
        Release(bundle.name, bundle.version, 1)  # checks that the names can be used in a path
        return self._install_unsigned(bundle.name, bundle.version, source.read_bundle(folder))

    def _install_unsigned(self, name: str, version: str, files: dict[str, bytes]) -> Installed:
        with self._locked():
            marked = {**files, UNSIGNED_FILE: b""}
            return self._put(name, version, "unsigned", marked, self._state(name))

    def _signer(self, offered: Signed, allow_unsigned: bool) -> PublicKey | None:
        if offered.signature is not None:
            return verify(offered.content, offered.signature, self.keyring().signers)
        if allow_unsigned:
            return None
        raise FleetError(
            f"no signature ({source.SIGNATURE_SUFFIX}) beside it; --allow-unsigned installs it "
            "all the same"
        )

    def _put(
        self, name: str, version: str, prefix: str, files: dict[str, bytes], state: State
    ) -> Installed:
        """Write a slot, examine it and switch to it; the caller holds the lock."""
        slots, current = self.root / name / _SLOTS, self._current(name)
        # A new name: a damaged slot in use is replaced by another, never overwritten.
        token = secrets.token_hex(4)
        slot, incoming = f"{prefix}-{version}-{token}", slots / f".incoming-{token}"
        try:
            incoming.mkdir(parents=True)
            for file, content in files.items():
                write_synced(incoming / file, content)
            sync_folder(incoming)
            bundle = ModelBundle.load(incoming)
            if (bundle.name, bundle.version) != (name, version):
                raise FleetError(
                    f"the release is of {name} {version}, its manifest of {bundle.name} "
                    f"{bundle.version}"
                )
            for variant in bundle.variants():
                bundle.read(variant)
            self._check(incoming)
            incoming.rename(slots / slot)
            sync_folder(slots)
            before = self._before(state, current) + ((current.name,) if current else ())
            state = replace(state, history=(*before, slot), first_run=slot, started=False)
            self._write_state(name, state)
            self._switch(name, slot)
        except OSError as error:
            raise FleetError(f"{slots}: can't be written ({error.strerror})") from error
        except XrayEdgeError as error:
            raise error if isinstance(error, FleetError) else FleetError(str(error)) from error
        finally:
            remove(incoming)
        self._prune(name, state)
        return self._describe(slots / slot)

    # Using

    def installed(self) -> tuple[Installed, ...]:
        """Every slot of every model, by name, then oldest first."""
        return tuple(
            self._listed(name, slot)
            for name in self._names()
            for slot in sorted(self._slots(name), key=lambda slot: (slot.stat().st_mtime, slot))
        )

    def serial(self, name: str) -> int:
        """The highest serial of a model that was ever installed here, or 0."""
        return self._state(name).serial

    def start(self, name: str) -> Path:
        """The folder to load a model from, for a program that runs it for a long time.

        Checks the slot's signature. If that fails, or the slot's first run was started but never
        confirmed (`confirm`), the previous slot is used instead, or without one the bundle of this
        name in the package.

        Raises
        ------
        FleetError
            There is no usable model of this name.
        """
        with self._locked():
            state, slot = self._state(name), self._current(name)
            if slot is not None:
                failed = state.first_run == slot.name and state.started
                if failed or not self._is_good(slot):
                    self._go_back(name)
                    slot = self._current(name)
                elif state.first_run == slot.name:
                    self._write_state(name, replace(state, started=True))
            if slot is not None and self._is_good(slot):
                return slot
        shipped = shipped_folder(name)
        if shipped is not None:
            return shipped
        raise FleetError(f"no model {name!r} is installed that may be used; {_REMEDY}")

    def confirm(self, name: str) -> None:
        """Record that the first run of the model that `start` returned succeeded.

        A release that was installed since then has not run yet; nothing is recorded of it.
        """
        with self._locked():
            state = self._state(name)
            if state.started:
                self._write_state(name, replace(state, first_run=None, started=False))

    def rollback(self, name: str) -> Path:
        """Go back to the slot before the one in use, or to the bundle in the package.

        Raises
        ------
        FleetError
            There is nothing to go back to.
        """
        with self._locked():
            if self._current(name) is None:
                raise FleetError(f"{name!r} is not installed; there is nothing to go back from")
            if not self._go_back(name):
                raise FleetError(f"{name}: there is no earlier model to go back to")
            found = self._current(name) or shipped_folder(name)
            if found is None:
                raise FleetError(f"{name}: there is no earlier model to go back to")
            return found

    def verify(self, name: str) -> Installed:
        """Verify the signature of the slot in use against its files as they are now.

        Raises
        ------
        FleetError
            It is not installed, is unsigned or altered, or its key is no longer trusted.
        """
        slot = self._current(name)
        if slot is None:
            raise FleetError(f"{name!r} is not installed")
        self._verify_slot(slot, self.keyring().signers)
        return self._describe(slot)

    # Inside

    def _go_back(self, name: str) -> bool:
        """Switch to the last valid slot before the one in use, or else to the package's bundle.

        Returns whether there was one. The slot that was left is never returned to.
        """
        state, current = self._state(name), self._current(name)
        before = self._before(state, current)
        while before and not self._is_good(self.root / name / _SLOTS / before[-1]):
            before = before[:-1]
        if before:
            self._switch(name, before[-1])
        elif name in shipped_bundles():
            (self.root / name / LINK).unlink(missing_ok=True)
            sync_folder(self.root / name)
        else:
            return False
        # After the switch: if power fails in between, the history still names the slot in use.
        self._write_state(name, replace(state, history=before, first_run=None, started=False))
        return True

    def _holds(self, slot: Path, release: Release) -> bool:
        """Whether a slot holds exactly this release, complete."""
        if not self._is_good(slot) or (slot / UNSIGNED_FILE).is_file():
            return False
        return (slot / _RELEASE_FILE).read_bytes() == release.to_bytes()

    def _is_good(self, slot: Path) -> bool:
        """Whether a slot is complete, and signed by a trusted key or accepted unsigned."""
        try:
            if (slot / UNSIGNED_FILE).is_file():
                bundle = ModelBundle.load(slot)
                for variant in bundle.variants():
                    bundle.read(variant)
            else:
                self._verify_slot(slot, self.keyring().signers)
        except (XrayEdgeError, OSError):
            return False
        return True

    def _verify_slot(self, slot: Path, keys: tuple[PublicKey, ...]) -> PublicKey:
        """Rebuild the signed file from the content of the slot."""
        if (slot / UNSIGNED_FILE).is_file():
            raise FleetError(f"{slot}: installed without a signature")
        try:
            files = source.read_bundle(slot)
            files[xeb.RELEASE] = (slot / _RELEASE_FILE).read_bytes()
            signature = (slot / SIGNATURE_FILE).read_text(encoding="utf-8", errors="replace")
            return verify(xeb.pack(files), signature, keys)
        except OSError as error:
            raise FleetError(f"{slot}: can't be read ({error.strerror}); {_REMEDY}") from error
        except XrayEdgeError as error:
            raise FleetError(f"{slot}: {error}") from error

    def _describe(self, slot: Path) -> Installed:
        bundle = ModelBundle.load(slot)
        serial, signer = None, None
        if not (slot / UNSIGNED_FILE).is_file():
            serial = Release.from_bytes((slot / _RELEASE_FILE).read_bytes()).serial
            keyring = self.keyring()
            signer = self._verify_slot(slot, keyring.signers + keyring.revoked).id
        in_use = self._current(bundle.name) == slot
        return Installed(bundle.name, bundle.version, serial, signer, slot, in_use)

    def _listed(self, name: str, slot: Path) -> Installed:
        """`_describe`, also of a slot that is damaged or whose key is no longer trusted."""
        try:
            return self._describe(slot)
        except (XrayEdgeError, OSError) as error:
            serial, _, version = slot.name.rpartition("-")[0].partition("-")
            known = int(serial) if serial.isdecimal() else None
            return Installed(
                name, version, known, None, slot, self._current(name) == slot, str(error)
            )

    def _names(self) -> list[str]:
        return sorted(path.parent.name for path in self.root.glob(f"*/{_SLOTS}"))

    def _slots(self, name: str) -> list[Path]:
        folder = self.root / name / _SLOTS
        return [slot for slot in folder.iterdir() if not slot.name.startswith(".")]

    def _current(self, name: str) -> Path | None:
        try:
            target = (self.root / name / LINK).readlink()
        except OSError:
            return None
        return self.root / name / _SLOTS / target.name

    def _before(self, state: State, current: Path | None) -> tuple[str, ...]:
        """Slots that were in use before the current one, oldest first."""
        if current is None or current.name not in state.history:
            return ()
        return state.history[: state.history.index(current.name)]

    def _switch(self, name: str, slot: str) -> None:
        folder = self.root / name
        temporary = folder / f".{LINK}-{secrets.token_hex(4)}"
        temporary.symlink_to(Path(_SLOTS) / slot)
        temporary.replace(folder / LINK)
        sync_folder(folder)

    def _prune(self, name: str, state: State) -> None:
        """Remove all slots but the one in use and the one before, and leftovers of power cuts."""
        current = self._current(name)
        kept = {current.name if current else "", *self._before(state, current)[-1:]}
        for path in (self.root / name / _SLOTS).iterdir():
            if path.name not in kept:
                remove(path)
        for path in (self.root / name).glob(".*"):
            path.unlink(missing_ok=True)

    def _state(self, name: str) -> State:
        return State.read(self.root / name / _STATE)

    def _write_state(self, name: str, state: State) -> None:
        self._write(self.root / name / _STATE, state.to_bytes())

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_atomically(path, content)
            sync_folder(path.parent)
        except OSError as error:
            raise FleetError(f"{path}: can't be written ({error.strerror})") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the store: only one process at a time changes it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            stream = (self.root / _LOCK).open("ab")
        except OSError as error:
            raise FleetError(f"{self.root}: can't be written ({error.strerror})") from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
