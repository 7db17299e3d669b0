"""What each answer of a peer means for the queue."""

import httpx
import pytest

pytest.importorskip("pydicom")

from xrayedge.station.config import Destination
from xrayedge.station.outputs import delivery
from xrayedge.station.outputs.delivery import Answer, Delivery, PeerAway, judge
from xrayedge.station.outputs.stow import StowCarrier
from xrayedge.station.records import NewJob, NewObject, Outcome
from xrayedge.station.store import Store
from xrayedge.station.store.sends import MAX_REFUSALS

PACS = Destination("pacs", "127.0.0.1", 1, "PACS")


class Peer:
    """A carrier whose peer answers as told."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def send(self, sends, _outbox):
        for one in sends:
            answer = self.answers.pop(0)
            if isinstance(answer, PeerAway):
                raise answer
            yield one, answer

    def ask_commitment(self, uid, sends):
        self.asked.append((uid, [one.id for one in sends]))

    def echo(self):
        return "there"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "station.db")
    for number in (1, 2):
        new = NewJob(f"{number}.dcm", "dicom", "UNIT1", f"1.{number}", "0" * 64, 1)
        job = store.jobs.receive(new, "balanced").job
        store.jobs.take()
        made = NewObject("sr", f"sr{number}.dcm", "1.1", f"2.{number}", "1.2", {"pacs": False})
        store.jobs.finish(job, Outcome("done", {}, objects=[made]))
    yield store
    store.close()


def deliveries(store, tmp_path, *answers, destination=PACS):
    peer = Peer(*answers)
    return Delivery(destination, store, tmp_path, peer, lambda: "2.25.1"), peer


def states(store):
    return [send.state for send in store.sends.search()]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, "stored"),
        (0xB000, "stored"),
        (0xB006, "stored"),
        (0xA700, "busy"),
        (0xA7FF, "busy"),
        (0xA900, "refused"),
        (0xC000, "refused"),
        (0x0122, "refused"),
        (0x0124, "refused"),
        (0xFE00, "refused"),
    ],
)
def test_every_status_is_judged(status, kind):
    assert judge(status).kind == kind


def test_a_peer_that_refuses_is_asked_five_times_and_never_counts_as_having_it(store, tmp_path):
    refusal = Answer("refused", "refused, status C000")
    for number in range(MAX_REFUSALS):
        # Anew each time, as after a restart: else it would wait.
        one, _ = deliveries(store, tmp_path, refusal, refusal)
        one.deliver()
        assert states(store) == ["failed" if number == MAX_REFUSALS - 1 else "queued"] * 2
    assert store.sends.search()[0].detail == "refused, status C000"


def test_one_that_is_refused_does_not_hold_back_the_next(store, tmp_path):
    one, peer = deliveries(store, tmp_path, Answer("refused", "no"), Answer("stored"))
    assert one.deliver()
    assert states(store) == ["queued", "sent"]
    assert not one.deliver()  # it waits for its time
    assert peer.answers == []


@pytest.mark.parametrize("answer", [PeerAway("can't be reached"), Answer("busy", "no room")])
def test_a_peer_that_is_away_or_full_is_tried_without_end(store, tmp_path, answer, monkeypatch):
    waits = []
    monkeypatch.setattr(delivery, "_wait", lambda before: waits.append(before) or 0.0)
    one, _ = deliveries(store, tmp_path, *[answer] * 20, Answer("stored"), Answer("stored"))
    for _ in range(20):
        assert not one.deliver()
        assert states(store) == ["queued", "queued"]
    assert waits == list(range(20))
    assert store.sends.search()[0].detail in ("can't be reached", "no room")
    assert one.deliver()
    assert states(store) == ["sent", "sent"]


def test_the_wait_doubles_up_to_a_quarter_of_an_hour():
    assert [delivery._wait(number) for number in (0, 1, 2, 6, 7, 10_000)] == [
        *(10.0, 20.0, 40.0),
        *(640.0, 900.0, 900.0),
    ]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, "{}", "stored"),
        (202, "{}", "stored"),
        (200, '{"00081198": {"vr": "SQ", "Value": [{}]}}', "refused"),
        (302, "", "refused"),
        (401, "", "refused"),
        (409, "", "refused"),
        (429, "", "busy"),
        (503, "", "busy"),
    ],
)
def test_every_answer_to_stow_is_judged(store, tmp_path, monkeypatch, status, body, kind):
    (tmp_path / "sr1.dcm").write_bytes(b"report")
    seen = []

    def answer(request):
        seen.append(request)
        return httpx.Response(status, text=body)

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(httpx, "Client", lambda **_options: client)
    carrier = StowCarrier(Destination("web", stow_url="http://127.0.0.1/studies"))
    ((_, judged),) = list(carrier.send(store.sends.search(job=1), tmp_path))
    assert judged.kind == kind
    assert b"Content-Type: application/dicom\r\n\r\nreport\r\n--" in seen[0].content
