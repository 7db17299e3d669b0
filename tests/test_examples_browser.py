"""examples/browser in Debian's Chromium: the same inputs to the bit, and nothing leaves the page.

ONNX Runtime Web comes from npm for the test; ChromeDriver is spoken to by its own protocol (W3C
WebDriver), in JSON over loopback.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import grey_noise

from xrayedge import Screener, golden, read
from xrayedge.bundle import SHIPPED, ModelBundle
from xrayedge.preprocessing import fill_range

EXAMPLE = Path(__file__).parents[1] / "examples" / "browser"
BUNDLE = ModelBundle.load(SHIPPED / "vgg16-edge")
NETWORKS = dict(zip(("classifier", "frontal", "lungs"), BUNDLE.networks(), strict=True))
#: The release that the example was written with.
ONNXRUNTIME_WEB = "onnxruntime-web@1.30.0"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for an element's id
FLAGS = [
    f"--{flag}"
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-quic", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "disable-dev-shm-usage"),
    )
]

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page, a bundle and ONNX Runtime Web, as they lie on a file server."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        ["npm", "pack", "--silent", ONNXRUNTIME_WEB],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm can't fetch {ONNXRUNTIME_WEB}: no network")
    site = tmp_path_factory.mktemp("site") / "www"
    shutil.copytree(EXAMPLE, site)
    shutil.copytree(BUNDLE.folder, site / "bundle", ignore=shutil.ignore_patterns("*.tflite"))
    (site / "ort").mkdir()
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for name in (
            "ort.wasm.min.mjs",
            *(f"ort-wasm-simd-threaded.{end}" for end in ("mjs", "wasm")),
        ):
            content = archive.extractfile(f"package/dist/{name}").read()
            (site / "ort" / name).write_bytes(content)
    return site


@pytest.fixture(scope="module")
def server(site):
    """Its address, and every request that it got."""
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(site))

        def guess_type(self, path):
            return "text/javascript" if path.endswith(".mjs") else super().guess_type(path)

        def log_message(self, *_):
            requests.append((self.command, self.path, self.headers.get("Content-Length")))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()


class Browser:
    """One page, by WebDriver."""

    def __init__(self, driver, profile):
        self._driver = driver
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": "/usr/bin/chromium"}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        session = self._call("POST", "/session", {"capabilities": wanted})["sessionId"]
        self._session = f"/session/{session}"

    def _call(self, method, path, values=None):
        content = None if values is None else json.dumps(values).encode()
        request = urllib.request.Request(self._driver + path, content, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, address):
        self._call("POST", f"{self._session}/url", {"url": address})

    def run(self, script, *arguments):
        """Run the body of an async function in the page, and return what it returns."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async function () {{ {script} }}).apply(null, arguments)"
            ".then(done, (error) => done({ failed: String(error) }));"
        )
        found = self._call(
            "POST", f"{self._session}/execute/async", {"script": wrapped, "args": list(arguments)}
        )
        assert not (isinstance(found, dict) and "failed" in found), found
        return found

    def state(self):
        return self.run("return [document.body.dataset.state, message.textContent];")

    def wait(self):
        """Until the page is at rest; its state and what it says."""
        deadline = time.monotonic() + 60
        while (found := self.state())[0] in ("loading", "busy"):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def choose(self, path):
        """As a person who picks a file; the page's state, what it says, and its result."""
        self.run("document.body.dataset.state = 'busy'; result.dataset.json = 'null';")
        element = self._call(
            "POST", f"{self._session}/element", {"using": "css selector", "value": "#file"}
        )[ELEMENT]
        self._call("POST", f"{self._session}/element/{element}/value", {"text": str(path)})
        state, message = self.wait()
        return state, message, json.loads(self.run("return result.dataset.json;"))

    def close(self):
        self._call("DELETE", self._session)


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    if shutil.which("chromedriver") is None or not os.access("/usr/bin/chromium", os.X_OK):
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    process = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        for line in process.stdout:
            if "started successfully on port" in line:
                port = line.strip().rstrip(".").rsplit(" ", 1)[1]
                break
        browser = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
        browser.open(f"{server[0]}/index.html")
        assert browser.wait() == ["ready", "Choose an image, or drop one here."]
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.communicate(timeout=30)


PREPARE = """
const [name, pixels, width, height, changes] = arguments;
const { Grey, fillRange, prepare } = await import("./preprocess.js");
const manifest = await (await fetch("./bundle/manifest.json")).json();
const network = name === "classifier" ? manifest.classifier : manifest[name].network;
const bytes = Uint8Array.from(atob(pixels), (one) => one.charCodeAt(0));
const settings = { ...network.preprocessing, ...changes };
const input = prepare(fillRange(new Grey(bytes, width, height)), settings);
return btoa(String.fromCharCode(...input));
"""


def prepared(browser, name, pixels, **changes):
    height, width = pixels.shape
    encoded = base64.b64encode(pixels.tobytes()).decode()
    return base64.b64decode(browser.run(PREPARE, name, encoded, width, height, changes))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_golden_inputs_to_the_bit(browser, name):
    for vector in NETWORKS[name].variants[0].golden:
        inputs = prepared(browser, name, golden.phantom(vector.phantom))
        assert hashlib.sha256(inputs).hexdigest() == vector.input_sha256


@pytest.mark.parametrize("shape", [(448, 224), (161, 977), (901, 903), (896, 1000)])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_image_to_the_bit(browser, name, shape):
    pixels = np.random.default_rng(shape[1]).integers(0, 256, shape, np.uint8)
    expected = NETWORKS[name].preprocessing.apply(pixels)
    assert prepared(browser, name, pixels) == expected.tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_of_one_level_to_the_bit(browser, name):
    pixels = np.full((448, 448), 77, np.uint8)
    expected = NETWORKS[name].preprocessing.apply(pixels)
    assert prepared(browser, name, pixels) == expected.tobytes()


