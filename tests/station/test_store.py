"""The queue's states, what may be deleted, and the audit's chain."""

import sqlite3
import time
from datetime import date, timedelta

import numpy as np
import pytest

from xrayedge.errors import StationError
from xrayedge.station.config import ConsoleConfig, KeepConfig, StationConfig
from xrayedge.station.records import Measured, NewJob, NewObject, Outcome
from xrayedge.station.service import Station
from xrayedge.station.store import Store
from xrayedge.station.store.events import MOST_HELD
from xrayedge.station.store.jobs import MAX_CRASHES
from xrayedge.station.store.measures import TOTAL_SECONDS, count_image
from xrayedge.station.store.sends import MAX_REFUSALS

DAY = 86_400.0
ROOM = 1_000_000  # pages


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "station.db")
    yield store
    store.close()


def put(store, file, uid=None, sha256="0" * 64):
    return store.jobs.receive(NewJob(file, "dicom", "UNIT1", uid, sha256, 10), "balanced")


def screened(store, file="a.dcm", destinations=(("pacs", False),)):
    """A job that is done, with a report on its way."""
    job = put(store, file).job
    assert store.jobs.take().id == job
    report = NewObject("sr", f"sr-{file}", "1.1", f"2.25.{job}", "1.2", dict(destinations))
    store.jobs.finish(job, Outcome("done", {"status": "screened"}, objects=[report]))
    return job


def test_a_job_goes_from_received_to_done(store):
    job = put(store, "a.dcm").job
    assert store.jobs.get(job).state == "received"
    taken = store.jobs.take()
    assert (taken.id, taken.state, taken.operating_point) == (job, "screening", "balanced")
    assert store.jobs.take() is None
    heat = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    store.jobs.finish(job, Outcome("done", {"label": "healthy"}, activation_map=heat))
    assert store.jobs.get(job).state == "done"
    assert store.jobs.get(job).result == {"label": "healthy"}
    assert np.array_equal(store.jobs.activation_map(job), heat)
    assert [event.kind for event in store.events.read()] == ["received", "screening", "screened"]


def test_the_same_instance_is_taken_once_and_other_bytes_are_noted(store):
    first = put(store, "a.dcm", "1.2.3", "a" * 64)
    again = put(store, "b.dcm", "1.2.3", "a" * 64)
    other = put(store, "c.dcm", "1.2.3", "c" * 64)
    assert (first.new, again.new, again.job) == (True, False, first.job)
    assert (other.new, other.altered) == (True, True)
    assert put(store, "d.png").new
    assert put(store, "e.png").new  # not DICOM: nothing says that it is the same


def test_a_job_that_crashes_again_and_again_is_set_aside(store):
    job = put(store, "a.dcm").job
    for crashes in range(1, MAX_CRASHES):
        store.jobs.take()
        assert store.jobs.recover() == []
        assert store.jobs.get(job).crashes == crashes
    store.jobs.take()
    assert [one.id for one in store.jobs.recover()] == [job]
    assert store.jobs.get(job).state == "set-aside"
    assert store.jobs.take() is None
    assert store.jobs.retry(job)
    assert store.jobs.take().id == job


def test_a_stop_is_no_crash(store):
    job = put(store, "a.dcm").job
    for _ in range(MAX_CRASHES + 1):
        store.jobs.take()
        store.jobs.give_back(job)
        store.jobs.recover()
    assert store.jobs.take().crashes == 0


def test_a_send_fails_after_refusals_and_can_be_retried(store):
    screened(store)
    (send,) = store.sends.search(states=["queued"])
    states = [store.sends.mark_refused(send.id, "0122") for _ in range(MAX_REFUSALS)]
    assert states == ["queued"] * (MAX_REFUSALS - 1) + ["failed"]
    assert store.sends.retry(send.id, states=["failed"])
    assert not store.sends.retry(send.id)  # it waits already
    store.sends.mark_sent(send.id)
    assert not store.sends.retry(send.id, states=["failed"])
    assert store.sends.counts() == {("pacs", "sent"): 1}
    assert store.sends.retry(send.id)
    assert store.sends.counts() == {("pacs", "queued"): 1}


