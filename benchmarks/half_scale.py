"""What decoding at half the scale saves, and how it changes the scores: JPEG and JPEG 2000.

    python benchmarks/half_scale.py --data MANIFEST.csv --data SITES.csv --where split=test

Each labelled image is enlarged to the size of a storage-phosphor plate, stored as JPEG and as
lossless JPEG 2000, decoded at full and at half scale, and screened both ways; JPEG 2000 also with
the halved image aligned with an average of two by two pixels. Prints a row for each value of --by
and one for all images. JPEG 2000 takes seconds an image: --every 8 takes every eighth. Needs
Pillow, the only JPEG 2000 decoder in Python that can stop at half of each side.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from commandline import add_where
from numpy.typing import NDArray
from PIL import Image

from xrayedge import Screener, Screening, read
from xrayedge.bundle import DEFAULT_MODEL
from xrayedge.data import Sample, load_dataset
from xrayedge.evaluation import rows_by

#: Shorter side of the enlarged images in pixels, a storage-phosphor plate's; and JPEG's quality.
LARGE, QUALITY = 2048, 95
#: Largest change of a probability tolerated when decoding at another scale.
TOLERANCE = 0.01

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Format:
    """A format and how to decode it at both scales."""

    encode: Callable[[Pixels], bytes]
    whole: Callable[[bytes], Pixels]
    half: Callable[[bytes], Pixels]


@dataclass(frozen=True)
class Change:
    """An image at both scales.

    Parameters
    ----------
    whole_ms, half_ms
        Processor time of decoding.
    difference
        The largest of any probability; ``None`` where either screening gave none.
    label
        Whether the label, or that there is none, changed.
    """

    whole_ms: float
    half_ms: float
    difference: float | None
    label: bool


def _encode_jpeg(pixels: Pixels) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _opencv(flag: int) -> Callable[[bytes], Pixels]:
    def decode(content: bytes) -> Pixels:
        return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), flag), np.uint8)

    return decode


def _encode_jpeg2000(pixels: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True))


def _pillow(levels: int) -> Callable[[bytes], Pixels]:
    def decode(content: bytes) -> Pixels:
        with Image.open(io.BytesIO(content)) as image:
            image.reduce = levels  # of its JPEG 2000 reader
            return np.asarray(image, np.uint8)

    return decode


#: Linear interpolation a quarter of a pixel further on.
_SHIFT = np.array([0.0, 0.75, 0.25])


def _shifted(content: bytes) -> Pixels:
    """Half the scale, aligned with an average of two by two pixels.

    The low-pass filter of the 5/3 wavelet is centred on each even pixel, the average half a pixel
    further on, which is a quarter of the halved image's pixel.
    """
    found = cv2.sepFilter2D(
        _pillow(1)(content), -1, _SHIFT, _SHIFT, borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.uint8)


FORMATS = {
    "JPEG": Format(
        _encode_jpeg, _opencv(cv2.IMREAD_GRAYSCALE), _opencv(cv2.IMREAD_REDUCED_GRAYSCALE_2)
    ),
    "JPEG 2000": Format(_encode_jpeg2000, _pillow(0), _pillow(1)),
    "JPEG 2000, shifted": Format(_encode_jpeg2000, _pillow(0), _shifted),
}


def enlarged(pixels: Pixels) -> Pixels:
    """The image with a shorter side of `LARGE` pixels."""
    scale = LARGE / min(pixels.shape)
    found = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.asarray(found, np.uint8)


def change(pixels: Pixels, stored: Format, screener: Screener) -> Change:
    """Store an image, decode it at both scales and screen both."""
    content = stored.encode(pixels)
    times: list[float] = []
    results: list[Screening] = []
    for decode in (stored.whole, stored.half):
        started = time.process_time()
        decoded = decode(content)
        times.append((time.process_time() - started) * 1000.0)
        results.append(screener.screen(decoded))
    whole, half = (result.probabilities for result in results)
    difference = None
    if whole is not None and half is not None:
        difference = max(abs(whole[name] - half[name]) for name in whole)
    return Change(times[0], times[1], difference, results[0].label != results[1].label)


def row(name: str, found: Sequence[Change]) -> str:
    """The summary of some images as a row of the table."""
    known = [one.difference for one in found if one.difference is not None]
    whole = float(np.median([one.whole_ms for one in found]))
    half = float(np.median([one.half_ms for one in found]))
    columns = [name, str(len(found)), f"{whole:.1f}", f"{half:.1f}", f"{whole / half:.1f}"]
    if known:
        columns += [f"{np.mean(known):.4f}", f"{np.percentile(known, 95):.4f}", f"{max(known):.4f}"]
    else:
        columns += ["", "", ""]
    columns.append(str(sum(one.label for one in found)))
    return f"| {' | '.join(columns)} |"


def table(names: dict[str, list[int]], found: Sequence[Change]) -> str:
    """The rows of the parts of the images and of all, in Markdown."""
    head = ["images of", "images", "whole, ms", "half, ms", "times faster"]
    head += ["change, mean", "95th percentile", "largest", "labels changed"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    lines += [row(name, [found[index] for index in rows]) for name, rows in names.items()]
    return "\n".join([*lines, row("all", found)])


def verdict(found: Sequence[Change]) -> str:
    """Whether the tolerance holds, for a person."""
    most = max((one.difference for one in found if one.difference is not None), default=0.0)
    held = most <= TOLERANCE
    consequence = "half scale would do" if held else "xrayedge decodes at full scale"
    return f"The tolerance is {TOLERANCE}, the largest change {most:.3f}: {consequence}"


def measure(
    samples: Sequence[Sample], formats: Sequence[str], screener: Screener
) -> dict[str, list[Change]]:
    """The changes of each image in each format."""
    found: dict[str, list[Change]] = {name: [] for name in formats}
    for sample in samples:
        pixels = enlarged(read(sample.path).pixels)
        for name, changes in found.items():
            changes.append(change(pixels, FORMATS[name], screener))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    add_where(parser)
    parser.add_argument("--by", metavar="COLUMN", help="a row for each value of a column")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth image only")
    parser.add_argument("--format", choices=FORMATS, action="append", dest="formats")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    samples = load_dataset(chosen.data, chosen.where, complete=False).samples[:: chosen.every]
    found = measure(samples, chosen.formats or list(FORMATS), Screener(chosen.model))
    parts = {} if chosen.by is None else rows_by(chosen.by, samples)
    for name, changes in found.items():
        print(f"## {name}\n\n{table(parts, changes)}\n\n{verdict(changes)}\n")


if __name__ == "__main__":
    main()
