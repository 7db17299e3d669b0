"""The programs of examples/, run as their users run them."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_console_shows_every_picture(chest, leg, tmp_path):
    (tmp_path / "note.txt").write_text("no picture")
    lines = f"{chest}\n{leg}\n{tmp_path / 'note.txt'}\n"
    shown = subprocess.run(
        [sys.executable, EXAMPLES / "console.py"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert shown[0].startswith("1: ")
    assert "%" in shown[0]
    assert shown[1:] == [
        "2: NOT SCREENED, not an upright frontal chest radiograph",
        "3: NOT SCREENED, unreadable",
    ]


def test_the_console_ends_quietly_at_ctrl_c():
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "console.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write("nothing.dcm\n")
    process.stdin.flush()
    assert process.stdout.readline() == "1: NOT SCREENED, unreadable\n"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert "Traceback" not in said
    assert process.returncode == 130


class Service:
    """`watch_folder.py` in a process of its own."""

    def __init__(self, folder, code=None):
        self.inbox, self.state = folder / "inbox", folder / "state"
        program = ["-c", code] if code else [EXAMPLES / "watch_folder.py"]
        self.process = subprocess.Popen(
            [
                *(sys.executable, *program, "--inbox", self.inbox, "--state", self.state),
                *("--every", "0.1", "--keep-days", "30"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rows(self):
        return [
            json.loads(line)
            for path in sorted((self.state / "results").glob("*.jsonl"))
            for line in path.read_text().splitlines()
        ]

    def wait_for(self, done):
        """Until so many pictures are put away; the service must be running then."""
        deadline = time.monotonic() + 120
        while len(list(self.state.glob("done/*/*"))) < done:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.communicate(timeout=120)


# The service, whose screener ends the process as a power cut does: in a screening, or after a row.
FAILING = f"""
import os, runpy, sys
from xrayedge import Screener
from xrayedge.output.results import ResultsFile
sys.argv[0] = {str(EXAMPLES / "watch_folder.py")!r}
write = ResultsFile.write
def cut(*_, **__):
    os.kill(os.getpid(), 9)
def write_and_cut(self, screening):
    write(self, screening)
    cut()
IN_PLACE
runpy.run_path(sys.argv[0], run_name="__main__")
"""
IN_A_SCREENING = FAILING.replace("IN_PLACE", "Screener.screen = cut")
AFTER_A_ROW = FAILING.replace("IN_PLACE", "ResultsFile.write = write_and_cut")


def put(picture, path):
    """As a unit should: it is whole from the moment that it has its name."""
    part = path.with_name(".part")
    shutil.copy(picture, part)
    part.rename(path)


def run_into_a_power_cut(folder, code):
    service = Service(folder, code)
    assert service.process.wait(timeout=120) == -signal.SIGKILL
    service.process.communicate()


def test_the_service_screens_what_comes_and_says_no_names(chest, leg, tmp_path):
    old = tmp_path / "state" / "results" / "2020-01-01_vgg16-0.1.0-litert.jsonl"
    old.parent.mkdir(parents=True)
    old.touch()
    service = Service(tmp_path)
    service.inbox.mkdir(exist_ok=True)
    put(chest, service.inbox / "MUSTERMANN.dcm")
    service.wait_for(1)
    put(leg, service.inbox / "MUSTERMANN.dcm")  # another picture of the same name
    service.wait_for(2)
    said = "".join(service.stop())
    assert service.process.returncode == 0
    assert [row["status"] for row in service.rows()] == ["screened", "rejected"]
    assert list(service.inbox.iterdir()) == []
    assert "MUSTERMANN" not in said
    assert not old.exists()  # it is older than --keep-days


def test_the_service_goes_on_after_a_power_cut(chest, tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    put(chest, inbox / "first.dcm")
    run_into_a_power_cut(tmp_path, IN_A_SCREENING)
    service = Service(tmp_path)
    service.wait_for(1)
    service.stop()
    assert [row["status"] for row in service.rows()] == ["screened"]

    put(chest, inbox / "second.dcm")
    run_into_a_power_cut(tmp_path, AFTER_A_ROW)
    service = Service(tmp_path)
    service.wait_for(2)
    service.stop()
    assert len(service.rows()) == 2  # not a third: its row was there


def test_a_picture_that_ends_the_service_again_and_again_is_set_aside(chest, tmp_path):
    (tmp_path / "inbox").mkdir()
    put(chest, tmp_path / "inbox" / "poison.dcm")
    for _ in range(3):
        run_into_a_power_cut(tmp_path, IN_A_SCREENING)
    put(chest, tmp_path / "inbox" / "next.dcm")
    service = Service(tmp_path)
    service.wait_for(1)
    service.stop()
    assert [path.name[-10:] for path in (tmp_path / "state" / "set-aside").iterdir()] == [
        "poison.dcm"
    ]


def test_no_name_stops_the_service(chest, tmp_path):
    for folder in ("inbox", "state/work"):
        (tmp_path / folder).mkdir(parents=True)
    put(chest, tmp_path / "inbox" / ("n" * 240 + ".dcm"))
    put(chest, tmp_path / "inbox" / "zz.dcm")
    (tmp_path / "state" / "work" / "stray").touch()
    service = Service(tmp_path)
    service.wait_for(2)
    service.stop()
    assert [row["status"] for row in service.rows()] == ["screened"] * 2
    assert [path.name for path in (tmp_path / "state" / "set-aside").iterdir()] == ["stray"]


def test_a_service_that_can_t_start_says_why(tmp_path):
    for option, why in (("--timeout=0", "timeout"), ("--model=nosuch", "no model 'nosuch'")):
        command = [EXAMPLES / "watch_folder.py", "--inbox", tmp_path, "--state", tmp_path, option]
        found = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, check=False
        )
        assert found.returncode == 2
        assert why in found.stderr
        assert "Traceback" not in found.stderr


def test_the_unit_starts_what_the_service_takes():
    lines = (EXAMPLES / "xrayedge-watch.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert unit["Restart"] == "always"
    interpreter, program, *options = shlex.split(unit["ExecStart"])
    assert (EXAMPLES / Path(program).name).is_file()
    told = subprocess.run(
        [sys.executable, EXAMPLES / Path(program).name, "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(option in told for option in options if option.startswith("--"))
    writable = unit["ReadWritePaths"].split()
    folders = [value for value in options if value.startswith("/")]
    assert sorted(folders) == sorted(writable)
    assert interpreter.startswith("/")
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here to verify the unit")
    verified = subprocess.run(
        ["systemd-analyze", "verify", EXAMPLES / "xrayedge-watch.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in verified.stderr.splitlines() if "xrayedge-watch" in line]
    assert [line for line in said if "is not executable" not in line] == []
