"""Start a worker for one job and take its result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ..errors import BenchmarkError
from .cases import Case

_COMMAND = (sys.executable, "-m", "xrayedge.bench.worker")


def run_job(job: str, case: Case, **arguments: Any) -> dict[str, Any]:
    """What `worker` found out about a case, in a process of its own.

    Raises
    ------
    BenchmarkError
        The worker reported an error, or died.
    """
    wanted = {
        "job": job,
        "folder": str(case.folder.resolve()),
        "precision": case.precision,
        "engine": case.engine,
        "threads": case.threads,
        **arguments,
    }
    # In its own session, so that Ctrl-C reaches only this process, which then ends the worker.
    with subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONSAFEPATH": "1"},  # an image folder may hold a `cv2.py`
        start_new_session=True,
    ) as process:
        try:
            answer, messages = process.communicate(json.dumps(wanted))
        finally:
            process.kill()
    try:
        result = json.loads(answer.splitlines()[-1])
    except (IndexError, ValueError):
        last = (messages.splitlines() or ["no message"])[-1]
        raise BenchmarkError(
            f"{case.title}: the process ended with status {process.returncode} ({last})"
        ) from None
    if "error" in result:
        raise BenchmarkError(f"{case.title}: {result['error']}")
    return dict(result)
