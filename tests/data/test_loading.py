import csv
import shutil

import cv2
import numpy as np
import pytest
from labelled import image, manifest, site_rows

from xrayedge import data
from xrayedge.errors import DatasetError


def rows_of(patients, images_each=2):
    return [
        {
            "file": f"{label}/{label}{patient}_{number}.png",
            "label": label,
            "patient_id": f"{label}{patient}",
        }
        for label in ("ill", "well")
        for patient in range(patients)
        for number in range(images_each)
    ]


def test_a_folder_per_class_is_split(tmp_path):
    for label in ("ill", "well"):
        for number in range(12):
            image(tmp_path / label / f"{number}.png")
    dataset = data.load_dataset(tmp_path)
    assert dataset.classes == ("ill", "well")
    assert set(dataset.summary()) == {"train", "val", "test"}
    assert len(dataset.samples) == 24


def test_folders_named_like_splits_are_followed(tmp_path):
    for split in ("train", "val"):
        for label in ("ill", "well"):
            image(tmp_path / split / label / "a.png")
    expected = {"train": {"ill": 1, "well": 1}, "val": {"ill": 1, "well": 1}}
    assert data.load_dataset(tmp_path).summary() == expected


def test_no_patient_is_on_two_sides(tmp_path):
    dataset = data.load_dataset(manifest(tmp_path, rows_of(patients=12, images_each=3)))
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


def test_the_digest_names_images_labels_and_splits(tmp_path):
    path = manifest(tmp_path, rows_of(patients=8))
    first = data.load_dataset(path, seed=1).digest()
    assert data.load_dataset(path, seed=1).digest() == first
    image(tmp_path / "ill/ill0_0.png.tmp.png")
    (tmp_path / "ill/ill0_0.png").write_bytes((tmp_path / "ill/ill0_0.png.tmp.png").read_bytes())
    assert data.load_dataset(path, seed=1).digest() != first


def test_turned_copies_stay_with_their_patient(tmp_path):
    dataset = data.load_dataset(manifest(tmp_path, rows_of(patients=8)), turned_of="well")
    turned = [sample for sample in dataset.samples if sample.label == "turned"]
    assert len(turned) == 16
    sides = {sample.path: sample.split for sample in dataset.samples if sample.label == "well"}
    assert all(sample.quarter_turns in (1, 2, 3) for sample in turned)
    assert all(sides[sample.path] == sample.split for sample in turned)


def test_inverted_copies_and_drawn_images_join_them(tmp_path):
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
    with pytest.raises(DatasetError, match="no images"):
        data.load_dataset(tmp_path)
    (tmp_path / "ill").mkdir()
    with pytest.raises(DatasetError, match="ill: the class folder holds no image"):
        data.load_dataset(tmp_path)
    for number in range(8):
        image(tmp_path / "ill" / f"{number}.png")
    with pytest.raises(DatasetError, match="only one class"):
        data.load_dataset(tmp_path)
    image(tmp_path / "well" / "0.png")
    with pytest.raises(DatasetError, match="'well' has 1 patients"):
        data.load_dataset(tmp_path)


def test_a_manifest_without_labels_is_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("file,split\na.png,train\n")
    with pytest.raises(DatasetError, match="no column label"):
        data.load_dataset(path)


def test_several_manifests_and_folders_are_one_data_set(tmp_path):
    one = manifest(tmp_path / "a", site_rows("north"))
    two = manifest(tmp_path / "b", site_rows("south"))
    for split in ("train", "valid"):
        for label in ("covid", "healthy"):
            image(tmp_path / "c" / split / label / "x.png")
    dataset = data.load_dataset([one, two, tmp_path / "c"])
    assert dataset.classes == ("covid", "healthy")
    assert {sample.source for sample in dataset.samples} == {"north", "south", ""}
    assert dataset.summary() == {
        "train": {"covid": 5, "healthy": 5},
        "val": {"covid": 5, "healthy": 5},
        "test": {"covid": 4, "healthy": 4},
    }
    assert data.load_dataset([one]).digest() == data.load_dataset(one).digest()


