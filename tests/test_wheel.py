"""The wheel, as `python -m build` makes it: what is in it, and that a device can install it."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from xrayedge.golden import TOLERANCES

PROJECT = Path(__file__).parents[1]
MAX_WHEEL_BYTES = 15_000_000

#: Newest glibc's minor version, and Python.
SYSTEMS = {
    "Pi OS Bookworm": (36, "3.11"),
    "Pi OS Trixie": (41, "3.13"),
}

pytestmark = pytest.mark.network


def pip(*arguments, python=sys.executable):
    """Runs pip; skips where there is no network."""
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "connection broken" in done.stderr:
        pytest.skip("pip has no network")
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, PROJECT],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "connection broken" in done.stdout + done.stderr:
        pytest.skip("setuptools is not to be had: no network")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_models_and_nothing_of_the_workshop(wheel):
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "xrayedge",
        f"{'-'.join(wheel.name.split('-')[:2])}.dist-info",
    }
    held = {name for name in names if name.startswith("xrayedge/")}
    models = PROJECT / "xrayedge" / "models"
    expected = {
        f"xrayedge/models/{path.relative_to(models)}"
        for path in models.glob("*/*")
        if path.suffix != ".pyc" and not path.name.startswith(".")
    }
    assert expected
    page = PROJECT / "xrayedge" / "station" / "console" / "static"
    expected |= {f"xrayedge/station/console/static/{path.name}" for path in page.iterdir()}
    code = {name for name in held if name.endswith(".py")}
    assert held - code == expected | {"xrayedge/py.typed"}
    modules = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "xrayedge").rglob("*.py")
        if path.relative_to(PROJECT / "xrayedge").parts[0] != "converters"  # a link in a checkout
    }
    converters = {f"xrayedge/converters/{path.name}" for path in PROJECT.glob("converters/*.py")}
    assert code == modules | converters


@pytest.mark.parametrize("system", SYSTEMS)
def test_pip_finds_every_wheel_for_arm(wheel, system, tmp_path):
    glibc, python = SYSTEMS[system]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, glibc + 1)]
    done = pip(
        *("install", "--dry-run", "--ignore-installed", "--target", tmp_path),
        *("--only-binary=:all:", "--platform=manylinux2014_aarch64", *platforms),
        *("--python-version", python, f"{wheel}[dicom,onnx]"),
    )
    assert done.returncode == 0, done.stderr
    would = done.stdout.splitlines()[-1]
    assert would.startswith("Would install")
    assert "ai-edge-litert" in would
    assert "onnxruntime" in would


def test_a_unit_without_a_network_is_installed_from_a_folder(wheel, chest, tmp_path):
    """As docs/embed.md says."""
    folder = tmp_path / "wheels"
    done = pip("download", "--only-binary=:all:", "--dest", folder, f"{wheel}[dicom]")
    assert done.returncode == 0, done.stderr
    venv.create(tmp_path / "unit", with_pip=True)
    python = tmp_path / "unit" / "bin" / "python"
    done = pip("install", "--no-index", "--find-links", folder, "xrayedge[dicom]", python=python)
    assert done.returncode == 0, done.stderr
    assert screen(python, chest)["engine"] == "litert"


@pytest.fixture(scope="module")
def chest_png(chest, tmp_path_factory):
    import cv2

    from xrayedge import read

    path = tmp_path_factory.mktemp("image") / "chest.png"
    cv2.imwrite(str(path), read(chest).pixels)
    return path


def screen(python, image):
    done = subprocess.run(
        [python, "-m", "xrayedge", "screen", image, "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=image.parent,  # not the project's folder, whose code is not the wheel's
    )
    result = json.loads(done.stdout)
    assert result["status"] == "screened"
    return result


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime is for Python up to 3.11")
def test_tflite_runtime_screens_as_its_successor_does(wheel, chest_png, tmp_path):
    """The last release, on NumPy 1: where a device has nothing newer."""
    venv.create(tmp_path / "old", with_pip=True)
    python = tmp_path / "old" / "bin" / "python"
    done = pip(
        *("install", "--only-binary=:all:", "tflite-runtime==2.14.0", "numpy<2"),
        *("opencv-python-headless>=4.8", "click>=8.1", "rich>=13"),
        python=python,
    )
    assert done.returncode == 0, done.stderr
    done = pip("install", "--no-deps", wheel, python=python)  # ai-edge-litert stays away
    assert done.returncode == 0, done.stderr
    old, new = (screen(one, chest_png)["probabilities"] for one in (python, sys.executable))
    differences = np.subtract(list(old.values()), list(new.values()))
    assert np.abs(differences).max() <= TOLERANCES["int8"]


@pytest.mark.slow
def test_another_opencv_and_onnx_runtime_alone(wheel, chest_png, tmp_path):
    """As docs/embed.md says: `opencv-python`, no LiteRT, and `doctor` names what is missing."""
    venv.create(tmp_path / "own", with_pip=True)
    python = tmp_path / "own" / "bin" / "python"
    done = pip("install", "--no-deps", wheel, python=python)
    assert done.returncode == 0, done.stderr
    done = pip(
        *("install", "--only-binary=:all:", "numpy", "opencv-python", "click", "rich"),
        python=python,
    )
    assert done.returncode == 0, done.stderr

    def doctor():
        return subprocess.run(
            [python, "-m", "xrayedge", "doctor", "--model", "vgg16-edge"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    before = doctor()
    if "libGL" in before.stderr:
        pytest.skip("opencv-python wants the system's libGL")
    assert before.returncode == 1
    assert "pip install onnxruntime" in before.stderr

    assert pip("install", "--only-binary=:all:", "onnxruntime", python=python).returncode == 0
    after = doctor()
    assert after.returncode == 0, after.stdout + after.stderr
    assert "OpenCV preprocesses a little otherwise" not in after.stderr
    assert screen(python, chest_png)["engine"] == "onnx"
    installed = pip("list", "--format=freeze", python=python).stdout
    assert "opencv-python-headless" not in installed
    assert "litert" not in installed
