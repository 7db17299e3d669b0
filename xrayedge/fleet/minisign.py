"""Ed25519 signatures in minisign's file formats; `minisign -V` verifies what `sign` writes.

The formats are those of minisign's manual (https://jedisct1.github.io/minisign/). Only its current
algorithm ``ED`` is read and written: the key signs the BLAKE2b-512 digest of the file, and a second
signature covers the first and the trusted comment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FleetError

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
except ImportError as error:
    raise FleetError("signed models need the extra fleet: pip install 'xrayedge[fleet]'") from error

_KEY_ALGORITHM = b"Ed"
_SIGNATURE_ALGORITHM = b"ED"
_NO_KDF, _SCRYPT, _BLAKE2B = b"\0\0", b"Sc", b"B2"
_PUBLIC = struct.Struct("<2s8s32s")
_SECRET = struct.Struct("<2s2s2s32sQQ104s")
_SECRET_BODY = struct.Struct("<8s32s32s32s")  # key's number, seed, public key, checksum
_SIGNATURE = struct.Struct("<2s8s64s")
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "

#: A key or a signature is a few hundred bytes; more is neither.
_MAX_BYTES = 8192
#: What minisign itself uses for a password (libsodium's "sensitive"); anything larger is refused.
_MAX_SCRYPT_BYTES = 1 << 30


@dataclass(frozen=True)
class PublicKey:
    """A public key, which verifies signatures.

    Parameters
    ----------
    number
        8 bytes that identify the key.
    raw
        The Ed25519 public key, 32 bytes.
    """

    number: bytes
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the base64 line of a public key, alone or with the comment line above it.

        Raises
        ------
        FleetError
            It is not a minisign public key.
        """
        lines = [line for line in text.splitlines() if line.strip()]
        algorithm, number, raw = _unpack(_PUBLIC, lines[-1] if lines else "", "public key")
        if algorithm != _KEY_ALGORITHM:
            raise FleetError("not a minisign public key; give the file that ends in .pub")
        return cls(number, raw)

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read a ``.pub`` file; `FleetError` if it can't be read or is not a public key."""
        try:
            return cls.parse(_read_text(path))
        except FleetError as error:
            raise FleetError(f"{path}: {error}") from error

    @property
    def id(self) -> str:
        """The key's number as minisign prints it, 16 hexadecimal digits."""
        return f"{int.from_bytes(self.number, 'little'):016X}"

    def to_text(self) -> str:
        """The base64 line."""
        return _encode(_PUBLIC.pack(_KEY_ALGORITHM, self.number, self.raw))

    def to_file(self) -> str:
        """A ``.pub`` file's text."""
        return f"{_UNTRUSTED}minisign public key {self.id}\n{self.to_text()}\n"


@dataclass(frozen=True)
class SecretKey:
    """A secret key, which signs.

    Parameters
    ----------
    number
        The same as in its public key.
    seed
        The Ed25519 seed, 32 bytes.
    """

    number: bytes
    seed: bytes

    @classmethod
    def create(cls) -> SecretKey:
        """A new key from the operating system's random numbers."""
        return cls(secrets.token_bytes(8), secrets.token_bytes(32))

    @classmethod
    def read(cls, path: Path, password: str | None = None) -> SecretKey:
        """Read a minisign secret key file.

        Raises
        ------
        PasswordNeededError
            The key has a password, and none was given.
        FleetError
            It can't be read, is not a secret key, or the password is wrong.
        """
        lines = _read_text(path).splitlines()
        where = f"{path}: secret key"
        algorithm, kdf, checksum_algorithm, salt, operations, memory, body = _unpack(
            _SECRET, lines[1] if len(lines) > 1 else "", where
        )
        if algorithm != _KEY_ALGORITHM or checksum_algorithm != _BLAKE2B:
            raise FleetError(f"{path}: not a minisign secret key")
        if kdf == _SCRYPT:
            if password is None:
                raise PasswordNeededError(f"{path}: the key has a password")
            mask = _scrypt(password, salt, operations, memory)
            body = bytes(a ^ b for a, b in zip(body, mask, strict=True))
        elif kdf != _NO_KDF:
            raise FleetError(f"{path}: protected in a way that xrayedge does not know")
        number, seed, public, checksum = _SECRET_BODY.unpack(body)
        key = cls(number, seed)
        # minisign writes a checksum only where a password may be wrong.
        if kdf == _SCRYPT and not hmac.compare_digest(
            checksum, _key_checksum(number, seed, public)
        ):
            raise FleetError(f"{path}: wrong password")
        if key.public().raw != public:
            raise FleetError(f"{path}: the key is damaged")
        return key

    def public(self) -> PublicKey:
        """The public key that verifies its signatures."""
        return PublicKey(self.number, self._private().public_key().public_bytes_raw())

    def write(self, path: Path) -> None:
        """Write a new secret key file without a password, readable by its owner only.

        Raises
        ------
        FleetError
            The file exists already, or can't be written.
        """
        body = _SECRET_BODY.pack(self.number, self.seed, self.public().raw, bytes(32))
        packed = _SECRET.pack(_KEY_ALGORITHM, _NO_KDF, _BLAKE2B, bytes(32), 0, 0, body)
        text = f"{_UNTRUSTED}minisign secret key {self.public().id}\n{_encode(packed)}\n"
        _write_new(path, text, 0o600)

    def sign(self, content: bytes, comment: str) -> str:
        """The text of a ``.minisig`` file for ``content``; ``comment``, one line, is signed too."""
        if not comment.isprintable():
            raise FleetError(f"comment {comment!r}: not one line of printable characters")
        private = self._private()
        signature = private.sign(_digest(content))
        packed = _SIGNATURE.pack(_SIGNATURE_ALGORITHM, self.number, signature)
        over_both = private.sign(signature + comment.encode())
        return (
            f"{_UNTRUSTED}signature by key {self.public().id}\n{_encode(packed)}\n"
            f"{_TRUSTED}{comment}\n{_encode(over_both)}\n"
        )

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


