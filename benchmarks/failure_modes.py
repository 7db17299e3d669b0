"""What changes a model's label although the lungs stay the same.

    python benchmarks/failure_modes.py --model vgg16 --out failure-modes.png

One real radiograph of the package `pydicom-data`, unchanged and changed the way detectors, their
software, exports and technicians change images. Prints the probabilities of each and draws the
heatmaps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from xrayedge import Screener, read
from xrayedge.bundle import DEFAULT_MODEL
from xrayedge.evaluation.report import png
from xrayedge.files import write_atomically

Grey = NDArray[np.uint8]
_LONG_SIDE = 1024
_COLUMNS = 6


def _clipped(values: NDArray[np.floating]) -> Grey:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def _sharpened(pixels: Grey) -> Grey:
    soft = cv2.GaussianBlur(pixels, (0, 0), 3.0).astype(np.float32)
    return _clipped(soft + 3.0 * (pixels - soft))


def _blurred(pixels: Grey) -> Grey:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 6.0), dtype=np.uint8)


def _labelled(pixels: Grey) -> Grey:
    marked: Grey = pixels.copy()
    for text, row in (("AP SUPINE", 70), ("MOBILE", 120)):
        cv2.putText(marked, text, (40, row), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 3)
    return marked


def _cropped(pixels: Grey) -> Grey:
    height, width = pixels.shape
    return np.ascontiguousarray(
        pixels[height // 10 : -height // 10, width // 10 : -width // 10], dtype=np.uint8
    )


def _collimated(pixels: Grey) -> Grey:
    inset = min(pixels.shape) // 12
    inside = pixels[inset:-inset, inset:-inset]
    return np.pad(inside, inset)


def _dark(pixels: Grey) -> Grey:
    return _clipped(255.0 * (pixels / 255.0) ** 1.8)


def _narrow_dark(pixels: Grey) -> Grey:
    return _clipped(0.15 * pixels)


def _narrow_bright(pixels: Grey) -> Grey:
    return _clipped(178.0 + 0.3 * pixels)


def _tilted(pixels: Grey) -> Grey:
    height, width = pixels.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 10.0, 1.0)
    return np.asarray(cv2.warpAffine(pixels, turn, (width, height)), dtype=np.uint8)


def _compressed(pixels: Grey) -> Grey:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 15])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _mirrored(pixels: Grey) -> Grey:
    return np.ascontiguousarray(pixels[:, ::-1])


CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "as it is": lambda pixels: pixels,
    "sharpened": _sharpened,
    "blurred": _blurred,
    "burnt-in text": _labelled,
    "cropped by a tenth": _cropped,
    "collimated": _collimated,
    "darker": _dark,
    "0.15 of the range, dark": _narrow_dark,
    "0.3 of the range, bright": _narrow_bright,
    "tilted by 10 degrees": _tilted,
    "JPEG, quality 15": _compressed,
    "mirrored": _mirrored,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, required=True, help="the overview, PNG")
    arguments = parser.parse_args()
    screener = Screener(arguments.model)
    pixels = read(str(get_testdata_file("RG1_UNCR.dcm"))).pixels
    scale = _LONG_SIDE / max(pixels.shape)
    pixels = np.asarray(
        cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8
    )
    rows = -(-len(CHANGES) // _COLUMNS)
    canvas = Figure(figsize=(3.2 * _COLUMNS, 3.9 * rows), layout="constrained")
    axes = canvas.subplots(rows, _COLUMNS).ravel()
    for place, (name, change) in zip(axes, CHANGES.items(), strict=True):
        result = screener.screen(change(pixels), heatmap=True)
        place.set_axis_off()
        if result.heatmap is None or result.probabilities is None:
            verdict = f"{result.status}: {result.reason}"
            place.imshow(change(pixels), cmap="gray", vmin=0, vmax=255)
        else:
            scores = (f"{label} {score:.2f}" for label, score in result.probabilities.items())
            verdict = ", ".join(scores)
            place.imshow(result.heatmap[:, :, ::-1])
        place.set_title(f"{name}\n{verdict}", fontsize=9)
        print(f"{name:26}{verdict}")
    write_atomically(arguments.out, png(canvas))


if __name__ == "__main__":
    main()
