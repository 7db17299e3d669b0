import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xrayedge


def run(code: str, cwd: Path | None = None) -> str:
    """What a new Python prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd
    ).stdout


def test_all_is_sorted_and_complete():
    """Checkers read the imports, programs the table, and both find what `__all__` names."""
    assert sorted(xrayedge.__all__) == xrayedge.__all__
    tree = ast.parse(Path(xrayedge.__file__).read_text())
    seen_by_checkers = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen_by_checkers == xrayedge._MODULES
    assert set(xrayedge.__all__) == set(xrayedge._MODULES)
    assert set(xrayedge.__all__) | {"__version__"} <= set(dir(xrayedge))


def test_each_name_comes_from_the_package():
    for name in xrayedge.__all__:
        assert getattr(xrayedge, name).__module__.startswith("xrayedge."), name
    with pytest.raises(AttributeError, match="no attribute 'Scanner'"):
        xrayedge.Scanner  # noqa: B018


def test_a_name_loads_only_what_it_needs():
    code = (
        "import sys, xrayedge; first = set(sys.modules); from xrayedge import UnreadableError; "
        "print(*first, '|', *set(sys.modules) - first)"
    )
    first, then = run(code).split("|")
    assert not {name for name in first.split() if name.startswith(("xrayedge.", "numpy", "cv2"))}
    assert then.split() == ["xrayedge.errors"]


def test_examples_use_the_public_api():
    """What a program needs of `xrayedge` itself is in `__all__`."""
    root = Path(__file__).parents[1]
    found = set()
    for path in (*root.glob("examples/**/*.py"), root / "README.md", *root.glob("docs/*.md")):
        for names in re.findall(r"^from xrayedge import (.+)$", path.read_text(), re.MULTILINE):
            found |= {name.strip() for name in names.split(",")}
    assert "Screener" in found
    assert found <= set(xrayedge.__all__)


def test_import_loads_nothing_slow_of_the_standard_library():
    """Half of the time of the import went into these; they are loaded where they serve."""
    code = (
        "import sys, cv2, numpy; before = set(sys.modules); from xrayedge import *; "
        "print(*set(sys.modules) - before); import xrayedge; assert xrayedge.__version__"
    )
    loaded = run(code).split()
    assert "xrayedge.screening" in loaded
    assert not {"importlib.metadata", "concurrent.futures", "logging", "email"} & set(loaded)


def test_import_loads_no_engine_and_no_workstation():
    heavy = {
        "ai_edge_litert", "tflite_runtime", "onnxruntime", "keras", "tensorflow", "sklearn",
        "pydicom", "matplotlib", "click", "rich",
    }  # fmt: skip
    loaded = run("import sys; from xrayedge import *; print(*sys.modules)").split()
    assert "xrayedge.screening" in loaded
    assert not heavy & set(loaded)


def test_device_code_never_imports_the_workstation(tmp_path):
    code = (
        "import sys, numpy as np, xrayedge; "
        "xrayedge.Screener().screen(np.zeros((256, 256), np.uint8)); print(*sys.modules)"
    )
    loaded = run(code, tmp_path).split()
    assert not {"keras", "tensorflow", "sklearn", "matplotlib", "onnxruntime"} & set(loaded)
