"""What is counted of the screenings: histograms by day, totals, and each unit's images."""

from __future__ import annotations

import json
import sqlite3
from datetime import date, timedelta
from typing import Any

from ..records import RECENT_IMAGES, REFERENCE_IMAGES, Measured, Unit
from .audit import append_entry
from .database import Database

#: Units whose images are counted separately. Names come from files; all further ones count as one.
MAX_UNITS = 64
OTHER_UNITS = "other units"
#: In `Measures.totals`: how long screening took.
TOTAL_SECONDS = "screening-seconds"


class Measures:
    """Counts, in which no image can be found again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def histograms(
        self, first_day: str, last_day: str, station: str | None = None
    ) -> dict[str, dict[int, int]]:
        """Counts of each bin of each measure, over days ``YYYY-MM-DD`` (both counted in)."""
        rows = self._database.rows(
            "SELECT measure, bin, sum(count) AS count FROM histograms"
            " WHERE day BETWEEN ? AND ? AND (? IS NULL OR station = ?) GROUP BY measure, bin",
            *(first_day, last_day, station, station),
        )
        found: dict[str, dict[int, int]] = {}
        for row in rows:
            found.setdefault(row["measure"], {})[row["bin"]] = row["count"]
        return found

    def daily(self, measure: str, first_day: str, last_day: str) -> dict[str, dict[int, int]]:
        """Counts of each bin of one measure on each day that has any, oldest first."""
        rows = self._database.rows(
            "SELECT day, bin, sum(count) AS count FROM histograms"
            " WHERE measure = ? AND day BETWEEN ? AND ? GROUP BY day, bin ORDER BY day, bin",
            *(measure, first_day, last_day),
        )
        found: dict[str, dict[int, int]] = {}
        for row in rows:
            found.setdefault(row["day"], {})[row["bin"]] = row["count"]
        return found

    def forget(self, days: int, today: date) -> None:
        """Delete the histograms of days more than ``days`` before today.

        Those of the newest ``days`` days that have any are kept, whatever the clock says.
        """
        with self._database.transaction() as sql:
            sql.execute(
                "DELETE FROM histograms WHERE day < ? AND day NOT IN ("
                " SELECT DISTINCT day FROM histograms ORDER BY day DESC LIMIT ?)",
                ((today - timedelta(days)).isoformat(), days),
            )

    def totals(self) -> dict[str, dict[int, float]]:
        """Counts of each bin of each measure since the database was made; they only grow.

        `TOTAL_SECONDS` has the seconds of all screenings in its bin 0.
        """
        found: dict[str, dict[int, float]] = {}
        for row in self._database.rows("SELECT measure, bin, value FROM totals"):
            found.setdefault(row["measure"], {})[row["bin"]] = row["value"]
        return found

    def units(self) -> list[Unit]:
        """Each unit's first and last images, the unit with the newest image first."""
        found: dict[str, tuple[str, list[Any], list[Any]]] = {}
        for row in self._database.rows("SELECT * FROM measured ORDER BY id DESC"):
            _, recent, reference = found.setdefault(row["station"], (row["model"], [], []))
            (reference if row["reference"] else recent).append(json.loads(row["bins"]))
        return [
            Unit(name, model, tuple(reversed(reference)), tuple(reversed(recent)))
            for name, (model, recent, reference) in found.items()
        ]

    def accept_images(self, station: str, who: str, least: int) -> bool:
        """Make a unit's recent images its reference from now on, and record that in the audit.

        Returns false, and changes nothing, if there are fewer than ``least``.
        """
        with self._database.transaction() as sql:
            recent = "station = ? AND NOT reference"
            images = sql.execute(
                f"SELECT count(*) FROM measured WHERE {recent}", (station,)
            ).fetchone()[0]
            if images < max(least, 1):
                return False
            sql.execute("DELETE FROM measured WHERE station = ? AND reference", (station,))
            sql.execute("UPDATE measured SET reference = 1 WHERE station = ?", (station,))
            append_entry(sql, who, "monitor: new reference", "", f"{station}: last {images} images")
            return True


def count_image(sql: sqlite3.Connection, day: str, one: Measured) -> None:
    """Count an image in a transaction."""
    station = one.station
    rows = sql.execute("SELECT DISTINCT station FROM measured").fetchall()
    if len(rows) >= MAX_UNITS and station not in [row["station"] for row in rows]:
        station = OTHER_UNITS
    sql.executemany(
        "INSERT INTO histograms (day, station, measure, bin, count) VALUES (?, ?, ?, ?, 1)"
        " ON CONFLICT DO UPDATE SET count = count + 1",
        [(day, station, measure, number) for measure, number in one.bins.items()],
    )
    grown = [(measure, number, 1.0) for measure, number in one.bins.items()]
    sql.executemany(
        "INSERT INTO totals (measure, bin, value) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [*grown, (TOTAL_SECONDS, 0, one.milliseconds / 1000.0)],
    )
    # Scores of two models can't be compared.
    sql.execute("DELETE FROM measured WHERE station = ? AND model <> ?", (station, one.model))
    first = sql.execute(
        "SELECT count(*) FROM measured WHERE station = ? AND reference", (station,)
    ).fetchone()[0]
    sql.execute(
        "INSERT INTO measured (station, model, reference, bins) VALUES (?, ?, ?, ?)",
        (station, one.model, first < REFERENCE_IMAGES, json.dumps(one.bins)),
    )
    sql.execute(
        "DELETE FROM measured WHERE station = ? AND NOT reference AND id <= ("
        " SELECT id FROM measured WHERE station = ? AND NOT reference"
        " ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (station, station, RECENT_IMAGES),
    )
