"""Copy a dataset with small images, to train elsewhere: on a GPU machine, for instance.

    python tools/pack_dataset.py MANIFEST.csv [SITES.csv ...] --out PACKED

Writes each manifest under its own name into PACKED, and its images as grey JPEGs with a shorter
side of at most 256 pixels: 8,000 radiographs take less than 64 MiB. Training then needs this
package, Keras and PyTorch or JAX, but no TensorFlow (`--start` then needs a run, not a bundle):

    KERAS_BACKEND=torch xrayedge train PACKED/*.csv --recipe vgg16-hospitals --start RUN --out NEW

An interrupted copy goes on when the same command is run again.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from xrayedge.data import load_dataset, read_sample, shrink_to
from xrayedge.errors import DatasetError, XrayEdgeError
from xrayedge.files import write_atomically

_OF_THE_FILE = {"sha256", "width", "height"}  # no longer true of the copy


def encode(pixels: NDArray[np.uint8], side: int, quality: int) -> bytes:
    """``uint8 [H, W]`` as a JPEG with a shorter side of at most ``side`` pixels."""
    small = shrink_to(pixels, side)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def pack(manifest: Path, out: Path, side: int, quality: int) -> int:
    """Copy one manifest and its images; returns the bytes of the images.

    Raises
    ------
    XrayEdgeError
        The manifest or an image can't be read, or ``out`` holds the copy of another manifest of
        this name.
    """
    samples = load_dataset(manifest, complete=False, non_classes=True).samples
    images = out / manifest.stem
    copies = [images / f"{sample.row}.jpg" for sample in samples]
    rows = [
        {
            **{key: text for key, text in sample.columns.items() if key not in _OF_THE_FILE},
            "file": copy.relative_to(out).as_posix(),
        }
        for sample, copy in zip(samples, copies, strict=True)
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    content, target = text.getvalue().encode(), out / manifest.name
    if target.exists() and target.read_bytes() != content:
        raise DatasetError(f"{target}: the copy of another manifest; give another --out")
    size = 0
    for number, (sample, copy) in enumerate(zip(samples, copies, strict=True), 1):
        if not copy.exists():
            write_atomically(copy, encode(read_sample(sample), side, quality))
        size += copy.stat().st_size
        if sys.stderr.isatty() and (number % 100 == 0 or number == len(samples)):
            print(f"\r{manifest.name}: {number}/{len(samples)}", end="", file=sys.stderr)
    write_atomically(target, content)
    return size


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--side", type=int, default=256, help="of the shorter side (default 256)")
    parser.add_argument("--quality", type=int, default=80, help="of the JPEGs (default 80)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stems = {manifest.stem for manifest in arguments.manifests}  # of the folders of images
    if len(stems) < len(arguments.manifests):
        parser.error("the manifests need different names, extensions aside")
    if any(one.resolve().parent == arguments.out.resolve() for one in arguments.manifests):
        parser.error("--out is the folder of a manifest, which the copy would replace")
    try:
        sizes = [
            pack(manifest, arguments.out, arguments.side, arguments.quality)
            for manifest in arguments.manifests
        ]
    except (XrayEdgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {sum(sizes) / 2**20:.0f} MiB of images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
