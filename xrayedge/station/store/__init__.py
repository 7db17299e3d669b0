"""`Store`: everything that a station must not lose, in one SQLite file; all SQL is in this package.

A module for each thing that is kept. Files lie in folders beside the database under random names;
a row and its file are on the disk before anybody is told.

May be shared by threads: each call is one transaction under one lock. What goes in and out are
the dataclasses of `records`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ...errors import StationError
from .audit import Audit
from .database import Database
from .events import Events
from .jobs import Jobs
from .measures import Measures
from .retention import Retention
from .sends import Sends
from .settings import Settings

__all__ = ["Store"]


class Store:
    """What one station keeps, each part over the same database.

    Parameters
    ----------
    path
        The database; made where there is none.

    Raises
    ------
    StationError
        It is no database of a station, damaged, of a newer release, or can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._database = database = Database(path)
        #: The database.
        self.path = path
        #: Whether this call made the database.
        self.is_new = database.is_new
        self.jobs = Jobs(database)
        self.sends = Sends(database)
        self.events = Events(database)
        self.settings = Settings(database)
        self.audit = Audit(database)
        self.measures = Measures(database)
        self.retention = Retention(database)

    def close(self) -> None:
        """Close the database; later calls of any part raise `StationError`.

        Warnings that wait for room on the disk are written if there is some now.
        """
        with suppress(StationError):
            self.events.write_held()
        self._database.close()
