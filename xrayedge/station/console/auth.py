"""Who may do what on the console: users with scrypt hashes, sessions, and a limit on guesses.

A session lives in memory and ends with the process; only the hash of its token is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ...errors import StationError
from ...files import write_atomically

Role = Literal["reader", "operator", "admin"]
#: Each role includes the rights of those before it.
ROLES: tuple[Role, ...] = get_args(Role)

#: Seconds that a session lasts: a shift; and without a request.
SESSION_SECONDS, IDLE_SECONDS = 12 * 3600.0, 3600.0
LONGEST_PASSWORD, SHORTEST_PASSWORD = 1024, 8

# OWASP's password storage cheat sheet: N = 2^14, r = 8, p = 5 is as strong as its other settings
# and takes the least memory, 16 MB.
_N, _R, _P = 2**14, 8, 5
_LARGEST_N, _LARGEST_R, _LARGEST_P = 2**17, 16, 16
_SALT_BYTES, _DIGEST_BYTES = 16, 32
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_MAX_FILE_BYTES = 1_000_000
_MAX_SESSIONS = 256
_MAX_KEYS = 4096
_FORGET_AFTER = 900.0  # seconds after which failures are forgotten
_HEADING = (
    b"# Users of the console: name, role, scrypt hash. Written by `xrayedge station password`.\n"
)


@dataclass(frozen=True)
class Identity:
    """A user and this user's role."""

    user: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this user has the rights of a role."""
        return ROLES.index(self.role) >= ROLES.index(role)


#: The user if no password is set: whoever sits at this machine.
LOCAL = Identity("local", "admin")


@dataclass(frozen=True)
class _Hash:
    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def is_of(self, password: str) -> bool:
        made = _scrypt(password, self.n, self.r, self.p, self.salt)
        return hmac.compare_digest(made, self.digest)

    def __str__(self) -> str:
        return f"scrypt:{self.n}:{self.r}:{self.p}:{self.salt.hex()}:{self.digest.hex()}"


@dataclass(frozen=True)
class _User:
    identity: Identity
    hash: _Hash


def _scrypt(password: str, n: int, r: int, p: int, salt: bytes) -> bytes:
    memory = 128 * r * (n + p + 2) + (1 << 20)  # RFC 7914, 2, and some room
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=_DIGEST_BYTES,
    )  # fmt: skip


def _hashed(password: str) -> _Hash:
    salt = secrets.token_bytes(_SALT_BYTES)
    return _Hash(_N, _R, _P, salt, _scrypt(password, _N, _R, _P, salt))


def set_password(path: Path, name: str, role: Role, password: str) -> None:
    """Write a user's role and password hash to the users file, which is created if needed.

    Raises
    ------
    StationError
        The name, the password or the file can't be used.
    """
    if not _NAME.fullmatch(name):
        raise StationError(f"{name!r}: a user's name has 1 to 64 letters, digits or any of . _ @ -")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise StationError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    users = _read(path) if path.exists() else {}
    users[name] = _User(Identity(name, role), _hashed(password))
    _write(path, users)


def remove_user(path: Path, name: str) -> None:
    """Remove a user from the users file; `StationError` if there is no such user."""
    users = _read(path)
    if users.pop(name, None) is None:
        raise StationError(f"{path}: has no user {name!r}")
    _write(path, users)


def _write(path: Path, users: dict[str, _User]) -> None:
    lines = (f"{one.identity.user} {one.identity.role} {one.hash}\n" for one in users.values())
    before = os.umask(0o077)
    try:
        write_atomically(path, _HEADING + "".join(lines).encode())
    except OSError as error:
        raise StationError(f"{path}: can't be written ({error.strerror})") from None
    finally:
        os.umask(before)


def _read(path: Path) -> dict[str, _User]:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_FILE_BYTES)
        lines = content.decode().splitlines()
    except OSError as error:
        raise StationError(f"{path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise _damaged(path, 1) from None
    users = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            user = _parse(line)
            if user is None:
                raise _damaged(path, number)
            users[user.identity.user] = user
    return users


def _damaged(path: Path, number: int) -> StationError:
    return StationError(
        f"{path}: line {number} is not a user, a role and a scrypt hash; "
        "write the file with `xrayedge station password`"
    )


def _parse(line: str) -> _User | None:
    parts = line.split()
    role = next((one for one in ROLES if len(parts) == 3 and one == parts[1]), None)
    if role is None or not _NAME.fullmatch(parts[0]):
        return None
    try:
        kind, n, r, p, salt, digest = parts[2].split(":")
        made = _Hash(int(n), int(r), int(p), bytes.fromhex(salt), bytes.fromhex(digest))
    except ValueError:
        return None
    # A cost that would use up the machine's memory is a mistake or an attack.
    power_of_two = made.n > 1 and made.n & (made.n - 1) == 0
    fits = power_of_two and made.n <= _LARGEST_N and len(made.digest) == _DIGEST_BYTES
    fits = fits and 1 <= made.r <= _LARGEST_R and 1 <= made.p <= _LARGEST_P
    known = kind == "scrypt" and fits and len(made.salt) >= _SALT_BYTES
    return _User(Identity(parts[0], role), made) if known else None


class Users:
    """The users file, reloaded when it changes: a removed user is locked out at once.

    Raises
    ------
    StationError
        The file can't be read or names nobody. Once the console runs, log-ins fail instead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unknown = _hashed(secrets.token_hex())
        self._users = _read(path)
        if not self._users:
            raise StationError(f"{path}: names no user; add one with `xrayedge station password`")
        self._seen = self._look()

    def find(self, name: str) -> _User | None:
        """The user of this name, according to the current file."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._users = _read(self._path)
            except StationError:
                self._users = {}
        return self._users.get(name)

    def check(self, name: str, password: str) -> _User | None:
        """The user if the password is right; an unknown name takes as long as a known one."""
        user = self.find(name)
        right = (self._unknown if user is None else user.hash).is_of(password)
        return user if right else None

    def _look(self) -> tuple[int, int, int] | None:
        try:
            info = self._path.stat()
        except OSError:
            return None
        return info.st_mtime_ns, info.st_size, info.st_ino


class Attempts:
    """How long to wait after failures: not at all at first, then twice as long each time.

    Parameters
    ----------
    free
        Failures without a wait.
    longest
        Seconds.
    clock
        Seconds, which never go back.
    """

    def __init__(self, free: int, longest: float, clock: Callable[[], float]) -> None:
        self._free, self._longest, self._clock = free, longest, clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds until the next attempt is accepted; 0 for none."""
        failures, at = self._failures.get(key, (0, 0.0))
        if failures < self._free:
            return 0.0
        wait = min(2.0 ** min(failures - self._free, 30), self._longest)
        return max(0.0, at + wait - self._clock())

    def failed(self, key: str) -> None:
        """Count a failure."""
        failures, at = self._failures.pop(key, (0, 0.0))
        now = self._clock()
        self._failures[key] = (1 if now - at > _FORGET_AFTER else failures + 1, now)
        while len(self._failures) > _MAX_KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget the failures."""
        self._failures.pop(key, None)


class LoginRefused(Exception):  # noqa: N818 - an answer
    """The name or the password is wrong, or there were too many attempts.

    Parameters
    ----------
    wait
        Seconds until the next attempt is looked at; 0 where this one was.
    """

    def __init__(self, wait: float = 0.0) -> None:
        super().__init__()
        self.wait = wait


@dataclass
class _Session:
    user: _User
    began: float
    used: float


class Auth:
    """Sessions of users, safe to be shared by threads.

    Parameters
    ----------
    users
        Those who may log in; `None` where nobody needs to.
    clock
        Seconds, which never go back.
    """

    def __init__(self, users: Users | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._users, self._clock = users, clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._addresses = Attempts(5, 300.0, clock)
        # Guesses from many addresses; the wait is short, or anybody could shut out a user.
        self._names = Attempts(20, 30.0, clock)
        self._known: dict[str, tuple[_User, bytes]] = {}
        self._secret = secrets.token_bytes()
        self._lock = threading.Lock()

    @property
    def login_required(self) -> bool:
        """Whether a log-in is required."""
        return self._users is not None

    def identity(self, token: str | None, *, touch: bool = True) -> Identity | None:
        """The user of this session token; `touch` resets its idle time."""
        if self._users is None:
            return LOCAL
        if not token:
            return None
        key, now = _key(token), self._clock()
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            user = self._users.find(session.user.identity.user)
            ended = now - session.began > SESSION_SECONDS or now - session.used > IDLE_SECONDS
            if ended or user is None or user.hash != session.user.hash:
                del self._sessions[key]
                return None
            if touch:
                session.used = now
            return user.identity

    def check(self, name: str, password: str, address: str) -> Identity:
        """The user with this name and password; raises `LoginRefused`.

        A right answer is remembered, for programs that give them with each request: scrypt takes a
        good part of a second of a small machine.
        """
        assert self._users is not None
        given = f"{name}:{password}".encode("utf-8", "surrogatepass")
        proof = hmac.digest(self._secret, given, "sha256")
        with self._lock:
            known = self._known.get(name)
            user = self._users.find(name)
        if known is not None and user is not None:
            right = user.hash == known[0].hash and hmac.compare_digest(proof, known[1])
            if right:
                return user.identity
        user = self._checked(name, password, address)
        with self._lock:
            self._known[name] = (user, proof)
        return user.identity

    def log_in(self, name: str, password: str, address: str) -> tuple[str, Identity]:
        """A new session's token and its user; raises `LoginRefused`.

        The token is always generated here: one that a browser sends is never adopted.
        """
        user = self._checked(name, password, address)
        token, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._sessions[_key(token)] = _Session(user, now, now)
            while len(self._sessions) > _MAX_SESSIONS:
                oldest = min(self._sessions, key=lambda key: self._sessions[key].used)
                del self._sessions[oldest]
        return token, user.identity

    def log_out(self, token: str | None) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_key(token or ""), None)

    def _checked(self, name: str, password: str, address: str) -> _User:
        assert self._users is not None
        place = _network(address)
        with self._lock:
            wait = max(self._addresses.wait(place), self._names.wait(name))
        if wait:
            raise LoginRefused(wait)
        too_long = len(password) > LONGEST_PASSWORD
        user = self._users.check(name, "" if too_long else password)
        with self._lock:
            for attempts, key in ((self._addresses, place), (self._names, name)):
                (attempts.failed if user is None else attempts.succeeded)(key)
        if user is None:
            raise LoginRefused
        return user


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _network(address: str) -> str:
    """An IPv4 address, or the /64 network of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
