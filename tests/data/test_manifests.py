"""What a manifest CSV may hold, and how a fault in it is named."""

import pytest
from labelled import image, manifest, site_rows

from xrayedge import data
from xrayedge.errors import DatasetError


def with_boxes(tmp_path, row, **change):
    rows = site_rows("north", opacity_boxes="", lung_box="")
    rows[0].update(opacity_boxes="[[0.1, 0.2, 0.5, 0.75], [0, 0, 1, 1]]", lung_box="[0, 0, 1, 0.9]")
    rows[1].update(opacity_boxes="[]", lung_box="[[0.25, 0, 1, 1]]")
    rows[row].update(change)
    return manifest(tmp_path, rows)


def test_boxes_are_read_and_none_found_differs_from_nobody_looked(tmp_path):
    samples = data.load_dataset(with_boxes(tmp_path, 0)).samples
    assert samples[0].opacity_boxes == ((0.1, 0.2, 0.5, 0.75), (0.0, 0.0, 1.0, 1.0))
    assert samples[0].lung_box == (0.0, 0.0, 1.0, 0.9)
    assert (samples[1].opacity_boxes, samples[1].lung_box) == ((), (0.25, 0.0, 1.0, 1.0))
    assert (samples[2].opacity_boxes, samples[2].lung_box) == (None, None)


def test_the_digest_knows_boxes(tmp_path):
    one = data.load_dataset(with_boxes(tmp_path, 0)).digest()
    two = data.load_dataset(with_boxes(tmp_path, 0, opacity_boxes="[[0, 0, 1, 1]]")).digest()
    assert one != two


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (
            0,
            "opacity_boxes",
            "[[0.5, 0, 1.2, 1]]",
            r"row 2: opacity_boxes holds \[0.5, 0, 1.2,",
        ),
        (0, "opacity_boxes", "[[0.5, 0, 0.5, 1]]", r"row 2: opacity_boxes holds"),
        (0, "opacity_boxes", "[[0, NaN, 1, 1]]", "row 2: opacity_boxes holds"),
        (0, "opacity_boxes", "[[0, true, 1, 1]]", "row 2: opacity_boxes holds"),
        (0, "opacity_boxes", '[[0, "0", 1, 1]]', "row 2: opacity_boxes holds"),
        (0, "opacity_boxes", "[0, 0, 1, 1]", "row 2: opacity_boxes holds 0, not"),
        (0, "opacity_boxes", '{"a": 1}', "row 2: opacity_boxes is no JSON list"),
        (0, "opacity_boxes", "[[0, 0, 1", "row 2: opacity_boxes is no JSON: "),
        (0, "opacity_boxes", "[" * 100_000, "row 2: opacity_boxes is no JSON: "),
        (1, "lung_box", "[[0, 0, 1, 1], [0, 0, 1, 1]]", "row 3: lung_box holds"),
        (1, "lung_box", "none", "row 3: lung_box is no JSON"),
        (2, "opacity_boxes", "[[0, 0, 1, 1]]", "row 4: an opacity on an image labelled 'healthy'"),
    ],
)
def test_a_bad_box_is_named(tmp_path, row, column, value, message):
    with pytest.raises(DatasetError, match="manifest.csv, " + message):
        data.load_dataset(with_boxes(tmp_path, row, **{column: value}))


TABLE = "file,label\né.png,covid\nb.png,healthy\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE.encode("latin-1"), "manifest.csv, row 2: is not UTF-8; save it as UTF-8"),
        (TABLE.encode("utf-16"), "manifest.csv: is UTF-16; save it as UTF-8"),
        (TABLE.replace(",", ";").encode(), "its columns are separated by semicolons; use commas"),
        (TABLE.replace(",", "\t").encode(), "its columns are separated by tabs; use commas"),
        (b"file,label\n" + b"a" * 200_000 + b",covid\n", "line 2: no CSV"),
        (b"file,label\na.png\n", "row 2: file or label is empty"),
        (b"", "no column file, label"),
    ],
)
def test_a_manifest_in_another_form_is_named(tmp_path, content, message):
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        data.load_dataset(path)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    for name in ("é.png", "b.png"):
        image(tmp_path / name)
    path = tmp_path / "manifest.csv"
    path.write_bytes(TABLE.encode("utf-8-sig"))
    assert [s.label for s in data.load_dataset(path, complete=False).samples] == [
        "covid",
        "healthy",
    ]
