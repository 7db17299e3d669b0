import csv
import json
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from xrayedge import Screener
from xrayedge.errors import ResultsError
from xrayedge.output.results import ResultsFile

SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".jsonl"])


@pytest.fixture(scope="module")
def screener():
    with Screener() as screener:
        yield screener


@pytest.fixture(scope="module")
def screening(screener):
    return screener.screen(np.zeros((256, 256), np.uint8))


def write(path, screener, *screenings):
    with ResultsFile(path, screener) as results:
        for screening in screenings:
            results.write(screening)


def sources(path):
    with path.open(newline="") as stream:
        if path.suffix == ".csv":
            return [row["source"] for row in csv.DictReader(stream)]
        return [json.loads(line)["source"] for line in stream]


@SUFFIXES
def test_a_second_writer_is_refused(screener, screening, tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    with ResultsFile(path, screener) as results:
        with pytest.raises(ResultsError, match="another process is writing"):
            ResultsFile(path, screener)
        results.write(screening)
        results.withdraw(["<array>"])  # which puts another file in its place
        with pytest.raises(ResultsError, match="another process is writing"):
            ResultsFile(path, screener)
    write(path, screener, screening)
    assert len(sources(path)) == 1


@contextmanager
def largest_file(size):
    """Files can't grow over this size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@SUFFIXES
def test_a_full_disk_leaves_whole_rows(screener, screening, tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    write(path, screener, screening)
    before = path.read_bytes()
    with (
        largest_file(len(before) + 50),
        ResultsFile(path, screener) as results,
        pytest.raises(ResultsError, match="File too large"),
    ):
        results.write(replace(screening, source="second"))
    assert path.read_bytes() == before
    write(path, screener, replace(screening, source="second"))
    assert sources(path) == ["<array>", "second"]


def test_a_name_that_is_too_long_is_one_error(screener, tmp_path):
    with pytest.raises(ResultsError, match="File name too long"):
        ResultsFile(tmp_path / ("a" * 300 + ".csv"), screener)


@SUFFIXES
def test_names_that_look_alike_stay_apart(screener, screening, tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    names = ["a\nb", "a\\nb", "a\\\\nb", "=1+1", "'=1+1", "-a", "@a", "+a", 'é"\\', "\udcff"]
    for name in names:
        with ResultsFile(path, screener) as results:
            assert results.status(name) is None
            results.write(replace(screening, source=name))
    with ResultsFile(path, screener) as results:
        assert [results.status(name) for name in names] == ["rejected"] * len(names)
    assert len(set(sources(path))) == len(names)


def test_no_cell_is_a_formula(screener, screening, tmp_path):
    path = tmp_path / "results.csv"
    write(
        path,
        screener,
        *(replace(screening, source=f"{start}cmd|' /C calc'!A0") for start in "=+-@"),
    )
    with path.open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


@SUFFIXES
def test_rows_can_be_withdrawn(screener, screening, tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    names = ["one", "=two", "three\n"]
    write(path, screener, *(replace(screening, source=name) for name in names))
    with ResultsFile(path, screener) as results:
        results.withdraw(["=two", "never there"])
        assert results.status("=two") is None
        results.write(replace(screening, source="four"))
    with ResultsFile(path, screener) as results:
        assert [results.status(name) is None for name in [*names, "four"]] == [0, 1, 0, 0]
