"""The programs of examples/, run as their users run them."""

import signal
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_console_shows_every_image(chest, leg, tmp_path):
    (tmp_path / "note.txt").write_text("no image")
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
