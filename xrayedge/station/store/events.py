"""Events: what happened, in the order of their ids, for the console and other processes."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import date

from ...errors import StorageFullError
from ..records import Event
from .database import Database
from .values import read_setting, write_setting

#: Warnings that wait in memory while the disk is full; what comes after them is lost.
MOST_HELD = 1000


class Events:
    """The station's events; their ids only grow."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[tuple[str, int | None], float] = {}  # when each warning came
        self._holding = threading.RLock()

    def warn(self, detail: str, job: int | None = None) -> None:
        """Write an event of kind ``warning``; no patient's data may be in it.

        While the disk is full it waits in memory, the same warning only once. The next call after
        that writes it, or `write_held`.
        """
        with self._holding:
            self._held.setdefault((detail, job), time.time())
            try:
                self.write_held()
            except StorageFullError:
                if len(self._held) > MOST_HELD:
                    self._held.popitem()

    def write_held(self) -> None:
        """Write the warnings that wait for room on the disk.

        Raises
        ------
        StorageFullError
            There is still none; they go on waiting.
        """
        with self._holding:
            if not self._held:
                return
            with self._database.transaction() as sql:
                for (detail, job), at in self._held.items():
                    write_event(sql, "warning", job, detail, at)
            self._held.clear()

    def note_once_a_day(self, kind: str, detail: str, today: date) -> bool:
        """Write an event unless there was one of this kind today; returns whether it did."""
        with self._database.transaction() as sql:
            name = f"noted_{kind}"
            if read_setting(sql, name) == today.isoformat():
                return False
            write_setting(sql, name, today.isoformat())
            write_event(sql, kind, None, detail)
            return True

    def read(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with ids over ``after``, oldest first."""
        rows = self._database.rows(
            "SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", after, limit
        )
        return [Event(**dict(row)) for row in rows]

    def last(self) -> int:
        """The newest event's id; 0 where there is none."""
        return int(
            self._database.rows("SELECT coalesce(max(id), 0) AS last FROM events")[0]["last"]
        )

    def forget(self, kept: int) -> None:
        """Delete all events but the newest ``kept``; their ids are not reused."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (kept,))


def write_event(
    sql: sqlite3.Connection, kind: str, job: int | None, detail: str, at: float | None = None
) -> None:
    """Write an event in a transaction, of now or ``at``; no patient's data may be in it."""
    sql.execute(
        "INSERT INTO events (at, kind, job, detail) VALUES (?, ?, ?, ?)",
        (time.time() if at is None else at, kind, job, detail),
    )
