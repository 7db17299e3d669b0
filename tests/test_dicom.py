"""DICOM's transforms, each on a file written here with one pixel worked out by hand."""

import contextlib
import io
import logging
import traceback
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import dicom_bytes, dicom_dataset, dicom_file

from xrayedge import ImageError, Screener, UnreadableError, read

pydicom = pytest.importorskip("pydicom")
uid = pydicom.uid

IMAGE = np.arange(1 << 12, dtype=np.uint16).reshape(64, 64)  # every value of 12 bits


def one(value, *, dtype=np.uint16, beside=(), **attributes):
    """The grey value of a first pixel that stores ``value``, beside others."""
    stored = np.array([[value, *beside, value]], dtype)
    return int(read(dicom_bytes(dicom_dataset(stored, **attributes))).pixels[0, 0])


def lut(first, entries, bits):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.array(entries, np.uint16).tobytes())
    return [item]


WINDOW = {"RescaleSlope": 2, "RescaleIntercept": -50, "WindowCenter": 200, "WindowWidth": 201}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        # 100 is 2 * 100 - 50 = 150; ((150 - 199.5) / 200 + 0.5) * 255 = 64.4
        (WINDOW, 64),
        (WINDOW | {"VOILUTFunction": "LINEAR"}, 64),
        # ((150 - 200) / 200 + 0.5) * 255 = 63.75
        (WINDOW | {"WindowWidth": 200, "VOILUTFunction": "LINEAR_EXACT"}, 64),
        # 255 / (1 + exp(-4 * (150 - 200) / 200)) = 255 / (1 + e) = 68.6
        (WINDOW | {"WindowWidth": 200, "VOILUTFunction": "SIGMOID"}, 69),
        # the first of several windows
        (WINDOW | {"WindowCenter": [200, 1000], "WindowWidth": [201, 10]}, 64),
        (WINDOW | {"PhotometricInterpretation": "MONOCHROME1"}, 255 - 64),
        (WINDOW | {"PresentationLUTShape": "INVERSE"}, 255 - 64),
        (
            WINDOW
            | {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
            255 - 64,
        ),
        # a window that can't be applied is none: 150 is the least of 150 to 550
        (WINDOW | {"WindowWidth": 0}, 0),
        (WINDOW | {"WindowCenter": None, "WindowWidth": None}, 0),
    ],
)
def test_rescale_then_window_then_presentation(attributes, expected):
    assert one(100, beside=(300,), **attributes) == expected


def test_without_a_window_the_values_present_are_the_range():
    assert one(20, beside=(10, 50)) == round(255 * (20 - 10) / (50 - 10))


def test_a_voi_lut_is_looked_up_and_scaled_by_its_bits():
    table = lut(first=10, entries=[0, 200, 1023], bits=10)
    assert one(11, VOILUTSequence=table) == round(200 / 1023 * 255)
    assert one(5, VOILUTSequence=table) == 0  # before the first: the first entry
    assert one(4000, VOILUTSequence=table) == 255  # after the last: the last


def test_a_voi_lut_of_8_bits_takes_values_over_255():
    entries = [0] * 299 + [77] + [255] * 10
    assert one(299, VOILUTSequence=lut(0, entries, 8)) == 77


def test_a_voi_lut_goes_before_a_window():
    table = lut(first=0, entries=[0, 51, 255], bits=8)
    assert one(1, VOILUTSequence=table, WindowCenter=1, WindowWidth=1) == 51


def test_a_modality_lut_comes_before_the_window():
    table = lut(first=3, entries=[1000, 1500, 3000], bits=16)
    # 4 is 1500; ((1500 - 1999.5) / 2000 + 0.5) * 255 = 63.8
    assert one(4, ModalityLUTSequence=table, WindowCenter=2000, WindowWidth=2001) == 64


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_modality_lut_may_declare_any_bits(bits):
    table = lut(first=0, entries=[0, 100, 400], bits=bits)
    assert one(1, beside=(0, 2), ModalityLUTSequence=table) == round(255 * 100 / 400)


def test_a_lut_may_begin_at_a_negative_value():
    table = lut(first=-2, entries=[0, 60, 255], bits=8)
    assert one(-1, dtype=np.int16, VOILUTSequence=table) == 60


def test_signed_pixels_keep_their_sign():
    # (-50 + 100) / (100 + 100) * 255
    assert one(-50, dtype=np.int16, beside=(-100, 100)) == 64


def test_signed_12_bits_in_16():
    """0xF80 is -128 in 12 bits; the range is -128 to 127."""
    bits = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    assert one(0xF80, beside=(0, 127), **bits) == 0
    assert one(0, beside=(0xF80, 127), **bits) == round(255 * 128 / 255)


