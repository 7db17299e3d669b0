"""Hostile files, one attempt a test: only our errors come out, within the memory promised."""

import json
import os
import random
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest
from conftest import dicom_bytes, dicom_dataset, dicom_file

pytest.importorskip("imagecodecs")

from fuzz import attack

from xrayedge import (
    BundleError,
    ImageError,
    Limits,
    ModelBundle,
    Screener,
    TooLargeError,
    UnreadableError,
    read,
)
from xrayedge.batch import find_images
from xrayedge.bundle import MANIFEST, SHIPPED
from xrayedge.manifest import Manifest
from xrayedge.schema import decode
from xrayedge.scores import decide

pydicom = pytest.importorskip("pydicom")
uid = pydicom.uid

MEMORY = 1_000_000_000
SQUARE = np.tile(np.arange(128, dtype=np.uint8), (128, 1))
RASTERS = (".png", ".jpg", ".bmp", ".tif")


def encoded(suffix, pixels=SQUARE):
    return cv2.imencode(suffix, pixels)[1].tobytes()


def headed(*elements):
    """An explicit little endian DICOM file of these bytes behind a genuine beginning."""
    genuine = dicom_bytes(dicom_dataset(SQUARE))
    return genuine[: genuine.index(b"\x08\x00\x16\x00")] + b"".join(elements)


def compressed(syntax, frame, pixels=SQUARE):
    dataset = dicom_dataset(pixels, syntax)
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    return dicom_bytes(dataset)


def chunk(kind, content=b"", length=None):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content) if length is None else length) + kind + content + checksum


def png(*chunks, width=100, height=100):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def test_01_a_png_at_the_limit_of_pixels_fits_into_memory(tmp_path, read_apart):
    path = tmp_path / "bomb.png"
    cv2.imwrite(str(path), np.zeros((9990, 10_000), np.uint16))
    assert path.stat().st_size < 300_000
    outcome, peak = read_apart(path)
    assert outcome == "read"
    assert peak < MEMORY


def test_02_a_png_over_the_limit_is_refused_unread(tmp_path, read_apart):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(chunk(b"IDAT"), chunk(b"IEND"), width=2**31 - 1, height=2**31 - 1))
    outcome, peak = read_apart(path)
    assert outcome == "too-large"
    assert peak < MEMORY / 4


def test_03_a_png_chunk_longer_than_the_file(tmp_path, read_apart):
    path = tmp_path / "long.png"
    path.write_bytes(png(chunk(b"IDAT", b"", length=2**31 - 1)))
    outcome, peak = read_apart(path)
    assert outcome == "unreadable"
    assert peak < MEMORY / 4


def test_04_a_tiff_tile_larger_than_the_image():
    small = {256: 100, 257: 100, 258: 8, 322: 60_000, 323: 60_000}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in small.items())
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(small)) + entries + bytes(4)
    with pytest.raises(UnreadableError, match="header"):
        read(tiff)


def test_05_a_tiff_of_64_bit_floats():
    with pytest.raises(UnreadableError, match="header"):
        read(cv2.imencode(".tif", np.zeros((50, 50), np.float64))[1].tobytes())


