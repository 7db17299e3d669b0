"""A watched folder, from half-written uploads to power cuts."""

import shutil

import pytest

pytest.importorskip("pydicom")

from xrayedge.station.config import FolderConfig
from xrayedge.station.inputs.folder import WatchedFolder
from xrayedge.station.state import StateFolder


@pytest.fixture
def state(tmp_path):
    with StateFolder(tmp_path / "state") as state:
        yield state


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def watched(inbox, state, **options):
    return WatchedFolder(FolderConfig(inbox, **options), state, "balanced")


def look_twice(folder):
    folder.look()
    folder.look()


def test_a_file_is_taken_when_it_has_not_changed_between_two_looks(chest, inbox, state):
    shutil.copy(chest, inbox / "MUSTERMANN.dcm")
    (inbox / ".part").write_bytes(b"half")
    folder = watched(inbox, state)
    folder.look()
    assert state.store.jobs.search() == []
    folder.look()
    (job,) = state.store.jobs.search()
    assert (job.origin, job.state) == ("folder", "received")
    assert state.image(job).read_bytes() == chest.read_bytes()
    assert [path.name for path in inbox.iterdir()] == [".part"]
    assert "MUSTERMANN" not in job.file


def test_an_upload_that_stalls_is_left_to_its_sender(chest, inbox, state):
    content = chest.read_bytes()
    path = inbox / "image.dcm"
    path.write_bytes(content[:100_000])
    folder = watched(inbox, state)
    for _ in range(3):
        folder.look()
    assert state.store.jobs.search() == []
    with path.open("ab") as stream:
        stream.write(content[100_000:])
    look_twice(folder)
    (job,) = state.store.jobs.search()
    assert job.size == len(content)


def test_what_can_t_be_read_is_taken_in_the_end(inbox, state):
    (inbox / "note.dcm").write_text("no image")
    look_twice(watched(inbox, state, patience=0.0))
    (job,) = state.store.jobs.search()
    assert job.sop_instance_uid is None


def test_only_names_of_the_pattern_are_taken(chest, inbox, state):
    shutil.copy(chest, inbox / "a.txt")
    look_twice(watched(inbox, state, pattern="*.dcm"))
    assert state.store.jobs.search() == []


def test_a_power_cut_between_any_two_steps_takes_a_file_once(chest, inbox, state, monkeypatch):
    shutil.copy(chest, inbox / "image.dcm")
    folder = watched(inbox, state)
    take_in = state.take_in

    def cut(*_arguments, **_options):
        raise KeyboardInterrupt

    def take_in_and_cut(*arguments, **options):
        take_in(*arguments, **options)
        raise KeyboardInterrupt

    for step in (cut, take_in_and_cut):  # before the row, and after it
        monkeypatch.setattr(state, "take_in", step)
        with pytest.raises(KeyboardInterrupt):
            look_twice(folder)
        assert len(list(inbox.iterdir())) == 1  # under its hidden name
    monkeypatch.setattr(state, "take_in", take_in)
    look_twice(watched(inbox, state))
    assert len(state.store.jobs.search()) == 1
    assert list(inbox.iterdir()) == []
