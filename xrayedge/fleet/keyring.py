"""Which keys a device trusts: roots, the release keys that roots authorise, and revoked keys.

A root is pinned on the device by hand. A keyring, signed by a root, replaces roots and release keys
and adds to the revoked ones. That needs neither a network nor a clock: its serial only increases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import FleetError
from .minisign import PublicKey, SecretKey, verify

FORMAT_VERSION = 1
KEYRING = "keyring.json"

#: A keyring of a hundred keys takes about 10 kB.
MAX_BYTES = 100_000


@dataclass(frozen=True)
class Keyring:
    """Keys, grouped by what they may sign.

    Parameters
    ----------
    serial
        Increases with every keyring; 0 if there are only pinned roots.
    roots
        May sign keyrings and releases.
    releases
        May sign releases.
    revoked
        May not sign anything any more, even if listed elsewhere. Identified by the key itself: its
        number can be chosen freely.
    """

    serial: int = 0
    roots: tuple[PublicKey, ...] = ()
    releases: tuple[PublicKey, ...] = ()
    revoked: tuple[PublicKey, ...] = ()

    @property
    def valid_roots(self) -> tuple[PublicKey, ...]:
        """Roots that are not revoked."""
        return tuple(key for key in self.roots if not self.is_revoked(key))

    @property
    def signers(self) -> tuple[PublicKey, ...]:
        """Keys whose releases are accepted."""
        return tuple(key for key in self.roots + self.releases if not self.is_revoked(key))

    def is_revoked(self, key: PublicKey) -> bool:
        """Whether this key has been revoked."""
        return any(key.raw == other.raw for other in self.revoked)

    def pin(self, root: PublicKey) -> Keyring:
        """Add a root; `FleetError` if it is revoked."""
        if self.is_revoked(root):
            raise FleetError(f"the key {root.id} is revoked; it can't be trusted again")
        return self if root in self.roots else replace(self, roots=(*self.roots, root))

    def follow(self, content: bytes, signature: str) -> Keyring:
        """The keyring that replaces this one.

        Parameters
        ----------
        content, signature
            The contents of a keyring's file and of its ``.minisig``.

        Raises
        ------
        FleetError
            It is not signed by a root of this keyring, is older, or would leave no root.
        """
        verify(content, signature, self.valid_roots)
        new = Keyring.from_bytes(content)
        if new.serial < self.serial or (new.serial == self.serial and not self._repeats(new)):
            raise FleetError(
                f"an older keyring: serial {new.serial}, and this device has {self.serial}"
            )
        merged = replace(new, revoked=_unique(self.revoked + new.revoked))
        if not merged.valid_roots:
            raise FleetError("a keyring that leaves no root: the device could never get another")
        return merged

    def to_bytes(self) -> bytes:
        """The content of a keyring's file."""
        keys = {
            what: [key.to_text() for key in getattr(self, what)]
            for what in ("roots", "releases", "revoked")
        }
        values = {"format_version": FORMAT_VERSION, "serial": self.serial, **keys}
        return json.dumps(values, indent=2).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Keyring:
        """Read the output of `to_bytes`; `FleetError` for anything else."""
        try:
            values: Any = json.loads(content)
            if values["format_version"] != FORMAT_VERSION:
                raise FleetError("a keyring of a newer format: update xrayedge on the device")
            serial = values["serial"]
            if isinstance(serial, bool) or not isinstance(serial, int) or serial < 0:
                raise ValueError(f"serial is {serial!r}")
            return cls(serial, *(_keys(values[what]) for what in ("roots", "releases", "revoked")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FleetError("not a keyring, or a damaged one") from error

    def _repeats(self, new: Keyring) -> bool:
        return self == replace(new, revoked=_unique(self.revoked + new.revoked))


def sign_keyring(keyring: Keyring, root: SecretKey) -> tuple[bytes, str]:
    """Make a keyring's file and the text of its ``.minisig``.

    Raises
    ------
    FleetError
        It has no serial, or revokes every root.
    """
    if keyring.serial < 1:
        raise FleetError("a keyring's serial is a whole number from 1 on")
    if not keyring.valid_roots:
        raise FleetError("a keyring needs a root that it does not revoke")
    content = keyring.to_bytes()
    return content, root.sign(content, f"xrayedge keyring serial {keyring.serial}")


def _keys(lines: list[str]) -> tuple[PublicKey, ...]:
    return tuple(PublicKey.parse(line) for line in lines)


def _unique(keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    return tuple(dict.fromkeys(keys))