def test_overlays_in_unused_bits_are_ignored():
    bits = {"BitsStored": 12, "HighBit": 11}
    assert one(1000 | 0x8000, beside=(0, 4000), **bits) == round(255 * 1000 / 4000)


def test_overlay_planes_are_ignored():
    plain = dicom_dataset(IMAGE)
    expected = read(dicom_bytes(plain)).pixels
    plain.add_new(0x60000010, "US", 8)
    plain.add_new(0x60000011, "US", 8)
    plain.add_new(0x60000040, "CS", "G")
    plain.add_new(0x60003000, "OW", b"\xff" * 8)
    assert np.array_equal(read(dicom_bytes(plain)).pixels, expected)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_not_part_of_the_range(photometric):
    stored = np.array([[-2000, -100, 20, 100]], np.int16)
    padded = dicom_dataset(stored, PhotometricInterpretation=photometric)
    padded.add_new("PixelPaddingValue", "SS", -2000)
    expected = [0, 0, 153, 255] if photometric == "MONOCHROME2" else [0, 255, 102, 0]
    assert read(dicom_bytes(padded)).pixels.tolist() == [expected]


def test_signed_padding_may_be_written_as_unsigned():
    padded = dicom_dataset(np.array([[-2000, -100, 20, 100]], np.int16))
    padded.add_new("PixelPaddingValue", "US", 65_536 - 2000)
    assert read(dicom_bytes(padded)).pixels.tolist() == [[0, 0, 153, 255]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("slope", ["1e300", "-1e300", "1e-320", "1e304", "1e307"])
def test_slopes_at_the_ends_of_floats_are_read_or_refused_in_silence(function, slope):
    window = {"WindowCenter": "1e-300", "WindowWidth": "1.0000000001", "VOILUTFunction": function}
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of what it is asked to write
        dataset = dicom_dataset(
            pixels, RescaleSlope=slope, RescaleIntercept="0", **(window if function else {})
        )
        content = dicom_bytes(dataset)
    with contextlib.suppress(UnreadableError):
        assert read(content).pixels.shape == (16, 16)


@pytest.mark.parametrize("slope", ["nan", "inf", "1e400"])
def test_a_rescale_slope_that_is_no_number_is_refused(slope):
    """Not shown black, as a window of nothing is."""
    content = dicom_bytes(dicom_dataset(IMAGE, **WINDOW | {"RescaleSlope": "12345678"}))
    assert content.count(b"12345678") == 1
    with pytest.raises(UnreadableError):
        read(content.replace(b"12345678", slope.ljust(8).encode()))


@pytest.mark.parametrize(
    "change",
    [
        {"BitsStored": 12, "HighBit": 15},
        {"BitsStored": 16, "HighBit": 11},
        {"BitsStored": 17, "HighBit": 16},
        {"BitsStored": 0, "HighBit": 0},
    ],
)
def test_bits_that_contradict_each_other_are_refused(change):
    with pytest.raises(UnreadableError, match="contradict"):
        one(1, **change)


def test_padding_may_be_a_range():
    stored = np.array([[5, 7, 10, 50, 100]], np.uint16)
    padded = dicom_dataset(stored)
    padded.add_new("PixelPaddingValue", "US", 7)
    padded.add_new("PixelPaddingRangeLimit", "US", 5)
    assert read(dicom_bytes(padded)).pixels.tolist() == [[0, 0, 0, round(255 * 40 / 90), 255]]


@pytest.mark.parametrize("bits", range(8, 17))
def test_8_to_16_bits(bits):
    top = (1 << bits) - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    assert one(top // 4, dtype=dtype, beside=(0, top), BitsStored=bits, HighBit=bits - 1) == round(
        255 * (top // 4) / top
    )


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.RLELossless,
        uid.JPEG2000Lossless,
        uid.JPEGLSLossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_every_transfer_syntax_gives_the_same_pixels(syntax):
    expected = read(dicom_bytes(dicom_dataset(IMAGE, BitsStored=12, HighBit=11))).pixels
    assert expected[10, 7] == round(255 * 647 / 4095)
    if syntax.is_encapsulated:
        dataset = dicom_dataset(IMAGE, BitsStored=12, HighBit=11)
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        order = "<" if syntax.is_little_endian else ">"
        dataset = dicom_dataset(IMAGE.astype(f"{order}u2"), syntax, BitsStored=12, HighBit=11)
    assert np.array_equal(read(dicom_bytes(dataset)).pixels, expected)


def test_baseline_jpeg():
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64)) / 1.0, (0, 0), 8)
    smooth = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    dataset = dicom_dataset(smooth, uid.JPEGBaseline8Bit)
    stream = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    dataset.PixelData = pydicom.encaps.encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    found = read(dicom_bytes(dataset)).pixels
    assert np.abs(found.astype(int) - smooth).max() <= 6


