"""The console's page in a browser, with the real station behind it: images and their results."""

import base64
import socket
import subprocess
from pathlib import Path

import cv2
import pytest
from browsing import AWAY, MILLISECONDS, StationProcess, Visit, playwright
from pacs import SECONDS, system_tool

from xrayedge import read

expect = playwright.expect
STATIC = Path(__file__).parents[2] / "xrayedge" / "station" / "console" / "static"
#: All that the page is made of, an image left out.
MOST_BYTES = 300_000
MANY = 20
#: What RG1_UNCR.dcm says of its patient.
PATIENT = ("CompressedSamples", "9RG1", "19400305")
#: A unit that sends.
LISTEN = """\
[listen]
port = {dicom}
"""
RUBBISH = ("letter.png", "image/png", base64.b64encode(b"this is no image").decode())


@pytest.fixture(scope="module")
def dicom_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def station(tmp_path_factory, dicom_port):
    folder = tmp_path_factory.mktemp("station")
    running = StationProcess(folder, tables=LISTEN.format(dicom=dicom_port) + AWAY)
    yield running.start()
    running.stop()


@pytest.fixture(scope="module")
def small(chest):
    """The chest radiograph as JPEG files of different bytes, small enough to send many."""
    pixels = cv2.resize(read(chest).pixels, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)

    def jpeg(number):
        encoded = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 70 + number))[1]
        return (
            f"chest {number}.jpg",
            "image/jpeg",
            base64.b64encode(encoded.tobytes()).decode(),
        )

    return jpeg


def text(visit, place):
    return visit.page.locator(place).inner_text()


def pixel_sum(visit):
    """Of the canvas: changes with whatever is drawn differently."""
    return visit.page.locator("canvas.image").evaluate(
        """async (canvas) => {
            await new Promise(requestAnimationFrame);
            await new Promise(requestAnimationFrame);
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            let [sum, cyan] = [0, 0];
            for (let at = 0; at < data.length; at += 4) {
                sum += data[at] + data[at + 1] + data[at + 2];
                if (data[at] < 120 && data[at + 1] > 200 && data[at + 2] > 230) cyan += 1;
            }
            return [sum, cyan];
        }"""
    )


def test_a_chosen_image_is_screened_and_shown_with_all_that_was_found(visit, chest):
    found = visit.open().choose(chest)
    result = visit.api(f"/screenings/{found}")["result"]
    assert result["label"] == "pneumonia"
    assert text(visit, "#verdict") == "Pneumonia suspected"
    assert "Certain at this operating point" in text(visit, ".certainty")
    bars = visit.page.locator(".bars li").all_inner_texts()
    assert [one.split("\n")[0] for one in bars] == ["COVID-19", "Healthy", "Pneumonia"]
    for bar, share in zip(bars, result["probabilities"].values(), strict=True):
        expected = "<\u00a01\u00a0%" if share < 0.01 else f"{100 * share:.0f}\u00a0%"
        assert expected in bar
    boxes = visit.page.locator(".opacities li").all_inner_texts()
    assert len(boxes) == len(result["opacities"]) > 0
    assert f"score {result['opacities'][0]['score']:.2f}" in boxes[0]
    assert result["model"] in text(visit, ".facts")
    for word in PATIENT:
        assert word not in visit.page.content()
    assert "RG1_UNCR" not in visit.page.content()


