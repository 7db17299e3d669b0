"""Settings that are changed while the station runs."""

from __future__ import annotations

from .audit import append_entry
from .database import Database
from .events import write_event
from .values import read_setting, write_setting


class Settings:
    """What the console may change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> str | None:
        """A setting that was changed while the station ran, such as ``operating_point``."""
        rows = self._database.rows("SELECT value FROM settings WHERE name = ?", name)
        return rows[0]["value"] if rows else None

    def change(self, name: str, value: str, who: str, default: str = "") -> None:
        """Change a setting and record it in the audit; ``default`` is the value until then."""
        with self._database.transaction() as sql:
            old = read_setting(sql, name) or default
            write_setting(sql, name, value)
            append_entry(sql, who, f"setting {name}", old, value)
            write_event(sql, "setting", None, f"{name} = {value}")
