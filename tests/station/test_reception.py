"""What comes over the wire, byte by byte: odd cuts, lengths that lie, images broken off."""

import hashlib
import io
import socket
import struct
from dataclasses import replace

import pytest

pytest.importorskip("pydicom")
pytest.importorskip("pynetdicom")

from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA
from units import LISTEN, association, image, listening, store, wait_until

ABORT = 0x07


def fragments(dataset, cut=None):
    """The presentation data values of a C-STORE: the command, then the dataset cut in pieces."""
    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID = dataset.SOPClassUID
    request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
    encoded = encode(dataset, False, True)
    request.DataSet = io.BytesIO(encoded)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    command = next(message.encode_msg(1, 0)).presentation_data_value_list[0][1]
    cut = cut or len(encoded)
    pieces = [encoded[start : start + cut] for start in range(0, len(encoded), cut)]
    last = len(pieces) - 1
    return [command] + [bytes([2 * (number == last)]) + one for number, one in enumerate(pieces)]


def send(made, values):
    """One PDU of these presentation data values, of the association's only context."""
    (context,) = made.accepted_contexts
    primitive = P_DATA()
    primitive.presentation_data_value_list = [[context.context_id, one] for one in values]
    made.dul.send_pdu(primitive)


def stored(made, *pdus):
    """The status of an image that is sent in these PDUs."""
    made._reactor_checkpoint.clear()  # or the association's own thread takes the answer
    wait_until(lambda: made._is_paused)
    for values in pdus:
        send(made, values)
    _, message = made.dimse.get_msg(block=True)
    made._reactor_checkpoint.set()
    return message.Status


@pytest.mark.parametrize("cut", [100, 7])
def test_a_message_may_be_cut_anywhere_and_share_its_pdus(state, cut):
    dataset = image()
    with listening(state) as port, association(port) as made:
        values = fragments(dataset, cut)
        assert stored(made, values) == 0  # command and dataset in one PDU
        first, second, *others = values
        assert stored(made, [first], [second, *others]) == 0
        assert stored(made, [first, second], *([one] for one in others)) == 0
    (job,) = state.store.jobs.search()
    file = state.incoming / job.file
    content = file.read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (job.sha256, job.size)
    assert file.stat().st_mode & 0o777 == 0o600
    pydicom = pytest.importorskip("pydicom")
    kept = pydicom.dcmread(file)
    assert kept.PixelData == dataset.PixelData
    assert kept.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


def test_an_image_of_another_class_than_its_context_is_a900(state):
    other = image(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")  # CT
    with listening(state) as port, association(port) as made:
        assert stored(made, fragments(other)) == 0xA900
    assert state.store.jobs.search() == list(state.tmp.iterdir()) == []


def test_no_room_is_made_for_a_length_that_lies(state):
    with listening(state) as port:
        for kind in (0x01, 0x04, 0x09):
            with socket.create_connection(("127.0.0.1", port)) as liar:
                liar.settimeout(60)
                liar.sendall(struct.pack(">BBL", kind, 0, 0xFFFF_FFF0))
                # Answered before a byte of the body has come.
                said = liar.recv(10)
                assert said == b"" or said[0] == ABORT
        assert store(port, image()) == [0]


def test_an_item_longer_than_its_pdu_ends_the_association(state):
    with listening(state) as port, association(port) as made:
        body = struct.pack(">LBB", 1000, 1, 3) + b"short"
        made.dul.socket.send(struct.pack(">BBL", 0x04, 0, len(body)) + body)
        wait_until(lambda: made.is_aborted)
        assert store(port, image()) == [0]


def test_an_image_that_is_broken_off_leaves_nothing(state):
    with listening(state) as port:
        with association(port) as made:
            send(made, fragments(image(), 200)[:2])
            wait_until(lambda: list(state.tmp.iterdir()))
            made.abort()
        wait_until(lambda: not list(state.tmp.iterdir()))
        assert store(port, image()) == [0]
    assert len(state.store.jobs.search()) == 1


def test_a_message_over_the_limit_is_broken_off_whatever_it_is(state):
    with listening(state, replace(LISTEN, max_bytes=4096)) as port:
        large = image(PixelData=bytes(8192), Rows=64, Columns=128)
        with association(port) as made:
            send(made, fragments(large, 1000))
            wait_until(lambda: made.is_aborted)
        wait_until(lambda: not list(state.tmp.iterdir()))
        with association(port) as made:  # many small ones are none that is large
            assert [made.send_c_store(image()).Status for _ in range(12)] == [0] * 12
    assert "raise max_bytes" in state.store.events.read()[0].detail
