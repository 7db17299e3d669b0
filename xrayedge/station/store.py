"""`Store`: everything that a station must not lose, in one SQLite file; all SQL is in this module.

A job is an image on its way: received -> screening -> done | refused | set-aside. A send is one
object on its way to one destination: queued -> sent -> committed | failed. Files lie in folders
beside the database under random names; a row and its file are on the disk before anybody is told.

May be shared by threads: each call is one transaction under one lock. A long file, so that no
other one needs to know a table; what goes in and out are the dataclasses of `records`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StationError, StorageFullError
from .records import (
    RECENT_IMAGES,
    REFERENCE_IMAGES,
    AuditCheck,
    AuditEntry,
    Backlog,
    Event,
    Forgotten,
    Job,
    JobState,
    Measured,
    NewJob,
    Outcome,
    Receipt,
    Send,
    SendState,
    Unit,
)

#: Crashes on an image after which it is set aside.
MAX_CRASHES = 3
#: Times that a peer may refuse an object before it is given up.
MAX_REFUSALS = 5
#: Units whose images are counted separately. Names come from files; all further ones count as one.
MAX_UNITS = 64
OTHER_UNITS = "other units"
#: In `Store.totals`: how long screening took.
TOTAL_SECONDS = "screening-seconds"

_FORMAT = 1
_BUSY_SECONDS = 30.0  # another process, such as `station queue`, locks the database for less
_GENESIS = "0" * 64  # what the first entry of the audit is chained to

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


class Store:
    """The queue, the history and the audit of one station.

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
        self._path = path
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
            with self._transaction() as sql:
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

    @property
    def path(self) -> Path:
        """Of the database."""
        return self._path

    def close(self) -> None:
        """Close the database; later calls raise `StationError`."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
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
                raise _error(self._path, error) from None

    def _all(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise _error(self._path, error) from None

    # Jobs

    def receive(self, new: NewJob, operating_point: str) -> Receipt:
        """Make a job of a file; the same SOP instance with the same bytes makes none."""
        with self._transaction() as sql:
            altered = False
            if new.sop_instance_uid is not None:
                before = sql.execute(
                    "SELECT id, sha256 FROM jobs WHERE sop_instance_uid = ?",
                    (new.sop_instance_uid,),
                ).fetchall()
                for row in before:
                    if row["sha256"] == new.sha256:
                        return Receipt(row["id"], new=False, altered=False)
                altered = bool(before)
            now = time.time()
            job = sql.execute(
                "INSERT INTO jobs (file, origin, sender, sop_instance_uid, sha256, size,"
                " received_at, service_day, altered, operating_point)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(new.file, new.origin, new.sender, new.sop_instance_uid),
                    *(new.sha256, new.size, now, _service_day(sql), altered, operating_point),
                ),
            ).lastrowid
            assert job is not None
            detail = "the same SOP instance came before with other bytes" if altered else ""
            _event(sql, "received", job, detail)
            return Receipt(job, new=True, altered=altered)

    def has_file(self, file: str) -> bool:
        """Whether a job has this file."""
        return bool(self._all("SELECT 1 FROM jobs WHERE file = ?", file))

    def take(self) -> Job | None:
        """The oldest received job, which is being screened from now on."""
        with self._transaction() as sql:
            row = sql.execute(
                "SELECT * FROM jobs WHERE state = 'received' ORDER BY id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            sql.execute("UPDATE jobs SET state = 'screening' WHERE id = ?", (row["id"],))
            _event(sql, "screening", row["id"], "")
            return _job({**dict(row), "state": "screening"})

    def give_back(self, job: int) -> None:
        """Put a taken job back, because the station stops; this does not count as a crash."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE jobs SET state = 'received' WHERE id = ? AND state = 'screening'", (job,)
            )

    def recover(self) -> list[Job]:
        """Count a crash for each job that was being screened; returns those set aside for it.

        To be called when the process starts, before `take`.
        """
        with self._transaction() as sql:
            sql.execute("UPDATE jobs SET crashes = crashes + 1 WHERE state = 'screening'")
            rows = sql.execute(
                "SELECT * FROM jobs WHERE state = 'screening' AND crashes >= ?", (MAX_CRASHES,)
            ).fetchall()
            for row in rows:
                detail = f"the process ended {row['crashes']} times while it was screened"
                sql.execute(
                    "UPDATE jobs SET state = 'set-aside', detail = ?, finished_at = ? WHERE id = ?",
                    (detail, time.time(), row["id"]),
                )
                _event(sql, "set-aside", row["id"], detail)
            sql.execute("UPDATE jobs SET state = 'received' WHERE state = 'screening'")
            return [_job(row) for row in rows]

    def finish(self, job: int, outcome: Outcome) -> None:
        """Write a job's result, its objects, what is to be sent where, and its histogram counts."""
        now = time.time()
        with self._transaction() as sql:
            done = sql.execute(
                "UPDATE jobs SET state = ?, finished_at = ?, result = ?, detail = ?,"
                " activation_map = ? WHERE id = ? AND state = 'screening'",
                (
                    *(outcome.state, now, json.dumps(outcome.result), outcome.detail),
                    *(_packed(outcome.activation_map), job),
                ),
            ).rowcount
            if not done:
                raise StationError(f"job {job} is not being screened")
            for one in outcome.objects:
                number = sql.execute(
                    "INSERT INTO objects (job, kind, file, sop_class_uid, sop_instance_uid,"
                    " transfer_syntax_uid) VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        *(job, one.kind, one.file, one.sop_class_uid),
                        *(one.sop_instance_uid, one.transfer_syntax_uid),
                    ),
                ).lastrowid
                sql.executemany(
                    "INSERT INTO sends (object, destination, commitment, queued_at)"
                    " VALUES (?, ?, ?, ?)",
                    [(number, name, asked, now) for name, asked in one.destinations.items()],
                )
            day = time.strftime("%Y-%m-%d", time.localtime(now))
            if outcome.measured is not None:
                _measure(sql, day, outcome.measured)
            kind = "screened" if outcome.state == "done" else "refused"
            _event(sql, kind, job, outcome.detail or "")

    def job(self, job: int) -> Job | None:
        """One job, or `None`."""
        rows = self._all("SELECT * FROM jobs WHERE id = ?", job)
        return _job(rows[0]) if rows else None

    def job_of(self, file: str) -> Job | None:
        """The job whose file has this random name, or `None`."""
        rows = self._all("SELECT * FROM jobs WHERE file = ?", file)
        return _job(rows[0]) if rows else None

    def jobs(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        states: Sequence[JobState] = (),
        since: float | None = None,
        until: float | None = None,
        results: Sequence[str] = (),
    ) -> list[Job]:
        """Jobs, newest first.

        Parameters
        ----------
        before
            Only those with ids under it.
        limit
            At most so many.
        states
            Only those of these states.
        since, until
            Only those received from then on, and before then; seconds since 1970.
        results
            Only those whose result is one of these: a label that is certain; ``uncertain``;
            ``refused``, which those are too that were set aside.
        """
        where, values = ["id < ?"], list[object]([2**62 if before is None else before])
        if states:
            where.append(f"state IN ({_places(states)})")
            values += states
        if since is not None:
            where.append("received_at >= ?")
            values.append(since)
        if until is not None:
            where.append("received_at < ?")
            values.append(until)
        if results:
            where.append(
                "CASE WHEN state IN ('refused', 'set-aside') THEN 'refused' WHEN state <> 'done'"
                " THEN '' WHEN json_extract(result, '$.certain') THEN"
                f" json_extract(result, '$.label') ELSE 'uncertain' END IN ({_places(results)})"
            )
            values += results
        rows = self._all(
            f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",
            *(*values, limit),
        )
        return [_job(row) for row in rows]

    def days(self) -> dict[str, int]:
        """Local dates with jobs, newest first, and the number of jobs of each."""
        rows = self._all(
            "SELECT date(received_at, 'unixepoch', 'localtime') AS day, count(*) AS jobs"
            " FROM jobs GROUP BY day ORDER BY day DESC"
        )
        return {row["day"]: row["jobs"] for row in rows}

    def job_counts(self) -> dict[str, int]:
        """How many jobs are in each state that has any."""
        rows = self._all("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")
        return {row["state"]: row["jobs"] for row in rows}

    def oldest_waiting(self) -> float | None:
        """When the oldest unscreened job was received, in seconds since 1970."""
        rows = self._all(
            "SELECT min(received_at) AS oldest FROM jobs WHERE state IN ('received', 'screening')"
        )
        oldest = rows[0]["oldest"]
        return None if oldest is None else float(oldest)

    def activation_map(self, job: int) -> NDArray[np.float32] | None:
        """``float32 [h, w, channels]`` of a screened job; `None` where there is none."""
        rows = self._all("SELECT activation_map FROM jobs WHERE id = ?", job)
        packed = rows[0]["activation_map"] if rows else None
        return None if packed is None else np.load(io.BytesIO(packed), allow_pickle=False)

    def retry_job(self, job: int) -> bool:
        """Queue a refused or set-aside job to be screened again; its objects are deleted."""
        with self._transaction() as sql:
            found = sql.execute(
                "UPDATE jobs SET state = 'received', crashes = 0, result = NULL, detail = NULL,"
                " finished_at = NULL WHERE id = ? AND state IN ('refused', 'set-aside')",
                (job,),
            ).rowcount
            if found:
                sql.execute("DELETE FROM objects WHERE job = ?", (job,))
                _event(sql, "received", job, "to be screened again")
            return bool(found)

    def drop_job(self, job: int) -> bool:
        """Delete a job that is refused or set aside, with its objects and sends."""
        with self._transaction() as sql:
            found = sql.execute(
                "DELETE FROM jobs WHERE id = ? AND state IN ('refused', 'set-aside')", (job,)
            ).rowcount
            if found:
                _event(sql, "deleted", job, "dropped by hand")
            return bool(found)

    # Objects and sends

    def objects(self, job: int) -> dict[str, str]:
        """Kind and file in ``outbox`` of a job's objects."""
        rows = self._all("SELECT kind, file FROM objects WHERE job = ?", job)
        return {row["kind"]: row["file"] for row in rows}

    def sends(
        self,
        *,
        destination: str | None = None,
        states: Sequence[SendState] = (),
        job: int | None = None,
        limit: int = 1000,
    ) -> list[Send]:
        """Sends, oldest first, of one destination, of these states, of one job, or of all."""
        where, values = ["1"], list[object]()
        if destination is not None:
            where.append("sends.destination = ?")
            values.append(destination)
        if states:
            where.append(f"sends.state IN ({_places(states)})")
            values.extend(states)
        if job is not None:
            where.append("objects.job = ?")
            values.append(job)
        return self._sends(" AND ".join(where), *values, limit)

    def _sends(self, where: str, *values: object) -> list[Send]:
        rows = self._all(
            "SELECT sends.*, objects.job, objects.kind, objects.file, objects.sop_class_uid,"
            " objects.sop_instance_uid, objects.transfer_syntax_uid"
            " FROM sends JOIN objects ON objects.id = sends.object"
            f" WHERE {where} ORDER BY sends.id LIMIT ?",
            *values,
        )
        return [_send(row) for row in rows]

    def send_counts(self) -> dict[tuple[str, str], int]:
        """How many sends each (destination, state) has."""
        rows = self._all(
            "SELECT destination, state, count(*) AS sends FROM sends GROUP BY destination, state"
        )
        return {(row["destination"], row["state"]): row["sends"] for row in rows}

    def backlogs(self) -> list[Backlog]:
        """For each destination with queued or failed sends: how many, since when, and why."""
        rows = self._all(
            "SELECT destination, sum(state = 'queued') AS waiting, sum(state = 'failed') AS failed,"
            " min(CASE state WHEN 'queued' THEN queued_at END) AS oldest_at,"
            " (SELECT detail FROM sends AS last WHERE last.destination = sends.destination"
            "  AND last.state IN ('queued', 'failed') AND detail IS NOT NULL"
            "  ORDER BY last.id DESC LIMIT 1) AS detail"
            " FROM sends WHERE state IN ('queued', 'failed') GROUP BY destination"
            " ORDER BY destination"
        )
        return [Backlog(**dict(row)) for row in rows]

    def mark_sent(self, send: int, detail: str | None = None) -> None:
        """Record that the peer stored it; ``detail`` is its warning, if it gave one."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE sends SET state = 'sent', sent_at = ?, detail = ?, transaction_uid = NULL"
                " WHERE id = ? AND state = 'queued'",
                (time.time(), detail, send),
            )
            _send_event(sql, "sent", send, detail)

    def mark_refused(self, send: int, detail: str) -> SendState:
        """Record a refusal: queued again, or failed after `MAX_REFUSALS`. Returns the state."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE sends SET refusals = refusals + 1, detail = ? WHERE id = ?", (detail, send)
            )
            failed = sql.execute(
                "UPDATE sends SET state = 'failed' WHERE id = ? AND refusals >= ?",
                (send, MAX_REFUSALS),
            ).rowcount
            if not failed:
                return "queued"
            _send_event(sql, "failed", send, detail)
            return "failed"

    def mark_waiting(self, destination: str, detail: str) -> None:
        """Record in a destination's queued sends why they wait."""
        with self._transaction() as sql:
            changed = sql.execute(
                "UPDATE sends SET detail = ? WHERE destination = ? AND state = 'queued'"
                " AND detail IS NOT ?",
                (detail, destination, detail),
            ).rowcount
            if changed:
                _event(sql, "waiting", None, f"{destination}: {detail}")

    def to_commit(self, destination: str, limit: int = 200) -> list[Send]:
        """Sent objects whose storage commitment has not been asked for."""
        return self._sends(
            "sends.destination = ? AND sends.state = 'sent' AND sends.commitment"
            " AND sends.transaction_uid IS NULL",
            *(destination, limit),
        )

    def ask_commitment(self, sends: Sequence[int], transaction_uid: str) -> None:
        """Record that a transaction asks for these, before the request is sent."""
        with self._transaction() as sql:
            sql.executemany(
                "UPDATE sends SET transaction_uid = ? WHERE id = ? AND state = 'sent'",
                [(transaction_uid, send) for send in sends],
            )

    def forget_commitment(self, destination: str) -> None:
        """Allow commitment to be requested again for everything sent but not committed."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE sends SET transaction_uid = NULL WHERE destination = ? AND state = 'sent'",
                (destination,),
            )

    def forget_transaction(self, transaction_uid: str) -> None:
        """Record that a transaction did not reach the peer: its sends may be asked for again."""
        with self._transaction() as sql:
            sql.execute(
                "UPDATE sends SET transaction_uid = NULL WHERE transaction_uid = ?"
                " AND state = 'sent'",
                (transaction_uid,),
            )

    def commit(self, transaction_uid: str, kept: Sequence[str], lost: Sequence[str]) -> bool:
        """Record a peer's answer: the SOP instances that it keeps, and those that it does not.

        The latter are queued to be sent again, and count as refused. False where the transaction
        is unknown.
        """
        with self._transaction() as sql:
            rows = sql.execute(
                "SELECT sends.id, objects.sop_instance_uid FROM sends"
                " JOIN objects ON objects.id = sends.object"
                " WHERE sends.transaction_uid = ? AND sends.state = 'sent'",
                (transaction_uid,),
            ).fetchall()
            for row in rows:
                if row["sop_instance_uid"] in kept:
                    sql.execute("UPDATE sends SET state = 'committed' WHERE id = ?", (row["id"],))
                    _send_event(sql, "committed", row["id"], None)
                elif row["sop_instance_uid"] in lost:
                    detail = "the peer does not keep it"
                    sql.execute(
                        "UPDATE sends SET refusals = refusals + 1, detail = ?, transaction_uid ="
                        " NULL, state = CASE WHEN refusals + 1 >= ? THEN 'failed' ELSE 'queued' END"
                        " WHERE id = ?",
                        (detail, MAX_REFUSALS, row["id"]),
                    )
            return bool(rows)

    def retry_send(self, send: int) -> bool:
        """Queue a send again that failed, or that was sent and then lost."""
        with self._transaction() as sql:
            found = sql.execute(
                "UPDATE sends SET state = 'queued', refusals = 0, transaction_uid = NULL"
                " WHERE id = ? AND state IN ('failed', 'sent')",
                (send,),
            ).rowcount
            if found:
                _send_event(sql, "queued", send, None)
            return bool(found)

    def drop_send(self, send: int) -> bool:
        """Give up a send, so that its job can be deleted in time."""
        with self._transaction() as sql:
            return bool(
                sql.execute(
                    "DELETE FROM sends WHERE id = ? AND state IN ('queued', 'failed')", (send,)
                ).rowcount
            )

    # What is old

    def count_day(self, today: date) -> int:
        """Count a day in service, once for each change of date; returns the number of days so far.

        Deletion uses this count: a clock that jumps by years counts as one day.
        """
        with self._transaction() as sql:
            days = _service_day(sql)
            if _setting(sql, "last_day") != today.isoformat():
                days += 1
                _set(sql, "last_day", today.isoformat())
                _set(sql, "service_days", str(days))
            return days

    def forget_old(self, days: int, now: float) -> Forgotten:
        """Delete jobs older than ``days`` whose objects have reached every destination.

        A job is old where both the clock at ``now`` and the days counted in service say so, and
        is not the newest. Their files are the caller's to delete; what it can't is found by
        `known_files` at the next start.
        """
        with self._transaction() as sql:
            rows = sql.execute(
                "SELECT id, file FROM jobs WHERE state IN ('done', 'refused') AND received_at < ?"
                " AND service_day < ? AND id < (SELECT max(id) FROM jobs) AND NOT EXISTS ("
                "  SELECT 1 FROM sends JOIN objects ON objects.id = sends.object"
                "  WHERE objects.job = jobs.id AND (sends.state IN ('queued', 'failed')"
                "   OR (sends.state = 'sent' AND sends.commitment)))",
                (now - days * 86_400.0, _service_day(sql) - days),
            ).fetchall()
            objects: list[str] = []
            for row in rows:
                files = sql.execute("SELECT file FROM objects WHERE job = ?", (row["id"],))
                objects += [one["file"] for one in files]
                sql.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))
            if rows:
                _event(sql, "deleted", None, f"{len(rows)} jobs older than {days} days")
            return Forgotten(
                jobs=tuple(row["id"] for row in rows),
                images=tuple(row["file"] for row in rows),
                objects=tuple(objects),
            )

    def forget_events(self, kept: int) -> None:
        """Delete all events but the newest ``kept``; their ids are not reused."""
        with self._transaction() as sql:
            sql.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (kept,))

    def known_files(self) -> set[str]:
        """Names of every file that a job or an object has."""
        rows = self._all("SELECT file FROM jobs UNION ALL SELECT file FROM objects")
        return {row["file"] for row in rows}

    # Events, settings, audit, histograms

    def warn(self, detail: str, job: int | None = None) -> None:
        """Write an event of kind ``warning``, unless the disk is full.

        No patient's data may be in it.
        """
        with suppress(StorageFullError), self._transaction() as sql:
            _event(sql, "warning", job, detail)

    def note_once_a_day(self, kind: str, detail: str, today: date) -> bool:
        """Write an event unless there was one of this kind today; returns whether it did."""
        with self._transaction() as sql:
            name = f"noted_{kind}"
            if _setting(sql, name) == today.isoformat():
                return False
            _set(sql, name, today.isoformat())
            _event(sql, kind, None, detail)
            return True

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with ids over ``after``, oldest first."""
        rows = self._all("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", after, limit)
        return [Event(**dict(row)) for row in rows]

    def last_event(self) -> int:
        """The newest event's id; 0 where there is none."""
        return int(self._all("SELECT coalesce(max(id), 0) AS last FROM events")[0]["last"])

    def setting(self, name: str) -> str | None:
        """A setting that was changed while the station ran, such as ``operating_point``."""
        rows = self._all("SELECT value FROM settings WHERE name = ?", name)
        return rows[0]["value"] if rows else None

    def change_setting(self, name: str, value: str, who: str, default: str = "") -> None:
        """Change a setting and record it in the audit; ``default`` is the value until then."""
        with self._transaction() as sql:
            old = _setting(sql, name) or default
            _set(sql, name, value)
            _audit(sql, who, f"setting {name}", old, value)
            _event(sql, "setting", None, f"{name} = {value}")

    def audit(self, who: str, what: str, old: str = "", new: str = "") -> None:
        """Record an action in the audit, which is append-only."""
        with self._transaction() as sql:
            _audit(sql, who, what, old, new)

    def audit_entries(self, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """Entries with ids over ``after``, oldest first."""
        rows = self._all("SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?", after, limit)
        return [AuditEntry(**dict(row)) for row in rows]

    def audit_before(self, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Entries with ids under ``before``, newest first."""
        last = 2**62 if before is None else before
        rows = self._all("SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?", last, limit)
        return [AuditEntry(**dict(row)) for row in rows]

    def check_audit(self) -> AuditCheck:
        """Check the audit's chain: whether an entry was changed, removed or inserted."""
        previous, expected = _GENESIS, 1
        while entries := self.audit_entries(after=expected - 1):
            for entry in entries:
                chained = _chained(previous, entry.at, entry.who, entry.what, entry.old, entry.new)
                if entry.id != expected or entry.hash != chained:
                    why = f"the audit was altered at entry {entry.id}"
                    return AuditCheck(expected - 1, entry.id, why)
                previous, expected = entry.hash, expected + 1
        given = self._all("SELECT seq FROM sqlite_sequence WHERE name = 'audit'")
        if given and given[0]["seq"] > expected - 1:
            return AuditCheck(expected - 1, expected, "entries are missing at the audit's end")
        return AuditCheck(expected - 1)

    def verify_audit(self) -> int:
        """The number of the audit's entries, none of which was altered.

        Raises
        ------
        StationError
            One was; names the first that does not fit.
        """
        found = self.check_audit()
        if found.first_bad is not None:
            raise StationError(f"{self._path}: {found.why}")
        return found.entries

    def histograms(
        self, first_day: str, last_day: str, station: str | None = None
    ) -> dict[str, dict[int, int]]:
        """Counts of each bin of each measure, over days ``YYYY-MM-DD`` (both counted in)."""
        rows = self._all(
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
        rows = self._all(
            "SELECT day, bin, sum(count) AS count FROM histograms"
            " WHERE measure = ? AND day BETWEEN ? AND ? GROUP BY day, bin ORDER BY day, bin",
            *(measure, first_day, last_day),
        )
        found: dict[str, dict[int, int]] = {}
        for row in rows:
            found.setdefault(row["day"], {})[row["bin"]] = row["count"]
        return found

    def totals(self) -> dict[str, dict[int, float]]:
        """Counts of each bin of each measure since the database was made; they only grow.

        `TOTAL_SECONDS` has the seconds of all screenings in its bin 0.
        """
        found: dict[str, dict[int, float]] = {}
        for row in self._all("SELECT measure, bin, value FROM totals"):
            found.setdefault(row["measure"], {})[row["bin"]] = row["value"]
        return found

    def units(self) -> list[Unit]:
        """Each unit's first and last images, the unit with the newest image first."""
        found: dict[str, tuple[str, list[Any], list[Any]]] = {}
        for row in self._all("SELECT * FROM measured ORDER BY id DESC"):
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
        with self._transaction() as sql:
            recent = "station = ? AND NOT reference"
            images = sql.execute(
                f"SELECT count(*) FROM measured WHERE {recent}", (station,)
            ).fetchone()[0]
            if images < max(least, 1):
                return False
            sql.execute("DELETE FROM measured WHERE station = ? AND reference", (station,))
            sql.execute("UPDATE measured SET reference = 1 WHERE station = ?", (station,))
            _audit(sql, who, "monitor: new reference", "", f"{station}: last {images} images")
            return True


def _error(path: Path, error: sqlite3.Error) -> StationError:
    # By SQLite's words: Python 3.10 gives no codes.
    if str(error) in ("database or disk is full", "disk I/O error"):
        return StorageFullError(errno.ENOSPC, str(error), str(path))
    return StationError(f"{path}: {error}")


def _event(sql: sqlite3.Connection, kind: str, job: int | None, detail: str) -> None:
    sql.execute(
        "INSERT INTO events (at, kind, job, detail) VALUES (?, ?, ?, ?)",
        (time.time(), kind, job, detail),
    )


def _send_event(sql: sqlite3.Connection, kind: str, send: int, detail: str | None) -> None:
    row = sql.execute(
        "SELECT objects.job, objects.kind, sends.destination FROM sends"
        " JOIN objects ON objects.id = sends.object WHERE sends.id = ?",
        (send,),
    ).fetchone()
    if row is not None:
        said = f": {detail}" if detail else ""
        _event(sql, kind, row["job"], f"{row['kind']} to {row['destination']}{said}")


def _measure(sql: sqlite3.Connection, day: str, one: Measured) -> None:
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


def _setting(sql: sqlite3.Connection, name: str) -> str | None:
    row = sql.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row["value"])


def _set(sql: sqlite3.Connection, name: str, value: str) -> None:
    sql.execute(
        "INSERT INTO settings (name, value) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET value = excluded.value",
        (name, value),
    )


def _service_day(sql: sqlite3.Connection) -> int:
    return int(_setting(sql, "service_days") or 0)


def _audit(sql: sqlite3.Connection, who: str, what: str, old: str, new: str) -> None:
    last = sql.execute("SELECT hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    chained = _chained(_GENESIS if last is None else last["hash"], at, who, what, old, new)
    sql.execute(
        "INSERT INTO audit (at, who, what, old, new, hash) VALUES (?, ?, ?, ?, ?, ?)",
        (at, who, what, old, new, chained),
    )


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _chained(previous: str, *entry: str) -> str:
    return hashlib.sha256(json.dumps([previous, *entry]).encode()).hexdigest()


def _packed(activation_map: NDArray[np.float32] | None) -> bytes | None:
    if activation_map is None:
        return None
    stream = io.BytesIO()
    np.save(stream, activation_map, allow_pickle=False)
    return stream.getvalue()


def _job(row: Mapping[str, Any] | sqlite3.Row) -> Job:
    result = row["result"]
    return Job(
        **{name: row[name] for name in _JOB_COLUMNS},
        altered=bool(row["altered"]),
        result=None if result is None else json.loads(result),
    )


_JOB_COLUMNS = tuple(name for name in Job.__dataclass_fields__ if name not in ("altered", "result"))


def _send(row: sqlite3.Row) -> Send:
    return Send(
        **{name: row[name] for name in Send.__dataclass_fields__ if name != "commitment"},
        commitment=bool(row["commitment"]),
    )
