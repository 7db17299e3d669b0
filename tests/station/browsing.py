"""`xrayedge station` in a process of its own, and a browser that looks at its page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pacs import SECONDS

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

#: Debian's; the first has no window system, and is lighter.
BROWSERS = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
#: Until something that the page should show counts as not shown: machines are busy.
MILLISECONDS = 60_000.0
#: A PACS that is away.
AWAY = """\
[[destination]]
name = "pacs"
host = "127.0.0.1"
port = 1
ae = "NOBODY"
kinds = ["sr"]
"""


class StationProcess:
    """A station that can be killed and started again at the same address.

    `console` is what its configuration says in that table, `tables` the others.
    """

    def __init__(self, folder: Path, *, console: str = "", tables: str = "") -> None:
        self.folder, self._console, self._tables = folder, console, tables
        self.state = folder / "state"
        self._port = 0
        self.url = ""
        self._process: subprocess.Popen | None = None

    def start(self):
        config = self.folder / "station.toml"
        config.write_text(
            f"[console]\nport = {self._port}\n{self._console}\n"
            # Patient: a first image on a busy machine is no refused one.
            f"[screen]\ntimeout = {SECONDS}\n{self._tables}"
        )
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "xrayedge", "station"),
                *("--config", str(config), "--state", str(self.state)),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "station: ready" in line:
                (self.url,) = re.findall(r"http://\S+", line)
                self._port = urlsplit(self.url).port
                return self
        raise AssertionError(f"the station did not start: {said}")

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        self._end(signal.SIGTERM)

    def _end(self, how):
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(SECONDS)
            self._process.stderr.close()
            self._process = None


@contextmanager
def browser():
    """Chromium, without what it would ask of others."""
    program = next((one for one in BROWSERS if os.access(one, os.X_OK)), None)
    if program is None:
        pytest.skip("Debian's chromium is not installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=program,
            timeout=MILLISECONDS,
            args=[
                "--host-resolver-rules=MAP *.example 127.0.0.1",  # as foreign names may
                # A sandbox can't be made by root.
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
            ],
        )
        yield running
        running.close()


class Visit:
    """One person's browser: what it asked for, and what it complained of."""

    def __init__(self, running, url, **options) -> None:
        self.url = url
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.shown = ""
        self.context = running.new_context(**{"locale": "en-GB", **options})
        self.context.set_default_timeout(MILLISECONDS)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _listen(self, message):
        if message.type == "error":  # a broken policy is one
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def open(self, view="screening"):
        self.page.goto(f"{self.url}#/{view}", wait_until="commit")
        self.connected()
        return self

    def connected(self):
        self.page.locator('[data-connection="live"]').wait_for()

    def go(self, view):
        self.page.locator(f'nav a[href="#/{view}"]').click()
        self.page.locator(f"#view-{view}").wait_for()

    def choose(self, file, state="done"):
        """Choose a file, and wait until its outcome is on screen; its id."""
        return self._sent(lambda: self.page.locator("#files").set_input_files(file), state)

    def drop_one(self, file, state="done"):
        """Drop a file, and wait until its outcome is on screen; its id."""
        return self._sent(lambda: self.drop(file), state)

    def click_example(self):
        """Send the example, and wait until its result is on screen; its id."""
        return self._sent(self.page.locator("#example").click, "done")

    def _sent(self, send, state):
        before = [one["id"] for one in self.api("/screenings?limit=1")["screenings"]]
        before.append(self.page.locator("#screen").get_attribute("data-id") or "none")
        send()
        return self.finished(state, but=before)

    def drop(self, *files):
        """As from the desktop: names, kinds and bytes."""
        held = self.page.evaluate_handle(
            """(files) => {
                const held = new DataTransfer();
                for (const [name, type, text] of files) {
                    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
                    held.items.add(new File([bytes], name, { type }));
                }
                return held;
            }""",
            [list(one) for one in files],
        )
        self.page.dispatch_event("#drop", "dragenter", {"dataTransfer": held})
        self.page.dispatch_event("#drop", "drop", {"dataTransfer": held})

    def finished(self, state="done", but=()):
        """The screening on screen, when it has come to an end and is none of `but`; its id."""
        others = "".join(f':not([data-id="{one}"])' for one in but)
        shown = self.page.locator(f'#screen[data-state="{state}"]{others}')
        shown.wait_for()
        return shown.get_attribute("data-id")

    def with_result(self):
        """The page with a result on it: the newest image's, or the example's where it has none."""
        self.open()
        newest = self.api("/screenings?limit=1")["screenings"]
        there = newest and newest[0]["state"] == "done"
        self.shown = self.finished() if there else self.click_example()
        return self

    def api(self, path):
        """What the station says, with this browser's session."""
        answer = self.context.request.get(f"{self.url}api/v1{path}")
        assert answer.ok, answer.status
        return answer.json()

    def close(self):
        self.context.close()

    def check(self):
        """Nothing was complained of, and nobody else was asked."""
        assert self.complaints == [], self.complaints
        asked = {urlsplit(one).netloc for one in self.asked}
        assert asked == {urlsplit(self.url).netloc}, asked