def test_06_a_jpeg_of_a_thousand_scans():
    start = cv2.imencode(".jpg", SQUARE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = start[start.rindex(b"\xff\xda") : -2]
    with pytest.raises(TooLargeError, match="scans"):
        read(start[:-2] + scan * 1000 + b"\xff\xd9", Limits(max_pixels=SQUARE.size))


def test_07_a_deflated_dicom_bomb(tmp_path, read_apart):
    dataset = dicom_dataset(SQUARE, uid.DeflatedExplicitVRLittleEndian)
    content = dicom_bytes(dataset)
    meta_end = 144 + struct.unpack("<I", content[140:144])[0]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    path = tmp_path / "bomb.dcm"
    bomb = [deflater.compress(zeros) for _ in range(450)]
    path.write_bytes(b"".join([content[:meta_end], *bomb, deflater.flush()]))
    assert path.stat().st_size < 1_000_000
    outcome, peak = read_apart(path)
    assert outcome == "too-large"
    assert peak < MEMORY


def test_08_a_run_length_bomb(tmp_path, read_apart):
    runs = b"\x81\x00" * 10_000_000  # 128 bytes out of two
    path = tmp_path / "bomb.dcm"
    path.write_bytes(compressed(uid.RLELossless, struct.pack("<16I", 1, 64, *[0] * 14) + runs))
    _, peak = read_apart(path)
    assert peak < MEMORY


def test_09_a_codestream_larger_than_its_header_says():
    large = encoded(".jpg", np.zeros((4000, 4000), np.uint8))
    with pytest.raises(UnreadableError, match="another size"):
        read(compressed(uid.JPEGBaseline8Bit, large))


def test_09_a_codestream_of_sixteen_thousand_components():
    content = dicom_file("MR_small_jp2klossless.dcm").read_bytes()
    components = content.index(b"\xff\x4f\xff\x51") + 40
    with pytest.raises(UnreadableError, match="another size"):
        read(content[:components] + b"\x40\x00" + content[components + 2 :])


def test_10_pixel_data_far_longer_than_the_image():
    endless = dicom_dataset(SQUARE)
    endless.PixelData = bytes(1_000_000)
    with pytest.raises(TooLargeError):
        read(dicom_bytes(endless), Limits(max_pixels=SQUARE.size))


@pytest.mark.parametrize(("rows", "columns"), [(65_535, 65_535), (65_535, 2000)])
def test_11_huge_declared_dimensions(rows, columns):
    with pytest.raises(TooLargeError, match=f"{columns} x {rows}"):
        read(dicom_bytes(dicom_dataset(SQUARE, Rows=rows, Columns=columns)))


@pytest.mark.parametrize("change", [{"Rows": 0}, {"Columns": 0}, {"BitsStored": 0}])
def test_12_nothing_declared(change):
    with pytest.raises(UnreadableError):
        read(dicom_bytes(dicom_dataset(SQUARE, **change)))


def test_13_sequences_without_end():
    sequence = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(UnreadableError):
        read(headed(sequence * 100_000))


def test_14_a_sequence_of_a_million_items():
    sequence = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff"
    with pytest.raises(UnreadableError, match="too many"):
        read(headed(sequence, b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 1_000_000))


def test_15_a_header_of_a_million_elements():
    elements = (
        struct.pack("<HH2sH", 9 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(10**6)
    )
    with pytest.raises(UnreadableError, match="too many"):
        read(headed(*elements))


@pytest.mark.parametrize("suffix", RASTERS)
def test_16_cut_off_at_every_length(suffix):
    data = encoded(suffix)
    for length in range(0, len(data) - 1, max(1, len(data) // 97)):
        try:
            pixels = read(data[:length]).pixels
        except UnreadableError:
            continue
        assert pixels.shape == SQUARE.shape  # a decoder that fills in what is missing


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"])
def test_17_dicom_cut_off_at_every_length(name):
    data = dicom_file(name).read_bytes()
    end = data.index(b"\xe0\x7f\x10\x00") + 100
    for length in range(0, end, 41):
        with pytest.raises(UnreadableError):
            read(data[:length])


def test_18_mutations_of_real_files():
    """A few of the inputs of `fuzz.py`, which goes on for as long as one likes."""
    outcomes = [attack(number) for number in range(2000)]
    assert outcomes.count("read") > 100
    assert outcomes.count("unreadable") > 1000


@pytest.mark.parametrize("magic", [b"GIF89a", b"\x7fELF", b"PK\x03\x04", b"%PDF-1.4", b"", b"\x00"])
def test_19_files_of_other_types(magic):
    with pytest.raises(UnreadableError, match="not a PNG"):
        read(magic + bytes(200))


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00"])
def test_20_a_magic_and_nothing_behind(magic):
    for rest in (b"", b"\xff" * 500, bytes(500), b"%PDF-1.4" * 50):
        with pytest.raises(ImageError):
            read(magic + rest)


def test_21_a_polyglot_is_what_dicom_says_it_is():
    """A TIFF in the preamble of a DICOM file (PS3.10, 7.1): one reading, the same each time."""
    content = dicom_bytes(dicom_dataset(SQUARE))
    polyglot = encoded(".tif")[:128] + content[128:]
    assert np.array_equal(read(polyglot).pixels, read(content).pixels)


def test_22_an_image_with_a_program_behind_it():
    assert np.array_equal(read(encoded(".png") + b"\x7fELF" * 1000).pixels, SQUARE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_23_arrays_that_are_not_finite(bad):
    with pytest.raises(UnreadableError, match="NaN or infinite"):
        read(np.full((200, 200), bad))
    with pytest.raises(UnreadableError, match="NaN or infinite"):
        read(np.array([[0.0, bad], [1.0, 2.0]]))


@pytest.mark.parametrize("array", [np.zeros((3, 0)), np.zeros((2,) * 6), np.array([[None, 1]])])
def test_24_arrays_that_are_no_image(array):
    with pytest.raises(UnreadableError):
        read(array)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no fifos here")
def test_25_a_fifo_is_not_waited_for(tmp_path):
    path = tmp_path / "fifo.png"
    os.mkfifo(path)
    with pytest.raises(UnreadableError, match="regular file"):
        read(path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin", "/dev/null", "/proc/self/mem"])
def test_26_devices_and_files_without_end(device):
    with pytest.raises(UnreadableError):
        read(device)


@pytest.mark.parametrize("name", ["a\x00b.png", "x" * 5000, ""])
def test_27_names_that_are_no_names(name):
    with pytest.raises(UnreadableError):
        read(name)


def test_28_links_in_circles(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    (tmp_path / "a.png").write_bytes(encoded(".png"))
    assert tmp_path / "a.png" in find_images([tmp_path]).images
    with pytest.raises(UnreadableError, match="can't be opened"):
        read(tmp_path / "one")


def test_29_a_model_file_altered_by_one_bit(tmp_path):
    folder = shutil.copytree(SHIPPED / "vgg16-edge", tmp_path / "bundle")
    for variant in ModelBundle.load(folder).frontal.network.variants:
        path = folder / variant.file
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    with pytest.raises(BundleError, match="sha256 differs"):
        Screener(folder)


def test_30_a_manifest_altered_by_one_bit(tmp_path):
    """It is refused, or says the same of every file: no other bytes are ever loaded."""
    folder = shutil.copytree(SHIPPED / "vgg16-edge", tmp_path / "bundle")
    genuine = (folder / MANIFEST).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(genuine), 300):
        altered = bytearray(genuine)
        altered[position] ^= 1 << int(rng.integers(7))
        (folder / MANIFEST).write_bytes(bytes(altered))
        try:
            bundle = ModelBundle.load(folder)
            for network in (bundle.classifier, bundle.frontal.network):
                for variant in network.variants[:1]:
                    bundle.read(variant)
        except BundleError:
            refused += 1
    assert refused > 50


def test_31_a_file_over_the_limit_is_not_opened(tmp_path):
    path = tmp_path / "long.png"
    with path.open("wb") as stream:
        stream.truncate(600_000_000)  # takes no room on the disk
    with pytest.raises(TooLargeError, match="600000000 bytes"):
        read(path)


def test_47_a_manifest_whose_values_are_of_another_kind():
    """It is refused where it is loaded, or every label can still be decided."""
    genuine = json.loads((SHIPPED / "vgg16-edge" / MANIFEST).read_bytes())
    described = {key: genuine[key] for key in ("name", "version", "classifier", "frontal")}
    rng = random.Random(0)
    places = list(_places(described))
    refused = 0
    for _ in range(300):
        values = json.loads(json.dumps({**described, "provenance": {}}))
        *way, last = rng.choice(places)
        inside = values
        for key in way:
            inside = inside[key]
        inside[last] = rng.choice([None, True, -1, 10**400, 1e-320, 1e308, "", "\ud800", [], {}])
        try:
            manifest = decode(Manifest, values, "manifest")
        except ValueError:
            refused += 1
            continue
        classes = manifest.classifier.classes
        for point in manifest.classifier.operating_points:
            label, _ = decide(dict.fromkeys(classes, 1 / len(classes)), point)
            assert label in classes
    assert refused > 200


def _places(values, way=()):
    """The way to each value of nested objects and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, (dict, list)):
            yield from _places(value, (*way, key))
