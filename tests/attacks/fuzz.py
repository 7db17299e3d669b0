"""Fuzz `imaging.read` with files altered at random: only our errors may come out.

    python tests/attacks/fuzz.py --minutes 30

Half of the inputs are real files with their bytes altered, half are DICOM with its structure
altered (see `mutations`). They follow from their number alone, so a finding can be made again with
``--only NUMBER``. They are read in a child process: a crash or a hang of a decoder is a finding
too, and so is an input that takes more than the memory and the time of `MAX_BYTES` and
`MAX_SECONDS`, that makes a library warn, or that prints a byte to stderr.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from mutations import altered_bytes, altered_structure, corpus

from xrayedge import ImageError, read

MAX_SECONDS, MAX_BYTES = 10.0, 1_000_000_000
_PER_CHILD = 500
_CHILD_SECONDS = 600
_STDERR = 2
_MOST_ADDRESSES = 6 << 30  # a finding must not take the machine with it


def attack(number: int) -> str:
    """Read one altered file: ``read``, or the reason of our error. Any other error comes out."""
    rng = np.random.default_rng(number)
    content = altered_structure(rng) if number % 2 else altered_bytes(rng)
    started = time.process_time()  # of this process alone, however busy the machine is
    outcome = _outcome(content)
    if time.process_time() - started > MAX_SECONDS:
        raise TimeoutError(f"read within more than {MAX_SECONDS} s")
    return outcome


def _outcome(content: bytes) -> str:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            image = read(content)
        except ImageError as error:
            image, outcome = None, error.reason
    assert not warned, str(warned[0].message)
    if image is None:
        return outcome
    assert image.pixels.dtype == np.uint8
    assert image.pixels.ndim == 2
    assert image.pixels.size > 0
    return "read"


def _work(first: int, at: object, printed: str, outcomes: multiprocessing.Queue) -> None:
    counts: Counter[str] = Counter()
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_ADDRESSES, _MOST_ADDRESSES))
    with Path(printed).open("wb") as stderr:
        os.dup2(stderr.fileno(), _STDERR)
    try:
        for number in range(first, first + _PER_CHILD):
            at.value = number
            counts[attack(number)] += 1
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MAX_BYTES:
                raise MemoryError
            if Path(printed).stat().st_size:
                raise RuntimeError("printed to stderr")
    except BaseException:
        traceback.print_exc()
        outcomes.put(None)
        raise SystemExit(1) from None
    outcomes.put(counts)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="number of a single input")
    options = parser.parse_args()
    if options.only is not None:
        print(attack(options.only))
        return 0
    corpus()  # once, and not in each child
    end = time.monotonic() + 60.0 * options.minutes
    counts: Counter[str] = Counter()
    findings = []
    first = options.first
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "stderr"
        while time.monotonic() < end:
            outcomes: multiprocessing.Queue = multiprocessing.Queue()
            at = multiprocessing.Value("q", first)
            child = multiprocessing.Process(target=_work, args=(first, at, str(printed), outcomes))
            child.start()
            child.join(_CHILD_SECONDS)
            if child.is_alive():
                child.kill()
                child.join()
            if child.exitcode == 0:
                counts += outcomes.get()
                first += _PER_CHILD
            else:
                findings.append(at.value)
                said = printed.read_text(errors="replace").strip()
                print(
                    f"input {at.value}: the reader ended with {child.exitcode}\n{said}",
                    file=sys.stderr,
                )
                first = at.value + 1
    print(f"{counts.total()} inputs: {dict(counts.most_common())}; findings: {findings or 'none'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
