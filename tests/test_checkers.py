"""The type checker sees all that is shipped and run, not only the package's own folder."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def checked():
    """The modules that `mypy` without arguments checks, and its options."""
    main = pytest.importorskip("mypy.main")
    fscache = pytest.importorskip("mypy.fscache")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        sources, options = main.process_options([], fscache=fscache.FileSystemCache())
    return {source.module for source in sources}, options


def test_every_converter_and_benchmark_is_checked(checked):
    modules, _ = checked
    converters = {f"xrayedge.converters.{path.stem}" for path in ROOT.glob("converters/[a-z]*.py")}
    benchmarks = {path.stem for path in ROOT.glob("benchmarks/*.py")}
    assert "xrayedge.converters.convert" in converters <= modules
    assert "tradeoff" in benchmarks <= modules


def test_types_are_checked_for_the_lowest_python_that_is_supported(checked):
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    supported = re.search(r'^requires-python = ">=3\.(\d+)"$', project, re.MULTILINE)
    _, options = checked
    assert options.python_version == (3, int(supported[1]))
    assert options.disallow_untyped_defs


def test_a_checkout_has_the_converters_where_the_package_has_them():
    link = ROOT / "xrayedge" / "converters"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "converters"
