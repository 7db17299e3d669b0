"""Models in the field: sign a bundle, install it safely, go back. Needs the extra ``fleet``."""

from .keyring import Keyring, sign_keyring
from .minisign import PasswordNeededError, PublicKey, SecretKey
from .sign import sign
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
    "sign",
    "sign_keyring",
]
