"""Named values in the table of settings, inside a transaction."""

from __future__ import annotations

import sqlite3


def read_setting(sql: sqlite3.Connection, name: str) -> str | None:
    """A value, or `None` where it was never written."""
    row = sql.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row["value"])


def write_setting(sql: sqlite3.Connection, name: str, value: str) -> None:
    """Write a value over the last one."""
    sql.execute(
        "INSERT INTO settings (name, value) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET value = excluded.value",
        (name, value),
    )


def service_day(sql: sqlite3.Connection) -> int:
    """Days in service so far."""
    return int(read_setting(sql, "service_days") or 0)
