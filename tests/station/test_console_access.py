"""The console's page for its people: log-in, roles, settings, keyboard, small screens, paper."""

import importlib.util
from pathlib import Path

import pytest
from browsing import StationProcess, Visit, browser

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


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    running = StationProcess(tmp_path_factory.mktemp("station"))
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
def visit(chromium, station):
    """A browser at the station's page; whatever it complains of fails the test."""
    one = Visit(chromium, station.url)
    yield one
    one.close()
    one.check()


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
    page.locator("#announce", has_text="COVID-19 suspected").wait_for()
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


def test_axe_finds_nothing_serious_in_light_or_dark(visit):
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe-core is not here: pip install axe-playwright-python")
    axe = (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    page = visit.with_result().page
    page.locator("#no-image").wait_for(state="hidden")
    page.evaluate(axe)
    for view, content in VIEWS.items():
        visit.go(view)
        page.locator(content).first.wait_for()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
            serious = [
                (view, scheme, one["id"], [node["html"] for node in one["nodes"]])
                for one in found["violations"]
                if one["impact"] in SERIOUS
            ]
            assert serious == []


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
