"""The copy of a dataset that travels to another machine."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from xrayedge.data import load_dataset, read_sample

SCRIPT = Path(__file__).parents[1] / "tools" / "pack_dataset.py"


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "data" / "sites.csv"
    path.parent.mkdir()
    columns = ["file", "label", "split", "patient_id", "source", "opacity_boxes", "sha256"]
    rows = [
        ["a/one.png", "covid", "train", "1", "A", "[[0.1, 0.2, 0.4, 0.6]]", "0"],
        ["a/two.png", "healthy", "val", "2", "A", "[]", "0"],
        ["three.png", "other", "train", "3", "B", "", "0"],
    ]
    (path.parent / "a").mkdir()
    for row, shape in zip(rows, ((700, 400), (300, 512), (90, 80)), strict=True):
        pixels = cv2.resize(rng.integers(0, 256, (8, 8)).astype(np.uint8), shape[::-1])
        cv2.imwrite(str(path.parent / row[0]), pixels)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def packed(*manifests, out):
    command = [sys.executable, SCRIPT, *manifests, "--out", out]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_copy_is_the_same_dataset_with_small_images(manifest, tmp_path):
    out = tmp_path / "packed"
    done = packed(manifest, out=out)
    assert done.returncode == 0, done.stderr
    before, after = (
        load_dataset(one, complete=False, non_classes=True).samples
        for one in (manifest, out / "sites.csv")
    )
    for sample, copy in zip(before, after, strict=True):
        for name in ("label", "split", "group", "source", "opacity_boxes"):
            assert getattr(sample, name) == getattr(copy, name)
        assert "sha256" not in copy.columns
        pixels, small = read_sample(sample), read_sample(copy)
        assert min(small.shape) == min(256, min(pixels.shape))
        shrunk = cv2.resize(pixels, small.shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(int) - small).mean() < 4


def test_what_is_there_is_not_copied_again(manifest, tmp_path):
    out = tmp_path / "packed"
    packed(manifest, out=out)
    first = next((out / "sites").iterdir())
    first.write_bytes(b"kept")
    (out / "sites.csv").unlink()
    assert packed(manifest, out=out).returncode == 0
    assert first.read_bytes() == b"kept"
    assert (out / "sites.csv").exists()


def test_a_missing_image_is_named(manifest, tmp_path):
    (manifest.parent / "three.png").unlink()
    done = packed(manifest, out=tmp_path / "packed")
    assert done.returncode == 2
    assert "row 4" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_manifest_is_replaced(manifest, tmp_path):
    before = manifest.read_bytes()
    done = packed(manifest, out=manifest.parent)
    assert done.returncode == 2
    assert "would replace" in done.stderr
    assert manifest.read_bytes() == before


def test_two_datasets_never_share_their_images(manifest, tmp_path):
    done = packed(manifest, manifest.with_suffix(".txt"), out=tmp_path / "packed")
    assert done.returncode == 2
    assert "different names" in done.stderr
    assert packed(manifest, out=tmp_path / "packed").returncode == 0
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join([lines[0], *lines[:0:-1]]))  # the rows the other way round
    done = packed(manifest, out=tmp_path / "packed")
    assert done.returncode == 2
    assert "the copy of another manifest" in done.stderr
