"""An archive of two real screenings and of what they are made to be, for tests of its readers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from xrayedge import Screener, Screening
from xrayedge.archive.plan import Plan, open_plan
from xrayedge.archive.rows import File, failed_row, part, row
from xrayedge.archive.settings import Settings
from xrayedge.archive.shard import part_path
from xrayedge.archive.sources import open_input
from xrayedge.imaging import Limits

SHARD = 200
DAY = datetime(2023, 5, 17, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Screened:
    """What the rows are made of."""

    chest: Screening
    leg: Screening
    settings: Settings

    @classmethod
    def of(cls, chest: Path, leg: Path) -> Screened:
        with Screener() as screener:
            settings = Settings.of(screener, None, Limits(), auto_orient=False)
            return cls(screener.screen(chest), screener.screen(leg), settings)

    def archive(self, folder: Path, names: list[str], parts: int | None = None) -> Plan:
        """An archive of a list of names, with so many parts.

        Of ten images one is a leg and one can't be read; the last of all crashed. The others
        are a chest, each a little less probably healthy than the one before.
        """
        folder.mkdir(parents=True)
        listed = folder / "list.csv"
        listed.write_text("path\n" + "".join(f'"{name}"\n' for name in names))
        plan, _ = open_plan(folder, open_input(str(listed)), self.settings, shard_size=SHARD)
        for shard in plan.pending(frozenset()):
            if parts is not None and shard.number >= parts:
                break
            first = shard.number * SHARD
            rows = [
                self._row(first + place, image.source, len(names))
                for place, image in enumerate(shard.images)
            ]
            hour = DAY.replace(hour=shard.number)
            made = {
                "shard": shard.number,
                "host": "one",
                "started": hour.isoformat(),
                "finished": hour.replace(minute=1).isoformat(),
                "statuses": {},
                "reasons": {},
            }
            path = part_path(folder, shard.number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(part(rows, self.settings, made))
        return plan

    def _row(self, number: int, source: str, count: int) -> dict[str, object]:
        file = File(source, 1000 + number, "ab", DAY.replace(month=1 + number * 12 // count))
        if number == count - 1:
            said = f"{source}: the process that screened it was ended by SIGSEGV, twice"
            return failed_row(file, "crashed", said, self.settings)
        if number % 10 == 9:
            return failed_row(file, "unreadable", f"{source}: damaged", self.settings)
        if number % 10 == 8:
            return row(self.leg, file, self.settings)
        healthy = 1.0 - number / count
        chest = replace(
            self.chest,
            label="healthy" if healthy > 0.5 else "covid",
            probabilities={"covid": 1.0 - healthy, "healthy": healthy, "pneumonia": 0.0},
        )
        return row(chest, file, self.settings)
