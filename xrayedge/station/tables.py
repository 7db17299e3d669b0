"""`Table`: one table of a TOML file, read key by key, with a clear error for each wrong one."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from pathlib import Path
from typing import Any

from ..errors import StationError

_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")  # VR AE: no backslash, no control character
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")


class Table:
    """One table of the file. Its keys are taken one by one; any left over is a mistake."""

    def __init__(self, content: object, name: str, path: Path) -> None:
        self._name, self._path = name, path
        if not isinstance(content, dict):
            raise StationError(f"{path}: {name} must be a table")
        self._content: dict[str, Any] = dict(content)
        self._known: list[str] = []

    def fail(self, key: str, why: str) -> None:
        """Raise the error for a key."""
        where = f"[{self._name}] {key}" if self._name else key
        raise StationError(f"{self._path}: {where} {why}")

    def done(self) -> None:
        """Refuse keys that were not taken."""
        for key in self._content:
            close = difflib.get_close_matches(key, self._known, 1)
            hint = (
                f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(self._known)}"
            )
            where = f"[{self._name}] " if self._name else ""
            raise StationError(f"{self._path}: {where}unknown key {key!r}{hint}")

    def _take(self, key: str, default: Any, kind: type, article: str) -> Any:
        self._known.append(key)
        value = self._content.pop(key, default)
        if value is None:
            self.fail(key, "is missing")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, f"must be {article}")
        return value

    def table(self, key: str) -> Table | None:
        self._known.append(key)
        content = self._content.pop(key, None)
        return None if content is None else Table(content, key, self._path)

    def tables(self, key: str) -> list[Table]:
        entries = self._take(key, [], list, f"written as [[{key}]]")
        return [Table(entry, key, self._path) for entry in entries]

    def entries(self, key: str) -> list[Table]:
        entries = self._take(key, [], list, "a list of tables")
        return [Table(entry, f"{self._name}.{key}", self._path) for entry in entries]

    def text(self, key: str, default: str | None = None) -> str:
        value: str = self._take(key, default, str, "a text in quotes")
        if "\0" in value or (default is None and not value.strip()):
            self.fail(key, "must not be empty")
        return value

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        values = self._take(key, list(default), list, "a list of texts")
        if not all(isinstance(value, str) for value in values):
            self.fail(key, "must be a list of texts")
        return tuple(values)

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        value: int = self._take(key, default, int, "a whole number")
        if not low <= value <= high:
            self.fail(key, f"must be from {low} to {high}, not {value}")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value: float = self._take(key, default, float, "a number")
        if not math.isfinite(value) or not low <= value <= high:
            self.fail(key, f"must be from {low:g} to {high:g}, not {value:g}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value: bool = self._take(key, default, bool, "true or false")
        return value

    def ae(self, key: str, default: str | None = None) -> str:
        value = self.text(key, default).strip()
        if not _AE_TITLE.fullmatch(value):
            self.fail(key, "must be 1 to 16 characters of ASCII without a backslash")
        return value

    def host(self, key: str, default: str | None = None) -> str:
        value = self.text(key, default)
        if not _is_host(value):
            self.fail(key, f"{value!r} is neither an IP address nor a host name")
        return value

    def optional_host(self, key: str) -> str | None:
        if key in self._content:
            return self.host(key)
        self._known.append(key)
        return None

    def path(self, value: str) -> Path:
        return self._path.parent / Path(value).expanduser()

    def file(self, key: str) -> Path:
        path = self.path(self.text(key))
        if not path.is_file():
            self.fail(key, f"{path} is not a file")
        return path

    def optional_file(self, key: str) -> Path | None:
        if key in self._content:
            return self.file(key)
        self._known.append(key)
        return None


def _is_host(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        last = value.rstrip(".").rsplit(".", 1)[-1]
        # The last part of a name is not a number: 10.0.0.300 is a mistyped address.
        return _HOST_NAME.fullmatch(value) is not None and not last.isdigit()
    return True
