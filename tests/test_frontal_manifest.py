"""Classified radiographs join the images that train the frontal check."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from xrayedge.data import load_dataset

SCRIPT = Path(__file__).parents[1] / "tools" / "frontal_manifest.py"


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        image = path.parent / row[0]
        if not image.exists():
            cv2.imwrite(str(image), np.full((120, 130), 10 * number, np.uint8))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["file", "label", "split", "patient_id", "source", "original_name"], *rows]
        )
    return path


@pytest.fixture
def frontal(tmp_path):
    rows = [
        ["chest.png", "frontal", "train", "1", "A", "a.dcm"],
        ["side.png", "lateral", "train", "2", "A", "b.dcm"],
        ["hand.png", "other_xray", "test", "3", "B", "c.dcm"],
    ]
    return write(tmp_path / "data" / "frontal.csv", rows)


def joined(*manifests, out):
    command = [sys.executable, SCRIPT, *manifests, "--out", out]
    return subprocess.run(command, capture_output=True, text=True)


def test_classified_radiographs_are_frontal(frontal, tmp_path):
    sites = write(
        frontal.parent / "sites.csv",
        [
            ["chest.png", "covid", "train", "1", "A", "a.dcm"],  # both have it
            ["ill.png", "other", "val", "4", "C", "d.dcm"],
            ["well.png", "healthy", "train", "5", "C", "e.dcm"],
        ],
    )
    out = tmp_path / "elsewhere" / "all.csv"
    out.parent.mkdir()
    done = joined(frontal, sites, out=out)
    assert done.returncode == 0, done.stderr
    samples = load_dataset(out, complete=False).samples
    assert [(one.path.name, one.label, one.split, one.group) for one in samples] == [
        ("chest.png", "frontal", "train", "1"),
        ("side.png", "lateral", "train", "2"),
        ("hand.png", "other_xray", "test", "3"),
        ("ill.png", "frontal", "test", "4"),
        ("well.png", "frontal", "train", "5"),
    ]
    assert all(one.path.is_file() for one in samples)
    assert [one.columns["original_name"] for one in samples] == [
        "a.dcm",
        "b.dcm",
        "c.dcm",
        "d.dcm",
        "e.dcm",
    ]


def test_a_patient_on_two_sides_is_refused(frontal, tmp_path):
    sites = write(frontal.parent / "sites.csv", [["new.png", "covid", "train", "3", "C", ""]])
    done = joined(frontal, sites, out=tmp_path / "all.csv")
    assert done.returncode == 2
    assert "of the same patient" in done.stderr
    assert not (tmp_path / "all.csv").exists()


def test_a_manifest_that_is_read_is_never_replaced(frontal):
    before = frontal.read_bytes()
    done = joined(frontal, frontal, out=frontal)
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert frontal.read_bytes() == before
