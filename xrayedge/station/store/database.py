"""The database: its tables, and the one lock under which everything reads and writes it."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...errors import StationError, StorageFullError

_FORMAT = 1
_BUSY_SECONDS = 30.0  # another process, such as `station queue`, locks the database for less

_SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL DEFAULT 'received',
    file TEXT NOT NULL UNIQUE,
    origin TEXT NOT NULL,
    sender TEXT NOT NULL,
    sop_instance_uid TEXT,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    received_at REAL NOT NULL,
    service_day INTEGER NOT NULL,
    altered INTEGER NOT NULL DEFAULT 0,
    operating_point TEXT NOT NULL,
    crashes INTEGER NOT NULL DEFAULT 0,
    finished_at REAL,
    result TEXT,
    detail TEXT,
    activation_map BLOB
);
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_instance ON jobs (sop_instance_uid);
CREATE TABLE objects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    file TEXT NOT NULL UNIQUE,
    sop_class_uid TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL
);
CREATE INDEX objects_job ON objects (job);
CREATE TABLE sends (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    object INTEGER NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    refusals INTEGER NOT NULL DEFAULT 0,
    detail TEXT,
    commitment INTEGER NOT NULL,
    transaction_uid TEXT,
    queued_at REAL NOT NULL,
    sent_at REAL,
    UNIQUE (object, destination)
);
CREATE INDEX sends_state ON sends (destination, state, id);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    job INTEGER,
    detail TEXT NOT NULL
);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    old TEXT NOT NULL,
    new TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE TABLE histograms (
    day TEXT NOT NULL,
    station TEXT NOT NULL,
    measure TEXT NOT NULL,
    bin INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, station, measure, bin)
) WITHOUT ROWID;
CREATE TABLE measured (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    station TEXT NOT NULL,
    model TEXT NOT NULL,
    reference INTEGER NOT NULL,
    bins TEXT NOT NULL
);
CREATE INDEX measured_station ON measured (station, reference, id);
CREATE TABLE totals (
    measure TEXT NOT NULL,
    bin INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (measure, bin)
) WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Database:
    """One SQLite file; threads may share it.

    Parameters
    ----------
    path
        Made where there is none.

    Raises
    ------
    StationError
        It is no database of a station, damaged, of a newer release, or can't be opened.
    """

    def __init__(self, path: Path) -> None:
        #: The file.
        self.path = path
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute("PRAGMA secure_delete = ON")  # deleted means gone
            with self.transaction() as sql:
                found = sql.execute("PRAGMA user_version").fetchone()[0]
                if found == 0:
                    for statement in _SCHEMA.split(";"):
                        sql.execute(statement)
                    sql.execute(f"PRAGMA user_version = {_FORMAT}")
        except sqlite3.Error as error:
            raise StationError(
                f"{path}: can't be used as the station's database ({error})"
            ) from None
        if found > _FORMAT:
            raise StationError(f"{path}: written by a newer release; install that one")
        #: Whether this call made the database.
        self.is_new = found == 0

    def close(self) -> None:
        """Close the database; later calls raise `StationError`."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock; all that is executed is written, or nothing if anything is raised."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:  # a full disk may have ended it
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise _error(self.path, error) from None

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Every row that a query finds."""
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise _error(self.path, error) from None


def places(values: Sequence[object]) -> str:
    """Placeholders for a query's ``IN``."""
    return ", ".join("?" * len(values))


def _error(path: Path, error: sqlite3.Error) -> StationError:
    # By SQLite's words: Python 3.10 gives no codes.
    if str(error) in ("database or disk is full", "disk I/O error"):
        return StorageFullError(errno.ENOSPC, str(error), str(path))
    return StationError(f"{path}: {error}")
