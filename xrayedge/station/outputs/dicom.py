"""`DicomCarrier`: C-STORE, storage commitment and C-ECHO to one peer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from ...errors import StationError
from ..config import Destination, TlsConfig
from ..inputs.dicom import STORED, load_certificates, take_commitment
from ..inputs.reception import MAX_PDU
from ..records import Send
from ..state import StateFolder
from .delivery import Answer, PeerAway, judge

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_ASK_TO_COMMIT = 1  # action type (PS3.4, J.3.2)


class DicomCarrier:
    """Sends to one DICOM peer.

    Parameters
    ----------
    destination
        The peer.
    own_ae
        AE title that it knows us by.
    tls
        Certificates, where the destination wants TLS.
    state
        Where answers to storage commitment on the same association go.

    Raises
    ------
    StationError
        The certificates can't be used.
    """

    def __init__(
        self, destination: Destination, own_ae: str, tls: TlsConfig | None, state: StateFolder
    ) -> None:
        self._destination, self._own_ae, self._state = destination, own_ae, state
        self._tls: tuple[ssl.SSLContext, str] | None = None
        if destination.tls:
            if tls is None:
                raise StationError(f"destination {destination.name!r} wants TLS; add [tls]")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls = (load_certificates(context, tls), destination.host)
        # The bytes of the file, as they were made once; nothing is decoded.
        _config.STORE_SEND_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"

    def send(self, sends: Sequence[Send], outbox: Path) -> Iterator[tuple[Send, Answer]]:
        """See `delivery.Carrier`."""
        contexts = sorted({(one.sop_class_uid, one.transfer_syntax_uid) for one in sends})
        # Every peer takes this one (PS3.5, 10.1 names it beside the default); not all take JPEG.
        plain = str(ExplicitVRLittleEndian)
        contexts += sorted({(uid, plain) for uid, _ in contexts} - set(contexts))
        with self._association([(uid, [syntax]) for uid, syntax in contexts]) as association:
            accepted = {
                (str(one.abstract_syntax), str(one.transfer_syntax[0]))
                for one in association.accepted_contexts
            }
            for one in sends:
                path = outbox / one.file
                if not path.exists():
                    yield one, Answer("refused", "its file is missing")
                elif (one.sop_class_uid, one.transfer_syntax_uid) in accepted:
                    yield one, self._store(association, path)
                elif (one.sop_class_uid, plain) in accepted:
                    decoded = dcmread(path)
                    decoded.decompress(generate_instance_uid=False)
                    yield one, self._store(association, decoded)
                else:
                    yield one, Answer("refused", f"the peer takes no such {one.kind} object")

    def _store(self, association: Any, made: Path | Dataset) -> Answer:
        try:
            status = association.send_c_store(made)
        except (RuntimeError, ValueError, OSError) as error:
            raise PeerAway(f"the association broke off ({type(error).__name__})") from None
        if "Status" not in status:
            raise PeerAway("the peer did not answer")
        return judge(int(status.Status))

    def ask_commitment(self, transaction_uid: str, sends: Sequence[Send]) -> None:
        """See `delivery.Carrier`."""
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = []
        for one in sends:
            item = Dataset()
            item.ReferencedSOPClassUID = one.sop_class_uid
            item.ReferencedSOPInstanceUID = one.sop_instance_uid
            request.ReferencedSOPSequence.append(item)
        with self._association([(StorageCommitmentPushModel, None)]) as association:
            if not association.accepted_contexts:
                raise PeerAway("the peer knows no storage commitment")
            status, _ = association.send_n_action(
                request,
                _ASK_TO_COMMIT,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
            if "Status" not in status or int(status.Status) != STORED:
                raise PeerAway("the peer refused to be asked for storage commitment")

    def echo(self) -> str:
        """See `delivery.Carrier`."""
        with self._association([(Verification, None)]) as association:
            status = association.send_c_echo()
            if "Status" not in status or int(status.Status) != STORED:
                raise PeerAway("the peer did not answer C-ECHO")
        return "answers C-ECHO"

    @contextmanager
    def _association(self, contexts: Sequence[tuple[str, list[str] | None]]) -> Iterator[Any]:
        ae = AE(ae_title=self._own_ae)
        ae.connection_timeout = ae.acse_timeout = _CONNECT_SECONDS
        ae.dimse_timeout = ae.network_timeout = _ANSWER_SECONDS
        for abstract, syntaxes in contexts:
            if syntaxes is None:
                ae.add_requested_context(abstract)
            else:
                ae.add_requested_context(abstract, syntaxes)
        one = self._destination
        try:
            association = ae.associate(
                one.host,
                one.port,
                ae_title=one.ae,
                max_pdu=MAX_PDU,
                tls_args=self._tls,
                evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._committed)],
            )
        except (OSError, RuntimeError) as error:
            raise PeerAway(f"can't be reached ({type(error).__name__})") from None
        if not association.is_established:
            if association.is_rejected:
                raise PeerAway("rejected the association; does it know our AE title and address?")
            if association.acceptor.primitive is not None:
                raise PeerAway("took none of our objects, or broke off")
            raise PeerAway("can't be reached")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _committed(self, event: Any) -> tuple[int, None]:
        take_commitment(self._state, event.event_information)
        return STORED, None
