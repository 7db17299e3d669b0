"""A short soak; `benchmarks/soak.py` is the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xrayedge.engines import available

pytest.importorskip("pydicom.data")

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


@pytest.mark.parametrize("engine", available())
def test_memory_is_flat_and_results_never_change(engine):
    command = [sys.executable, SOAK, "--screenings", "360", "--threads", "3", "--engine", engine]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(result.stdout)
    assert found["engine"] == engine
    apart = found["a screener for each thread"]
    for phase in (*found["phases"].values(), apart):
        assert phase["different"] == 0
        assert phase["screenings"] == 360
    # Screeners of their own are still warming up: only the long soak can judge their memory.
    for phase in found["phases"].values():
        assert phase["growth_mb"] < 5.0
