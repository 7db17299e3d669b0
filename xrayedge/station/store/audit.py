"""The audit: append-only, each entry chained to the one before."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time

from ...errors import StationError
from ..records import AuditCheck, AuditEntry
from .database import Database

_GENESIS = "0" * 64  # what the first entry is chained to


class Audit:
    """Who did what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, who: str, what: str, old: str = "", new: str = "") -> None:
        """Record an action in the audit, which is append-only."""
        with self._database.transaction() as sql:
            append_entry(sql, who, what, old, new)

    def entries(self, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Entries with ids over ``after``, oldest first."""
        rows = self._database.rows(
            "SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?", after, limit
        )
        return [AuditEntry(**dict(row)) for row in rows]

    def newest(self, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Entries with ids under ``before``, newest first."""
        last = 2**62 if before is None else before
        rows = self._database.rows(
            "SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?", last, limit
        )
        return [AuditEntry(**dict(row)) for row in rows]

    def check(self) -> AuditCheck:
        """Check the audit's chain: whether an entry was changed, removed or inserted."""
        previous, expected = _GENESIS, 1
        while entries := self.entries(after=expected - 1):
            for entry in entries:
                chained = _chained(previous, entry.at, entry.who, entry.what, entry.old, entry.new)
                if entry.id != expected or entry.hash != chained:
                    why = f"the audit was altered at entry {entry.id}"
                    return AuditCheck(expected - 1, entry.id, why)
                previous, expected = entry.hash, expected + 1
        given = self._database.rows("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")
        if given and given[0]["seq"] > expected - 1:
            return AuditCheck(expected - 1, expected, "entries are missing at the audit's end")
        return AuditCheck(expected - 1)

    def verify(self) -> int:
        """The number of the audit's entries, none of which was altered.

        Raises
        ------
        StationError
            One was; names the first that does not fit.
        """
        found = self.check()
        if found.first_bad is not None:
            raise StationError(f"{self._database.path}: {found.why}")
        return found.entries


def append_entry(sql: sqlite3.Connection, who: str, what: str, old: str, new: str) -> None:
    """Append an entry in a transaction."""
    last = sql.execute("SELECT hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    chained = _chained(_GENESIS if last is None else last["hash"], at, who, what, old, new)
    sql.execute(
        "INSERT INTO audit (at, who, what, old, new, hash) VALUES (?, ?, ?, ?, ?, ?)",
        (at, who, what, old, new, chained),
    )


def _chained(previous: str, *entry: str) -> str:
    return hashlib.sha256(json.dumps([previous, *entry]).encode()).hexdigest()
