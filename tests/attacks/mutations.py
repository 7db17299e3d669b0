"""Files altered for `fuzz.py`: their bytes, and the structure of DICOM through pydicom."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pydicom
from pydicom import config, uid
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from xrayedge import read

_DICOM = (
    "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm", "JPEG-LL.dcm", "image_dfl.dcm",
    "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_small_odd.dcm", "vlut_04.dcm",
    "mlut_18.dcm", "examples_palette.dcm", "JPGExtended.dcm", "nested_priv_SQ.dcm",
    "emri_small.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_jls_lossy_line.dcm",
    "SC_ybr_full_422_uncompressed.dcm", "GDCMJ2K_TextGBR.dcm", "UN_sequence.dcm",
)  # fmt: skip
_BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
_WORDS = (0, 1, 2, 7, 8, 12, 15, 16, 17, 255, 256, 0x7FFF, 0x8000, 0xFFFF)
_TEXTS = (b"1", b"0", b"-1", b"1e308", b"-1e-308", b"nan", b"inf", b"1e400", b"1,5", b"\xff", b"")

# What decides how pixels are read: the image pixel, palette, modality and VOI LUT modules.
_NUMBERS = (
    "SamplesPerPixel", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
)  # fmt: skip
_DECIMALS = ("NumberOfFrames", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")
_CODES = {
    "PhotometricInterpretation": (
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT",
    ),
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID", "OTHER"),
    "PresentationLUTShape": ("INVERSE", "IDENTITY"),
    "SpecificCharacterSet": ("ISO_IR 192", "canary", "\\ISO 2022 IR 87"),
}  # fmt: skip
_SYNTAXES = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit,
    uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.HTJ2KLossless,
    uid.RLELossless, uid.UID("1.2.3"),
)  # fmt: skip
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


@cache
def dicom_files() -> tuple[bytes, ...]:
    """Small real DICOM files, and one of each encoding that has none."""
    paths = [get_testdata_file(name) for name in _DICOM]
    files = [open(path, "rb").read() for path in paths if path is not None]  # noqa: SIM115, PTH123
    dataset = pydicom.dcmread(io.BytesIO(files[0]))
    stored = np.clip(dataset.pixel_array, 0, 4095).astype(np.uint16)
    for syntax, stream in (
        (uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(stored)),
        (uid.JPEGExtended12Bit, imagecodecs.jpeg8_encode(stored, bitspersample=12)),
        (uid.HTJ2KLossless, imagecodecs.htj2k_encode(stored)),
    ):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
        dataset.PixelData = pydicom.encaps.encapsulate([bytes(stream)])
        dataset["PixelData"].is_undefined_length = True
        content = io.BytesIO()
        dataset.save_as(content)
        files.append(content.getvalue())
    return tuple(files)


@cache
def corpus() -> tuple[bytes, ...]:
    """Small real files of every type that `read` knows."""
    pixels = read(dicom_files()[0]).pixels
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
    return (*dicom_files(), *rasters)


def altered_bytes(rng: np.random.Generator) -> bytes:
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
            data[at] = int(rng.choice(_BYTES))
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


def altered_structure(rng: np.random.Generator) -> bytes:
    """A DICOM file with other values, multiplicities, tables, nesting, fragments and lengths."""
    files = dicom_files()
    with _pydicom_quiet():
        dataset = pydicom.dcmread(io.BytesIO(files[rng.integers(len(files))]))
        for _ in range(int(rng.integers(1, 5))):
            # pydicom may not take apart what the change before has made.
            with contextlib.suppress(Exception):
                _CHANGES[rng.integers(len(_CHANGES))](rng, dataset)
        if rng.random() < 0.2 and "file_meta" in dir(dataset):
            dataset.file_meta.TransferSyntaxUID = _SYNTAXES[rng.integers(len(_SYNTAXES))]
        content = _written(rng, dataset)
    if rng.random() < 0.15:
        content = _with_nesting(rng, content)
    return _with_other_length(rng, content) if rng.random() < 0.3 else content


@contextlib.contextmanager
def _pydicom_quiet() -> Iterator[None]:
    """What pydicom says of the files that are made here is no finding."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _written(rng: np.random.Generator, dataset: pydicom.Dataset) -> bytes:
    """As pydicom writes it; where it can't, another file with its bytes altered."""
    stream = io.BytesIO()
    implicit, little = dataset.original_encoding
    if rng.random() < 0.2:
        implicit = not implicit
    try:
        dataset.save_as(stream, implicit_vr=implicit, little_endian=little, overwrite=True)
    except Exception:
        return altered_bytes(rng)
    return stream.getvalue()


def _put(rng: np.random.Generator, item: pydicom.Dataset, keyword: str, value: bytes) -> None:
    """An element of these bytes, in a value representation that may not be its own."""
    tag = Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag).split(" ")[0]
    if rng.random() < 0.1:
        vr = str(rng.choice(["UN", "OB", "OW", "UC", "UT", "LO", "US", "SS", "FD", "SQ"]))
    implicit, little = item.is_implicit_VR, item.is_little_endian
    item[tag] = RawDataElement(
        tag, vr, len(value), value, 0, bool(implicit), True if little is None else little
    )


def _many(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 1, 2, 3, 100, 3_000]))


def _number(rng: np.random.Generator, dataset: pydicom.Dataset) -> None:
    values = [int(rng.choice(_WORDS)) for _ in range(2)] * _many(rng)
    count = 1 if rng.random() < 0.7 else len(values)
    _put(rng, dataset, str(rng.choice(_NUMBERS)), struct.pack(f"<{count}H", *values[:count]))


