"""Take the screenshots of the station's console that docs/station.md shows.

    python tools/console_screenshots.py --docs docs

Starts a station with a new state folder, screens its example and photographs the page in Debian's
Chromium. Needs the extra `station` and the packages `playwright` and `pydicom-data`. Look at the
images before you commit them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

_CHROMIUM = "/usr/bin/chromium"
_DESK: ViewportSize = {"width": 1280, "height": 860}
_POINTS: ViewportSize = {"width": 1280, "height": 600}
_TELEPHONE: ViewportSize = {"width": 360, "height": 780}
_MILLISECONDS = 60_000.0
_DRAWING = 2_000.0  # milliseconds from the image's arrival to the last outline, generously
_QUALITY = 85  # of JPEG


@contextmanager
def station() -> Iterator[str]:
    """A station on a free port of loopback; its address."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "station.toml").write_text("[console]\nport = 0\n", encoding="utf-8")
        command = (sys.executable, "-m", "xrayedge", "station")
        process = subprocess.Popen(
            [*command, "--config", "station.toml", "--state", "state"],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None  # it is a pipe
            said = []
            for line in process.stderr:
                said.append(line)
                if "station: ready" in line:
                    yield re.findall(r"http://\S+", line)[0]
                    return
            raise SystemExit("the station did not start:\n" + "".join(said))
        finally:
            process.terminate()
            process.wait()


def opened(
    browser: Browser, url: str, view: str, scheme: Literal["light", "dark"], size: ViewportSize
) -> Page:
    """A view of the page, connected to the station."""
    page = browser.new_page(locale="en-GB", color_scheme=scheme, viewport=size)
    page.set_default_timeout(_MILLISECONDS)
    page.goto(f"{url}#/{view}")
    page.locator('[data-connection="live"]').wait_for()
    return page


def shown(page: Page) -> None:
    """Wait until a result, its image and its heatmap are on the page."""
    page.locator('#screen[data-state="done"]').wait_for()
    page.locator("#no-image").wait_for(state="hidden")
    page.wait_for_timeout(_DRAWING)


def shoot(browser: Browser, url: str, folder: Path) -> None:
    """Screen the example, and write the three images."""
    page = opened(browser, url, "screening", "light", _DESK)
    page.locator("#example").click()
    shown(page)
    page.screenshot(path=folder / "screening.jpg", quality=_QUALITY)
    page = opened(browser, url, "point", "light", _POINTS)
    page.locator("#view-point button").first.wait_for()
    page.screenshot(path=folder / "operating-point.png")
    page = opened(browser, url, "screening", "dark", _TELEPHONE)
    shown(page)
    page.screenshot(path=folder / "telephone.jpg", quality=_QUALITY)


def main() -> None:
    """Parse the command line and take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--docs", type=Path, required=True, help="folder of the pages")
    arguments = parser.parse_args()
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # root can't make a sandbox
    with station() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_CHROMIUM, args=flags)
        shoot(browser, url, arguments.docs / "station")
        browser.close()


if __name__ == "__main__":
    main()