class PasswordNeededError(FleetError):
    """A secret key has a password, and none was given."""


def write_public(key: PublicKey, path: Path) -> None:
    """Write a ``.pub`` file; `FleetError` if it exists already or can't be written."""
    _write_new(path, key.to_file(), 0o644)


def verify(content: bytes, signature: str, keys: Iterable[PublicKey]) -> PublicKey:
    """Verify the text of a ``.minisig`` file, including its trusted comment.

    Parameters
    ----------
    content
        The signed content.
    signature
        The text of the ``.minisig`` file.
    keys
        The trusted keys.

    Returns
    -------
    The key that signed.

    Raises
    ------
    FleetError
        The signature is damaged, not made by any of ``keys``, or not valid for this content and
        comment.
    """
    lines = signature.splitlines()
    if len(lines) != 4 or not lines[2].startswith(_TRUSTED):
        raise FleetError("damaged signature file; copy it again")
    algorithm, number, signed = _unpack(_SIGNATURE, lines[1], "signature")
    (over_both,) = _unpack(struct.Struct("64s"), lines[3], "signature")
    if algorithm != _SIGNATURE_ALGORITHM:
        raise FleetError("not a signature of a file's BLAKE2b digest; sign with minisign 0.10 on")
    # Whoever makes a key chooses its number: two trusted keys may share one.
    candidates = [key for key in keys if key.number == number]
    if not candidates:
        signer = PublicKey(number, b"").id
        raise FleetError(f"signed with the key {signer}, which this device does not trust")
    comment = lines[2].removeprefix(_TRUSTED).encode()
    for key in candidates:
        public = Ed25519PublicKey.from_public_bytes(key.raw)
        try:
            public.verify(signed, _digest(content))
            public.verify(over_both, signed + comment)
        except InvalidSignature:
            continue
        return key
    raise FleetError("the signature does not fit: altered or damaged; fetch it again")


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content).digest()


def _key_checksum(number: bytes, seed: bytes, public: bytes) -> bytes:
    return hashlib.blake2b(_KEY_ALGORITHM + number + seed + public, digest_size=32).digest()


def _scrypt(password: str, salt: bytes, operations: int, memory: int) -> bytes:
    """Libsodium's scrypt: N, r and p out of limits on operations and memory."""
    if memory > _MAX_SCRYPT_BYTES:
        raise FleetError("the secret key's password asks for more memory than minisign's keys do")
    block, operations = 8, max(operations, 32768)
    bounded_by_operations = operations < memory // 32
    most = operations // (block * 4) if bounded_by_operations else memory // (block * 128)
    log2 = 1
    while log2 < 63 and 1 << log2 <= most // 2:
        log2 += 1
    parallel = 1 if bounded_by_operations else min(operations // 4 >> log2, 0x3FFFFFFF) // block
    try:
        return hashlib.scrypt(
            password.encode(),
            salt=salt,
            n=1 << log2,
            r=block,
            p=max(1, parallel),
            maxmem=2 * _MAX_SCRYPT_BYTES - 2,  # the most that OpenSSL accepts
            dklen=_SECRET_BODY.size,
        )
    except ValueError as error:
        raise FleetError("the secret key is damaged: its password can't be checked") from error


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise FleetError(f"{path}: there already; a key is never overwritten") from error
    except OSError as error:
        raise FleetError(f"{path}: can't be written ({error.strerror})") from error
    try:
        with open(descriptor, "w", encoding="ascii") as stream:  # noqa: PTH123 - no path
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key, which the next attempt would refuse to replace
        raise FleetError(f"{path}: can't be written ({error.strerror})") from error


def _encode(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


def _unpack(layout: struct.Struct, line: str, what: str) -> tuple[Any, ...]:
    try:
        return layout.unpack(base64.b64decode(line.strip(), validate=True))
    except (binascii.Error, ValueError, struct.error) as error:
        raise FleetError(f"{what}: not in minisign's format, or damaged") from error


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise FleetError(f"{path}: can't be read ({error.strerror})") from error
    if len(content) > _MAX_BYTES:
        raise FleetError(f"{path}: too large for a minisign key")
    return content.decode(errors="replace")