def test_a_patient_of_two_manifests_stays_on_one_side(tmp_path):
    one = manifest(tmp_path / "a", site_rows("north"))
    rows = site_rows("south")
    rows[-1]["patient_id"] = "north-train-covid0"
    two = manifest(tmp_path / "b", rows)
    with pytest.raises(
        DatasetError, match=r"b/manifest.csv, row 13 is in 'test'.*a/manifest.csv, row 2, of the"
    ):
        data.load_dataset([one, two])


def test_files_of_one_name_in_two_manifests_are_two_patients(tmp_path):
    rows = [
        {"file": f"{label}{number}.png", "label": label}
        for label in ("covid", "healthy")
        for number in range(6)
    ]
    paths = [manifest(tmp_path / name, rows) for name in ("a", "b")]
    dataset = data.load_dataset(paths)
    assert len({sample.group for sample in dataset.samples}) == 24
    assert not any(sample.patient_known for sample in dataset.samples)


def test_labels_that_are_no_classes_are_counted_or_loaded_but_never_classes(tmp_path):
    rows = site_rows("north")
    for row, label in zip(rows[1::2], ("other", "other", "indeterminate"), strict=False):
        row["label"] = label
    path = manifest(tmp_path, rows)
    without = data.load_dataset(path)
    assert without.classes == ("covid", "healthy")
    assert without.left_out == {"other": 2, "indeterminate": 1}
    assert len(without.samples) == 9
    everything = data.load_dataset(path, non_classes=True)
    assert everything.classes == ("covid", "healthy")
    assert everything.left_out == {}
    assert everything.summary()["train"] == {"covid": 1, "healthy": 1, "other": 2}


def test_a_label_that_is_neither_class_nor_allowed_is_named(tmp_path):
    rows = site_rows("north")
    rows[4]["label"] = "covdi"
    path = manifest(tmp_path, rows)
    with pytest.raises(DatasetError, match=r"row 6: the label 'covdi' is neither a class \(covid,"):
        data.load_dataset(path, classes=("covid", "healthy", "pneumonia"), complete=False)
    with pytest.raises(DatasetError, match="row 6: no image of its class 'covdi' is in 'train'"):
        data.load_dataset(path)


def test_a_misspelt_class_folder_is_named(tmp_path):
    for folder in ("train/covid", "train/healthy", "test/covid", "test/helthy"):
        image(tmp_path / folder / "a.png")
    with pytest.raises(DatasetError, match="'helthy' is in 'train', which holds covid, healthy"):
        data.load_dataset(tmp_path, with_val=False)
    with pytest.raises(DatasetError, match="test/helthy: is named after no class"):
        data.load_dataset(tmp_path, with_val=False, classes=("covid", "healthy"))


def test_hidden_folders_and_files_are_passed_over(tmp_path):
    for label in ("covid", "healthy"):
        image(tmp_path / label / "a.png")
        image(tmp_path / label / ".thumbnails" / "b.png")
        (tmp_path / label / "._a.png").write_bytes(b"resource fork")
    image(tmp_path / ".ipynb_checkpoints" / "a.png")
    (tmp_path / "__MACOSX").mkdir()
    dataset = data.load_dataset(tmp_path, complete=False)
    assert [sample.path.name for sample in dataset.samples] == ["a.png", "a.png"]


def test_a_class_folder_beside_the_splits_is_named(tmp_path):
    for folder in ("train/covid", "train/healthy", "pneumonia"):
        image(tmp_path / folder / "a.png")
    with pytest.raises(DatasetError, match="pneumonia: stands beside the splits train"):
        data.load_dataset(tmp_path)


def test_copies_of_one_image_never_part(tmp_path):
    for label in ("covid", "healthy"):
        for number in range(12):
            image(tmp_path / "all" / label / f"{number}.png")
    copy = tmp_path / "all" / "covid" / "copy.png"
    copy.write_bytes((tmp_path / "all" / "covid" / "3.png").read_bytes())
    sides = {s.path.name: s.split for s in data.load_dataset(tmp_path / "all").samples[:13]}
    assert sides["copy.png"] == sides["3.png"]
    for split in ("train", "test"):
        for label in ("covid", "healthy"):
            image(tmp_path / "split" / split / label / "a.png")
    shutil.copy(tmp_path / "split/train/covid/a.png", tmp_path / "split/test/covid/a.png")
    with pytest.raises(DatasetError, match="a copy of it, is in 'test'"):
        data.load_dataset(tmp_path / "split", with_val=False)