def test_window_zoom_outlines_and_heatmap_change_what_is_seen(visit):
    page = visit.with_result().page
    page.locator("#no-image").wait_for(state="hidden")
    heat = page.get_by_label("Heatmap")
    heat.fill("0")
    plain, cyan = pixel_sum(visit)
    assert plain > 0
    assert cyan > 100  # outlines and their scores
    heat.fill("100")
    assert pixel_sum(visit)[0] != plain
    heat.fill("0")
    page.get_by_role("button", name="Outlines").click()
    assert pixel_sum(visit)[1] < cyan / 10

    canvas = page.locator("canvas.image")
    canvas.focus()
    before = pixel_sum(visit)[0]
    page.keyboard.press("ArrowUp")  # a lower level is brighter
    page.keyboard.press("ArrowUp")
    assert page.get_by_label("Level").input_value() == "108"
    assert pixel_sum(visit)[0] > before
    page.keyboard.press("+")
    assert text(visit, ".zoom") == "125 %"
    page.keyboard.press("r")
    assert text(visit, ".zoom") == "100 %"
    assert pixel_sum(visit)[0] == before

    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 100)
    page.mouse.up()
    assert int(page.get_by_label("Window").input_value()) > 255


def test_what_is_dropped_and_is_no_image_is_refused_with_a_remedy(visit):
    visit.open().drop_one(RUBBISH, "refused")
    assert text(visit, "#verdict") == "Not screened"
    told = text(visit, ".facts")
    assert "Damaged, or not an image." in told
    assert "What to do: Export the image again as DICOM, PNG or JPEG." in told
    assert text(visit, "#no-image") == "There is no image to show."
    assert not visit.page.locator(".viewer-tools").is_visible()
    assert "patient's age" not in told
    assert "letter.png" not in visit.page.content()


def test_an_answer_that_comes_late_undoes_nothing_that_was_told_meanwhile(visit):
    page, held = visit.open().page, []
    page.route("**/api/v1/screenings/*", lambda route: held.append(route))
    for number in range(10):
        rubbish = base64.b64encode(b"no image, letter %d" % number).decode()
        sent = visit.drop_one((f"{number}.png", "image/png", rubbish), "refused")
        if held:  # the page asked before the event came, as it nearly always does
            break
    old = {**visit.api(f"/screenings/{sent}"), "state": "received", "result": None}
    for route in held:
        with page.expect_event("requestfinished"):
            route.fulfill(json=old)
    page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    assert held
    assert page.locator("#screen").get_attribute("data-state") == "refused"


def test_twenty_dropped_at_once_are_all_screened(visit, small):
    page = visit.open().page
    before = len(visit.api("/screenings?limit=200")["screenings"])
    visit.drop(*(small(number) for number in range(MANY)), RUBBISH)
    page.locator("#tray-close").wait_for()
    assert text(visit, ".tray-sum") == f"{MANY} screened, 1 refused"
    rows = page.locator(".tray li")
    assert rows.count() == MANY + 1
    assert rows.locator("a", has_text="Not screened").count() == 1
    assert "chest 3.jpg" not in page.content()
    page.get_by_label("Show file names").check()
    assert "chest 3.jpg" in rows.nth(3).inner_text()
    after = visit.api("/screenings?limit=200")["screenings"]
    assert len(after) == before + MANY + 1
    assert page.locator("#arrivals .card").count() == len(after)


def test_the_example_comes_by_one_click(visit):
    sent = visit.open().click_example()
    assert sent == visit.api("/screenings?limit=1")["screenings"][0]["id"]


def test_an_arrival_by_dicom_appears_by_itself(visit, dicom_port, chest, tmp_path):
    storescu = system_tool("storescu")
    if storescu is None:
        pytest.skip("storescu is not here: apt-get install dcmtk")
    import pydicom

    dataset = pydicom.dcmread(chest)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.save_as(tmp_path / "arrival.dcm")
    page = visit.open().page
    cards = page.locator("#arrivals .card", has_text="DICOM")
    assert cards.count() == 0
    subprocess.run(
        [storescu, "-aec", "XRAYEDGE", "127.0.0.1", str(dicom_port), tmp_path / "arrival.dcm"],
        check=True,
        timeout=SECONDS,
    )
    cards.first.wait_for()
    arrived = cards.first.get_attribute("data-id")
    # The page followed the newest image, and goes on doing so.
    page.locator(f'#screen[data-id="{arrived}"][data-state="done"]').wait_for()
    assert "report to pacs: waiting" in text(visit, ".facts")


