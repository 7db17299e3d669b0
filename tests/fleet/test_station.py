"""A station takes a new model up between two images, and says so in its audit."""

import shutil
import time

import pytest
from fleet.factory import NAME

pytest.importorskip("highdicom")

from xrayedge.station.config import ScreenConfig, StationConfig
from xrayedge.station.state import StateFolder
from xrayedge.station.worker import Worker


def screened(state, worker, image, number):
    """The version of the model that screens this image."""
    temporary = state.path / "tmp" / f"image-{number}"
    shutil.copy(image, temporary)
    receipt = state.take_in(
        temporary, origin="folder", sender="test", sop_instance_uid=None, operating_point="balanced"
    )
    deadline = time.monotonic() + 60
    while (job := state.store.jobs.get(receipt.job)).state in ("received", "screening"):
        assert worker.failure is None, worker.failure
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job.result["version"]


def test_a_new_model_is_taken_up_between_two_images(device, first, second, chest, leg, tmp_path):
    device.install(first)
    config = StationConfig(screen=ScreenConfig(model=NAME))
    with StateFolder(tmp_path / "state") as state:
        worker = Worker(config, state)
        worker.start()
        try:
            assert screened(state, worker, chest, 1) == "1.0"
            device.install(second)
            assert screened(state, worker, leg, 2) == "2.0"
            device.rollback(NAME)
        finally:
            worker.stop()
            worker.join(60)
        entries = [(one.what, one.old, one.new) for one in state.store.audit.entries()]
        assert ("model", f"{NAME} 1.0", f"{NAME} 2.0") in entries
