"""Images that kill the process which screens them, really."""

import hashlib
import os

import cv2
import numpy as np
import pytest
from images import DEADLY, comparable, place

pytest.importorskip("pyarrow")

from dataclasses import replace

from xrayedge.archive.process import Job, ScreeningProcess
from xrayedge.archive.sources import Listed
from xrayedge.errors import ArchiveError


@pytest.fixture(scope="module")
def settled():
    return Job("vgg16-edge").settled()


@pytest.fixture(autouse=True)
def deadly(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(DEADLY))


def test_what_kills_its_process_is_a_row_and_the_others_are_as_screened(
    settled, originals, expected, tmp_path
):
    names = {
        "a.png": "chest",
        "deadly-segfault.png": "chest",
        "b.png": "leg",
        "deadly-abort.png": "chest",
        "deadly-once.png": "chest",
        "c.png": "broken",
        "d.png": "small",
    }
    for name, original in names.items():
        place(originals[original], tmp_path / name)
    os.mkfifo(tmp_path / "fifo.png")
    sources = [*names, "fifo.png", "missing.png"]
    with ScreeningProcess(*settled) as process:
        rows = process.screen([Listed(str(tmp_path / name), 7) for name in sources])
    assert [row["source"] for row in rows] == [str(tmp_path / name) for name in sources]
    found = dict(zip(sources, rows, strict=True))
    for name, end in (("segfault", "SIGSEGV"), ("abort", "SIGABRT")):
        row = found.pop(f"deadly-{name}.png")
        assert (row["status"], row["reason"], row["size"]) == ("failed", "crashed", 7)
        assert end in row["detail"]
    for name in ("fifo.png", "missing.png"):
        assert found.pop(name)["reason"] == "unreadable"
    for name, row in found.items():
        content = (tmp_path / name).read_bytes()
        assert comparable(row) == expected[names[name]]
        assert row["size"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()


def test_an_image_without_end_is_a_row(settled, originals, tmp_path):
    place(originals["chest"], tmp_path / "deadly-loop.png")
    job, settings = settled
    with ScreeningProcess(replace(job, time_limit=1.0), settings) as process:
        (row,) = process.screen([Listed(str(tmp_path / "deadly-loop.png"))])
    assert (row["status"], row["reason"]) == ("failed", "crashed")
    assert "took longer than 1 seconds, twice" in row["detail"]


def test_memory_is_bounded_by_the_kernel(settled, originals, tmp_path):
    """A PNG of some 100 kB takes 200 MB as 16 bits and more to be read: the image fails alone."""
    cv2.imwrite(str(tmp_path / "bomb.png"), np.zeros((9_900, 9_900), np.uint16))
    place(originals["chest"], tmp_path / "chest.png")
    job, settings = settled
    with ScreeningProcess(replace(job, memory=400_000_000), settings) as process:
        bomb, chest = process.screen(
            [Listed(str(tmp_path / name)) for name in ("bomb.png", "chest.png")]
        )
    assert (bomb["status"], chest["status"]) == ("failed", "screened")


def test_a_process_that_would_make_other_rows_is_refused(settled):
    job, settings = settled
    other = replace(settings, engine_version="0.0.1")
    with (
        ScreeningProcess(job, other) as process,
        pytest.raises(ArchiveError, match=r"engine_version 0\.0\.1, now "),
    ):
        process.screen([Listed("a.png")])
    with (
        ScreeningProcess(replace(job, memory=1_000_000), settings) as process,
        pytest.raises(ArchiveError, match="more memory"),
    ):
        process.screen([Listed("a.png")])
