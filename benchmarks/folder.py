"""The gain of reading one image while another is classified, as `xrayedge screen FOLDER` does.

    python benchmarks/folder.py --rounds 7

Screens pydicom-data's chest, as DICOM with JPEG 2000 and as JPEG, many times with two threads: one
image after another, and two at a time, alternately. Prints how many times faster the second is as
one JSON object: medians over the rounds with their 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
from pydicom.data import get_testdata_file

from xrayedge import Screener, read
from xrayedge.batch import screen_in_order
from xrayedge.bench.statistics import estimate_ratio
from xrayedge.bundle import DEFAULT_MODEL

THREADS = 2


def seconds(screener: Screener, images: Sequence[Path], *, parallel: bool) -> float:
    """How long it takes to screen all of them."""
    started = time.perf_counter()
    for screening in screen_in_order(screener.screen, images, parallel=parallel):
        assert screening.status == "screened"
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    dicom = Path(str(get_testdata_file("RG1_J2KR.dcm")))
    found: dict[str, object] = {"model": chosen.model, "threads": THREADS}
    with tempfile.TemporaryDirectory() as folder, Screener(chosen.model, threads=THREADS) as used:
        jpeg = Path(folder) / "chest.jpg"
        jpeg.write_bytes(cv2.imencode(".jpg", read(dicom).pixels)[1].tobytes())
        for name, image in (("DICOM, JPEG 2000", dicom), ("JPEG", jpeg)):
            images = [image] * chosen.images
            times: dict[bool, list[float]] = {False: [], True: []}
            for number in range(-1, chosen.rounds):  # the first round warms up
                for parallel, kept in times.items():
                    took = seconds(used, images, parallel=parallel)
                    if number >= 0:
                        kept.append(took)
            gain = estimate_ratio(times[False], times[True])
            found[name] = {"times faster": gain.value, "interval": gain.interval}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
