"""How much memory the conversion of the largest network takes."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from xrayedge import ModelBundle, golden
from xrayedge.converters.calibration_set import IMAGES
from xrayedge.converters.variants import VARIANTS

MOST = 6e9  # bytes


@pytest.mark.slow
def test_the_whole_of_vgg16_is_converted_in_six_gigabytes(tmp_path):
    classes = ModelBundle.load("vgg16").classifier.classes
    rng = np.random.default_rng(0)
    for split, count in (("train", IMAGES // len(classes)), ("val", 2), ("test", 2)):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):  # with grain, so that no image is another one's copy
                grain = rng.integers(0, 9, (352, 320), np.uint8)
                drawn = cv2.add(golden.phantom(number % 3), grain)
                cv2.imwrite(str(tmp_path / split / name / f"{number}.png"), drawn)
    out = tmp_path / "bundle"
    # On phantoms a file need not agree with the float model to be written: memory is the same.
    command = ["convert", "vgg16", "--data", str(tmp_path), "--out", str(out), "--force"]
    process = subprocess.Popen([sys.executable, "-m", "xrayedge", *command])
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(ModelBundle.load(out).classifier.variants) == len(VARIANTS)
    assert usage.ru_maxrss * 1024 <= MOST
