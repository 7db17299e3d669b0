"""Models in the field: sign a bundle, install it safely, roll back. Needs the extra ``fleet``."""

from .installing import install
from .keyring import Keyring, sign_keyring
from .minisign import PasswordNeededError, PublicKey, SecretKey
from .signing import sign, write_keyring
from .source import Signed, fetch, fetch_keyring
from .store import Installed, Store

__all__ = [
    "Installed",
    "Keyring",
    "PasswordNeededError",
    "PublicKey",
    "SecretKey",
    "Signed",
    "Store",
    "fetch",
    "fetch_keyring",
    "install",
    "sign",
    "sign_keyring",
    "write_keyring",
]
