import struct
import zlib

import cv2
import numpy as np
import pytest
from conftest import dicom_file, tiff

from xrayedge import Limits, Screener, TooLargeError, UnreadableError, read

RAMP = np.tile(np.arange(200, dtype=np.uint8), (150, 1))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_lossless_files_keep_every_pixel(tmp_path, suffix):
    path = tmp_path / f"ramp{suffix}"
    cv2.imwrite(str(path), RAMP)
    image = read(path)
    assert np.array_equal(image.pixels, RAMP)
    assert image.source == str(path)


def test_jpeg_stays_close(tmp_path):
    path = tmp_path / "ramp.jpg"
    cv2.imwrite(str(path), RAMP)
    assert np.abs(read(path).pixels.astype(int) - RAMP).max() <= 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_from_their_own_range(tmp_path, suffix):
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), RAMP.astype(np.uint16) * 100 + 5000)
    expected = np.rint(RAMP * (255 / 199)).astype(np.uint8)
    assert np.array_equal(read(path).pixels, expected)


def test_bytes_and_arrays_read_like_files(tmp_path):
    path = tmp_path / "ramp.png"
    cv2.imwrite(str(path), RAMP)
    assert np.array_equal(read(path.read_bytes()).pixels, RAMP)
    assert np.array_equal(read(bytearray(path.read_bytes())).pixels, RAMP)
    assert np.array_equal(read(memoryview(path.read_bytes())).pixels, RAMP)
    assert np.array_equal(read(RAMP).pixels, RAMP)
    assert np.array_equal(read(np.dstack([RAMP] * 3)).pixels, RAMP)
    assert np.array_equal(read(RAMP[:, :, np.newaxis]).pixels, RAMP)
    assert np.array_equal(read(RAMP / 199.0).pixels, np.rint(RAMP * (255 / 199)).astype(np.uint8))


def test_a_path_may_be_any_path_like(tmp_path):
    path = tmp_path / "ramp.png"
    cv2.imwrite(str(path), RAMP)

    class Entry:
        def __fspath__(self):
            return str(path)

    class Encoded:
        def __fspath__(self):
            return bytes(path)

    for entry in (Entry(), Encoded()):
        image = read(entry)
        assert np.array_equal(image.pixels, RAMP)
        assert image.source == str(path)


def test_bytes_over_the_limit_are_not_copied():
    large = memoryview(np.zeros((1000, 1000), np.uint16))
    with pytest.raises(TooLargeError, match="2000000 bytes"):
        read(large, Limits(max_bytes=100))


def test_colour_becomes_the_same_grey_from_a_file_and_from_an_array(tmp_path):
    path = tmp_path / "colour.png"
    cv2.imwrite(str(path), np.full((20, 20, 3), (0, 0, 255), np.uint8))
    assert (read(path).pixels == 76).all()  # 0.299 of red's 255, ITU-R BT.601
    colours = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    cv2.imwrite(str(path), colours[:, :, ::-1])
    found = read(colours).pixels
    assert np.abs(found.astype(int) - read(path).pixels).max() <= 1
    alpha = np.dstack([colours, colours[:, :, 0]])
    assert np.array_equal(read(alpha).pixels, found)
    whole_range = colours.copy()
    whole_range[0, :2] = [[0, 0, 0], [255, 255, 255]]
    expected = read(whole_range).pixels
    for deeper in (np.uint16, np.int32, np.float32, np.float64):
        assert np.abs(read(whole_range.astype(deeper)).pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_that_stores_white_as_zero_is_not_inverted(bits):
    pixels = RAMP if bits == 8 else RAMP.astype(np.uint16) * 257
    darker, brighter = (read(tiff(pixels, photometric=white)).pixels for white in (1, 0))
    assert np.array_equal(darker, read(pixels).pixels)
    assert np.array_equal(brighter, 255 - darker)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[np.nan, 1.0]]),
        np.zeros((0, 5), np.uint8),
        np.zeros(5),
        np.zeros((4, 4, 2)),
        np.array([["a"]]),
    ],
)
def test_arrays_that_are_no_image_are_unreadable(array):
    with pytest.raises(UnreadableError):
        read(array)


