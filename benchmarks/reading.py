"""From a DICOM file to grey pixels, for each transfer syntax: pydicom and xrayedge, in one run.

    python benchmarks/reading.py --rounds 9

Encodes pydicom-data's chest radiograph (1841 x 1955 pixels, 15 bits) in each, and reads it both
ways alternately: with pydicom and the installed decoder that it chooses, applying the window to
every value, as xrayedge did up to version 0.1; and with `xrayedge.read`.
Prints medians in milliseconds and their ratio, as a table for docs/dicom.md.
"""

from __future__ import annotations

import argparse
import io
import struct
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_windowing

from xrayedge import read

_RADIOGRAPH = "RG1_UNCR.dcm"
_Pixels = NDArray[np.unsignedinteger]


def _run_lengths(pixels: _Pixels) -> bytes:
    """RLE (PS3.5, annex G): the high bytes, then the low ones."""
    planes = [(pixels >> 8).astype(np.uint8), (pixels & 255).astype(np.uint8)]
    parts = [b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in one) for one in planes]
    parts = [part + bytes(len(part) % 2) for part in parts]
    starts = [64, 64 + len(parts[0])]
    return struct.pack("<16I", 2, *starts, *[0] * 13) + b"".join(parts)


#: Bits stored, and the encoder; `None` where pydicom writes it.
_ENCODINGS: dict[str, tuple[str, int, Callable[..., Any] | None]] = {
    "Explicit VR Little Endian": (uid.ExplicitVRLittleEndian, 15, None),
    "Deflated": (uid.DeflatedExplicitVRLittleEndian, 15, None),
    "RLE": (uid.RLELossless, 15, _run_lengths),
    "JPEG, 8 bits": (uid.JPEGBaseline8Bit, 8, lambda one: imagecodecs.jpeg8_encode(one, level=95)),
    "JPEG, 12 bits": (
        uid.JPEGExtended12Bit,
        12,
        lambda one: imagecodecs.jpeg8_encode(one, level=95, bitspersample=12),
    ),
    "JPEG lossless, 8 bits": (uid.JPEGLosslessSV1, 8, imagecodecs.ljpeg_encode),
    "JPEG lossless": (uid.JPEGLosslessSV1, 15, imagecodecs.ljpeg_encode),
    "JPEG-LS": (uid.JPEGLSLossless, 15, imagecodecs.jpegls_encode),
    "JPEG 2000 lossless": (
        uid.JPEG2000Lossless,
        15,
        lambda one: imagecodecs.jpeg2k_encode(one, codecformat="j2k", reversible=True),
    ),
    "HTJ2K lossless": (uid.HTJ2KLossless, 15, imagecodecs.htj2k_encode),
}


def write(path: Path, name: str) -> None:
    """The radiograph in an encoding."""
    syntax, bits, encode = _ENCODINGS[name]
    dataset = pydicom.dcmread(str(get_testdata_file(_RADIOGRAPH)))
    stored = dataset.pixel_array >> (15 - bits)
    dataset.WindowCenter, dataset.WindowWidth = (1 << bits) / 2, (1 << bits) - 2
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.BitsAllocated = 8 if bits == 8 else 16
    pixels = stored.astype(np.uint8 if bits == 8 else np.uint16)
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    if encode is None:
        dataset.PixelData = pixels.astype("<u2").tobytes()
    else:
        dataset.PixelData = encapsulate([bytes(encode(pixels))])
        dataset["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=False, little_endian=True)
    path.write_bytes(stream.getvalue())


def read_with_pydicom(path: Path) -> NDArray[np.uint8]:
    """As xrayedge read up to version 0.1: the window worked out on every value, then looked up."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    every = np.arange(1 << 8 * pixels.itemsize, dtype=pixels.dtype)
    grey = apply_windowing(apply_modality_lut(every, dataset).astype(float), dataset)
    highest = float((1 << dataset.BitsStored) - 1)
    table = np.asarray(255 - np.rint(grey * (255.0 / highest)), np.uint8)
    return np.asarray(table[pixels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="of xrayedge.read")
    arguments = parser.parse_args()
    print("| transfer syntax | MB | pydicom, ms | xrayedge, ms | pydicom / xrayedge |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with TemporaryDirectory() as folder:
        for name in _ENCODINGS:
            path = Path(folder) / "image.dcm"
            write(path, name)
            seconds: dict[str, list[float]] = {"pydicom": [], "xrayedge": []}
            there: dict[str, Callable[[Path], NDArray[np.uint8]]] = {
                "pydicom": read_with_pydicom,
                "xrayedge": lambda one: read(one, threads=arguments.threads).pixels,
            }
            found = {}
            for _ in range(arguments.rounds + 1):  # the first warms up
                for reader, function in there.items():
                    started = time.perf_counter()
                    try:
                        found[reader] = function(path)
                    except (RuntimeError, NotImplementedError):
                        continue  # no decoder of pydicom's is there
                    seconds[reader].append(time.perf_counter() - started)
            ours = 1000.0 * float(np.median(seconds["xrayedge"][1:]))
            size = path.stat().st_size / 1e6
            if seconds["pydicom"]:
                difference = np.abs(found["pydicom"].astype(int) - found["xrayedge"]).max()
                assert difference <= 1, f"{name}: grey values differ by {difference}"
                theirs = 1000.0 * float(np.median(seconds["pydicom"][1:]))
                compared = f"{theirs:.1f} | {ours:.1f} | {theirs / ours:.1f}"
            else:
                compared = f"- | {ours:.1f} | -"
            print(f"| {name} | {size:.1f} | {compared} |", flush=True)


if __name__ == "__main__":
    main()
