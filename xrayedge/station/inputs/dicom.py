"""`DicomListener`: receives images by C-STORE, C-ECHO, and answers to storage commitment.

A sender is told 0000 when the image and its row are on the disk, and not before.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
    Verification,
)
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from ...errors import StationError
from ..config import Destination, ListenConfig, TlsConfig, is_loopback
from ..state import StateFolder
from .reception import MAX_PDU, IncomingImage, Limits, PduReader

SOP_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
#: Those that `imaging` decodes.
TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
)

# Statuses of C-STORE (PS3.4, B.2.3) and of DIMSE (PS3.7, C).
STORED = 0x0000
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
NOT_AUTHORISED = 0x0124
# A-ASSOCIATE-RJ: permanent, by the user, calling AE title not recognised (PS3.8, 9.3.4).
_NOT_RECOGNISED = (0x01, 0x01, 0x03)

_ACSE_SECONDS = 10.0  # a connection that says nothing uses up an association for this long
_NETWORK_SECONDS = 60.0
_HANDSHAKE_SECONDS = 30.0


class DicomListener:
    """A server that runs in its own threads from `start` until `stop`.

    Parameters
    ----------
    config, tls
        Where it listens, and who may connect.
    destinations
        Peers whose answers to storage commitment are accepted.
    state
        Where images go.

    Raises
    ------
    StationError
        A name in ``allow`` is unknown, or the certificate can't be used.
    """

    def __init__(
        self,
        config: ListenConfig,
        tls: TlsConfig | None,
        destinations: tuple[Destination, ...],
        state: StateFolder,
        operating_point: str,
    ) -> None:
        self._config, self._state, self._operating_point = config, state, operating_point
        self._allowed = {(peer.ae, _addresses(peer.host)) for peer in config.allow}
        self._committers = {
            (one.ae, _addresses(one.host)) for one in destinations if one.commitment
        }
        self._open = not config.allow and is_loopback(config.host)
        self._tls = None if tls is None else server_context(tls)
        self._server: _Server | None = None
        _config.LOG_HANDLER_LEVEL = "none"  # its log quotes what came
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

    def start(self) -> None:
        """Listen.

        Raises
        ------
        StationError
            The address can't be used.
        """
        ae = AE(ae_title=self._config.ae)
        ae.require_called_aet = True
        ae.maximum_associations = self._config.max_associations
        ae.maximum_pdu_size = MAX_PDU
        ae.acse_timeout, ae.dimse_timeout = _ACSE_SECONDS, _NETWORK_SECONDS
        ae.network_timeout = _NETWORK_SECONDS
        ae.add_supported_context(Verification)
        for sop_class in SOP_CLASSES:
            ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        # The peer is the provider when it answers on a new association.
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda _event: STORED),
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_N_EVENT_REPORT, self._committed),
        ]
        try:
            server: Any = ae.make_server(
                (self._config.host, self._config.port),
                evt_handlers=handlers,
                ssl_context=self._tls,
                server_class=_Server,
                request_handler=_Handler,
            )
        except OSError as error:
            raise StationError(
                f"[listen] {self._config.host}:{self._config.port} can't be used "
                f"({error.strerror or error})"
            ) from None
        server.limits = Limits(self._state.tmp, self._config.max_bytes, self._too_large)
        if not self._open:
            server.addresses = _union(at for _, at in self._allowed | self._committers)
        self._server = server
        threading.Thread(target=server.serve_forever, name="dicom-listener", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Accept no new associations, and end those that are open."""
        if self._server is not None:
            open_associations = self._server.active_associations
            self._server.shutdown()
            for association in open_associations:
                association.abort()
            self._server = None

    def _is(self, among: set[tuple[str, frozenset[str] | None]], association: Any) -> bool:
        ae = association.requestor.primitive.calling_ae_title.strip()
        address = _plain(association.requestor.address_info.address)
        return any(ae == one and (at is None or address in at) for one, at in among)

    def _requested(self, event: Any) -> None:
        association = event.assoc
        allowed = self._open or self._is(self._allowed | self._committers, association)
        if not allowed:
            association.acse.send_reject(*_NOT_RECOGNISED)
            association.kill()
            self._state.store.events.warn(
                "an association of an unknown AE title or address was rejected"
            )

    def _too_large(self, association: Any) -> None:
        self._state.store.events.warn(
            f"an image of more than {self._config.max_bytes} bytes was broken off; "
            "raise max_bytes in [listen] to take it"
        )
        # Not from the association's own thread, which would wait for itself.
        threading.Thread(target=association.abort, daemon=True).start()

    def _stored(self, event: Any) -> int:
        if not self._open and not self._is(self._allowed, event.assoc):
            return NOT_AUTHORISED
        image: IncomingImage = event.request._dataset_file
        if image.error is not None or not self._state.has_room():
            self._state.store.events.warn(
                "the disk is full: an image was refused, and its sender told so"
            )
            return OUT_OF_RESOURCES
        try:
            sop_class, sop_instance = _identity(image.path)
        except Exception:  # pydicom raises every kind on damaged files
            return CANNOT_UNDERSTAND
        if (sop_class, sop_class, sop_instance) != (
            event.context.abstract_syntax,
            event.request.AffectedSOPClassUID,
            event.request.AffectedSOPInstanceUID,
        ):
            return MISMATCH
        try:
            self._state.take_in(
                image.path,
                origin="dicom",
                sender=event.assoc.requestor.primitive.calling_ae_title.strip(),
                sop_instance_uid=sop_instance,
                operating_point=self._state.operating_point(self._operating_point),
                digest=image.digest,
            )
        except (OSError, StationError):
            return OUT_OF_RESOURCES
        return STORED

    def _committed(self, event: Any) -> tuple[int, None]:
        if self._open or self._is(self._committers, event.assoc):
            take_commitment(self._state, event.event_information)
            return STORED, None
        return NOT_AUTHORISED, None


