"""The console's page for its people: log-in, roles, settings, keyboard, small screens, paper."""

import importlib.util
import sqlite3
import threading
from contextlib import closing, contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsing import AWAY, MILLISECONDS, StationProcess, Visit, playwright
from counted import REFERENCE, drawn, put

from xrayedge.station import monitor
from xrayedge.station.records import RECENT_IMAGES, REFERENCE_IMAGES
from xrayedge.station.state import DATABASE
from xrayedge.station.store import Store
from xrayedge.station.store.sends import MAX_REFUSALS

#: Each view, and what is in it once it is filled.
VIEWS = {
    "screening": "#verdict",
    "history": "#days .card",
    "sending": "#sending .lead",
    "point": "#point .tile",
    "monitor": "#monitor .sentence",
    "audit": "#audit > *",
}
PASSWORDS = {"rita": "long enough to read", "olaf": "long enough to operate"}
NARROW = {"width": 360, "height": 740}
SERIOUS = ("serious", "critical")
#: A page of another site, which tries to use whoever is logged in to the station.
FOREIGN = """\
<form method="post" action="{url}api/v1/example"><button>Win</button></form>
<img src="{url}static/icon.svg" alt="">
"""


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    running = StationProcess(tmp_path_factory.mktemp("station"), tables=AWAY)
    yield running.start()
    running.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A station whose console wants a log-in."""
    from xrayedge.station.console.auth import set_password

    folder = tmp_path_factory.mktemp("guarded")
    set_password(folder / "users", "rita", "reader", PASSWORDS["rita"])
    set_password(folder / "users", "olaf", "operator", PASSWORDS["olaf"])
    running = StationProcess(folder, console=f'password = "{folder / "users"}"')
    yield running.start()
    running.stop()


@pytest.fixture
def store(station):
    """The running station's database, as `station queue` opens it."""
    opened = Store(station.state / DATABASE)
    yield opened
    opened.close()


