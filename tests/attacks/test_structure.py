"""Hostile structure: elements, tables, chunks and pages that make a reader work without end.

Numbered on from test_files.py. Each takes under `MEMORY` and `SECONDS`, most a small part of them.
"""

import struct
import time
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from conftest import dicom_bytes, dicom_dataset, tiff

from xrayedge import ImageError, Limits, UnreadableError, read

pydicom = pytest.importorskip("pydicom")
uid = pydicom.uid

MEMORY, SECONDS = 1_000_000_000, 10.0  # seconds of the processor, however busy the machine is
SQUARE = np.tile(np.arange(128, dtype=np.uint8), (128, 1))


def implicit(*elements, **attributes):
    """An implicit little endian file with raw elements ``(tag, value)`` added in order."""
    content = dicom_bytes(dicom_dataset(SQUARE, uid.ImplicitVRLittleEndian, **attributes))
    for tag, value in elements:
        raw = struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
        content = insert(content, tag, raw)
    return content


def insert(content, tag, raw):
    """Put an element in its place before the first of the same or a higher tag."""
    position = 144 + struct.unpack("<I", content[140:144])[0]
    while position < len(content):
        group, number, length = struct.unpack("<HHI", content[position : position + 8])
        if (group << 16 | number) >= tag:
            after = position + 8 + length if (group << 16 | number) == tag else position
            return content[:position] + raw + content[after:]
        position += 8 + length
    raise AssertionError("no pixel data")


def read_within(content, limits=None):
    """Read bytes: ``read`` or our error's reason; slow or large is a failure."""
    tracemalloc.start()
    started = time.process_time()
    try:
        outcome = read(content, limits) and "read"
    except ImageError as error:
        outcome = error.reason
    taken, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < SECONDS
    assert peak < MEMORY
    return outcome


def segments(levels):
    """A segmented table whose indirect segments (PS3.3 C.7.9.2.3) each repeat the level below."""
    words = [0, 1, 0]  # a discrete segment of one entry
    starts = [0]
    for _ in range(levels):
        below = starts[-1]
        starts.append(len(words))
        for _ in range(4):
            words += [2, 1, 2 * below & 0xFFFF, 2 * below >> 16]
    return struct.pack(f"<{len(words)}H", *words)


@pytest.mark.parametrize(
    "table", [segments(16), struct.pack("<3H", 1, 65_535, 9) * 4000], ids=["nested", "flat"]
)
def test_32_palettes_in_segments_are_not_expanded(table):
    descriptors = [(0x00281101 + n, struct.pack("<3H", 0, 0, 16)) for n in range(3)]
    tables = [(0x00281221 + n, table) for n in range(3)]
    content = implicit(*descriptors, *tables, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(UnreadableError, match="palette in segments"):
        read(content)


def test_33_a_window_of_millions_of_centres():
    many = (0x00281050, b"12\\" * 3_000_000), (0x00281051, b"200\\" * 2_000_000)
    assert read_within(implicit(*many)) == "read"
    one = read(implicit((0x00281050, b"12"), (0x00281051, b"200 ")))
    assert np.array_equal(read(implicit(*many)).pixels, one.pixels)


@pytest.mark.parametrize(
    "tag",
    [
        0x00280008,
        0x00280010,
        0x00280011,
        0x00280100,
        0x00280101,
        0x00280120,
        0x00281052,
        0x00281053,
    ],
    ids=lambda tag: f"{tag:08x}",
)
def test_34_single_values_given_a_million_times(tag):
    text = tag in (0x00280008, 0x00281052, 0x00281053)
    many = b"1\\" * 1_500_000 if text else b"\x80\x00" * 1_500_000
    assert read_within(implicit((tag, many))) == "unreadable"
    assert read_within(implicit((tag, b"1\\1 " if text else b"\x80\x00" * 2))) == "unreadable"


def test_35_a_character_set_of_millions_is_not_looked_at():
    content = implicit((0x00080005, b"ISO_IR 100\\" * 300_000))
    assert read_within(content) == "read"


def test_36_the_same_inside_a_table():
    """In an item of a VOI LUT, which pydicom would take apart when it is asked for."""
    table = struct.pack("<HHI3H", 0x28, 0x3002, 6, 2, 0, 8)
    table += struct.pack("<HHI2H", 0x28, 0x3006, 4, 0, 255)
    charset = b"ISO_IR 100\\" * 300_000
    inside = struct.pack("<HHI", 0x08, 0x0005, len(charset)) + charset + table
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside
    assert read_within(implicit((0x00283010, item))) == "read"


def test_37_a_table_nested_in_tables_without_end():
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x28\x00\x10\x30\xff\xff\xff\xff"
    assert read_within(implicit((0x00283010, item * 100_000))) == "unreadable"


def test_38_a_deflated_element_of_unlimited_text():
    content = dicom_bytes(dicom_dataset(SQUARE, uid.DeflatedExplicitVRLittleEndian))
    meta_end = 144 + struct.unpack("<I", content[140:144])[0]
    data = zlib.decompress(content[meta_end:], -zlib.MAX_WBITS)
    at = data.index(b"\xe0\x7f\x10\x00")
    text = b"\x28\x00\x20\x01UC\x00\x00" + struct.pack("<I", 20_000_000) + b"1\\" * 10_000_000
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = deflater.compress(data[:at] + text + data[at:]) + deflater.flush()
    content = content[:meta_end] + deflated
    assert len(content) < 200_000
    assert read_within(content) == "unreadable"


@pytest.mark.parametrize("length", [20_000_000, 500_000_000])
def test_39_a_png_of_zeros_behind_its_header(tmp_path, read_apart, length):
    path = tmp_path / "zeros.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 100, 100, 8, 0, 0, 0, 0)
    with path.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header)
        stream.write(struct.pack(">I", zlib.crc32(header)))
        stream.truncate(length)
    outcome, peak = read_apart(path)  # which gives up after a minute
    assert outcome == "unreadable"
    assert peak < MEMORY


