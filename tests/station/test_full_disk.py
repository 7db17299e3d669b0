"""A disk that is really full, a small file system in memory: nothing is lost, and it goes on."""

import json
import logging
import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import replace

import pytest

pytest.importorskip("pydicom")
pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

from units import LISTEN, image, listening, store, wait_until

from xrayedge.bundle import SHIPPED
from xrayedge.errors import StorageFullError
from xrayedge.station import worker as worker_module
from xrayedge.station.config import ConsoleConfig, Destination, Peer, StationConfig
from xrayedge.station.service import Station
from xrayedge.station.state import StateFolder
from xrayedge.station.worker import Worker

MEGABYTE = 1 << 20


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state folder on a disk of 12 MB of its own."""
    path = tmp_path / "state"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={12 * MEGABYTE}", "tmpfs", path]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        with StateFolder(path) as state:
            monkeypatch.setattr("tempfile.tempdir", str(state.tmp))
            yield state
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(state, leave=0):
    """Leave so many bytes free; the file to delete for room."""
    ballast = state.path / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        with suppress(OSError):
            while stream.write(bytes(4096)):
                pass
        stream.truncate(stream.tell() - leave)
    return ballast


@pytest.mark.parametrize("leave", [0, MEGABYTE])  # for the file's beginning, or nothing at all
def test_what_does_not_fit_is_a700_and_what_comes_later_is_taken(state, leave):
    large = image(PixelData=bytes(2 * MEGABYTE), Rows=2048, Columns=1024)
    with listening(state) as port:
        assert store(port, image()) == [0]
        ballast = fill(state, leave)
        assert store(port, large, large) == [0xA700, 0xA700]
        assert list(state.tmp.iterdir()) == []
        ballast.unlink()
        assert store(port, large, image()) == [0, 0]
    assert len(state.store.jobs.search()) == len(list(state.incoming.iterdir())) == 3


def test_an_unknown_unit_is_turned_away_and_that_is_noted_when_there_is_room(state):
    station = Station(StationConfig(console=ConsoleConfig(enabled=False)), state)

    def something_waits():
        with suppress(StorageFullError):
            return state.store.events.write_held()
        return True

    with listening(state, replace(LISTEN, allow=(Peer("UNIT1", "127.0.0.1"),))) as port:
        ballast = fill(state)
        assert store(port, image(), ae="STRANGER") == []
        wait_until(something_waits)
    assert state.store.events.read() == []
    freed = time.time()
    ballast.unlink()
    station._keep_house(0.0)
    (event,) = state.store.events.read()
    assert (event.kind, event.job) == ("warning", None)
    assert "unknown AE title" in event.detail
    assert event.at < freed


def test_results_wait_for_room_and_leave_no_halves(state, chest, monkeypatch):
    monkeypatch.setattr(worker_module, "_TROUBLE_SECONDS", 0.05)
    temporary = state.tmp / "new"
    temporary.write_bytes(chest.read_bytes())
    state.take_in(
        temporary,
        origin="dicom",
        sender="UNIT1",
        sop_instance_uid="1.2.3",
        operating_point="balanced",
    )
    worker = Worker(StationConfig(destinations=(Destination("pacs", "127.0.0.1", 1),)), state)
    tries = []
    finish = worker._finish
    monkeypatch.setattr(worker, "_finish", lambda job: (tries.append(job), finish(job)))
    ballast = fill(state, leave=64 * 1024)  # for the report, and not for the overlay
    worker.start()
    try:
        wait_until(lambda: len(tries) > 2 or worker.failure)
        assert worker.failure is None
        assert len(list(state.outbox.iterdir())) <= 1
        ballast.unlink()
        wait_until(lambda: state.store.jobs.counts() == {"done": 1} or worker.failure)
    finally:
        worker.stop()
        worker.join()
    assert len(list(state.outbox.iterdir())) == len(state.store.sends.search()) == 2


def install(version, models):
    """As `xrayedge models install` leaves it, by hand."""
    slot = models / "vgg16-edge" / version
    shutil.copytree(SHIPPED / "vgg16-edge", slot)
    manifest = slot / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": version}))
    (slot / ".unsigned").touch()
    (slot.parent / "new").symlink_to(version)
    (slot.parent / "new").rename(slot.parent / "current")


def test_a_new_model_waits_for_room_and_the_old_one_goes_on(state, tmp_path, monkeypatch, caplog):
    models = tmp_path / "models"
    monkeypatch.setenv("XRAYEDGE_MODELS", str(models))
    install("1", models)
    worker = Worker(StationConfig(), state)
    install("2", models)
    ballast = fill(state)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # images
            worker._follow_update()
            assert worker.screener.bundle.version == "1"
            worker.screener.warm_up()  # it was not closed
    assert len(caplog.records) == 1
    assert "vgg16-edge 1 goes on, vgg16-edge 2 has to wait" in caplog.text
    assert "free space on its disk" in caplog.text
    ballast.unlink()
    worker._follow_update()
    assert worker.screener.bundle.version == "2"
    (entry,) = state.store.audit.entries()
    assert (entry.what, entry.old, entry.new) == ("model", "vgg16-edge 1", "vgg16-edge 2")