def _decimal(rng: np.random.Generator, dataset: pydicom.Dataset) -> None:
    values = [_TEXTS[rng.integers(len(_TEXTS))] for _ in range(2)] * _many(rng)
    count = 1 if rng.random() < 0.5 else len(values)
    _put(rng, dataset, str(rng.choice(_DECIMALS)), b"\\".join(values[:count]))


def _code(rng: np.random.Generator, dataset: pydicom.Dataset) -> None:
    keyword = str(rng.choice(list(_CODES)))
    _put(rng, dataset, keyword, str(rng.choice(_CODES[keyword])).encode() * _many(rng))


def _table(rng: np.random.Generator, descriptor: str, data: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    entries = int(rng.choice([0, 1, 2, 3, 255, 256, 4096, 65_535]))
    declared = entries if rng.random() < 0.8 else int(rng.choice(_WORDS))
    bits = int(rng.choice([0, 1, 8, 10, 12, 16, 17, 255]))
    first = int(rng.choice(_WORDS))
    _put(rng, item, descriptor, struct.pack("<3H", declared, first, bits))
    _put(rng, item, data, rng.bytes(entries * int(rng.integers(1, 3))))
    return item


def _lut(rng: np.random.Generator, dataset: pydicom.Dataset) -> None:
    items = [_table(rng, "LUTDescriptor", "LUTData") for _ in range(int(rng.integers(0, 3)))]
    keyword = str(rng.choice(["ModalityLUTSequence", "VOILUTSequence"]))
    setattr(dataset, keyword, Sequence(items))
    dataset[keyword].is_undefined_length = bool(rng.random() < 0.5)


def _palette(rng: np.random.Generator, dataset: pydicom.Dataset) -> None:
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "PALETTE COLOR", 1
    kind = "Segmented" if rng.random() < 0.2 else ""
    for colour in ("Red", "Green", "Blue")[int(rng.random() < 0.1) :]:
        name = f"{colour}PaletteColorLookupTable"
        table = _table(rng, f"{name}Descriptor", f"{kind}{name}Data")
        dataset.update(table)


def _with_nesting(rng: np.random.Generator, content: bytes) -> bytes:
    """A table in items of sequences in items, ahead of the pixel data.

    Put into the file as written: what pydicom takes to write it doubles with each level.
    """
    at = content.rfind(_PIXEL_DATA)
    if at < 0:
        return content
    tag = Tag(str(rng.choice(["VOILUTSequence", "ModalityLUTSequence", "IconImageSequence"])))
    explicit = content[at + 4 : at + 6] in (b"OB", b"OW")
    element = struct.pack("<HH", tag.group, tag.element) + (b"SQ\x00\x00" if explicit else b"")
    inside = b"\x28\x00\x02\x30" + (b"US\x06\x00" if explicit else b"\x06\x00\x00\x00")
    inside += struct.pack("<3H", 2, 0, 8) + rng.bytes(8)
    for _ in range(int(rng.choice([1, 3, 30, 100]))):
        inside = _enclosed(rng, b"\xfe\xff\x00\xe0", inside, b"\xfe\xff\x0d\xe0\0\0\0\0")
        inside = _enclosed(rng, element, inside, b"\xfe\xff\xdd\xe0\0\0\0\0")
    return content[:at] + inside + content[at:]


def _enclosed(rng: np.random.Generator, head: bytes, inside: bytes, end: bytes) -> bytes:
    if rng.random() < 0.5:
        return head + struct.pack("<I", len(inside)) + inside
    return head + b"\xff\xff\xff\xff" + inside + (end if rng.random() < 0.95 else b"")


def _removal(rng: np.random.Generator, dataset: pydicom.Dataset) -> None:
    tags = list(dataset.keys())
    del dataset[tags[rng.integers(len(tags))]]


def _fragments(rng: np.random.Generator, dataset: pydicom.Dataset) -> None:
    if "PixelData" not in dataset:
        return
    data = bytes(dataset.PixelData or b"")
    half = int(rng.integers(len(data) + 1))
    parts = [data[:half], data[half:], b"", bytes(rng.bytes(8))]
    chosen = [parts[index] for index in rng.integers(len(parts), size=int(rng.integers(1, 5)))]
    if rng.random() < 0.5:
        items = [b"", *chosen] if rng.random() < 0.8 else chosen
        dataset.PixelData = b"".join(
            b"\xfe\xff\x00\xe0" + struct.pack("<I", len(one)) + one for one in items
        )
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData = b"".join(chosen)
        dataset["PixelData"].is_undefined_length = bool(rng.random() < 0.3)


_Change = Callable[[np.random.Generator, Any], None]
_CHANGES: tuple[_Change, ...] = (
    _number, _number, _decimal, _code, _lut, _palette, _removal, _fragments
)  # fmt: skip


def _with_other_length(rng: np.random.Generator, content: bytes) -> bytes:
    """One element's length, wherever a group that pixels depend on begins, set to another."""
    places = [
        at
        for group in (b"\x28\x00", b"\xe0\x7f", b"\xfe\xff", b"\x02\x00")
        for at in range(132, min(len(content) - 12, 20_000))
        if content.startswith(group, at)
    ]
    if not places:
        return content
    at = places[rng.integers(len(places))]
    length = int(rng.choice([0, 1, 2, 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFE, len(content)]))
    if content[at + 4 : at + 6].isalpha() and rng.random() < 0.7:
        return content[: at + 6] + struct.pack("<H", length & 0xFFFF) + content[at + 8 :]
    start = at + int(rng.choice([4, 8]))
    return content[:start] + struct.pack("<I", length) + content[start + 4 :]
