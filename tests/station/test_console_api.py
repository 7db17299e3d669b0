"""Each address of the console, over real HTTP, with the real screener."""

import csv
import io
import re
import sqlite3
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
for package in ("highdicom", "httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from consoles import API, Stream, finished, send
from pacs import wait_for

from xrayedge.bundle import ModelBundle
from xrayedge.imaging import read
from xrayedge.station.console import views
from xrayedge.station.store.sends import MAX_REFUSALS


@pytest.fixture(scope="module")
def client(station):
    with station.console() as client:
        yield client


@pytest.fixture(scope="module")
def screened(client, chest):
    """The example, screened."""
    return finished(client, send(client, chest.read_bytes()))


@pytest.fixture(scope="module")
def refused(client, leg):
    return finished(client, send(client, leg.read_bytes()))


def decoded(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


def other(chest):
    """The same image as another instance."""
    dataset = pydicom.dcmread(chest)
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def alter(station, statement, value):
    """Do to the database what nobody should."""
    with sqlite3.connect(station.state.path / "station.db") as database:
        database.execute(statement, (value,))
    database.close()


def warnings(station):
    return [one.detail for one in station.state.store.events.read() if one.kind == "warning"]


def test_an_image_gets_its_result(client, chest, screened):
    assert re.fullmatch("[0-9a-f]{32}", screened["id"])
    assert (screened["origin"], screened["state"]) == ("browser", "done")
    result = screened["result"]
    assert (result["label"], result["certain"]) == ("pneumonia", True)
    assert result["model"] == "vgg16-edge"
    assert sum(result["probabilities"].values()) == pytest.approx(1.0)
    assert result["opacities"]
    assert {"source", "fit"}.isdisjoint(result)
    assert screened["deliveries"] == [
        {"destination": "pacs", "kind": kind, "state": "queued", "tries": 0, "error": None}
        for kind in ("sr", "sc")
    ]
    header = pydicom.dcmread(chest, stop_before_pixels=True)
    for private in (header.PatientName, header.PatientID, header.SOPInstanceUID):
        assert str(private) not in str(screened)


def test_the_image_and_its_heatmap_lie_on_each_other(client, station, chest, screened):
    image = decoded(client.get(f"{API}/screenings/{screened['id']}/image.png"))
    assert np.array_equal(image, read(chest).pixels)
    layer = decoded(client.get(f"{API}/screenings/{screened['id']}/heatmap.png"))
    height, width = layer.shape[:2]
    assert layer.shape[2] == 4
    assert max(height, width) <= 1024
    assert height / width == pytest.approx(image.shape[0] / image.shape[1], rel=0.01)
    alpha = layer[:, :, 3]
    assert alpha.max() == 255
    assert (alpha == 0).any()
    job = views.job_of(station.state.store, screened["id"])
    activation_map = station.state.store.jobs.activation_map(job.id)
    classes = list(screened["result"]["probabilities"])
    found = activation_map[:, :, : len(classes)]
    shown = classes.index(screened["result"]["label"])
    evidence = found[:, :, shown] - np.delete(found, shown, axis=2).mean(axis=2)
    # The map covers the part of the image that the classifier saw.
    scale = width / image.shape[1]
    left, top, right, bottom = (round(scale * edge) for edge in screened["result"]["lungs"])
    outside = alpha.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()
    seen = alpha[top:bottom, left:right]
    height, width = seen.shape
    row, column = np.unravel_index(evidence.argmax(), evidence.shape)
    rows, columns = evidence.shape
    strongest = seen[
        row * height // rows : (row + 1) * height // rows,
        column * width // columns : (column + 1) * width // columns,
    ]
    assert strongest.max() == 255


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_png_and_jpeg_are_images_too(client, chest, screened, ending):
    content = cv2.imencode(ending, read(chest).pixels)[1].tobytes()
    found = finished(client, send(client, content))
    assert found["result"]["label"] == screened["result"]["label"]
    assert "no study" in found["detail"] or found["deliveries"] == []


def test_what_is_refused_says_why_and_what_to_do(client, refused):
    assert (refused["state"], refused["result"]["reason"]) == ("refused", "not-frontal")
    assert refused["remedy"].startswith("Send a frontal chest radiograph")
    rubbish = finished(client, send(client, b"GIF89a" + b"\0" * 100))
    assert rubbish["result"]["reason"] == "unreadable"
    assert rubbish["remedy"] == "Export the image again as DICOM, PNG or JPEG."
    for name, status in (("image", 422), ("heatmap", 404)):
        answer = client.get(f"{API}/screenings/{rubbish['id']}/{name}.png")
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "remedy"}
    assert decoded(client.get(f"{API}/screenings/{refused['id']}/image.png")).ndim == 2


def test_the_same_file_again_is_the_same_image(client, chest, screened):
    answer = client.post(f"{API}/screenings", content=chest.read_bytes())
    assert answer.json() == {"id": screened["id"], "new": False}


def test_the_example_is_new_each_time_and_goes_to_nobody(client):
    first, second = (client.post(f"{API}/example").json()["id"] for _ in range(2))
    assert first != second
    found = finished(client, second)
    assert (found["result"]["label"], found["origin"]) == ("pneumonia", "browser")
    assert found["deliveries"] == []
    assert client.get(f"{API}/station").json()["example"] is True


def test_the_station_says_what_it_is(client):
    found = client.get(f"{API}/station").json()
    bundle = ModelBundle.load("vgg16-edge")
    assert (found["model"], found["model_version"]) == (bundle.name, bundle.version)
    assert found["destinations"] == ["pacs"]
    assert found["disclaimer"].startswith("Research software, not a medical device.")
    assert client.get(f"{API}/session").json() == {
        "user": "local",
        "role": "admin",
        "login_required": False,
    }
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_the_history_comes_in_pages_newest_first(client, screened, refused):
    everything = client.get(f"{API}/screenings", params={"limit": 200}).json()["screenings"]
    paged, before = [], None
    while True:
        asked = {"limit": 2} if before is None else {"limit": 2, "before": before}
        page = client.get(f"{API}/screenings", params=asked).json()
        paged += page["screenings"]
        before = page["next"]
        if before is None:
            break
    assert [one["id"] for one in paged] == [one["id"] for one in everything]
    assert {screened["id"], refused["id"]} <= {one["id"] for one in everything}
    received = [one["received"] for one in everything]
    assert received == sorted(received, reverse=True)


def test_the_history_is_searched_by_time_and_result(client, screened, refused):
    def search(**asked):
        found = client.get(f"{API}/screenings", params={"limit": 200, **asked}).json()
        return {one["id"]: one for one in found["screenings"]}

    assert all(one["result"]["label"] == "pneumonia" for one in search(result="pneumonia").values())
    assert screened["id"] in search(result="pneumonia,healthy")
    assert set(search(result="refused")) >= {refused["id"]}
    assert screened["id"] not in search(result="refused,uncertain,healthy,covid")
    at = screened["received"]
    assert screened["id"] in search(since=at)
    assert screened["id"] not in search(until=at)
    assert search(since="2100-01-01") == {}
    for wrong in ({"result": "cancer"}, {"since": "today"}, {"limit": "0"}, {"limit": "1e3"}):
        answer = client.get(f"{API}/screenings", params=wrong)
        assert answer.status_code == 400, wrong
        assert set(answer.json()) == {"error", "remedy"}


def test_the_export_runs_no_formula(client, station, chest, screened):
    public = send(client, other(chest))
    finished(client, public)
    formula = "UPDATE jobs SET result = json_set(result, '$.tags.body_part', '=1+1')"
    alter(station, f"{formula} WHERE file = ?", f"{public}.dcm")
    answer = client.get(f"{API}/screenings.csv", params={"result": "pneumonia"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    assert rows[screened["id"]]["label"] == "pneumonia"
    assert rows[public]["body_part"] == "'=1+1"
    assert all(row["state"] == "done" for row in rows.values())


def test_an_operating_point_is_of_later_images_and_audited(client, station, chest, screened):
    before = client.get(f"{API}/operating-point").json()
    assert before["current"] == "balanced"
    assert [one["name"] for one in before["choices"]] == ["balanced", "sensitive", "specific"]
    point = ModelBundle.load("vgg16-edge").classifier.operating_point("sensitive")
    assert before["choices"][1]["sensitivity"]["value"] == point.sensitivity.value
    stream = Stream(client).ready()
    try:
        after = client.put(f"{API}/operating-point", json={"name": "sensitive"}).json()
        assert stream.until(lambda kind, _: kind == "operating-point") == after
    finally:
        stream.close()
    try:
        assert after["current"] == "sensitive"
        later = finished(client, send(client, other(chest)))
        assert later["result"]["operating_point"] == "sensitive"
        now = client.get(f"{API}/screenings/{screened['id']}").json()
        assert now["result"]["operating_point"] == "balanced"
        entry = client.get(f"{API}/audit").json()["entries"][0]
        assert (entry["who"], entry["what"]) == ("local", "setting operating_point")
        assert (entry["old"], entry["new"]) == ("balanced", "sensitive")
        wrong = client.put(f"{API}/operating-point", json={"name": "lucky"})
        assert wrong.status_code == 422
    finally:
        client.put(f"{API}/operating-point", json={"name": "balanced"})


def test_what_waits_is_shown_and_what_failed_is_tried_again(client, station, screened):
    job = views.job_of(station.state.store, screened["id"])
    first, second = station.state.store.sends.search(job=job.id)
    station.state.store.sends.mark_waiting("pacs", "the peer is away")
    stream = Stream(client).ready()
    for _ in range(MAX_REFUSALS):
        station.state.store.sends.mark_refused(first.id, "refused, status A900")
    told = stream.until(lambda kind, data: kind == "queue" and data["failed"])
    assert told == client.get(f"{API}/queue").json()
    stream.close()
    (pacs,) = told["destinations"]
    assert (pacs["name"], pacs["failed"], pacs["last_error"]) == ("pacs", 1, "the peer is away")
    assert pacs["waiting"] >= 1
    assert pacs["oldest"] <= screened["received"][:10] + "T99"
    assert told["failed"] == [
        {
            "send": first.id,
            "destination": "pacs",
            "kind": first.kind,
            "error": "refused, status A900",
            "tries": MAX_REFUSALS,
        }
    ]
    assert client.post(f"{API}/queue/{second.id}/retry").status_code == 404  # it waits
    answer = client.post(f"{API}/queue/{first.id}/retry")
    assert answer.json()["failed"] == []
    states = {one.id: one.state for one in station.state.store.sends.search(job=job.id)}
    assert states[first.id] == "queued"
    assert client.get(f"{API}/audit").json()["entries"][0]["what"] == f"queued again S{first.id}"
    station.state.store.sends.mark_sent(first.id)
    assert client.post(f"{API}/queue/{first.id}/retry").status_code == 404  # it arrived


def test_events_tell_each_change_and_go_on_where_a_page_left_off(client, chest):
    stream = Stream(client).ready()
    left_off = stream.last_id
    public = send(client, other(chest))
    seen = []
    for kind, data in stream.messages():
        if kind == "screening" and data["id"] == public:
            seen.append(data["state"])
            if data["state"] == "done":
                break
    assert seen[-1] == "done"
    assert data == client.get(f"{API}/screenings/{public}").json()
    stream.close()
    again = Stream(client, **{"Last-Event-ID": left_off})
    found = again.until(lambda kind, data: kind == "screening" and data["id"] == public)
    assert found["state"] == "done"
    assert int(again.last_id) > int(left_off)
    again.close()
    # A number from the future, or no number, is nothing to go on from.
    for strange in ("999999999", "-1", "x" * 50):
        late = Stream(client, **{"Last-Event-ID": strange}).ready()
        assert int(late.last_id) < 999_999
        late.close()


def test_a_tampered_audit_is_found(client, station):
    client.put(f"{API}/operating-point", json={"name": "specific"})
    client.put(f"{API}/operating-point", json={"name": "balanced"})
    assert client.get(f"{API}/audit/verify").json()["ok"] is True
    entries = client.get(f"{API}/audit").json()["entries"]
    bad = entries[1]["id"]
    alter(station, "UPDATE audit SET who = 'nobody' WHERE id = ?", bad)
    found = client.get(f"{API}/audit/verify").json()
    assert found == {"ok": False, "first_bad": bad, "entries": bad - 1}
    alter(station, "UPDATE audit SET who = 'local' WHERE id = ?", bad)
    assert client.get(f"{API}/audit/verify").json()["ok"] is True
    page = client.get(f"{API}/audit", params={"before": bad}).json()
    assert [one["id"] for one in page["entries"]] == list(range(bad - 1, 0, -1))


def test_the_monitor_counts_what_was_screened_but_not_the_example(client, screened, refused):
    def images():
        return sum(day["images"] for day in client.get(f"{API}/monitor").json()["days"])

    before = images()
    assert before >= 2
    found = client.get(f"{API}/monitor").json()
    assert found["sentence"] is None
    assert found["units"][0]["state"] == "learning"
    for name in found["plots"]:
        chart = client.get(f"{API}/monitor/{name}.svg")
        assert chart.headers["content-type"] == "image/svg+xml"
        assert ElementTree.fromstring(chart.text).tag.endswith("svg")
    finished(client, client.post(f"{API}/example").json()["id"])
    assert images() == before
    counted = 'xrayedge_images_total{outcome="screened"}'
    assert counted in client.get("/metrics").text
    for path in ("monitor/nothing.svg", "monitor?unit=NOWHERE", "monitor/outcome.svg?unit=NOWHERE"):
        answer = client.get(f"{API}/{path}")
        assert answer.status_code == 404, path
    unit = found["units"][0]["name"]
    too_early = client.post(f"{API}/monitor/accept", json={"unit": unit})
    assert too_early.status_code == 404
    assert "wait for more images" in too_early.json()["error"]


@pytest.mark.parametrize(
    "public",
    [
        "1",
        "../../station.db",
        "..%2f..%2fstation.db",
        "%00",
        "A" * 32,
        "0" * 31,
        "0" * 32,
        "0" * 5000,
        "' OR 1=1 --",
        "0" * 32 + ".dcm",
    ],
)
def test_an_id_that_is_none_finds_nothing(client, public):
    for path in (f"{API}/screenings/{public}", f"{API}/screenings/{public}/image.png"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert set(answer.json()) == {"error", "remedy"}
    assert client.get(f"{API}/screenings", params={"before": public}).status_code == 404


@pytest.mark.parametrize("name", ["../api.py", "..%2fapi.py", "%2e%2e/api.py", "", "/etc/passwd"])
def test_no_other_file_is_served(client, name):
    assert client.get(f"/static/{name}").status_code == 404


def test_every_answer_has_the_headers(client, screened):
    for path in ("/", f"{API}/session", f"{API}/nothing", f"{API}/screenings/{screened['id']}"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    wrong = client.post(f"{API}/station")
    assert wrong.status_code == 405
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_an_error_that_nobody_foresaw_is_told_without_what_was_asked(client, station, monkeypatch):
    def fail(*_):
        raise ValueError("MUSTERMANN")

    monkeypatch.setattr(views, "queue", fail)
    answer = client.get(f"{API}/queue?secret=1")
    assert answer.status_code == 500
    assert answer.json()["error"] == "The console failed."
    assert answer.headers["cache-control"] == "no-store"
    monkeypatch.undo()
    wait_for(lambda: warnings(station), "a warning")  # it comes after the answer
    assert warnings(station) == ["the console failed on GET (ValueError)"]


def test_an_image_that_is_set_aside_is_not_decoded_here(client, station, screened):
    """What ends the process must do that in the worker, which counts it."""
    file = f"{screened['id']}.dcm"
    alter(station, "UPDATE jobs SET state = 'set-aside' WHERE file = ?", file)
    try:
        one = f"{API}/screenings/{screened['id']}"
        assert client.get(f"{one}/image.png").status_code == 409
        remedy = client.get(one).json()["remedy"]
        assert re.search(r"xrayedge station queue --retry J\d+$", remedy)
    finally:
        alter(station, "UPDATE jobs SET state = 'done' WHERE file = ?", file)
