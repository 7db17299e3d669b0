import os

import pytest

pq = pytest.importorskip("pyarrow.parquet")

import pyarrow as pa

from xrayedge.archive import plan as planning
from xrayedge.archive.plan import Plan, locked, open_plan
from xrayedge.archive.settings import Settings
from xrayedge.archive.shard import part_path
from xrayedge.archive.sources import open_input
from xrayedge.errors import ArchiveError

SETTINGS = Settings(
    *("vgg16-edge", "0.4.0", "int8", "litert", "balanced", ("covid", "healthy"), "ab", None),
    *(False, 1, 1, "0.2.0", "2.0.0"),
)


@pytest.fixture
def folder(tmp_path):
    """25 images by name in two folders, one with a name that is no text, and what is none."""
    place = tmp_path / "in" / "deeper"
    place.mkdir(parents=True)
    for number in range(12):
        (place.parent / f"{number:02d}.png").write_bytes(b"x" * number)
        (place / f"{number:02d}").touch()
    (place / os.fsdecode(b"\xff\n.dcm")).touch()
    (place / ".hidden.png").touch()
    (place / "note.txt").touch()
    return place.parent


def sources(shards):
    return [one.source for shard in shards for one in shard.images]


def test_the_manifest_lists_each_image_once_in_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "_GROUP", 8)  # several row groups
    plan, left_out = open_plan(tmp_path / "out", open_input(str(folder)), SETTINGS, shard_size=4)
    assert (plan.images, plan.shards, left_out.not_images) == (25, 7, 1)
    table = pq.read_table(tmp_path / "out" / "manifest.parquet")
    assert table.schema.types == [pa.int32(), pa.string(), pa.int64()]
    assert table["shard"].to_pylist() == [number // 4 for number in range(25)]
    assert table["size"].to_pylist()[:12] == list(range(12))
    shards = list(plan.pending(frozenset()))
    assert [len(shard.images) for shard in shards] == [4] * 6 + [1]
    assert [plan.size_of(shard.number) for shard in shards] == [4] * 6 + [1]
    listed = sources(shards)
    assert len(set(listed)) == 25
    assert all(os.path.exists(one) for one in listed)  # noqa: PTH110 - the odd name included
    assert [shard.number for shard in plan.pending(frozenset({0, 1, 2, 5}))] == [3, 4, 6]


def test_an_archive_goes_on_with_the_same_settings_only(folder, tmp_path):
    out = tmp_path / "out"
    found = open_input(str(folder))
    plan, _ = open_plan(out, found, SETTINGS, shard_size=4)
    (folder / "later.png").touch()
    assert open_plan(out, found, SETTINGS) == (plan, None)
    part_path(out, 3).parent.mkdir()
    part_path(out, 3).touch()
    (part_path(out, 3).parent / ".xrayedge-0.tmp").touch()
    assert plan.finished() == {3}
    plan.clean()
    assert [path.name for path in part_path(out, 3).parent.iterdir()] == ["part-000003.parquet"]
    with pytest.raises(ArchiveError, match="shard size 4, now 5"):
        open_plan(out, found, SETTINGS, shard_size=5)
    with pytest.raises(ArchiveError, match=r"now .*deeper"):
        open_plan(out, open_input(str(folder / "deeper")), SETTINGS)


def test_lists_name_images_from_their_own_folder(folder, tmp_path):
    names = ["00.png", str(folder / "01.png"), "s3://bucket/a b.png"]
    (folder / "list.csv").write_text("n,path\n" + "".join(f"1,{name}\n" for name in names))
    pq.write_table(pa.table({"source": names}), folder / "list.parquet")
    expected = [str(folder / "00.png"), str(folder / "01.png"), names[2]]
    for name in ("list.csv", "list.parquet"):
        listed = open_input(str(folder / name)).listed(None)
        assert [next(listed).source for _ in range(2)] == expected[:2]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", b"file\nx.png\n", "no column"),
        ("a.csv", b"path\n", "no image found"),
        ("a.parquet", b"PAR1", "not a list"),
        ("a.csv", b"path\n\xff\n", "not a list"),
        ("a.txt", b"x.png", "no folder"),
    ],
)
def test_a_list_that_is_none_is_one_error_and_leaves_no_archive(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=match):
        open_plan(tmp_path / "out", open_input(str(path)), SETTINGS)
    assert not [*tmp_path.glob("out/*")]


def test_one_process_at_a_time(tmp_path):
    out = tmp_path / "out"
    with locked(out), pytest.raises(ArchiveError, match="another process"), locked(out):
        pass
    with locked(out):
        pass


def test_a_folder_without_an_archive_is_one_error(tmp_path):
    with pytest.raises(ArchiveError, match="no archive"):
        Plan.load(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArchiveError, match="damaged"):
        Plan.load(tmp_path)
