"""From a job to its result and objects, and what a state folder mends at the start."""

import sqlite3

import pytest

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

import pydicom

from xrayedge.errors import StationError
from xrayedge.station.config import Destination, ScreenConfig, StationConfig
from xrayedge.station.state import StateFolder
from xrayedge.station.worker import Worker

PACS = Destination("pacs", "127.0.0.1", 1, "PACS")


def put(state, image, uid="1.2.3"):
    temporary = state.tmp / "new"
    temporary.write_bytes(image.read_bytes())
    return state.take_in(
        temporary,
        origin="dicom",
        sender="UNIT1",
        sop_instance_uid=uid,
        operating_point=state.operating_point("balanced"),
    ).job


def work(state, config):
    """Every job that waits, by a worker of its own."""
    worker = Worker(config, state)
    while (job := state.store.jobs.take()) is not None:
        worker._do(job)


def test_a_job_gets_its_result_and_one_object_a_kind(chest, leg, state):
    shown, refused = put(state, chest), put(state, leg, "1.2.4")
    state.store.settings.change("operating_point", "sensitive", "anna")
    later = put(state, chest, "1.2.5")
    work(state, StationConfig(destinations=(PACS, Destination("web", kinds=("sr",)))))
    job = state.store.jobs.get(shown)
    assert (job.state, job.result["label"], job.result["source"]) == ("done", "pneumonia", job.file)
    assert sorted((one.kind, one.destination) for one in state.store.sends.search(job=shown)) == [
        *(("sc", "pacs"), ("sr", "pacs"), ("sr", "web")),
    ]
    assert len(set(state.store.jobs.objects(shown).values())) == 2
    assert state.store.jobs.activation_map(shown).ndim == 3
    assert state.store.jobs.get(refused).result["reason"] == "not-frontal"
    assert state.store.sends.search(job=refused) == []
    # Of later images only.
    assert [state.store.jobs.get(one).result["operating_point"] for one in (shown, later)] == [
        "balanced",
        "sensitive",
    ]
    assert "Mustermann" not in str(job) + str(state.store.events.read())
    assert str(state.path) not in str(state.store.jobs.get(refused))


def test_a_refused_image_may_get_a_report_that_says_why(chest, state, tmp_path):
    child = pydicom.dcmread(chest)
    child.PatientAge = "003M"
    path = tmp_path / "child.dcm"
    child.save_as(path)
    job = put(state, path)
    work(state, StationConfig(destinations=(PACS,), screen=ScreenConfig(refusals="sr")))
    assert state.store.jobs.get(job).result["reason"] == "too-young"
    (send,) = state.store.sends.search(job=job)
    report = pydicom.dcmread(state.outbox / send.file)
    assert b"Too young" in (state.outbox / send.file).read_bytes()
    assert report.StudyInstanceUID == child.StudyInstanceUID


def test_an_unreadable_image_gets_no_report_and_is_shown(chest, state, tmp_path):
    path = tmp_path / "cut.dcm"
    path.write_bytes(chest.read_bytes()[:100_000])
    job = put(state, path)
    work(state, StationConfig(destinations=(PACS,), screen=ScreenConfig(refusals="sr")))
    refused = state.store.jobs.get(job)
    assert (refused.state, refused.result["reason"]) == ("refused", "unreadable")
    # Why, and that there is no report: nothing in such a file is trusted to name a patient.
    assert "cut off" in refused.detail
    assert "no DICOM is written" in refused.detail
    assert state.store.sends.search() == []
    assert (state.incoming / refused.file).exists()


def test_the_same_instance_with_other_bytes_gets_objects_of_its_own(chest, state, tmp_path):
    other = pydicom.dcmread(chest)
    other.PatientComments = "changed"
    path = tmp_path / "other.dcm"
    other.save_as(path)
    put(state, chest)
    put(state, path)
    work(state, StationConfig(destinations=(PACS,)))
    assert len({send.sop_instance_uid for send in state.store.sends.search()}) == 4


def test_a_start_ends_what_was_begun(chest, tmp_path):
    with StateFolder(tmp_path / "state") as state:
        kept = state.store.jobs.get(put(state, chest)).file
        with pytest.raises(StationError, match="another station is running"):
            StateFolder(tmp_path / "state")
    for name in ("tmp/half", "incoming/unknown.dcm", "outbox/unknown.dcm"):
        (tmp_path / "state" / name).write_bytes(b"")
    with StateFolder(tmp_path / "state") as state:
        files = [path.name for path in state.path.rglob("*") if path.parent != state.path]
        assert files == [kept]


def test_images_without_their_database_are_not_deleted(chest, tmp_path):
    with StateFolder(tmp_path / "state") as state:
        put(state, chest)
    for path in (tmp_path / "state").glob("station.db*"):
        path.unlink()
    for _ in range(2):
        with pytest.raises(StationError, match=r"station\.db is missing, and 1 images are here"):
            StateFolder(tmp_path / "state")
    assert len(list((tmp_path / "state" / "incoming").iterdir())) == 1


def test_a_disk_that_is_full_takes_nothing_and_loses_nothing(chest, state, monkeypatch):
    job = put(state, chest)
    worker = Worker(StationConfig(destinations=(PACS,)), state)
    worker.stop()  # does not wait for room

    def full(_content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "keep_object", full)
    worker._do(state.store.jobs.take())
    assert state.store.jobs.get(job).state == "received"
    assert state.store.jobs.get(job).crashes == 0
    assert "No space left" in state.store.events.read()[-1].detail
    with sqlite3.connect(state.path / "station.db") as database:
        assert database.execute("SELECT count(*) FROM objects").fetchone() == (0,)