@pytest.mark.parametrize("name", ["classifier", "frontal"])
@pytest.mark.parametrize("spread", [0, 1, 20, 90])
def test_global_equalisation_to_the_bit(browser, spread, name):
    pixels = grey_noise(spread, (301, 403))
    expected = replace(NETWORKS[name].preprocessing, equalisation="global")
    expected = expected.apply(fill_range(pixels))
    assert prepared(browser, name, pixels, equalisation="global") == expected.tobytes()


@pytest.mark.parametrize("shape", [(301, 403), (1023, 700), (1500, 903)])
@pytest.mark.parametrize("spread", [1, 9, 17, 19, 30])
def test_a_narrow_range_is_stretched_to_the_bit(browser, spread, shape):
    pixels = grey_noise(spread, shape, marker=True)
    expected = NETWORKS["classifier"].preprocessing.apply(fill_range(pixels))
    assert prepared(browser, "classifier", pixels) == expected.tobytes()


SCORES = """
const [number, pixels, width, height] = arguments;
const { Grey } = await import("./preprocess.js");
const { Screener } = await import("./screener.js");
window.screener ??= await Screener.open(new URL("./bundle/", document.baseURI));
const image = new Grey(Uint8Array.from(atob(pixels), (one) => one.charCodeAt(0)), width, height);
return [await screener.classifier.scores(image), await screener.frontal.scores(image)];
"""


def test_the_golden_scores(browser):
    for number in range(golden.PHANTOMS):
        pixels = golden.phantom(number)
        height, width = pixels.shape
        encoded = base64.b64encode(pixels.tobytes()).decode()
        found = browser.run(SCORES, number, encoded, width, height)
        scored = NETWORKS["classifier"], NETWORKS["frontal"]
        for network, scores in zip(scored, found, strict=True):
            vector = network.variant("onnx", "int8").golden[number]
            expected = dict(zip(network.classes, vector.probabilities, strict=True))
            assert scores == pytest.approx(expected, abs=vector.tolerance)


@pytest.fixture(scope="module")
def files(chest, leg, tmp_path_factory):
    """Images as a person may have them, good and bad."""
    folder = tmp_path_factory.mktemp("images")
    pixels = read(chest).pixels
    pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for name in ("chest.png", "chest.jpg", "chest.bmp", "chest.tif"):
        cv2.imwrite(str(folder / name), pixels)
    cv2.imwrite(str(folder / "colour.png"), cv2.merge([pixels] * 3))
    cv2.imwrite(str(folder / "deep.png"), pixels.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "small.png"), pixels[:100])
    cv2.imwrite(str(folder / "leg.png"), read(leg).pixels)
    shutil.copy(chest, folder / "chest.dcm")
    (folder / "note.txt").write_text("no image")
    (folder / "empty.png").touch()
    for name in ("png", "jpg", "bmp"):
        whole = (folder / f"chest.{name}").read_bytes()
        (folder / f"torn.{name}").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray((folder / "chest.png").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (folder / "damaged.png").write_bytes(damaged)
    huge = bytearray((folder / "chest.png").read_bytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / "huge.png").write_bytes(huge)
    return folder


@pytest.mark.parametrize("name", ["chest.png", "chest.jpg", "chest.bmp", "colour.png"])
def test_a_radiograph_as_in_python(browser, files, name):
    with Screener(engine="onnx") as screener:
        expected = screener.screen(files / name)
    state, message, found = browser.choose(files / name)
    assert state == found["status"] == "screened"
    assert message.startswith(expected.label)
    assert found["certain"] == expected.certain
    assert found["frontal_score"] == pytest.approx(expected.frontal_score, abs=0.02)
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=0.02)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("deep.png", "16 bits"),
        ("small.png", "under 112 pixels"),
        ("chest.tif", "TIFF"),
        ("chest.dcm", "DICOM"),
        ("note.txt", "Not a PNG, JPEG or BMP file"),
        ("empty.png", "Not a PNG, JPEG or BMP file"),
        ("torn.png", "cut off"),
        ("torn.jpg", "cut off"),
        ("torn.bmp", "cut off"),
        ("damaged.png", "damaged"),
        ("huge.png", "50 million pixels"),
    ],
)
def test_a_bad_file_is_told_from_a_good_one(browser, files, name, says):
    state, message, found = browser.choose(files / name)
    assert (state, found) == ("failed", None)
    assert says in message


def test_what_is_no_chest_is_rejected(browser, files):
    state, _, found = browser.choose(files / "leg.png")
    assert state == found["status"] == "rejected"


def test_nothing_leaves_the_page(browser, server, files):
    """The server sees its own files asked for, once, and the page can't reach another."""
    address, requests = server
    assert browser.choose(files / "torn.png")[0] == "failed"
    before = len(requests)
    assert browser.choose(files / "chest.png")[0] == "screened"  # the page goes on
    assert requests[before:] == []
    assert {command for command, _, _ in requests} == {"GET"}
    assert {length for _, _, length in requests} == {None}
    other = address.replace("127.0.0.1", "localhost")
    reached = browser.run(
        "return await fetch(arguments[0]).then(() => true, () => false);", f"{other}/index.html"
    )
    assert reached is False


def test_an_altered_model_file_is_not_run(browser, server, site):
    file = site / "bundle" / BUNDLE.classifier.variant("onnx", "int8").file
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        browser.open(f"{server[0]}/index.html?altered")
        state, message = browser.wait()
        assert state == "failed"
        assert "is not the manifest's file" in message
    finally:
        file.write_bytes(content)
