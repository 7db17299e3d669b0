"""The console of a portable unit: screens each image as it is taken and prints one line for it.

    python examples/console.py camera-frames/          # what is in a folder
    find . -name '*.dcm' | python examples/console.py  # or one path a line on stdin

Replace `images` with what your unit provides: paths, the bytes of files, or `uint8 [H, W]` frames,
which are not copied. It may block until the next one is taken.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from xrayedge import Screener

REFUSED = {
    "not-frontal": "not an upright frontal chest radiograph",
    "turned": "turned: export it upright",
    "inverted": "inverted: export it with bones bright",
    "timeout": "took too long",
}


def images() -> Iterator[str]:
    """Paths from a folder, else from stdin."""
    if len(sys.argv) > 1:
        yield from (str(path) for path in sorted(Path(sys.argv[1]).iterdir()) if path.is_file())
    else:
        yield from map(str.strip, sys.stdin)


def show() -> None:
    """A line for each image, as soon as its result is ready."""
    with Screener(timeout=10.0) as screener:
        screener.warm_up()
        for number, result in enumerate(screener.screen_stream(images()), start=1):
            if result.label is None:  # never show nothing: say why
                why = REFUSED.get(result.reason or "", result.reason)
                print(f"{number}: NOT SCREENED, {why}", flush=True)
            else:
                scores = ", ".join(f"{name} {p:.0%}" for name, p in result.probabilities.items())
                doubt = "" if result.certain else "uncertain, rather "
                print(f"{number}: {doubt}{result.label} ({scores})", flush=True)


if __name__ == "__main__":
    try:
        show()
    except KeyboardInterrupt:
        sys.exit(130)
