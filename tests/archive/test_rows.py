import io
import json

import pytest

pq = pytest.importorskip("pyarrow.parquet")

from xrayedge import ModelBundle, Screener
from xrayedge.archive.rows import METADATA_KEY, File, failed_row, made_by, part, row, schema
from xrayedge.archive.settings import Settings
from xrayedge.errors import ResultsError
from xrayedge.imaging import Limits


@pytest.fixture(scope="module")
def screener():
    with Screener() as one:
        yield one


@pytest.fixture(scope="module")
def settings(screener):
    return Settings.of(screener, None, Limits(), auto_orient=False)


def test_a_row_is_the_json_of_screen_with_types(screener, settings, chest, leg):
    shown = [screener.screen(path) for path in (chest, leg)]
    rows = [row(one, File(one.source, 1, "ab"), settings) for one in shown]
    table = pq.read_table(io.BytesIO(part(rows, settings, {"shard": 3})))
    assert table.schema.equals(schema(ModelBundle.load("vgg16-edge").classifier.classes))
    for found, screening in zip(table.to_pylist(), shown, strict=True):
        expected = json.loads(json.dumps(screening.to_dict()))
        assert {name: found[name] for name in expected} == expected
        assert (found["size"], found["sha256"]) == (1, "ab")
        assert found["bundle_sha256"] == settings.bundle_sha256


def test_a_name_that_is_no_text_is_one_line(settings):
    rows = [failed_row(File("a\udcffb\n"), "crashed", "a\udcffb\n: ended", settings)]
    (found,) = pq.read_table(io.BytesIO(part(rows, settings, {}))).to_pylist()
    assert (found["source"], found["reason"]) == ("a\\udcffb\\n", "crashed")


def test_the_metadata_say_what_made_a_part(settings, tmp_path):
    path = tmp_path / "part-000003.parquet"
    path.write_bytes(part([], settings, {"shard": 3}))
    found = made_by(path)
    assert found["shard"] == 3
    assert Settings.from_dict(found["settings"]) == settings
    assert pq.read_schema(path).metadata[METADATA_KEY]
    for content in (b"", b"PAR1 and more"):
        path.write_bytes(content)
        with pytest.raises(ResultsError, match="damaged"):
            made_by(path)
