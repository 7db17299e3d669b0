"""The DICOM listener on loopback: what it acknowledges, whom it turns away, who can block it."""

import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pydicom")
pytest.importorskip("pynetdicom")

from pynetdicom.dimse_primitives import C_STORE
from units import LISTEN, association, image, listening, store, wait_until

from xrayedge.errors import StationError
from xrayedge.station.config import Destination, Peer, TlsConfig
from xrayedge.station.inputs.dicom import DicomListener


def test_what_is_acknowledged_is_on_the_disk_once(state):
    first, second = image(), image()
    with listening(state) as port:
        assert store(port, first, second, first) == [0, 0, 0]
        changed = replace_comment(first)
        assert store(port, changed) == [0]
    jobs = state.store.jobs.search()
    assert [job.altered for job in jobs] == [True, False, False]
    assert len(list(state.incoming.iterdir())) == 3
    assert list(state.tmp.iterdir()) == []
    assert {job.sender for job in jobs} == {"UNIT1"}


def replace_comment(dataset):
    dataset.PatientComments = "other bytes"
    return dataset


def test_a_data_set_of_another_instance_than_announced_is_a900(state):
    dataset = image()
    with listening(state) as port, association(port) as made:
        original = C_STORE.AffectedSOPInstanceUID
        try:
            C_STORE.AffectedSOPInstanceUID = property(
                original.fget, lambda self, _value: original.fset(self, "1.2.3.9")
            )
            status = made.send_c_store(dataset)
        finally:
            C_STORE.AffectedSOPInstanceUID = original
        assert status.Status == 0xA900
    assert state.store.jobs.search() == []
    assert list(state.tmp.iterdir()) == []


def test_a_full_disk_is_a700_and_the_next_is_taken(state, monkeypatch):
    with listening(state) as port:
        monkeypatch.setattr(state, "has_room", lambda: False)
        assert store(port, image()) == [0xA700]
        monkeypatch.setattr(state, "has_room", lambda: True)

        def full(*_arguments, **_options):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(state, "take_in", full)
            assert store(port, image()) == [0xA700]
        assert store(port, image()) == [0]
    assert len(state.store.jobs.search()) == 1


def test_only_those_who_are_allowed_come_in(state):
    pacs = Destination("pacs", "127.0.0.1", 1, "PACS", commitment=True)
    config = replace(LISTEN, allow=(Peer("UNIT1", "127.0.0.1"), Peer("UNIT2", "127.0.0.2")))
    with listening(state, config, destinations=(pacs,)) as port:
        assert store(port, image(), ae="STRANGER") == []
        assert store(port, image(), ae="UNIT2") == []  # from another address than its own
        assert store(port, image(), called="OTHER") == []
        assert store(port, image(), ae="PACS") == [0x0124]  # it may answer, and not store
        assert store(port, image()) == [0]
    config = replace(LISTEN, allow=(Peer("UNIT1", "127.0.0.2"),))
    with listening(state, config) as port:
        assert store(port, image()) == []


def test_silent_connections_block_nobody(state):
    with listening(state) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        try:
            assert store(port, image()) == [0]
        finally:
            for one in silent:
                one.close()


def test_no_more_associations_than_allowed(state):
    with (
        listening(state, replace(LISTEN, max_associations=1)) as port,
        association(port) as first,
    ):
        assert first.is_established
        assert store(port, image()) == []
        assert first.send_c_store(image()).Status == 0


@pytest.mark.slow
def test_a_thousand_associations_leave_nothing_behind(state):
    with listening(state) as port:
        assert store(port, image()) == [0]
        wait_until(lambda: not acceptors())
        threads, files = threading.active_count(), open_files()
        for _ in range(1000):
            with association(port) as made:
                assert made.is_established
        assert store(port, image()) == [0]
        wait_until(lambda: not acceptors())
        assert threading.active_count() <= threads
        assert open_files() <= files
    assert len(state.store.jobs.search()) == 2


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def acceptors():
    return [one for one in threading.enumerate() if one.name.startswith("AcceptorThread")]


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make certificates")
    folder = tmp_path_factory.mktemp("tls")
    for name in ("own", "other"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *("-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
        )
    return folder


def client(folder, name="own"):
    context = ssl.create_default_context(cafile=folder / "own.pem")
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def test_tls_is_mutual_and_a_silent_client_blocks_nobody(state, tls):
    files = TlsConfig(tls / "own.pem", tls / "own.key", tls / "own.pem")
    with listening(state, tls=files) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        try:
            assert store(port, image(), tls=client(tls)) == [0]
            assert store(port, image(), tls=client(tls, "other")) == []
            without = ssl.create_default_context(cafile=tls / "own.pem")
            assert store(port, image(), tls=without) == []
            assert store(port, image()) == []  # plain
        finally:
            for one in silent:
                one.close()
    assert len(state.store.jobs.search()) == 1


def test_what_can_t_be_used_is_said_at_the_start(state, tls):
    wrong = TlsConfig(tls / "own.pem", tls / "other.key", tls / "own.pem")
    with pytest.raises(StationError, match=r"\[tls\] the certificates can't be used"):
        DicomListener(LISTEN, wrong, (), state, "balanced")
    unknown = replace(LISTEN, allow=(Peer("UNIT1", "no-such-host.invalid"),))
    with pytest.raises(StationError, match=r"no-such-host\.invalid' can't be found"):
        DicomListener(unknown, None, (), state, "balanced")
    with (
        listening(state) as port,
        pytest.raises(StationError, match=r"\[listen\] 127\.0\.0\.1:\d+ can't be used"),
        listening(state, replace(LISTEN, port=port)),
    ):
        pass
