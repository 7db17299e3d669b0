import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from xrayedge.cli import main

VERBS = (
    *("screen", "calibrate", "models", "doctor", "bench", "archive"),
    *("train", "evaluate", "prune", "distil", "average", "convert"),
)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_help_has_sections():
    shown = run("-h").stdout
    screen, train = shown.index("Screen:"), shown.index("Train:")
    assert screen < shown.index("  doctor") < train < shown.index("  convert")
    assert "not a medical device" in " ".join(shown.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb):
    result = run(verb, "-h")
    assert result.exit_code == 0
    assert result.stdout == run(verb, "--help").stdout


def test_defaults_and_choices_are_shown():
    assert "[default: balanced]" in " ".join(run("screen", "-h").stdout.split())
    shown = run("train", "-h").stdout
    assert "|vgg16|vgg16-robust|" in shown


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("keras", "train", ["train", "{data}", "--out", "{data}/run"]),
        ("highdicom", "dicom-out", ["screen", "a.dcm", "--dicom-sr", "{data}"]),
    ],
)
def test_a_missing_extra_is_one_line_with_the_command(tmp_path, package, extra, arguments):
    for label in ("covid", "healthy"):
        (tmp_path / label).mkdir()
    code = (
        "import sys; from importlib.machinery import PathFinder\n"
        "class Missing:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name == {package!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Missing)\n"
        "from xrayedge.cli import main; main()"
    )
    arguments = [argument.format(data=tmp_path) for argument in arguments]
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1
    assert f"pip install 'xrayedge[{extra}]'" in ran.stderr


STUCK = """
import sys, time
import cv2, numpy as np
from xrayedge.cli import main
from xrayedge.frontal import FrontalCheck

large = np.zeros((3000, 3000), np.uint8)

def long(self, pixels, until=time.monotonic() + 60.0):
    while time.monotonic() < until:  # in native code nearly all the time
        cv2.GaussianBlur(large, (31, 31), 0)
    return 0.0

FrontalCheck.score = long
main()
"""


def test_native_code_that_does_not_come_back_keeps_no_process_and_no_status(chest):
    ran = subprocess.run(
        [sys.executable, "-c", STUCK, "screen", chest, "--json", "--timeout", "0.5"],
        capture_output=True,
        check=False,
        timeout=50,
    )
    assert json.loads(ran.stdout)["reason"] == "timeout"
    assert ran.returncode == 1
    assert ran.stderr == b""
