"""Sends: objects on their way to a destination, queued -> sent -> committed | failed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from ..records import Backlog, Send, SendState
from .database import Database, places
from .events import write_event

#: Times that a peer may refuse an object before it is given up.
MAX_REFUSALS = 5


class Sends:
    """What waits for which destination, and what each destination has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def search(
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
            where.append(f"sends.state IN ({places(states)})")
            values.extend(states)
        if job is not None:
            where.append("objects.job = ?")
            values.append(job)
        return self._select(" AND ".join(where), *values, limit)

    def _select(self, where: str, *values: object) -> list[Send]:
        rows = self._database.rows(
            "SELECT sends.*, objects.job, objects.kind, objects.file, objects.sop_class_uid,"
            " objects.sop_instance_uid, objects.transfer_syntax_uid"
            " FROM sends JOIN objects ON objects.id = sends.object"
            f" WHERE {where} ORDER BY sends.id LIMIT ?",
            *values,
        )
        return [_send(row) for row in rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many sends each (destination, state) has."""
        rows = self._database.rows(
            "SELECT destination, state, count(*) AS sends FROM sends GROUP BY destination, state"
        )
        return {(row["destination"], row["state"]): row["sends"] for row in rows}

    def backlogs(self) -> list[Backlog]:
        """For each destination with queued or failed sends: how many, since when, and why."""
        rows = self._database.rows(
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
        with self._database.transaction() as sql:
            sql.execute(
                "UPDATE sends SET state = 'sent', sent_at = ?, detail = ?, transaction_uid = NULL"
                " WHERE id = ? AND state = 'queued'",
                (time.time(), detail, send),
            )
            _send_event(sql, "sent", send, detail)

    def mark_refused(self, send: int, detail: str) -> SendState:
        """Record a refusal: queued again, or failed after `MAX_REFUSALS`. Returns the state."""
        with self._database.transaction() as sql:
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
        with self._database.transaction() as sql:
            changed = sql.execute(
                "UPDATE sends SET detail = ? WHERE destination = ? AND state = 'queued'"
                " AND detail IS NOT ?",
                (detail, destination, detail),
            ).rowcount
            if changed:
                write_event(sql, "waiting", None, f"{destination}: {detail}")

    def to_commit(self, destination: str, limit: int = 200) -> list[Send]:
        """Sent objects whose storage commitment has not been asked for."""
        return self._select(
            "sends.destination = ? AND sends.state = 'sent' AND sends.commitment"
            " AND sends.transaction_uid IS NULL",
            *(destination, limit),
        )

    def ask_commitment(self, sends: Sequence[int], transaction_uid: str) -> None:
        """Record that a transaction asks for these, before the request is sent."""
        with self._database.transaction() as sql:
            sql.executemany(
                "UPDATE sends SET transaction_uid = ? WHERE id = ? AND state = 'sent'",
                [(transaction_uid, send) for send in sends],
            )

    def forget_commitment(self, destination: str) -> None:
        """Allow commitment to be requested again for everything sent but not committed."""
        with self._database.transaction() as sql:
            sql.execute(
                "UPDATE sends SET transaction_uid = NULL WHERE destination = ? AND state = 'sent'",
                (destination,),
            )

    def forget_transaction(self, transaction_uid: str) -> None:
        """Record that a transaction did not reach the peer: its sends may be asked for again."""
        with self._database.transaction() as sql:
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
        with self._database.transaction() as sql:
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

    def retry(self, send: int, states: Sequence[SendState] = ("failed", "sent")) -> bool:
        """Queue a send again that is in one of these states: it failed, or was sent and then lost.

        False where there is none.
        """
        with self._database.transaction() as sql:
            found = sql.execute(
                "UPDATE sends SET state = 'queued', refusals = 0, transaction_uid = NULL"
                f" WHERE id = ? AND state IN ({places(states)})",
                (send, *states),
            ).rowcount
            if found:
                _send_event(sql, "queued", send, None)
            return bool(found)

    def drop(self, send: int) -> bool:
        """Give up a send, so that its job can be deleted in time."""
        with self._database.transaction() as sql:
            return bool(
                sql.execute(
                    "DELETE FROM sends WHERE id = ? AND state IN ('queued', 'failed')", (send,)
                ).rowcount
            )


def _send_event(sql: sqlite3.Connection, kind: str, send: int, detail: str | None) -> None:
    row = sql.execute(
        "SELECT objects.job, objects.kind, sends.destination FROM sends"
        " JOIN objects ON objects.id = sends.object WHERE sends.id = ?",
        (send,),
    ).fetchone()
    if row is not None:
        said = f": {detail}" if detail else ""
        write_event(sql, kind, row["job"], f"{row['kind']} to {row['destination']}{said}")


def _send(row: sqlite3.Row) -> Send:
    return Send(
        **{name: row[name] for name in Send.__dataclass_fields__ if name != "commitment"},
        commitment=bool(row["commitment"]),
    )
