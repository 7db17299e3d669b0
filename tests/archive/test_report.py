"""The report of an archive: one page that counts what its parts hold."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("distributed")

from click.testing import CliRunner
from made_archive import Screened

from xrayedge import reference
from xrayedge.archive.report import write_report
from xrayedge.archive.summary import MOST_FOLDERS, common_folder, summarise
from xrayedge.cli.group import Group
from xrayedge.errors import BundleError, ResultsError

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [f"{'north' if one < 250 else '<b>south'}/Doe^John-{one}.dcm" for one in range(500)]
VOID = {"meta", "br"}


class Page(HTMLParser):
    """The tables of a page, and whether its tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        """Closed."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first):
        (found,) = [row for row in self.rows if row[0] == first]
        return found


@pytest.fixture(scope="module")
def screened(chest, leg):
    return Screened.of(chest, leg)


@pytest.fixture(scope="module")
def archive(screened, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "out"
    screened.archive(folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def page(archive):
    write_report(archive, archive / "report.html")
    return (archive / "report.html").read_text()


def command(*arguments):
    return CliRunner().invoke(Group("xrayedge"), ["archive", "report", *map(str, arguments)])


def test_the_page_counts_every_image(page):
    shown = Page(page)
    assert not shown.open
    assert shown.row("rejected: not-frontal")[1:] == ["50", "10.00%"]
    assert shown.row("failed: unreadable")[1:] == ["49", "9.80%"]
    assert shown.row("failed: crashed")[1:] == ["1", "0.20%"]
    called = [int(shown.row(f"screened: {name}")[1]) for name in ("covid", "healthy", "pneumonia")]
    assert called == [200, 200, 0]
    assert shown.row("north")[1:3] == ["250", "20.0%"]
    assert shown.row("<b>south")[1] == "250"
    assert shown.row("2023-01")[1] == "42"
    assert len([row for row in shown.rows if row[0].startswith("2023-")]) == 12


def test_the_page_names_no_file_and_asks_for_nothing(page):
    assert "Doe" not in page
    assert "part 2, row 99" in page
    assert "ended by SIGSEGV, twice" in page
    assert not re.search(r"(src|href|url)\s*[=(]|<script|https?:", page)


def test_scores_are_compared_with_the_bundles_reference(page):
    shown = Page(page)
    # Spread evenly from 1 to 0, which no class's probability is in the reference.
    assert shown.row("probability of healthy")[1] == "400"
    assert shown.row("probability of healthy")[-1] == "drift"
    assert shown.row("probability of pneumonia")[-1] == "drift"


def test_histograms_are_those_of_the_rows(archive):
    summary = summarise(archive)
    tables = [pq.read_table(path) for path in sorted((archive / "parts").iterdir())]
    rows = [row for table in tables for row in table.to_pylist()]
    for column, name in enumerate(("covid", "healthy", "pneumonia")):
        values = [row["probabilities"][name] for row in rows if row["status"] == "screened"]
        expected = reference.histogram(np.array(values), 0.0, 1.0).counts
        found = summary.folders.histograms[:, column].sum(axis=0)
        assert np.abs(found - expected).max() <= 1  # on an edge
    assert summary.bytes == sum(row["size"] for row in rows)
    slowest = max(row["timings_ms"]["total"] or 0.0 for row in rows)
    assert summary.slowest[0].total == slowest
    assert slowest / 1.13 <= summary.quantile(1.0) <= slowest * 1.13


def test_an_unfinished_archive_says_so(screened, tmp_path):
    screened.archive(tmp_path / "out", NAMES, parts=1)
    found = command(tmp_path / "out")
    assert found.exit_code == 0
    assert "200 of 500 images" in found.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 of 3 parts are not there yet" in page


def test_folders_of_patients_are_not_shown(screened, tmp_path):
    names = [f"patient-{one}/1.dcm" for one in range(2 * MOST_FOLDERS)]
    screened.archive(tmp_path / "out", names)
    write_report(tmp_path / "out", tmp_path / "page.html")
    assert "patient-" not in (tmp_path / "page.html").read_text()


def test_the_common_folder_is_the_deepest(screened, tmp_path):
    plan = screened.archive(tmp_path / "out", ["a/bc/1.dcm", "a/bd/2.dcm"], parts=0)
    assert common_folder(plan.folder / "manifest.parquet") == f"{tmp_path}/out/a/"


def test_what_cannot_be_reported_is_one_line(screened, tmp_path):
    found = command(tmp_path)
    assert (found.exit_code, found.output.count("\n")) == (2, 1)
    screened.archive(tmp_path / "out", NAMES[:10], parts=0)
    with pytest.raises(ResultsError, match="nothing to report"):
        write_report(tmp_path / "out", tmp_path / "page.html")
    screened.archive(tmp_path / "two", NAMES[:10])
    with pytest.raises(BundleError):
        write_report(tmp_path / "two", tmp_path / "page.html", "no-such-model")
    (tmp_path / "two" / "parts" / "part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match=r"part-000000\.parquet: .*damaged"):
        write_report(tmp_path / "two", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("program", ["archive_pyarrow.py", "archive_duckdb.py"])
def test_the_examples_read_an_archive(archive, program):
    if program == "archive_duckdb.py":
        pytest.importorskip("duckdb")
    shown = subprocess.run(
        [sys.executable, EXAMPLES / program, archive], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"unreadable\D+49|49\D+unreadable", shown)