def test_an_image_that_somebody_reads_is_not_replaced_by_the_next(visit, small):
    page = visit.with_result().page
    visit.click_example()
    second = page.locator("#arrivals .card").nth(1)
    chosen = second.get_attribute("data-id")
    second.click()
    page.locator(f'#screen[data-id="{chosen}"]').wait_for()
    other = Visit(visit.context.browser, visit.url).open()
    sent = other.drop_one(small(MANY + 1))
    other.close()
    other.check()
    page.locator(f'#arrivals .card[data-id="{sent}"]', has_text="new").wait_for()
    assert page.locator("#screen").get_attribute("data-id") == chosen
    page.get_by_role("button", name="Go to the newest").click()
    page.locator(f'#screen[data-id="{sent}"]').wait_for()


def test_history_is_searched_by_result_and_time_and_exported(visit):
    page = visit.open().page
    visit.go("history")
    cards = page.locator("#days .card")
    cards.first.wait_for()
    page.get_by_role("checkbox", name="Not screened").check()
    page.get_by_role("button", name="Search").click()
    refused = visit.api("/screenings?result=refused")["screenings"]
    assert refused
    expect(cards).to_have_count(len(refused), timeout=MILLISECONDS)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").strip().splitlines()
    assert len(lines) == 1 + len(refused)
    page.get_by_label("To", exact=True).fill("2001-01-01T00:00")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("No images match.").wait_for()


def test_a_lost_station_shows_a_red_bar_and_no_old_result_as_new(chromium, station, small):
    visit = Visit(chromium, station.url).with_result()
    page, old = visit.page, visit.shown
    finding = text(visit, "#verdict")
    station.kill()
    page.locator("#lost").wait_for()
    assert "The station can't be reached." in text(visit, "#lost")
    assert page.locator("#screen .stale").is_visible()
    assert "Stale: as of" in text(visit, ".stale")
    visit.drop(small(MANY + 2))
    page.locator(".tray li", has_text="The station can't be reached.").wait_for()
    assert page.locator("#screen .stale").is_visible()

    station.start()
    visit.connected()
    page.locator("#lost").wait_for(state="hidden")
    assert not page.locator("#screen .stale").is_visible()
    assert page.locator("#screen").get_attribute("data-id") == old
    assert text(visit, "#verdict") == finding
    page.get_by_role("button", name="Try again").click()
    visit.finished(but=[old])

    # Another station at the same address does not have the result: it goes.
    station.kill()
    page.locator("#lost").wait_for()
    first, station.state = station.state, station.folder / "another"
    station.start()
    visit.connected()
    page.locator("#arrivals-empty").wait_for()
    page.locator("#verdict").wait_for(state="detached")
    station.stop()
    station.state = first
    station.start()
    visit.close()


def test_the_page_is_light_soon_there_and_asks_under_its_policy(visit):
    page = visit.open("history").page
    paint = page.evaluate(
        """() => new Promise((done) => {
            const seen = (list) => {
                const found = list.getEntriesByName("first-contentful-paint")[0];
                if (found) done(found.startTime);
            };
            new PerformanceObserver(seen).observe({ type: "paint", buffered: true });
        })"""
    )
    files = [path for path in STATIC.iterdir() if path.is_file()]
    weight = sum(path.stat().st_size for path in files)
    print(f"first contentful paint {paint:.0f} ms, page {weight / 1000:.0f} kB")
    assert paint > 0  # how soon is the machine's matter
    assert weight < MOST_BYTES
    asked = {one.removeprefix(visit.url).split("#")[0] for one in visit.asked}
    # Every file is used; the sheet for paper is fetched all the same.
    pages = {path.name for path in files} - {"index.html"}
    assert {f"static/{name}" for name in pages} == {
        one for one in asked if one.startswith("static/")
    }
    for name in ("", *(f"static/{name}" for name in pages)):
        policy = visit.context.request.get(visit.url + name).headers
        assert policy["content-security-policy"].startswith("default-src 'self'")
