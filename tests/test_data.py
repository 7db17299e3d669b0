import csv

import cv2
import numpy as np
import pytest

from xrayedge import data
from xrayedge.errors import DatasetError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, str(path)))
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), np.uint8)
    cv2.imwrite(str(path), pixels)


def manifest(folder, rows):
    path = folder / "manifest.csv"
    columns = list(rows[0])
    for row in rows:
        picture(folder / row["file"])
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(patients, pictures_each=2):
    return [
        {
            "file": f"{label}/{label}{patient}_{number}.png",
            "label": label,
            "patient_id": f"{label}{patient}",
        }
        for label in ("ill", "well")
        for patient in range(patients)
        for number in range(pictures_each)
    ]


def test_a_folder_per_class_is_split(tmp_path):
    for label in ("ill", "well"):
        for number in range(12):
            picture(tmp_path / label / f"{number}.png")
    dataset = data.load_dataset(tmp_path)
    assert dataset.classes == ("ill", "well")
    assert set(dataset.summary()) == {"train", "val", "test"}
    assert len(dataset.samples) == 24


def test_folders_named_like_splits_are_followed(tmp_path):
    for split in ("train", "val"):
        for label in ("ill", "well"):
            picture(tmp_path / split / label / "a.png")
    expected = {"train": {"ill": 1, "well": 1}, "val": {"ill": 1, "well": 1}}
    assert data.load_dataset(tmp_path).summary() == expected


def test_no_patient_is_on_two_sides(tmp_path):
    dataset = data.load_dataset(manifest(tmp_path, rows_of(patients=12, pictures_each=3)))
    sides = {}
    for sample in dataset.samples:
        sides.setdefault(sample.group, set()).add(sample.split)
    assert all(len(side) == 1 for side in sides.values())
    assert {label for counts in dataset.summary().values() for label in counts} == {"ill", "well"}


def test_given_splits_are_kept_and_val_is_cut_from_train(tmp_path):
    rows = [
        {**row, "split": "test" if int(row["patient_id"].lstrip("ilwe")) < 2 else "train"}
        for row in rows_of(patients=14)
    ]
    dataset = data.load_dataset(manifest(tmp_path, rows))
    test_groups = {sample.group for sample in dataset.split("test")}
    assert test_groups == {"ill0", "ill1", "well0", "well1"}
    assert dataset.split("val")


def test_where_filters_rows(tmp_path):
    path = manifest(tmp_path, rows_of(patients=8))
    where = [("patient_id", "ill1"), ("patient_id", "well1")]
    assert len(data.load_dataset(path, where, complete=False).samples) == 4


def test_the_digest_names_pictures_labels_and_splits(tmp_path):
    path = manifest(tmp_path, rows_of(patients=8))
    first = data.load_dataset(path, seed=1).digest()
    assert data.load_dataset(path, seed=1).digest() == first
    picture(tmp_path / "ill/ill0_0.png.tmp.png")
    (tmp_path / "ill/ill0_0.png").write_bytes((tmp_path / "ill/ill0_0.png.tmp.png").read_bytes())
    assert data.load_dataset(path, seed=1).digest() != first


def test_turned_copies_stay_with_their_patient(tmp_path):
    dataset = data.load_dataset(manifest(tmp_path, rows_of(patients=8)), turned_of="well")
    turned = [sample for sample in dataset.samples if sample.label == "turned"]
    assert len(turned) == 16
    sides = {sample.path: sample.split for sample in dataset.samples if sample.label == "well"}
    assert all(sample.quarter_turns in (1, 2, 3) for sample in turned)
    assert all(sides[sample.path] == sample.split for sample in turned)


def test_inverted_copies_and_drawn_pictures_join_them(tmp_path):
    dataset = data.load_dataset(manifest(tmp_path, rows_of(patients=8)), turned_of="well")
    inverted = [sample for sample in dataset.samples if sample.label == "inverted"]
    assert len(inverted) == 16
    assert all(sample.inverted for sample in inverted)
    drawn = [sample for sample in dataset.samples if sample.label == "artificial"]
    assert {sample.split for sample in drawn} == {"train", "val", "test"}
    assert len({sample.drawn for sample in drawn}) == len(drawn)  # no seed on two sides
    original = next(s for s in dataset.samples if s.path == inverted[0].path)
    expected = np.rot90(255 - data.read_sample(original), inverted[0].quarter_turns)
    assert np.array_equal(data.read_sample(inverted[0]), expected)
    assert np.array_equal(data.read_sample(drawn[0]), data.read_sample(drawn[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "gone.png"}, "row 3: gone.png does not exist"),
        ({"label": ""}, "row 3: file or label is empty"),
        ({"split": "holdout"}, "row 3: split 'holdout'"),
        ({"split": "test"}, "row 3 is in 'test', but .*row 2, of the same patient, is in 'train'"),
    ],
)
def test_a_bad_row_is_named(tmp_path, change, message):
    rows = [{**row, "split": "train"} for row in rows_of(patients=8)]
    path = manifest(tmp_path, rows)
    lines = list(csv.DictReader(path.open()))
    lines[1].update(change)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    with pytest.raises(DatasetError, match=message):
        data.load_dataset(path)


def test_a_split_of_one_class_is_refused(tmp_path):
    rows = [
        {**row, "split": "test" if row["patient_id"] in ("ill0", "ill1") else "train"}
        for row in rows_of(patients=8)
    ]
    with pytest.raises(DatasetError, match="only one class, 'ill' in the split 'test'"):
        data.load_dataset(manifest(tmp_path, rows))


def test_what_can_not_be_trained_on_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such"):
        data.load_dataset(tmp_path / "gone")
    with pytest.raises(DatasetError, match="no pictures"):
        data.load_dataset(tmp_path)
    (tmp_path / "ill").mkdir()
    with pytest.raises(DatasetError, match="ill: the class folder holds no picture"):
        data.load_dataset(tmp_path)
    for number in range(8):
        picture(tmp_path / "ill" / f"{number}.png")
    with pytest.raises(DatasetError, match="only one class"):
        data.load_dataset(tmp_path)
    picture(tmp_path / "well" / "0.png")
    with pytest.raises(DatasetError, match="'well' has 1 patients"):
        data.load_dataset(tmp_path)


def test_a_manifest_without_labels_is_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("file,split\na.png,train\n")
    with pytest.raises(DatasetError, match="no column label"):
        data.load_dataset(path)
