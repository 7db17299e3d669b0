"""Archives on a real scheduler with real workers, which are killed and die of images."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from images import DEADLY, comparable, place

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("distributed")

from xrayedge.archive.engine import local_cluster, screen_plan
from xrayedge.archive.plan import open_plan
from xrayedge.archive.process import Job
from xrayedge.archive.shard import part_path
from xrayedge.archive.sources import open_input
from xrayedge.cli import main

NAMES = ("chest", "leg", "small", "broken")


@pytest.fixture(scope="module")
def client():
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(DEADLY)
    try:
        with local_cluster(2, dashboard=False) as client:
            yield client
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def fill(folder, originals, count):
    for number in range(count):
        name = NAMES[number % len(NAMES)]
        place(originals[name], folder / f"{number:04d}-{name}.png")


def rows(out):
    parts = sorted(out.glob("parts/part-*"))
    found = [row for path in parts for row in pq.read_table(path).to_pylist()]
    return {os.path.basename(row["source"]): row for row in found}, len(found)  # noqa: PTH119


def test_every_image_is_one_row_whatever_dies(client, originals, expected, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    fill(folder, originals, 40)
    place(originals["chest"], folder / "deadly-segfault.png")
    job, settings = Job("vgg16-edge").settled()
    plan, _ = open_plan(out, open_input(str(folder)), settings, shard_size=6)
    killed = False
    for progress in screen_plan(plan, job, client):
        if progress.done and not killed:
            killed = True
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)
    found, count = rows(out)
    assert killed
    assert count == len(found) == 41
    assert found.pop("deadly-segfault.png")["reason"] == "crashed"
    for name, row in found.items():
        assert comparable(row) == expected[re.split("[-.]", name)[1]]
    before = {path: path.stat().st_mtime_ns for path in out.glob("parts/part-*")}
    del before[part_path(out, 2)]
    part_path(out, 2).unlink()
    assert sum(1 for progress in screen_plan(plan, job, client) if progress.done) == 1
    assert rows(out)[1] == 41
    assert before.items() <= {path: path.stat().st_mtime_ns for path in before}.items()


def test_the_command_goes_on_and_refuses_other_settings(client, originals, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    fill(folder, originals, 8)
    arguments = ["archive", str(folder), "--out", str(out)]
    cluster = ["--scheduler", client.scheduler.address]

    def run(*more):
        return CliRunner().invoke(main, [*arguments, *more])

    first = run(*cluster, "--shard-size", "3")
    assert first.exit_code == 1
    assert "4 failed" not in first.stderr
    assert first.stderr.splitlines()[-1] == "2 failed, 4 rejected, 2 screened"
    shown = CliRunner().invoke(main, ["archive", "status", str(out)]).stdout
    assert shown.splitlines()[0] == "8 of 8 images, 3 of 3 parts"
    assert re.search(r"2\s+unreadable", shown)
    again = run()  # without a cluster: there is nothing to do
    assert again.exit_code == 1
    assert again.stderr.splitlines()[0] == f"8 of 8 images are in {out} already"
    refused = run("--operating-point", "sensitive")
    assert refused.exit_code == 2
    assert "operating_point balanced, now sensitive" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(client, originals, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    fill(folder, originals, 200)
    command = [sys.executable, "-m", "xrayedge", "archive", str(folder), "--out", str(out)]
    with subprocess.Popen(
        [*command, "--workers", "1", "--shard-size", "2", "--no-dashboard"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not [*out.glob("parts/part-*")] and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        told = process.stderr.read()
        assert process.wait() == 130
    assert "run the same command to resume" in told
    assert "Traceback" not in told
    assert 0 < len([*out.glob("parts/part-*")]) < 100
    arguments = [*command[3:], "--scheduler", client.scheduler.address]
    assert CliRunner().invoke(main, arguments).exit_code == 1
    assert rows(out)[1] == 200
    assert not [*out.glob("parts/.xrayedge-*")]