def test_palette_colours_are_not_taken_for_grey():
    palette = read(dicom_file("examples_palette.dcm")).pixels
    indices = pydicom.dcmread(dicom_file("examples_palette.dcm")).pixel_array
    assert palette.shape == indices.shape
    assert not np.array_equal(palette, indices)


@pytest.mark.parametrize(
    "change", [{"BitsAllocated": 32}, {"NumberOfFrames": 2}, {"VOILUTFunction": "OTHER"} | WINDOW]
)
def test_what_is_not_supported_is_refused(change):
    with pytest.raises(UnreadableError):
        one(1, **change)


def test_what_the_file_says_of_itself_is_reported():
    said = dicom_dataset(IMAGE, Modality="DX", BodyPartExamined="CHEST", ViewPosition="PA")
    tags = read(dicom_bytes(said)).tags
    assert (tags.modality, tags.body_part, tags.view_position) == ("DX", "CHEST", "PA")


def test_the_host_program_stays_as_it_was():
    """Its warnings, its loggers and OpenCV's log."""

    def state():
        loggers = {name: getattr(one, "filters", None) for name, one in loggers_there.items()}
        return list(warnings.filters), loggers, cv2.utils.logging.getLogLevel()

    loggers_there = dict(logging.root.manager.loggerDict)
    before = state()
    for name in ("JPEG-LL.dcm", "MR_small_RLE.dcm", "MR_small.dcm", "rtplan.dcm"):
        with contextlib.suppress(ImageError):
            read(dicom_file(name))
    assert state() == before


def test_only_codes_are_reported():
    said = dicom_dataset(IMAGE)
    said.add_new("Modality", "LO", "Jane Doe, 5.11.1970")
    assert read(dicom_bytes(said)).tags.modality is None


def test_nothing_of_the_patient_is_logged(caplog, capfd, recwarn):
    """pydicom complains of some values, an unknown character set for one, and quotes them."""
    marked = dicom_dataset(IMAGE, PatientName="CANARY^NAME", BodyPartExamined="REPLACED")
    marked.SpecificCharacterSet = "ISO_IR 100"
    content = dicom_bytes(marked).replace(b"ISO_IR 100", b"canary set")
    content = content.replace(b"REPLACED", b"canary^x")
    with caplog.at_level(logging.DEBUG):
        pydicom.dcmread(io.BytesIO(content))
        assert "canary" in caplog.text
        assert "canary" in str(recwarn.pop().message)
        caplog.clear()
        assert read(content).tags.body_part is None
        with pytest.raises(UnreadableError) as caught:
            read(content[:-40])
    seen = [caplog.text, *capfd.readouterr(), *(str(warning.message) for warning in recwarn)]
    seen += traceback.format_exception(caught.value)
    assert "canary" not in "".join(seen).lower()


def every_dicom_file():
    data_store = pytest.importorskip("data_store")
    roots = [Path(pydicom.data.__file__).parent, Path(data_store.__file__).parent]
    return sorted(
        path
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )


def reference(dataset):
    """What pydicom's own functions make of a dataset: ``float [H, W]`` grey, 0 to 255."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_windowing

    pixels = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, dataset)
        return colours[..., :3] @ LUMA * (255.0 / np.iinfo(colours.dtype).max)
    if pixels.ndim == 3:
        return pixels @ LUMA * (255.0 / (255 if pixels.dtype == np.uint8 else pixels.max()))
    padding = pixels == dataset.get("PixelPaddingValue", 1 << 20)
    values = apply_modality_lut(pixels, dataset).astype(float)
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        window = pydicom.Dataset()  # of a display: 8 bits
        window.PhotometricInterpretation = "MONOCHROME2"
        window.BitsStored, window.PixelRepresentation = 8, 0
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
            if keyword in dataset:
                setattr(window, keyword, dataset.get(keyword))
        grey = apply_windowing(values, window)
    else:
        present = values[~padding]
        grey = (values - present.min()) * (255.0 / max(np.ptp(present), 1e-9))
    inverse = dataset.PhotometricInterpretation == "MONOCHROME1"
    if inverse or dataset.get("PresentationLUTShape") == "INVERSE":
        grey = 255.0 - grey
    return np.where(padding, 0.0, grey)


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
#: pydicom 3.0 wraps entries of a VOI LUT, and swaps bytes of a big endian palette of 8 bits.
NO_REFERENCE = {"vlut_04.dcm", "OBXXXX1A_expb.dcm"}


@pytest.mark.filterwarnings("ignore")
def test_grey_values_are_those_of_pydicom(caplog):
    """On every file that both read, to rounding; of lossy and colour files to their decoders'."""
    caplog.set_level(logging.CRITICAL)
    compared = 0
    for path in every_dicom_file():
        try:
            found = read(path).pixels
            dataset = pydicom.dcmread(path, force=True)
            expected = reference(dataset)
        except (ImageError, AttributeError, RuntimeError):  # pydicom's own two
            continue
        if path.name in NO_REFERENCE:
            continue
        difference = np.abs(found - expected)
        lossy = dataset.SamplesPerPixel == 3 or dataset.file_meta.TransferSyntaxUID in LOSSY
        assert difference.max() <= (9.0 if lossy else 0.66), path.name
        assert difference.mean() <= 0.5, path.name
        compared += 1
    assert compared >= 123


LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)


def test_a_big_endian_palette_is_that_of_the_little_endian_file():
    big, little = (dicom_file(f"OBXXXX1A{kind}.dcm") for kind in ("_expb", ""))
    assert np.array_equal(read(big).pixels, read(little).pixels)


def test_every_file_of_pydicom_is_read_or_refused():
    read_files = refused = 0
    for path in every_dicom_file():
        try:
            image = read(path)
        except ImageError:
            refused += 1
            continue
        assert image.pixels.ndim == 2
        assert image.pixels.dtype == np.uint8
        read_files += 1
    assert read_files > 80
    assert refused > 50


EXPECTED = {
    "cxr_barre_mono1_10bit_noheader.dcm": (440, 440),
    "cxr_nema_rg1_mono1_j2k.dcm": (1955, 1841),
    "cxr_nih_mono2_implicit.dcm": (1024, 1024),
    "cxr_rsna_mono2_jpegbaseline.dcm": (1024, 1024),
    "cxr_rsna_retagged_mono1_jpegbaseline.dcm": (1024, 1024),
    "notchest_ct_small.dcm": (128, 128),
    "notchest_dental_panoramic_modalitylut_mono1_jpeglossless.dcm": (1576, 1976),
    "notchest_mr_siemens_overlay.dcm": (484, 484),
    "notchest_mr_small.dcm": (64, 64),
    "notchest_nema_rg3_extremity_mono1_j2klossless.dcm": (1760, 1760),
}


@pytest.mark.data
def test_the_ten_files_of_the_data_set(data_root):
    folder = data_root / "dicom"
    images = {name: read(folder / name).pixels for name in EXPECTED}
    assert {name: pixels.shape for name, pixels in images.items()} == EXPECTED
    # Only the tag of this one was changed: read correctly, it is the other's negative.
    genuine = images["cxr_rsna_mono2_jpegbaseline.dcm"]
    retagged = images["cxr_rsna_retagged_mono1_jpegbaseline.dcm"]
    assert np.array_equal(retagged, 255 - genuine)
    screener = Screener()
    for name in EXPECTED:
        screening = screener.screen(folder / name)
        if name.startswith("notchest"):
            assert screening.status == "rejected", name
        elif "retagged" in name:
            assert screening.reason == "inverted"
        else:
            assert screening.status == "screened", name


def test_one_image_in_many_files_has_the_same_scores(chest):
    screener = Screener()
    pixels = read(chest).pixels
    exports = {
        "png8": cv2.imencode(".png", pixels)[1].tobytes(),
        "jpeg": cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(),
        "lossless": dicom_file("RG1_J2KR.dcm"),
        "lossy": dicom_file("RG1_J2KI.dcm"),
    }
    expected = screener.screen(chest)
    assert expected.status == "screened"
    for name, export in exports.items():
        found = screener.screen(export)
        assert found.label == expected.label, name
        for label, probability in found.probabilities.items():
            # The frame around the lungs may move by some pixels, too.
            assert probability == pytest.approx(expected.probabilities[label], abs=0.08), name


def test_sixteen_bits_are_spread_over_the_grey_range(chest):
    pixels = read(chest).pixels
    spread = cv2.normalize(pixels, None, 0, 255, cv2.NORM_MINMAX)
    png = cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
    assert np.abs(read(png).pixels.astype(int) - spread).max() <= 1
    screener = Screener()
    expected, found = screener.screen(spread), screener.screen(png)
    assert found.label == expected.label
    assert found.probabilities == pytest.approx(expected.probabilities, abs=0.02)