def take_commitment(state: StateFolder, report: Any) -> None:
    """Record what a peer says that it keeps (PS3.4, J.3.3)."""
    kept, lost = (
        [str(item.ReferencedSOPInstanceUID) for item in report.get(name) or ()]
        for name in ("ReferencedSOPSequence", "FailedSOPSequence")
    )
    state.store.sends.commit(str(report.TransactionUID), kept, lost)


class _Server(ThreadedAssociationServer):
    """Drops connections from unknown addresses, and never waits for one client's handshake."""

    addresses: frozenset[str] | None = None
    limits: Limits
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = super().get_request()
        if self.addresses is not None and _plain(address[0]) not in self.addresses:
            client.close()
            raise OSError("not in the allow-list")
        client.settimeout(_HANDSHAKE_SECONDS)
        return client, address

    def shutdown(self) -> None:
        """End, without pynetdicom's list of servers, which lacks those of `AE.make_server`."""
        TCPServer.shutdown(self)
        self.server_close()


class _Handler(RequestHandler):
    """Makes associations that read by a `PduReader`."""

    def _create_association(self) -> Any:
        association: Any = super()._create_association()
        server: Any = self.server
        reader = PduReader(association, server.limits)
        association.bind(evt.EVT_CONN_CLOSE, lambda _event: reader.close())
        return association


class _PatientContext(ssl.SSLContext):
    """Does the handshake at the first read, in the thread of the association.

    pynetdicom wraps a socket in its accept loop, where a client that says nothing would keep
    everyone else waiting.
    """

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **{**options, "do_handshake_on_connect": False})


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """Mutual TLS 1.2 or newer, for the side that listens.

    Raises
    ------
    StationError
        A file is no certificate or no key, or they don't belong together.
    """
    context = _PatientContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return load_certificates(context, tls)


def load_certificates(context: ssl.SSLContext, tls: TlsConfig) -> ssl.SSLContext:
    """Load the files of ``[tls]`` into a context. Same errors as `server_context`."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
        context.load_verify_locations(tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise StationError(f"[tls] the certificates can't be used ({error})") from None
    return context


def _identity(path: Path) -> tuple[str, str]:
    header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(header.SOPClassUID), str(header.SOPInstanceUID)


def _addresses(host: str | None) -> frozenset[str] | None:
    """All addresses of a name; `None` for any.

    Raises
    ------
    StationError
        The name is unknown.
    """
    if not host:
        return None
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError as error:
        raise StationError(f"host {host!r} can't be found ({error.strerror or error})") from None
    return frozenset(_plain(str(one[4][0])) for one in found)


def _union(hosts: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """All addresses of some hosts; `None` if one of them may be any."""
    addresses: set[str] = set()
    for one in hosts:
        if one is None:
            return None
        addresses |= one
    return frozenset(addresses)


def _plain(address: str) -> str:
    """An address, with IPv4 addresses unwrapped from their IPv6 form."""
    return address.removeprefix("::ffff:")
