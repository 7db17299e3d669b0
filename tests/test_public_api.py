import re
import subprocess
import sys
from pathlib import Path

import xrayedge


def test_all_is_sorted_and_complete():
    assert sorted(xrayedge.__all__) == xrayedge.__all__
    public = {
        name
        for name, value in vars(xrayedge).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("xrayedge.")
    }
    assert public == set(xrayedge.__all__)


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
    """Half of the time of `import xrayedge` went into these; they are loaded where they serve."""
    code = (
        "import sys, cv2, numpy; before = set(sys.modules); import xrayedge; "
        "print(*set(sys.modules) - before); assert xrayedge.__version__"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"importlib.metadata", "concurrent.futures", "logging", "email"} & set(loaded)


def test_import_loads_no_engine_and_no_workstation():
    heavy = {
        "ai_edge_litert", "tflite_runtime", "onnxruntime", "keras", "tensorflow", "sklearn",
        "pydicom", "matplotlib", "click", "rich",
    }  # fmt: skip
    code = "import sys, xrayedge; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded)


def test_device_code_never_imports_the_workstation(tmp_path):
    code = (
        "import sys, numpy as np, xrayedge; "
        "xrayedge.Screener().screen(np.zeros((256, 256), np.uint8)); print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.split()
    assert not {"keras", "tensorflow", "sklearn", "matplotlib", "onnxruntime"} & set(loaded)
