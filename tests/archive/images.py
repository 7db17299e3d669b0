"""Small real images for archives, and what `screen` makes of them."""

import os
import shutil
from pathlib import Path

import cv2

from xrayedge import Screener, read

#: On PYTHONPATH it makes images whose names begin with "deadly-" kill what screens them.
DEADLY = Path(__file__).parent / "deadly"
#: What a row may have that depends on more than the image and the model.
_VARIES = ("source", "timings_ms")


def make_originals(folder, chest, leg):
    """A chest, a leg, a chest of fewer pixels, and what is no image; each as small as it may be."""
    folder.mkdir()
    sides = {"chest": (chest, 300), "leg": (leg, 240), "small": (chest, 90)}
    for name, (path, side) in sides.items():
        pixels = read(path).pixels
        height = round(side * pixels.shape[0] / pixels.shape[1])
        small = cv2.resize(pixels, (side, height), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{name}.png"), small)
    (folder / "broken.png").write_bytes((folder / "chest.png").read_bytes()[:5000])
    return {path.stem: path for path in sorted(folder.iterdir())}


def place(original, path):
    """The same file under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(original, path)
    except OSError:
        shutil.copyfile(original, path)


def screened(originals):
    """What `screen --json` says of each, apart from what varies."""
    with Screener() as screener:
        return {
            name: comparable(screener.screen(path).to_dict()) for name, path in originals.items()
        }


def comparable(row):
    """The keys of `screen --json` that must be equal."""
    keys = ("status", "reason", "label", "certain", "probabilities", "frontal_score", "model")
    keys += ("version", "precision", "engine", "operating_point", "tags", "warnings")
    found = {name: row[name] for name in (*keys, "corrections", "opacities", "lungs")}
    assert set(row) >= {*found, *_VARIES}
    return found