def test_a_folder_is_filtered_by_split_and_label(tmp_path):
    for split in ("train", "test"):
        for label in ("covid", "healthy"):
            image(tmp_path / "split" / split / label / "a.png")
            image(tmp_path / "flat" / label / "a.png")
    found = data.load_dataset(tmp_path / "split", [("split", "test")], complete=False)
    assert {sample.path.parts[-3] for sample in found.samples} == {"test"}
    found = data.load_dataset(tmp_path / "split", [("label", "covid")], complete=False)
    assert {sample.label for sample in found.samples} == {"covid"}
    with pytest.raises(DatasetError, match="has no split to filter"):
        data.load_dataset(tmp_path / "flat", [("split", "test")], complete=False)
    with pytest.raises(DatasetError, match="a folder has no column 'set'"):
        data.load_dataset(tmp_path / "flat", [("set", "a")], complete=False)


def trained_on(path):
    """What a run records of a dataset that training has completed with splits."""
    recipe = {"seed": 3, "keep": "best"}
    return data.TrainingData.from_record(
        {"digest": data.load_dataset(path, seed=3).digest()}, recipe
    )


def test_a_folder_that_trained_a_model_has_the_splits_of_its_training(tmp_path):
    for label in ("covid", "healthy"):
        for number in range(12):
            image(tmp_path / label / f"{number}.png")
    known = trained_on(tmp_path)
    completed = data.load_dataset(tmp_path, seed=3)
    samples, seen = data.load_to_evaluate(tmp_path, [("split", "test")], known)
    assert {one.path for one in samples} == {one.path for one in completed.split("test")}
    assert seen == 0
    samples, seen = data.load_to_evaluate(tmp_path, [], known)
    assert len(samples) == 24
    assert seen == 24 - len(completed.split("test"))
    image(tmp_path / "covid" / "new.png")  # now other data: nothing is known of it
    assert known.recognise(tmp_path) is None
    assert data.load_to_evaluate(tmp_path, [], known)[1] == 0
    with pytest.raises(DatasetError, match="has no split to filter"):
        data.load_to_evaluate(tmp_path, [("split", "test")], known)


def test_a_part_of_the_rows_that_trained_a_model_is_recognised(tmp_path):
    rows = site_rows("north") + site_rows("south")
    path = manifest(tmp_path, rows)
    known = trained_on(path)
    samples, seen = data.load_to_evaluate(path, [("source", "south")], known)
    assert (len(samples), seen) == (12, 8)
    samples, seen = data.load_to_evaluate(path, [("source", "south"), ("split", "test")], known)
    assert (len(samples), seen) == (4, 0)
    assert data.TrainingData.from_record({}, {}) is None


def test_the_sites_load_beside_the_first_data(data_root):
    if not (data_root / "sites_manifest.csv").is_file():
        pytest.skip("no sites_manifest.csv beside the labelled radiographs")
    paths = [data_root / "manifest.csv", data_root / "sites_manifest.csv"]
    dataset = data.load_dataset(paths, non_classes=True)
    assert dataset.classes == ("covid", "healthy", "pneumonia")
    read = [sample for sample in dataset.samples if sample.opacity_boxes is not None]
    assert {sample.label for sample in read} == {"covid", "healthy", "indeterminate", "pneumonia"}
    assert all(sample.opacity_boxes == () for sample in read if sample.label == "healthy")


def test_a_site_can_be_left_out(tmp_path):
    manifest = tmp_path / "manifest.csv"
    lines = ["file,label,split,patient_id,source"]
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 20), number, np.uint8))
        label, source = ("ill", "well")[number % 2], ("here", "there")[number // 4]
        split = "val" if number % 4 > 1 else "train"
        lines.append(f"{number}.png,{label},{split},{number},{source}")
    manifest.write_text("\n".join(lines))
    dataset = data.load_dataset(manifest)
    rest = dataset.without([("source", "there")])
    assert {sample.source for sample in rest.samples} == {"here"}
    assert len(rest.samples) == 4
    assert dataset.without([]) == dataset
    with pytest.raises(DatasetError, match="no image has source=nowhere"):
        dataset.without([("source", "nowhere")])