def test_commitment_commits_what_is_kept_and_sends_the_rest_again(store):
    kept, lost = screened(store, "a.dcm", [("pacs", True)]), screened(store, "b.dcm", [("pacs", 1)])
    for send in store.sends.search():
        store.sends.mark_sent(send.id)
    asked = store.sends.to_commit("pacs")
    store.sends.ask_commitment([send.id for send in asked], "2.25.9")
    assert store.sends.to_commit("pacs") == []
    assert not store.sends.commit("2.25.8", [f"2.25.{kept}"], [])
    assert store.sends.commit("2.25.9", [f"2.25.{kept}"], [f"2.25.{lost}"])
    assert [send.state for send in store.sends.search()] == ["committed", "queued"]


def days_of_service(store, days):
    first = date(2026, 1, 1)
    for day in range(days):
        store.retention.count_day(first + timedelta(day))


def test_only_what_is_old_and_delivered_is_deleted(store):
    screened(store, "a.dcm", [])
    waiting = screened(store, "b.dcm")
    days_of_service(store, 40)
    new = screened(store, "c.dcm", [])
    later = time.time() + 40 * DAY
    assert store.retention.forget_old(30, later).images == ("a.dcm",)
    assert store.jobs.get(waiting) is not None
    assert store.jobs.get(new) is not None
    (send,) = store.sends.search(job=waiting)
    store.sends.mark_sent(send.id)
    assert store.retention.forget_old(30, later).objects == ("sr-b.dcm",)
    assert store.retention.known_files() == {"c.dcm", "sr-c.dcm"}


def test_a_clock_that_is_corrected_deletes_nothing(store):
    for name in ("a.dcm", "b.dcm"):
        screened(store, name, [])
    store.retention.count_day(date(1970, 1, 1))
    store.retention.count_day(date(2026, 1, 1))  # one day, whatever the clock jumped
    assert store.retention.forget_old(30, time.time() + 20_000 * DAY).jobs == ()


def test_of_the_events_the_newest_are_kept(store):
    for number in range(30):
        store.events.warn(f"warning {number}")
    store.events.forget(10)
    assert [one.detail for one in store.events.read()] == [f"warning {n}" for n in range(20, 30)]
    last = store.events.last()
    store.events.forget(10)
    assert len(store.events.read()) == 10
    store.events.warn("another")
    assert store.events.last() == last + 1


def test_a_running_station_deletes_old_events(state):
    keep = KeepConfig(days=None, events=5)
    station = Station(StationConfig(console=ConsoleConfig(enabled=False), keep=keep), state)
    for number in range(8):
        state.store.events.warn(f"warning {number}")
    station._keep_house(0.0)
    assert [one.detail for one in state.store.events.read()] == [
        f"warning {n}" for n in range(3, 8)
    ]


def limit(store, pages):
    """As a disk of so many pages; SQLite takes at least the number that it has."""
    store.events._database._connection.execute(f"PRAGMA max_page_count = {pages}")


def warning(text):
    return f"{text:8192}"  # more than fits in a page that is there


def test_warnings_wait_while_the_disk_is_full(store):
    limit(store, 1)
    store.events.warn(warning("rejected"))
    store.events.warn(warning("the disk is full"), 1)
    store.events.warn(warning("the disk is full"), 2)
    for _ in range(MOST_HELD):
        store.events.warn(warning("rejected"))
    assert store.events.read() == []
    limit(store, ROOM)
    store.events.warn("another")
    store.events.warn("another")
    assert [(one.detail.strip(), one.job) for one in store.events.read()] == [
        ("rejected", None),
        ("the disk is full", 1),
        ("the disk is full", 2),
        ("another", None),
        ("another", None),
    ]


def test_only_so_many_warnings_wait(store):
    limit(store, 1)
    for number in range(MOST_HELD + 5):
        store.events.warn(warning(number))
    limit(store, ROOM)
    store.events.write_held()
    found = [int(one.detail) for one in store.events.read()]
    assert found == list(range(MOST_HELD))
    store.events.write_held()
    assert len(store.events.read()) == MOST_HELD


def test_warnings_that_wait_are_written_at_the_end(tmp_path):
    for at_the_end, kept in ((1, []), (ROOM, ["rejected"])):
        store = Store(tmp_path / "station.db")
        limit(store, 1)
        store.events.warn(warning("rejected"))
        limit(store, at_the_end)
        store.close()
        store = Store(tmp_path / "station.db")
        assert [one.detail.strip() for one in store.events.read()] == kept
        store.close()


