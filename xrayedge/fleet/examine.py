"""Try a new bundle in its own process, so that a model file that crashes its engine does no
harm.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ..errors import FleetError

#: The largest shipped bundle takes a few seconds on a Raspberry Pi 4.
_LIMIT_SECONDS = 300.0


def examine(folder: Path) -> None:
    """Check every file of a bundle against its golden vectors, with this device's engines.

    Raises
    ------
    FleetError
        A file fails, gives other scores or has no golden vectors, or no file could be run.
    """
    # Not started in the bundle's folder: Python would look for modules there.
    command = [sys.executable, "-m", "xrayedge", "doctor", "--model", str(folder.resolve())]
    try:
        done = subprocess.run(
            [*command, "--json"],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        checks = json.loads(done.stdout)["checks"]
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"the model was not examined in {_LIMIT_SECONDS:.0f} s") from error
    except (ValueError, KeyError) as error:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"exit status {done.returncode}"
        raise FleetError(f"the model can't be examined on this device: {reason}") from error
    bad = [check for check in checks if check["status"] != "ok"]
    if bad:
        raise FleetError(
            f"the model does not pass on this device: {bad[0]['file']} ({bad[0]['engine']}): "
            f"{bad[0]['detail'] or bad[0]['status']}"
        )
    if not checks:
        raise FleetError("no engine on this device runs a file of the model; see xrayedge doctor")