@contextmanager
def another_site(content):
    """A server of one page; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def log_in(visit, user, password):
    page = visit.page
    page.goto(visit.url, wait_until="commit")
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    return page


def test_a_wrong_password_is_told_and_opens_nothing(chromium, guarded):
    visit = Visit(chromium, guarded.url)
    page = log_in(visit, "olaf", "a guess at it")
    page.locator("#login-problem .problem").wait_for()
    assert "name or the password is wrong" in page.locator("#login-problem").inner_text()
    assert page.locator("#view-login").is_visible()
    assert not page.locator("#view-screening").is_visible()
    assert page.locator(".disclaimer").is_visible()
    visit.close()


def test_a_session_that_ended_asks_for_the_password_and_hides_what_was_shown(
    chromium, guarded, chest
):
    visit = Visit(chromium, guarded.url)
    page = log_in(visit, "olaf", PASSWORDS["olaf"])
    visit.connected()
    assert "olaf (operator)" in page.locator("#who").inner_text()
    assert not page.locator("#nav-audit").is_visible()
    visit.choose(chest)
    visit.context.clear_cookies()
    page.locator('nav a[href="#/history"]').click()
    page.locator("#view-login").wait_for()
    assert "Your session has ended." in page.locator("#login-why").inner_text()
    assert page.locator("#verdict").count() == 0
    assert page.locator(".card").count() == 0
    page.get_by_label("User").fill("olaf")
    page.get_by_label("Password").fill(PASSWORDS["olaf"])
    page.keyboard.press("Enter")
    visit.connected()
    page.locator("#days .card").first.wait_for()
    page.get_by_role("button", name="Log out").click()
    page.locator("#view-login").wait_for()
    visit.close()


def test_a_session_that_the_station_ended_asks_for_the_password_by_itself(chromium, guarded):
    visit = Visit(chromium, guarded.url)
    page = log_in(visit, "olaf", PASSWORDS["olaf"])
    visit.connected()
    visit.click_example()
    guarded.kill()
    page.locator("#lost").wait_for()
    guarded.start()
    page.locator("#view-login").wait_for()
    assert "Your session has ended." in page.locator("#login-why").inner_text()
    assert not page.locator("#lost").is_visible()
    assert page.locator("#verdict").count() == 0
    visit.close()


def test_a_reader_looks_and_changes_nothing(chromium, guarded):
    visit = Visit(chromium, guarded.url)
    page = log_in(visit, "rita", PASSWORDS["rita"])
    visit.connected()
    assert not page.locator("#drop").is_visible()
    assert "needs the role of an operator" in page.locator("#read-only").inner_text()
    visit.go("point")
    page.locator("#point .tile").first.wait_for()
    assert page.locator("#point button").count() == 0
    visit.close()
    visit.check()


def test_a_change_of_the_operating_point_is_seen_by_all_audited_and_holds_for_later_images(
    chromium, visit, chest
):
    page = visit.open().page
    before = visit.choose(chest)
    visit.go("point")
    tile = page.locator('.tile[data-name="sensitive"]')
    costs = {one["name"]: one for one in visit.api("/operating-point")["choices"]}["sensitive"]
    assert f"{100 * costs['sensitivity']['value']:.0f}\u00a0%" in tile.inner_text()
    low, high = (100 * costs["specificity"][end] for end in ("low", "high"))
    assert f"Specificity, {low:.0f}\u00a0% to {high:.0f}\u00a0%" in tile.inner_text()

    other = Visit(chromium, visit.url).open("point")
    other.page.locator('.tile[data-name="balanced"][data-current="true"]').wait_for()
    tile.get_by_role("button").click()
    page.get_by_role("button", name="Cancel").click()
    assert visit.api("/operating-point")["current"] == "balanced"
    tile.get_by_role("button").click()
    page.get_by_role("button", name="Use it").click()
    page.locator('.tile[data-name="sensitive"][data-current="true"]').wait_for()
    other.page.locator('.tile[data-name="sensitive"][data-current="true"]').wait_for()

    visit.go("audit")
    row = page.locator("#audit tr", has_text="sensitive").first
    row.wait_for()
    assert "balanced" in row.inner_text()
    page.get_by_role("button", name="Check the record").click()
    page.get_by_text("none altered").wait_for()

    other.go("screening")
    other.click_example()
    assert "sensitive" in other.page.locator(".facts").inner_text()
    other.close()
    other.check()
    assert visit.api(f"/screenings/{before}")["result"]["operating_point"] == "balanced"


def test_an_altered_record_is_found(visit, station, store):
    store.audit.record("somebody", "operating point", "balanced", "sensitive")
    entry = store.audit.newest(limit=1)[0]
    page = visit.open("audit").page
    page.get_by_role("button", name="Check the record").click()
    page.get_by_text("none altered").wait_for()

    def write(who):
        with closing(sqlite3.connect(station.state / DATABASE)) as sql, sql:
            sql.execute("UPDATE audit SET who = ? WHERE id = ?", (who, entry.id))

    write("nobody")
    page.get_by_role("button", name="Check the record").click()
    page.get_by_text(f"Altered at entry {entry.id}.").wait_for()
    write("somebody")


def test_what_failed_is_shown_and_sent_again(visit, store, chest):
    page = visit.open().page
    visit.choose(chest)
    *_, send = store.sends.search(states=("queued",))
    for _ in range(MAX_REFUSALS):
        store.sends.mark_refused(send.id, "refused, status A900")
    page.locator("#sending-count", has_text="1").wait_for()
    visit.go("sending")
    row = page.locator("#sending tbody tr")
    assert row.locator("td").all_inner_texts()[:3] == ["pacs", "report", "refused, status A900"]
    assert serious(page) == []
    row.get_by_role("button", name="Send again").click()
    row.wait_for(state="detached")
    assert not page.locator("#sending-count").is_visible()
    assert store.sends.search(states=("failed",)) == []
    assert visit.api("/queue")["destinations"][0]["waiting"] >= 1


def test_changed_images_are_told_and_can_be_accepted(visit, store):
    page = visit.open("monitor").page
    page.locator('.sentence[data-changed="false"]').wait_for()
    put(store, drawn(REFERENCE_IMAGES, 1))
    put(store, drawn(RECENT_IMAGES, 2, brightness=160.0))
    assert monitor.note_changes(store, REFERENCE, date.today())
    told = page.locator('.sentence[data-changed="true"]')
    told.wait_for()  # by itself
    assert "Images changed: the last 200 images of UNIT1" in told.inner_text()
    assert "brightness" in page.locator('.plot[data-changed="true"]').inner_text().casefold()
    charts = page.locator(".plot svg")
    playwright.expect(charts).to_have_count(page.locator(".plot").count(), timeout=MILLISECONDS)
    assert serious(page) == []
    tile = page.locator(".tile", has_text="UNIT1")
    tile.get_by_role("button", name="Take them as the new reference").click()
    page.locator('.sentence[data-changed="false"]').wait_for()
    assert store.audit.newest(limit=1)[0].what == "monitor: new reference"


@pytest.mark.parametrize("site", ["other.example", "127.0.0.1"])
def test_another_site_sends_nothing_and_shows_nothing(chromium, station, store, site):
    visit = Visit(chromium, station.url).open()
    before = store.jobs.search(limit=1)
    with another_site(FOREIGN.format(url=station.url)) as port:
        page = visit.page
        page.goto(f"http://{site}:{port}/")
        assert page.locator("img").evaluate("(one) => one.naturalWidth") == 0
        page.get_by_role("button", name="Win").click()
        page.get_by_text("Another site asked for this.").wait_for()
    assert store.jobs.search(limit=1) == before
    visit.close()


def test_a_foreign_name_that_leads_here_shows_nothing(chromium, station):
    visit = Visit(chromium, station.url.replace("127.0.0.1", "rebound.example"))
    assert visit.page.goto(visit.url).status == 421
    assert "The console is not called by this name." in visit.page.content()
    visit.close()


def test_the_keyboard_alone_screens_looks_and_finds_its_way(visit):
    page = visit.with_result().page
    page.reload(wait_until="commit")  # so that nothing has the focus
    visit.connected()

    def tab_to(place, most=40):
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.locator(f"{place}:focus").count():
                return
        raise AssertionError(f"{place} is not reached with Tab")

    page.keyboard.press("Tab")
    assert page.locator(".skip:focus").count() == 1
    tab_to("#example")
    page.keyboard.press("Enter")
    visit.finished(but=[visit.shown])
    # An earlier test may have chosen another operating point, with another result.
    verdict = page.locator("#verdict").inner_text()
    assert verdict.endswith("suspected")
    page.locator("#announce", has_text=verdict).wait_for()
    page.locator("#no-image").wait_for(state="hidden")
    tab_to("canvas.image", 200)
    page.keyboard.press("ArrowLeft")
    assert page.get_by_label("Window").input_value() == "245"
    page.locator(".skip").focus()
    tab_to('nav a[href="#/history"]')
    page.keyboard.press("Enter")
    page.locator("#history-title:focus").wait_for()


def test_nothing_is_wider_than_a_telephone(chromium, station):
    visit = Visit(chromium, station.url, viewport=NARROW).with_result()
    for view, content in VIEWS.items():
        visit.go(view)
        visit.page.locator(content).first.wait_for()
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], view
        assert visit.page.locator(".disclaimer").is_visible()
    visit.close()
    visit.check()


def serious(page):
    """What axe-core finds of the page as it is, in light and in dark."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe-core is not here: pip install axe-playwright-python")
    page.evaluate((Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    findings = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert result["passes"]  # it looked
        findings += [
            (scheme, one["id"], [node["html"] for node in one["nodes"]])
            for one in result["violations"]
            if one["impact"] in SERIOUS
        ]
    return findings


def test_axe_finds_nothing_serious_in_any_view(visit):
    page = visit.with_result().page
    page.locator("#no-image").wait_for(state="hidden")
    for view, content in VIEWS.items():
        visit.go(view)
        page.locator(content).first.wait_for()
        assert (view, serious(page)) == (view, [])


def test_axe_finds_nothing_serious_in_a_refusal_or_a_log_in(visit, chromium, guarded, tmp_path):
    (tmp_path / "letter.png").write_bytes(b"no image")
    visit.open().choose(tmp_path / "letter.png", "refused")
    assert serious(visit.page) == []
    other = Visit(chromium, guarded.url)
    page = log_in(other, "olaf", "a guess at it")
    page.locator("#login-problem .problem").wait_for()
    assert serious(page) == []
    other.close()


def test_colours_follow_the_switch_and_are_remembered(visit):
    page = visit.open().page
    root = page.locator("html")
    assert root.get_attribute("data-theme") == "light"
    page.emulate_media(color_scheme="dark")
    page.locator('html[data-theme="dark"]').wait_for()
    page.get_by_role("button", name="Colours: as the system").click()
    page.locator('html[data-theme="light"]').wait_for()
    page.reload(wait_until="commit")
    visit.connected()
    assert root.get_attribute("data-theme") == "light"


def test_paper_shows_the_result_with_the_disclaimer_and_no_controls(visit):
    page = visit.with_result().page
    page.emulate_media(media="print")
    for shown in (".disclaimer", "#verdict", "canvas.image", ".bars"):
        assert page.locator(shown).is_visible()
    for hidden in ("nav", "#drop", "#arrivals", ".viewer-tools"):
        assert not page.locator(hidden).is_visible()