def test_what_waits_for_commitment_is_kept(store):
    job = screened(store, "a.dcm", [("pacs", True)])
    days_of_service(store, 40)
    screened(store, "b.dcm", [])
    (send,) = store.sends.search(job=job)
    store.sends.mark_sent(send.id)
    assert store.retention.forget_old(30, time.time() + 40 * DAY).jobs == ()


def test_the_audit_tells_what_was_altered(store, tmp_path):
    store.settings.change("operating_point", "sensitive", "anna")
    store.audit.record("anna", "signed in")
    store.settings.change("operating_point", "balanced", "anna")
    assert store.audit.verify() == 3
    assert store.audit.entries()[2].old == "sensitive"
    other = sqlite3.connect(tmp_path / "station.db")
    with other:
        other.execute("DELETE FROM audit WHERE id = 3")
    with pytest.raises(StationError, match="missing at the audit's end"):
        store.audit.verify()
    with other:
        other.execute("UPDATE audit SET who = 'otto' WHERE id = 2")
    other.close()
    with pytest.raises(StationError, match="altered at entry 2"):
        store.audit.verify()


def test_histograms_count_by_day_and_station(store):
    for file, number in (("a.dcm", 3), ("b.dcm", 3), ("c.dcm", 4)):
        job = put(store, file).job
        store.jobs.take()
        measured = Measured("UNIT1", "vgg16-edge 1", {"covid": number}, milliseconds=500.0)
        store.jobs.finish(job, Outcome("done", {}, measured=measured))
    today = time.strftime("%Y-%m-%d")
    assert store.measures.histograms(today, today) == {"covid": {3: 2, 4: 1}}
    assert store.measures.histograms(today, today, "UNIT2") == {}
    assert store.measures.daily("covid", today, today) == {today: {3: 2, 4: 1}}
    assert store.measures.totals() == {"covid": {3: 2.0, 4: 1.0}, TOTAL_SECONDS: {0: 1.5}}


def counted(store, day, number):
    """An image on this day."""
    with store.measures._database.transaction() as sql:
        measured = Measured("UNIT1", "vgg16-edge 1", {"covid": number}, milliseconds=500.0)
        count_image(sql, day.isoformat(), measured)


def test_old_histograms_are_deleted_and_totals_are_not(store):
    today = date(2026, 5, 31)
    for ago in range(5):
        counted(store, today - timedelta(ago), ago)
    store.measures.forget(3, today)
    kept = ["2026-05-28", "2026-05-29", "2026-05-30", "2026-05-31"]
    assert list(store.measures.daily("covid", "", "9")) == kept
    assert store.measures.totals()["covid"] == dict.fromkeys(range(5), 1.0)


def test_a_clock_that_jumps_keeps_the_newest_histograms(store):
    today = date(2026, 5, 31)
    for ago in range(5):
        counted(store, today - timedelta(ago), ago)
    store.measures.forget(3, date(2099, 1, 1))
    kept = ["2026-05-29", "2026-05-30", "2026-05-31"]
    assert list(store.measures.daily("covid", "", "9")) == kept
    for ahead in range(3):
        counted(store, date(2099, 1, 1) + timedelta(ahead), 0)
    store.measures.forget(3, today)  # corrected
    assert list(store.measures.daily("covid", "", "2099")) == kept


@pytest.mark.parametrize(("days", "oldest"), [(None, 500), (40, 40), (1, 30)])
def test_a_running_station_keeps_the_histograms_that_it_shows(state, days, oldest):
    keep = KeepConfig(days=days)
    station = Station(StationConfig(console=ConsoleConfig(enabled=False), keep=keep), state)
    today = date.today()
    for ago in (500, *range(45)):
        counted(state.store, today - timedelta(ago), 0)
    station._keep_house(0.0)
    found = list(state.store.measures.daily("covid", "", "9"))
    assert found[0] == (today - timedelta(oldest)).isoformat()
    assert found[-1] == today.isoformat()


def test_a_file_that_is_no_database_is_refused_in_a_line(tmp_path):
    path = tmp_path / "station.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StationError, match=r"station\.db: can't be used"):
        Store(path)
