"""What is old, and which files are still wanted."""

from __future__ import annotations

from datetime import date

from ..records import Forgotten
from .database import Database
from .events import write_event
from .values import read_setting, service_day, write_setting


class Retention:
    """Deletes what has been delivered and is old."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count_day(self, today: date) -> int:
        """Count a day in service, once for each change of date; returns the number of days so far.

        Deletion uses this count: a clock that jumps by years counts as one day.
        """
        with self._database.transaction() as sql:
            days = service_day(sql)
            if read_setting(sql, "last_day") != today.isoformat():
                days += 1
                write_setting(sql, "last_day", today.isoformat())
                write_setting(sql, "service_days", str(days))
            return days

    def forget_old(self, days: int, now: float) -> Forgotten:
        """Delete jobs older than ``days`` whose objects have reached every destination.

        A job is old where both the clock at ``now`` and the days counted in service say so, and
        is not the newest. Their files are the caller's to delete; what it can't is found by
        `known_files` at the next start.
        """
        with self._database.transaction() as sql:
            rows = sql.execute(
                "SELECT id, file FROM jobs WHERE state IN ('done', 'refused') AND received_at < ?"
                " AND service_day < ? AND id < (SELECT max(id) FROM jobs) AND NOT EXISTS ("
                "  SELECT 1 FROM sends JOIN objects ON objects.id = sends.object"
                "  WHERE objects.job = jobs.id AND (sends.state IN ('queued', 'failed')"
                "   OR (sends.state = 'sent' AND sends.commitment)))",
                (now - days * 86_400.0, service_day(sql) - days),
            ).fetchall()
            objects: list[str] = []
            for row in rows:
                files = sql.execute("SELECT file FROM objects WHERE job = ?", (row["id"],))
                objects += [one["file"] for one in files]
                sql.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))
            if rows:
                write_event(sql, "deleted", None, f"{len(rows)} jobs older than {days} days")
            return Forgotten(
                jobs=tuple(row["id"] for row in rows),
                images=tuple(row["file"] for row in rows),
                objects=tuple(objects),
            )

    def known_files(self) -> set[str]:
        """Names of every file that a job or an object has."""
        rows = self._database.rows("SELECT file FROM jobs UNION ALL SELECT file FROM objects")
        return {row["file"] for row in rows}
