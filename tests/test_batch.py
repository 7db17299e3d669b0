from pathlib import Path

from xrayedge.batch import find_pictures, unique_names


def test_folders_are_walked_in_order_and_other_files_counted(tmp_path):
    for name in ("b.png", "a.DCM", "IM0001", "notes.csv", ".hidden.png", "sub/c.jpg", ".git/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_pictures([tmp_path, tmp_path / "notes.csv", tmp_path / "gone.png"])
    names = [str(path.relative_to(tmp_path)) for path in found.pictures]
    assert names == ["IM0001", "a.DCM", "b.png", "sub/c.jpg", "notes.csv", "gone.png"]
    assert found.skipped == 1


def test_a_linked_folder_does_not_loop(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_pictures([tmp_path]).pictures == (tmp_path / "a.png",)


def test_equal_names_of_two_folders_get_two_names_to_write_to():
    names = unique_names([Path("x/a.dcm"), Path("y/a.dcm"), Path("y/a.png")])
    assert names == ["a.dcm", "a.dcm-2", "a.png"]
