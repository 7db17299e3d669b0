"""From a file to its heatmap: this checkout compared with another one or a release, in one run.

    python benchmarks/against.py OTHER [IMAGE ...] --rounds 9

OTHER is a folder: another checkout, or the virtual environment that a release is installed in. Each
of the two stays loaded in a process; they screen each image alternately, with one thread. Prints
medians of processor time, which other programs on the machine change least, and the ratio of
OTHER's to this checkout's with its 95 % interval. Without IMAGE: pydicom-data's chest radiograph as
uncompressed DICOM, as JPEG 2000 and as JPEG.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType

import cv2
from pydicom.data import get_testdata_file

from xrayedge import read
from xrayedge.bench.statistics import estimate_ratio

ROOT = Path(__file__).parents[1]
#: Screenings of one image in a round, of which the median counts.
RUNS = 5
_QUALITY = 95

#: Every release so far has these names. Arguments: the model, or nothing for the default; and RUNS.
_WORKER = """
import sys, time
from statistics import median
import cv2
from xrayedge import Screener
cv2.setNumThreads(1)
model, runs = sys.argv[1:]
screener = Screener(model) if model else Screener()
for line in sys.stdin:
    times = []
    for _ in range(int(runs)):
        started = time.process_time()
        result = screener.screen(line.rstrip("\\n"), heatmap=True)
        times.append((time.process_time() - started) * 1000.0)
    found = result.label if result.heatmap is not None else f"no heatmap ({result.reason})"
    print(median(times), screener.bundle.version, found, flush=True)
"""


class Contender:
    """A checkout or an installed release, loaded in a process.

    Parameters
    ----------
    place
        Its folder.
    model
        What it screens with; empty for its own default.
    """

    def __init__(self, place: Path, model: str) -> None:
        self._place = place
        python = place / "bin" / "python"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if not python.exists():
            if not (place / "xrayedge" / "__init__.py").exists():
                sys.exit(f"{place}: neither a checkout nor a virtual environment")
            python = Path(sys.executable)
            environment["PYTHONPATH"] = str(place)
        self._process = subprocess.Popen(
            [str(python), "-c", _WORKER, model, str(RUNS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=place,
            env=environment,
        )

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def screen(self, image: Path) -> tuple[float, str]:
        """Median milliseconds of processor time, and the model's version with what it found."""
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None
        assert answers is not None
        print(image, file=to, flush=True)
        answer = answers.readline().split(maxsplit=1)
        if len(answer) != 2:
            sys.exit(f"{self._place}: its process ended; see above")
        return float(answer[0]), answer[1].strip()


def examples(folder: Path) -> list[Path]:
    """The chest radiograph of pydicom-data in three encodings."""
    plain, compressed = (str(get_testdata_file(f"RG1_{name}.dcm")) for name in ("UNCR", "J2KR"))
    jpeg = folder / "RG1.jpg"
    cv2.imwrite(str(jpeg), read(plain).pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return [Path(plain), Path(compressed), jpeg]


def compare(
    other: Contender, own: Contender, images: Sequence[Path], rounds: int
) -> dict[Path, tuple[list[float], list[float], tuple[str, str]]]:
    """Milliseconds a round of the other and of this one, and what each found."""
    found: dict[Path, tuple[list[float], list[float], tuple[str, str]]] = {}
    for number in range(-1, rounds):  # the first round warms up
        for image in images:
            theirs, ours = other.screen(image), own.screen(image)
            before, now, _ = found.setdefault(image, ([], [], (theirs[1], ours[1])))
            if number >= 0:
                before.append(theirs[0])
                now.append(ours[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("images", type=Path, nargs="*", metavar="IMAGE")
    parser.add_argument("--model", default="", help="default: each one's own default model")
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        Contender(chosen.other.absolute(), chosen.model) as other,
        Contender(ROOT, chosen.model) as own,
    ):
        images = [image.absolute() for image in chosen.images] or examples(Path(folder))
        found = compare(other, own, images, chosen.rounds)
    print("| image | other, ms | this, ms | other / this | 95 % interval | found by each |")
    print("| --- | ---: | ---: | ---: | --- | --- |")
    for image, (before, now, results) in found.items():
        ratio = estimate_ratio(before, now)
        low_high = "too few rounds"
        if ratio.interval is not None:
            low_high = "{:.2f} to {:.2f}".format(*ratio.interval)
        print(
            f"| {image.name} | {median(before):.1f} | {median(now):.1f} | {ratio.value:.2f} "
            f"| {low_high} | {'; '.join(results)} |"
        )


if __name__ == "__main__":
    main()
