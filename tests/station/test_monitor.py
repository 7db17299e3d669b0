"""Whether images changed is said when they did, and only then; charts and metrics can be read."""

import re
from collections import Counter
from datetime import date, timedelta
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("pydicom")

from counted import REFERENCE, drawn, put

from xrayedge import Screener, read
from xrayedge.errors import StationError
from xrayedge.reference import grey
from xrayedge.station import monitor
from xrayedge.station.drift import LEAST_IMAGES, stability
from xrayedge.station.measures import LATENCY, LATENCY_EDGES, OUTCOMES, measured, measures
from xrayedge.station.records import RECENT_IMAGES, REFERENCE_IMAGES, NewJob
from xrayedge.station.store import Store
from xrayedge.station.store.measures import MAX_UNITS, OTHER_UNITS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "station.db")
    yield store
    store.close()


def states(store):
    return {one["name"]: one["state"] for one in monitor.summary(store, REFERENCE)["units"]}


def test_a_unit_is_learned_then_compared_then_told_to_have_changed(store):
    assert monitor.summary(store, REFERENCE)["units"] == []
    put(store, drawn(10, 1))
    assert states(store) == {"UNIT1": "learning"}
    put(store, drawn(REFERENCE_IMAGES - 5, 2))
    assert states(store) == {"UNIT1": "waiting"}
    put(store, drawn(LEAST_IMAGES, 3))
    found = monitor.summary(store, REFERENCE)
    assert (found["sentence"], found["units"][0]["state"]) == (None, "steady")
    assert not monitor.note_changes(store, REFERENCE, date.today())
    put(store, drawn(LEAST_IMAGES, 4, brightness=160.0))
    found = monitor.summary(store, REFERENCE)
    assert re.fullmatch(
        r"Images changed: the last 200 images of UNIT1 differ from the 200 that they are "
        r"compared with, in brightness\.",
        found["sentence"],
    )
    assert "accuracy" not in str(found)
    assert [one["name"] for one in found["measures"] if one["changed"]] == ["grey-mean"]
    # Another unit is another matter.
    put(store, drawn(LEAST_IMAGES, 5), unit="UNIT2")
    assert states(store) == {"UNIT2": "learning", "UNIT1": "changed"}
    assert monitor.summary(store, REFERENCE)["unit"] == "UNIT1"


def test_a_change_is_noted_once_a_day(store):
    put(store, drawn(REFERENCE_IMAGES, 1) + drawn(LEAST_IMAGES, 2, brightness=170.0))
    today = date.today()
    tomorrow = today + timedelta(days=1)
    noted = [monitor.note_changes(store, REFERENCE, day) for day in (today, today, tomorrow)]
    assert noted == [True, False, True]
    said = [event.detail for event in store.events.read() if event.kind == "monitor"]
    assert len(said) == 2
    assert said[0].startswith("Images changed: ")


def test_more_refusals_are_a_change(store):
    put(store, drawn(REFERENCE_IMAGES, 1, refused=0.02) + drawn(RECENT_IMAGES, 2, refused=0.2))
    assert "in images refused." in monitor.summary(store, REFERENCE)["sentence"]
    found = monitor.summary(store, REFERENCE)
    assert found["reject_rate"] == pytest.approx(found["rejects"]["not-frontal"] / 400)
    assert found["days"] == [
        {"day": date.today().isoformat(), "images": 400, "refused": found["rejects"]["not-frontal"]}
    ]


def test_what_an_operator_accepts_is_the_reference(store):
    put(store, drawn(REFERENCE_IMAGES, 1) + drawn(RECENT_IMAGES, 2, brightness=170.0))
    with pytest.raises(StationError, match="UNIT2: no unit with 100 images"):
        monitor.accept(store, "UNIT2", "anna")
    assert states(store) == {"UNIT1": "changed"}
    monitor.accept(store, "UNIT1", "anna")
    assert states(store) == {"UNIT1": "waiting"}
    put(store, drawn(LEAST_IMAGES, 3, brightness=170.0))
    assert states(store) == {"UNIT1": "steady"}
    (entry,) = store.audit.entries()
    assert (entry.who, entry.new) == ("anna", "UNIT1: last 200 images")


def test_another_model_is_learned_anew(store):
    put(store, drawn(REFERENCE_IMAGES, 1) + drawn(LEAST_IMAGES, 2))
    put(store, drawn(1, 3), model="vgg16-edge 9.9.9")
    (unit,) = store.measures.units()
    assert (unit.model, len(unit.reference), len(unit.recent)) == ("vgg16-edge 9.9.9", 1, 0)


def test_names_of_units_out_of_files_can_not_fill_the_disk(store):
    for number in range(MAX_UNITS + 5):
        put(store, drawn(1, number), unit=f"U{number}")
    assert Counter(len(unit.reference) for unit in store.measures.units()) == {1: MAX_UNITS, 5: 1}
    assert store.measures.units()[0].name == OTHER_UNITS
    put(store, drawn(2 * REFERENCE_IMAGES + RECENT_IMAGES, 1), unit="U1")
    (one,) = (unit for unit in store.measures.units() if unit.name == "U1")
    assert (len(one.reference), len(one.recent)) == (REFERENCE_IMAGES, RECENT_IMAGES)