def test_40_a_png_of_a_million_chunks():
    genuine = cv2.imencode(".png", SQUARE)[1].tobytes()
    chunk = struct.pack(">I", 0) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    assert read_within(genuine[:33] + chunk * 1_000_000 + genuine[33:]) == "unreadable"


@pytest.mark.parametrize(
    "filling", [b"\xff" * 200_000_000, b"\xff\xd0" * 20_000_000, b"\xff\xe0\x00\x02" * 20_000_000]
)
@pytest.mark.parametrize("inside", ["file", "dicom"])
def test_41_a_jpeg_that_never_comes_to_its_frame(filling, inside):
    content = b"\xff\xd8\xff" + filling
    if inside == "dicom":
        dataset = dicom_dataset(SQUARE, uid.JPEGBaseline8Bit)
        dataset.PixelData = pydicom.encaps.encapsulate([content])
        dataset["PixelData"].is_undefined_length = True
        content = dicom_bytes(dataset)
    started = time.process_time()
    with pytest.raises(UnreadableError):
        read(content)
    assert time.process_time() - started < SECONDS


def test_42_a_tiff_of_several_pages():
    assert np.array_equal(read(tiff(SQUARE)).pixels, SQUARE)
    for then in (8, 8 + SQUARE.size):  # the second time it is the first page again
        with pytest.raises(UnreadableError) as caught:
            read(tiff(SQUARE, then=then))
        assert caught.value.reason == "multi-frame"


@pytest.mark.parametrize("compression", [6, 7, 34_712, 34_925, 50_000, 50_001, 65_000])
def test_43_a_tiff_in_the_encoding_of_another_kind_of_file(compression):
    with pytest.raises(UnreadableError, match="compressed in a way"):
        read(tiff(SQUARE, compression=compression))


def test_44_decoders_print_nothing(capfd):
    jpeg = bytearray(cv2.imencode(".jpg", SQUARE)[1].tobytes())
    jpeg[-400:-390] = b"\xff\x01" * 5
    png = cv2.imencode(".png", SQUARE)[1].tobytes()
    profile = b"iCCPbroken\x00\x00" + bytes(20)
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    hostile = (bytes(jpeg[:-300]), png[:33] + chunk + png[33:], tiff(SQUARE)[:-60] + bytes(60))
    for content in hostile:
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert capfd.readouterr().err  # they would
    for content in hostile:
        read_within(content)
    assert capfd.readouterr() == ("", "")
    cv2.imdecode(np.frombuffer(hostile[0], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert capfd.readouterr().err  # and what a host does with OpenCV is its own again


def test_45_a_small_file_takes_little_memory(tmp_path):
    """Not that of the largest file allowed."""
    path = tmp_path / "small.png"
    path.write_bytes(cv2.imencode(".png", SQUARE)[1].tobytes())
    tracemalloc.start()
    read(path, Limits())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_46_fragments_without_end():
    dataset = dicom_dataset(SQUARE, uid.JPEGBaseline8Bit)
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(8)])
    dataset["PixelData"].is_undefined_length = True
    content = dicom_bytes(dataset)
    table = content.index(b"\xe0\x7f\x10\x00") + 12
    assert read_within(content[:table] + b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 2_000_000) == (
        "unreadable"
    )


@pytest.mark.parametrize(("columns", "bits"), [(30, 8), (31, 8), (30, 16)])
def test_48_colour_halved_across_an_odd_row(columns, bits):
    """Two pixels share a colour; the third has none."""
    dataset = dicom_dataset(SQUARE, PhotometricInterpretation="YBR_FULL_422", SamplesPerPixel=3)
    dataset.Rows, dataset.Columns = 100, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelData = bytes(2 * 100 * columns * bits // 8 + columns % 2)
    expected = "read" if (columns, bits) == (30, 8) else "unreadable"
    assert read_within(dicom_bytes(dataset)) == expected
