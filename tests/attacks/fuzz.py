"""Fuzz `imaging.read` with bytes mutated from real files: only our errors may come out.

    python tests/attacks/fuzz.py --minutes 30

Inputs follow from their number alone, so a finding can be made again with ``--only NUMBER``.
They are read in a child process: a crash or a hang of a decoder is a finding too, and so is an
input that takes more than the memory and the time of `MAX_BYTES` and `MAX_SECONDS`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections import Counter
from functools import cache

import cv2
import numpy as np
from pydicom.data import get_testdata_file

from xrayedge import PictureError, read

MAX_SECONDS, MAX_BYTES = 10.0, 1_000_000_000
_PER_CHILD = 2000
_DICOM = (
    "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm", "JPEG-LL.dcm", "image_dfl.dcm",
    "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_small_odd.dcm", "vlut_04.dcm",
    "mlut_18.dcm", "examples_palette.dcm", "JPGExtended.dcm", "nested_priv_SQ.dcm",
    "emri_small.dcm", "JPEGLSNearLossless_16.dcm",
)  # fmt: skip
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


@cache
def corpus() -> tuple[bytes, ...]:
    """Small real files of every type that `read` knows."""
    files = [get_testdata_file(name) for name in _DICOM]
    dicom = [open(path, "rb").read() for path in files if path is not None]  # noqa: SIM115, PTH123
    pixels = read(dicom[0]).pixels
    rasters = [
        cv2.imencode(suffix, image, list(options))[1].tobytes()
        for suffix, image, options in (
            (".png", pixels, ()),
            (".png", pixels.astype(np.uint16) * 257, ()),
            (".png", cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGRA), ()),
            (".jpg", pixels, ()),
            (".jpg", cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
            (".bmp", pixels, ()),
            (".tif", pixels.astype(np.uint16) * 257, ()),
            (".tif", cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), (cv2.IMWRITE_TIFF_COMPRESSION, 5)),
        )
    ]
    return (*dicom, *rasters)


def mutate(rng: np.random.Generator) -> bytes:
    """A file of the corpus with bits flipped, bytes set, cut out, doubled, or of another file."""
    files = corpus()
    data = bytearray(files[rng.integers(len(files))])
    # Half of the changes fall into the first bytes, where headers are.
    for _ in range(int(rng.integers(1, 9))):
        reach = len(data) if rng.random() < 0.5 else min(len(data), 1024)
        if reach == 0:
            break
        at = int(rng.integers(reach))
        kind = rng.integers(7)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = int(rng.choice(_INTERESTING))
        elif kind == 2:
            data[at : at + 4] = rng.bytes(4)
        elif kind == 3:
            data[at : at + 4] = int(rng.integers(1 << 32)).to_bytes(4, "little")
        elif kind == 4:
            del data[at : at + int(rng.integers(1, 64))]
        elif kind == 5:
            data[at:at] = data[at : at + int(rng.integers(1, 256))]
        else:
            other = files[rng.integers(len(files))]
            start = int(rng.integers(len(other)))
            data[at : at + 64] = other[start : start + 64]
    return bytes(data[: rng.integers(len(data) + 1)] if rng.random() < 0.1 else data)


def attack(number: int) -> str:
    """Read one mutated file: ``read``, or the reason of our error. Any other error comes out."""
    try:
        picture = read(mutate(np.random.default_rng(number)))
    except PictureError as error:
        return error.reason
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.ndim == 2
    assert picture.pixels.size > 0
    return "read"


def _work(first: int, at: object, outcomes: multiprocessing.Queue) -> None:
    counts: Counter[str] = Counter()
    for number in range(first, first + _PER_CHILD):
        at.value = number
        started = time.monotonic()
        counts[attack(number)] += 1
        if time.monotonic() - started > MAX_SECONDS:
            raise TimeoutError(f"input {number}")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MAX_BYTES:
            raise MemoryError(f"input {number}")
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
    end = time.monotonic() + 60.0 * options.minutes
    counts: Counter[str] = Counter()
    findings = []
    first = options.first
    while time.monotonic() < end:
        outcomes: multiprocessing.Queue = multiprocessing.Queue()
        at = multiprocessing.Value("q", first)
        child = multiprocessing.Process(target=_work, args=(first, at, outcomes))
        child.start()
        child.join(_PER_CHILD)
        if child.is_alive():
            child.kill()
            child.join()
        if child.exitcode == 0:
            counts += outcomes.get()
            first += _PER_CHILD
        else:
            findings.append(at.value)
            print(f"input {at.value}: the reader ended with {child.exitcode}", file=sys.stderr)
            first = at.value + 1
    print(f"{counts.total()} inputs: {dict(counts.most_common())}; findings: {findings or 'none'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
