"""README's example output is what the shipped default gives, and snippets run as pasted."""

import json
import re
from pathlib import Path

import pytest

from xrayedge import Screener
from xrayedge.golden import TOLERANCES

#: Pixels of the example that one step of the enlarged map of opacities covers.
ONE_STEP = 32

README = Path(__file__).parents[1] / "README.md"


def test_the_example_result_is_the_default_models(chest):
    (block,) = re.findall(r"```json\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    shown = json.loads(block)
    found = Screener(engine=shown["engine"]).screen(chest).to_dict()
    assert list(found) == list(shown)
    told, measured = ({**one.pop("probabilities")} for one in (shown, found))
    assert measured == pytest.approx(told, abs=TOLERANCES["int8"])
    told, measured = (one.pop("opacities") for one in (shown, found))
    for one, other in zip(told, measured, strict=True):
        assert other["score"] == pytest.approx(one["score"], abs=TOLERANCES["int8"])
        assert other["box"] == pytest.approx(one["box"], abs=ONE_STEP)
    for inexact in ("source", "frontal_score", "timings_ms"):
        del shown[inexact], found[inexact]
    assert found == shown


def test_the_snippet_for_embedding_runs_as_pasted(chest, tmp_path, monkeypatch, capsys):
    page = README.with_name("docs") / "embed.md"
    snippet = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "one.dcm").write_bytes(chest.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, str(page), "exec"), {})
    assert capsys.readouterr().out == "inbox/one.dcm pneumonia\n"


def test_readme_links_every_page_of_docs():
    text = README.read_text(encoding="utf-8")
    pages = {f"docs/{path.name}" for path in README.with_name("docs").glob("*.md")}
    assert pages == set(re.findall(r"\]\((docs/[\w-]+\.md)", text))