def test_a_text_file_is_unreadable_and_named(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("no image")
    with pytest.raises(UnreadableError, match=r"note\.txt: not a PNG"):
        read(path)


@pytest.mark.parametrize("cut", [12, 40, 300])
def test_cut_files_are_unreadable(tmp_path, cut):
    path = tmp_path / "cut.png"
    path.write_bytes(cv2.imencode(".png", RAMP)[1].tobytes()[:cut])
    with pytest.raises(UnreadableError):
        read(path)


def test_missing_files_and_folders_are_unreadable(tmp_path):
    with pytest.raises(UnreadableError, match="can't be opened"):
        read(tmp_path / "gone.png")
    with pytest.raises(UnreadableError, match="regular file"):
        read(tmp_path)


def test_a_huge_declared_size_is_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )
    with pytest.raises(TooLargeError, match="60000 x 60000"):
        read(png)


def test_limits_can_be_set(tmp_path):
    path = tmp_path / "ramp.png"
    cv2.imwrite(str(path), RAMP)
    with pytest.raises(TooLargeError, match="max_pixels"):
        read(path, Limits(max_pixels=100))
    with pytest.raises(TooLargeError, match="max_bytes"):
        read(path, Limits(max_bytes=100))
    with pytest.raises(TooLargeError):
        read(RAMP, Limits(max_pixels=100))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif"])
def test_every_raster_header_is_measured(tmp_path, suffix):
    path = tmp_path / f"ramp{suffix}"
    cv2.imwrite(str(path), RAMP)
    with pytest.raises(TooLargeError, match="200 x 150"):
        read(path, Limits(max_pixels=100))


def test_a_chest_in_monochrome1_comes_out_with_bones_bright(chest):
    """The air beside the neck must be darker than the spine; the file stores it brighter."""
    pixels = read(chest).pixels
    height, width = pixels.shape
    assert (height, width) == (1955, 1841)
    air = pixels[height // 25 : height // 12, : width // 12].mean()
    spine = pixels[height // 2 : height * 2 // 3, width * 48 // 100 : width * 52 // 100].mean()
    assert air < 80 < 180 < spine


def test_compressed_and_plain_dicom_give_the_same_pixels(chest):
    assert np.array_equal(read(chest).pixels, read(dicom_file("RG1_J2KR.dcm")).pixels)


def test_dicom_with_a_tiff_preamble_is_read_as_dicom():
    path = dicom_file("CT_small.dcm")
    assert path.read_bytes()[:4] == b"II*\x00"
    assert read(path).pixels.shape == (128, 128)


def test_dicom_without_preamble_is_read(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(dicom_file("MR_small.dcm"))
    expected = read(dicom_file("MR_small.dcm")).pixels
    path = tmp_path / "bare"
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(read(path).pixels, expected)


def test_several_frames_are_refused_with_a_reason():
    with pytest.raises(UnreadableError) as caught:
        read(dicom_file("emri_small.dcm"))
    assert caught.value.reason == "multi-frame"


def test_dicom_without_an_image_is_unreadable():
    with pytest.raises(UnreadableError, match="no image"):
        read(dicom_file("rtplan.dcm"))


def test_cut_dicom_is_unreadable(chest):
    with pytest.raises(UnreadableError, match="damaged"):
        read(chest.read_bytes()[:100_000])


def test_dicom_over_the_pixel_limit_is_refused(chest):
    with pytest.raises(TooLargeError, match="1841 x 1955"):
        read(chest, Limits(max_pixels=1_000_000))


def test_jpeg_2000_is_decoded_by_as_many_threads_as_a_screener_has(monkeypatch):
    imagecodecs = pytest.importorskip("imagecodecs")
    path = dicom_file("RG1_J2KR.dcm")
    expected = read(path).pixels
    asked = []
    decode = imagecodecs.jpeg2k_decode

    def observed(*arguments, numthreads, **options):
        asked.append(numthreads)
        return decode(*arguments, numthreads=numthreads, **options)

    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", observed)
    assert np.array_equal(read(path, threads=3).pixels, expected)
    with Screener(threads=2) as screener:
        assert screener.screen(path).ok
    assert asked == [3, 2]
