"""What the attacks share: a child process whose memory is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_CHILD = """
import json, re, sys
from pathlib import Path
from xrayedge import ImageError, read
try:
    read(sys.argv[1])
    outcome = "read"
except ImageError as error:
    outcome = error.reason
# Not getrusage: its peak begins with that of the parent.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([outcome, 1024 * int(peak.group(1))]))
"""


@pytest.fixture
def read_apart():
    """Read a file in a process of its own: the outcome, and the peak of its memory in bytes."""

    if not Path("/proc/self/status").exists():
        pytest.skip("memory is measured on Linux")

    def read_it(path: Path) -> tuple[str, int]:
        run = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        outcome, peak = json.loads(run.stdout.splitlines()[-1])
        return outcome, peak

    return read_it
