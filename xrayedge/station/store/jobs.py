"""Jobs: images on their way, received -> screening -> done | refused | set-aside."""

from __future__ import annotations

import io
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StationError
from ..records import Job, JobState, NewJob, Outcome, Receipt
from .database import Database, places
from .events import write_event
from .measures import count_image
from .values import service_day

#: Crashes on an image after which it is set aside.
MAX_CRASHES = 3


class Jobs:
    """The queue and the history."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def receive(self, new: NewJob, operating_point: str) -> Receipt:
        """Make a job of a file; the same SOP instance with the same bytes makes none."""
        with self._database.transaction() as sql:
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
                    *(new.sha256, new.size, now, service_day(sql), altered, operating_point),
                ),
            ).lastrowid
            assert job is not None
            detail = "the same SOP instance came before with other bytes" if altered else ""
            write_event(sql, "received", job, detail)
            return Receipt(job, new=True, altered=altered)

    def has_file(self, file: str) -> bool:
        """Whether a job has this file."""
        return bool(self._database.rows("SELECT 1 FROM jobs WHERE file = ?", file))

    def take(self) -> Job | None:
        """The oldest received job, which is being screened from now on."""
        with self._database.transaction() as sql:
            row = sql.execute(
                "SELECT * FROM jobs WHERE state = 'received' ORDER BY id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            sql.execute("UPDATE jobs SET state = 'screening' WHERE id = ?", (row["id"],))
            write_event(sql, "screening", row["id"], "")
            return _job({**dict(row), "state": "screening"})

    def give_back(self, job: int) -> None:
        """Put a taken job back, because the station stops; this does not count as a crash."""
        with self._database.transaction() as sql:
            sql.execute(
                "UPDATE jobs SET state = 'received' WHERE id = ? AND state = 'screening'", (job,)
            )

    def recover(self) -> list[Job]:
        """Count a crash for each job that was being screened; returns those set aside for it.

        To be called when the process starts, before `take`.
        """
        with self._database.transaction() as sql:
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
                write_event(sql, "set-aside", row["id"], detail)
            sql.execute("UPDATE jobs SET state = 'received' WHERE state = 'screening'")
            return [_job(row) for row in rows]

    def finish(self, job: int, outcome: Outcome) -> None:
        """Write a job's result, its objects, what is to be sent where, and its histogram counts."""
        now = time.time()
        with self._database.transaction() as sql:
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
                count_image(sql, day, outcome.measured)
            kind = "screened" if outcome.state == "done" else "refused"
            write_event(sql, kind, job, outcome.detail or "")

    def get(self, job: int) -> Job | None:
        """One job, or `None`."""
        rows = self._database.rows("SELECT * FROM jobs WHERE id = ?", job)
        return _job(rows[0]) if rows else None

    def of_file(self, file: str) -> Job | None:
        """The job whose file has this random name, or `None`."""
        rows = self._database.rows("SELECT * FROM jobs WHERE file = ?", file)
        return _job(rows[0]) if rows else None

    def search(
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
            where.append(f"state IN ({places(states)})")
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
                f" json_extract(result, '$.label') ELSE 'uncertain' END IN ({places(results)})"
            )
            values += results
        rows = self._database.rows(
            f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",
            *(*values, limit),
        )
        return [_job(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state that has any."""
        rows = self._database.rows("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")
        return {row["state"]: row["jobs"] for row in rows}

    def oldest_waiting(self) -> float | None:
        """When the oldest unscreened job was received, in seconds since 1970."""
        rows = self._database.rows(
            "SELECT min(received_at) AS oldest FROM jobs WHERE state IN ('received', 'screening')"
        )
        oldest = rows[0]["oldest"]
        return None if oldest is None else float(oldest)

    def activation_map(self, job: int) -> NDArray[np.float32] | None:
        """``float32 [h, w, channels]`` of a screened job; `None` where there is none."""
        rows = self._database.rows("SELECT activation_map FROM jobs WHERE id = ?", job)
        packed = rows[0]["activation_map"] if rows else None
        return None if packed is None else np.load(io.BytesIO(packed), allow_pickle=False)

    def objects(self, job: int) -> dict[str, str]:
        """Kind and file in ``outbox`` of a job's objects."""
        rows = self._database.rows("SELECT kind, file FROM objects WHERE job = ?", job)
        return {row["kind"]: row["file"] for row in rows}

    def retry(self, job: int) -> bool:
        """Queue a refused or set-aside job to be screened again; its objects are deleted."""
        with self._database.transaction() as sql:
            found = sql.execute(
                "UPDATE jobs SET state = 'received', crashes = 0, result = NULL, detail = NULL,"
                " finished_at = NULL WHERE id = ? AND state IN ('refused', 'set-aside')",
                (job,),
            ).rowcount
            if found:
                sql.execute("DELETE FROM objects WHERE job = ?", (job,))
                write_event(sql, "received", job, "to be screened again")
            return bool(found)

    def drop(self, job: int) -> bool:
        """Delete a job that is refused or set aside, with its objects and sends."""
        with self._database.transaction() as sql:
            found = sql.execute(
                "DELETE FROM jobs WHERE id = ? AND state IN ('refused', 'set-aside')", (job,)
            ).rowcount
            if found:
                write_event(sql, "deleted", job, "dropped by hand")
            return bool(found)


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
