import signal
import subprocess
import sys

import pytest

PROGRAM = """
import threading, time, _thread
import cv2
import numpy as np
from xrayedge import Screener
from xrayedge.frontal import FrontalCheck

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1.0)  # as the end of a large program is

large = np.zeros((3000, 3000), np.uint8)

def long(self, pixels, until=time.monotonic() + 3.0):
    while time.monotonic() < until:  # in native code nearly all the time
        cv2.GaussianBlur(large, (31, 31), 0)
    return 0.0

FrontalCheck.score = long
screener = Screener(timeout=TIMEOUT)
slow = Slow()
pixels = np.zeros((512, 512), np.uint8)
"""


INTERRUPTED = "threading.Timer(0.5, _thread.interrupt_main).start(); screener.screen(pixels)"
TIMED_OUT = "assert screener.screen(pixels).reason == 'timeout'"


@pytest.mark.parametrize(
    ("timeout", "call", "status"),
    [("0.3", TIMED_OUT, 0), ("60.0", INTERRUPTED, -signal.SIGINT)],
    ids=["timeout", "interrupt"],
)
def test_work_that_was_given_up_does_not_abort_the_process(timeout, call, status):
    program = PROGRAM.replace("TIMEOUT", timeout) + call
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert b"terminate called" not in ran.stderr
    assert ran.returncode == status