def test_charts_can_be_read_and_hold_nothing_that_a_strict_page_forbids(store):
    put(store, drawn(REFERENCE_IMAGES, 1) + drawn(LEAST_IMAGES, 2), unit='<b>&"unit')
    for name in monitor.plots(REFERENCE):
        text = monitor.plot(store, REFERENCE, name)
        root = ElementTree.fromstring(text)
        title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text
        assert len(description.text) > 20
        tags = {one.tag.removeprefix(SVG) for one in root.iter()}
        assert tags <= {"svg", "title", "desc", "rect", "path", "text"}
        colours = {one.get(name) for one in root.iter() for name in ("fill", "stroke")}
        assert colours <= {None, "none", "currentColor"}
        assert not any(one.get("style") for one in root.iter())
    assert ElementTree.fromstring(monitor.plot(Store(store.path), REFERENCE, "days")) is not None
    with pytest.raises(StationError, match="no such chart"):
        monitor.plot(store, REFERENCE, "accuracy")


def test_charts_of_nothing_are_charts(store):
    for name in monitor.plots(REFERENCE):
        assert ElementTree.fromstring(monitor.plot(store, REFERENCE, name)).find(f"{SVG}desc").text


def test_metrics_tell_counts_latency_and_changes(store):
    put(store, drawn(REFERENCE_IMAGES, 1) + drawn(LEAST_IMAGES, 2), unit='a "b" \\')
    store.jobs.receive(NewJob("waits.dcm", "dicom", "UNIT1", None, "", 1), "balanced")
    text = monitor.metrics(store, REFERENCE)
    assert 'xrayedge_images_total{outcome="screened"} 300\n' in text
    assert 'xrayedge_screening_seconds_bucket{le="0.004"} 0\n' in text
    assert 'xrayedge_screening_seconds_bucket{le="0.008"} 300\n' in text
    assert "xrayedge_screening_seconds_sum 2.4\nxrayedge_screening_seconds_count 300\n" in text
    assert 'xrayedge_jobs{state="received"} 1\n' in text
    assert 'xrayedge_images_changed{unit="a \\"b\\" \\\\"} 0\n' in text


def test_prometheus_parses_the_metrics(store):
    parser = pytest.importorskip("prometheus_client.parser")
    put(store, drawn(REFERENCE_IMAGES, 1) + drawn(LEAST_IMAGES, 2), unit='a "b" \\')
    text = monitor.metrics(store, REFERENCE)
    families = {one.name: one for one in parser.text_string_to_metric_families(text)}
    buckets = [one.value for one in families["xrayedge_screening_seconds"].samples]
    assert buckets[:-2] == sorted(buckets[:-2])
    assert {one.type for one in families.values()} == {"counter", "gauge", "histogram"}
    (changed,) = families["xrayedge_images_changed"].samples
    assert changed.labels == {"unit": 'a "b" \\'}


def test_percentiles_are_within_a_bin(store):
    put(store, [{"outcome": 0, LATENCY: number} for number in [20] * 90 + [40] * 10])
    found = monitor.summary(store, REFERENCE)["latency_ms"]
    assert LATENCY_EDGES[19] <= found["p50"] <= LATENCY_EDGES[20]
    assert LATENCY_EDGES[39] <= found["p95"] <= found["p99"] <= LATENCY_EDGES[40]


def test_the_index_of_one_distribution_is_seldom_over_its_limit():
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(20))
    drawn = [stability(*random.multinomial(200, shares, size=2).tolist()) for _ in range(2000)]
    assert sum(one.changed for one in drawn) <= 2
    assert stability([99], [1000]) is None
    one_bin = stability([0, 200], [0, 200])
    assert (one_bin.index, one_bin.changed) == (0.0, False)


def test_what_a_screening_counts(chest, leg):
    with Screener() as screener:
        shown, refused = (screener.screen(path, grey=True) for path in (chest, leg))
        assert screener.screen(chest).grey is None
    assert shown.grey == pytest.approx(grey(read(chest).pixels), abs=1.0)
    found = measured(shown, "UNIT1")
    assert found.bins["outcome"] == 0
    assert set(found.bins) == {one.name for one in measures(REFERENCE.classes)} | {
        "outcome",
        "latency",
    }
    assert found.bins["grey-mean"] == int(shown.grey[0] * 20 / 255)
    assert found.bins["probability-covid"] == int(shown.probabilities["covid"] * 20)
    assert found.milliseconds == shown.timings_ms["total"]
    assert set(measured(refused, "UNIT1").bins) == {"outcome", "latency"}
    assert OUTCOMES[measured(refused, "UNIT1").bins["outcome"]] == "not-frontal"


@pytest.mark.data
@pytest.mark.slow
def test_200_of_one_hospital_and_200_of_another_raise_it_and_400_of_one_do_not(data_root, store):
    def bins(pattern, images):
        paths = sorted((data_root / "sites").glob(pattern))
        order = np.random.default_rng(0).permutation(len(paths))[:images]
        return [
            measured(screener.screen(paths[place], grey=True), "").bins for place in sorted(order)
        ]

    with Screener() as screener:
        pakistan, shenzhen = bins("pakistan/*/*/*", 400), bins("shenzhen/*/*/*", 200)
    assert len(pakistan) == 400
    random = np.random.default_rng(1)
    random.shuffle(pakistan)
    put(store, pakistan, "ONE")
    put(store, pakistan[:200] + shenzhen, "TWO")
    assert states(store) == {"ONE": "steady", "TWO": "changed"}
