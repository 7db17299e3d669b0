import os
from pathlib import Path

import cv2
import pytest

from xrayedge import Limits, Screener, read
from xrayedge.batch import Batch, Outputs, UniqueNames, find_images
from xrayedge.errors import ResultsError


def test_folders_are_walked_in_order_and_other_files_counted(tmp_path):
    for name in ("b.png", "a.DCM", "IM0001", "notes.csv", ".hidden.png", "sub/c.jpg", ".git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_images([tmp_path, tmp_path / "notes.csv", tmp_path / "gone.png"])
    names = [str(path.relative_to(tmp_path)) for path in found.images]
    assert names == ["IM0001", "a.DCM", "b.png", "sub/c.jpg", "notes.csv", "gone.png"]
    assert found.skipped == 1


def test_a_linked_folder_does_not_loop(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_images([tmp_path]).images == (tmp_path / "a.png",)


def test_a_file_that_is_named_three_times_is_listed_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    images = find_images([Path("a.png"), Path("a.png"), tmp_path / "a.png", tmp_path]).images
    assert images == (Path("a.png"),)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_images([tmp_path])
    assert found.images == (tmp_path / "a.png",)
    (told,) = found.unreadable
    assert told == f"{tmp_path / 'closed'}: can't be listed (Permission denied)"


def test_equal_names_of_two_folders_get_two_names_to_write_to():
    unique = UniqueNames()
    images = [Path("x/a.dcm"), Path("y/a.dcm"), Path("y/a.png")]
    assert [unique.name(image) for image in images] == ["a.dcm", "a.dcm-2", "a.png"]


def test_the_longest_names_leave_room_for_an_ending():
    unique = UniqueNames()
    one, other = (unique.name(Path("é" * 120 + end)) for end in ("a.png", "b.png"))
    assert one != other
    assert max(len(os.fsencode(name)) for name in (one, other)) <= 220


@pytest.fixture
def image(chest, tmp_path):
    path = tmp_path / "chest.png"
    cv2.imwrite(str(path), cv2.resize(read(chest).pixels, (256, 256)))
    return path


@pytest.fixture(scope="module")
def screener():
    with Screener() as screener:
        yield screener


def run(screener, outputs, *images):
    with Batch(screener, outputs) as batch:
        return list(batch.screen(batch.pending(images)))


def test_a_batch_goes_on_where_it_stopped(screener, image, tmp_path):
    outputs = Outputs(results=tmp_path / "results.jsonl", heatmaps=tmp_path / "maps")
    (item,) = run(screener, outputs, image)
    assert item.screening.ok
    assert run(screener, outputs, image) == []
    (tmp_path / "maps" / "chest.png.png").unlink()
    (again,) = run(screener, outputs, image)  # what is missing is made, without a second row
    assert again.screening.label == item.screening.label
    assert (tmp_path / "maps" / "chest.png.png").exists()
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["results.csv", "results.jsonl"])
def test_failures_of_the_environment_are_tried_again(screener, image, leg, tmp_path, name):
    outputs = Outputs(results=tmp_path / name)
    with Screener(limits=Limits(max_pixels=1000)) as strict:
        items = run(strict, outputs, leg, image)
    assert [item.screening.reason for item in items] == ["too-large", "too-large"]
    items = run(screener, outputs, leg, image)
    assert [item.screening.status for item in items] == ["rejected", "screened"]
    assert run(screener, outputs, leg, image) == []
    lines = outputs.results.read_text().splitlines()
    assert len(lines) == 2 + (name == "results.csv")
    assert not any("too-large" in line for line in lines)


def test_a_heatmap_that_cannot_be_written_keeps_the_row(screener, image, tmp_path):
    outputs = Outputs(results=tmp_path / "results.jsonl", heatmaps=tmp_path / "maps")
    (tmp_path / "maps" / "chest.png.png").mkdir(parents=True)  # in the way of the file
    seen = []
    with Batch(screener, outputs) as batch, pytest.raises(ResultsError, match=r"chest\.png\.png"):
        seen.extend(batch.screen(batch.pending([image, image.with_name("other.png")])))
    assert len(outputs.results.read_text().splitlines()) == 1
    (tmp_path / "maps" / "chest.png.png").rmdir()
    assert [item.image for item in run(screener, outputs, image)] == [image]
    assert (tmp_path / "maps" / "chest.png.png").is_file()
    assert len(outputs.results.read_text().splitlines()) == 1


def test_an_output_folder_that_cannot_be_made_is_told_first(screener, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="can't be written"):
        Batch(screener, Outputs(heatmaps=tmp_path / "file" / "maps"))
