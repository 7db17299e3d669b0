"""`PduReader`: reads what a peer sends off the socket, images straight into a file.

pynetdicom reads a PDU in pieces of 4 kB, makes room for whatever length it declares, copies it
four times and pauses a millisecond between PDUs. On the listener's associations this class replaces
that one step. An image's fragments are written and hashed as they arrive; everything else is handed
to pynetdicom. The internals used here are those of pynetdicom 3.0.
"""

from __future__ import annotations

import hashlib
import os
import select
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.filewriter import write_file_meta_info
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu_primitives import P_DATA

from ..state import Digest, random_name

MAX_PDU = 131_072  # bytes: more than twice as fast as pynetdicom's 16 kB

# The state machine's names (PS3.8, 9.2): ready for data; connection closed; invalid PDU.
_DATA_TRANSFER = "Sta6"
_CLOSED, _INVALID = "Evt17", "Evt19"
_PDU_TYPES = range(0x01, 0x08)
_P_DATA = 0x04
_HEADER = struct.Struct(">BxL")  # type, length (PS3.8, 9.3)
_ITEM = struct.Struct(">LBB")  # length, presentation context, control header (PS3.8, 9.3.5, E.2)
_COMMAND, _LAST = 0x01, 0x02
#: The longest PDU accepted: a peer that ignores the length that we announced may send this much.
_LONGEST_PDU = 1 << 20
#: How long to wait here for an image's next PDU before pynetdicom attends to its other duties.
_WAIT_SECONDS = 0.02
#: The kernel starts writing to the disk after this many bytes, not when the image is complete.
_WRITE_OUT_BYTES = 4 << 20


class IncomingImage:
    """The file of one image being received. Looks like a temporary file to pynetdicom.

    Parameters
    ----------
    folder
        Where it is made, under a random name.
    header
        What precedes the dataset.
    """

    def __init__(self, folder: Path, header: bytes) -> None:
        self.path = folder / random_name()
        self.name = str(self.path)
        #: Why it can't be kept, such as a full disk; the rest is then thrown away as it comes.
        self.error: OSError | None = None
        self._hash, self._size, self._written_out = hashlib.sha256(), 0, 0
        self._descriptor = -1
        try:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            self.error = error
        self.write(header)

    @property
    def digest(self) -> Digest:
        """Of the file so far."""
        return Digest(self._hash.hexdigest(), self._size)

    def write(self, content: bytes | memoryview) -> None:
        """Append; an error is kept and not raised."""
        if self.error is not None:
            return
        self._hash.update(content)
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
            self._size += len(content)
            if self._size - self._written_out >= _WRITE_OUT_BYTES:
                self._write_out()
        except OSError as error:
            self.error = error

    def _write_out(self) -> None:
        # On Linux this begins to write, and keeps in memory what is not yet written.
        with suppress(AttributeError):  # no such call on macOS
            os.posix_fadvise(
                self._descriptor,
                self._written_out,
                self._size - self._written_out,
                os.POSIX_FADV_DONTNEED,
            )
        self._written_out = self._size

    @property
    def file(self) -> IncomingImage:
        """Itself, like the attribute of `tempfile.NamedTemporaryFile`."""
        return self

    def flush(self) -> None:
        """Do nothing: this process buffers no bytes."""

    def close(self) -> None:
        """Close the file; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def discard(self) -> None:
        """Delete it."""
        self.close()
        with suppress(OSError):
            self.path.unlink()


@dataclass(frozen=True)
class Limits:
    """What all associations of a listener share.

    Parameters
    ----------
    folder
        Where images are written to.
    max_bytes
        Of one message.
    too_large
        Called with the association, once, when a message is larger.
    """

    folder: Path
    max_bytes: int
    too_large: Callable[[Any], None]


class PduReader:
    """Reads PDUs on one association in place of pynetdicom.

    Parameters
    ----------
    association
        pynetdicom's, of this side as acceptor, before it is started.
    limits
        See there.
    """

    def __init__(self, association: Any, limits: Limits) -> None:
        self._association, self._limits = association, limits
        self._dul = association.dul
        self._dul._read_pdu_data = self.read
        self._buffer = bytearray(0)
        self._received = 0  # bytes of the message that is under way
        self._image: IncomingImage | None = None

    def read(self) -> None:
        """Read one PDU, and those of an image that follow without a pause."""
        while self._read_one() and self._image is not None and not self._has_other_duties():
            self._dul._idle_timer.restart()
            if not self._wait():
                break

    def close(self) -> None:
        """The connection has ended: delete what is incomplete."""
        image, self._image = self._image, None
        # What is complete and not yet looked at: its sender waits for no answer any more.
        waiting = [
            getattr(message, "_dataset_file", None)
            for _, message in self._association.dimse.msg_queue.queue
        ]
        for one in (image, *waiting):
            if one is not None:
                one.discard()

    def _has_other_duties(self) -> bool:
        return bool(self._dul._kill_thread or not self._dul.to_provider_queue.empty())

    def _wait(self) -> bool:
        """Whether there is something to read, or soon will be."""
        connection = self._dul.socket
        if connection.ready:  # knows what TLS holds back
            return True
        try:
            return bool(select.select([connection.socket], [], [], _WAIT_SECONDS)[0])
        except (OSError, TypeError, ValueError):  # closed meanwhile, by this side
            return False

    def _read_one(self) -> bool:
        """Read and process a PDU; returns whether it was a data PDU."""
        try:
            kind, body = self._pdu()
        except (OSError, EOFError):
            self._dul.event_queue.put(_CLOSED)
            return False
        except ValueError:
            self._dul.event_queue.put(_INVALID)
            return False
        if kind == _P_DATA and self._dul.state_machine.current_state == _DATA_TRANSFER:
            try:
                for item in _items(body):
                    self._take(*item)
            except (ValueError, struct.error):
                self._dul.event_queue.put(_INVALID)
                return False
            return True
        try:
            pdu, event = self._dul._decode_pdu(_HEADER.pack(kind, len(body)) + body)
        except Exception:  # pynetdicom raises every kind on damaged PDUs
            self._dul.event_queue.put(_INVALID)
        else:
            self._dul._recv_pdu.put(pdu)
            self._dul.event_queue.put(event)
        return False

    def _pdu(self) -> tuple[int, memoryview]:
        """Type and body; the body is valid until the next call.

        Raises
        ------
        EOFError, OSError
            The connection ends, or nothing more comes.
        ValueError
            Not a PDU, or one that is too long: no memory is allocated for it.
        """
        header = bytearray(_HEADER.size)
        self._fill(memoryview(header))
        kind, length = _HEADER.unpack(header)
        if kind not in _PDU_TYPES or length > _LONGEST_PDU:
            raise ValueError("no PDU")
        if len(self._buffer) < length:
            self._buffer = bytearray(max(length, MAX_PDU))
        body = memoryview(self._buffer)[:length]
        self._fill(body)
        return kind, body

    def _fill(self, view: memoryview) -> None:
        connection = self._dul.socket.socket
        while view:
            received = connection.recv_into(view) if connection is not None else 0
            if not received:
                raise EOFError
            view = view[received:]

    def _take(self, context: int, control: int, content: memoryview) -> None:
        """One fragment of a message (PS3.8, E.2)."""
        dimse = self._association.dimse
        if dimse.message is None:
            self._received = 0
        before, self._received = self._received, self._received + len(content)
        if self._received > self._limits.max_bytes:
            if before <= self._limits.max_bytes:
                self._limits.too_large(self._association)
            return
        if not control & _COMMAND and self._begin(context) is not None:
            assert self._image is not None
            self._image.write(content)
            if not control & _LAST:
                return
            # Complete; an empty last fragment tells pynetdicom so.
            content, self._image = memoryview(b""), None
        fragment: Any = P_DATA()
        fragment.presentation_data_value_list = [[context, bytes([control]) + content]]
        dimse.receive_primitive(fragment)

    def _begin(self, context: int) -> IncomingImage | None:
        """The image being received, if the message is one."""
        message: Any = self._association.dimse.message
        stores = isinstance(message, C_STORE_RQ)
        if self._image is None and stores:
            self._image = IncomingImage(self._limits.folder, self._header(message, context))
            message._data_set_file, message._data_set_path = self._image, self._image.path
        return self._image

    def _header(self, message: Any, context: int) -> bytes:
        """Preamble and file meta information (PS3.10, 7.1)."""
        accepted = self._association._accepted_cx.get(context)
        if accepted is None:
            raise ValueError("a presentation context that was not accepted")
        stream: Any = BytesIO()
        stream.write(b"\0" * 128 + b"DICM")
        try:
            meta = create_file_meta(
                sop_class_uid=message.command_set.AffectedSOPClassUID,
                sop_instance_uid=message.command_set.AffectedSOPInstanceUID,
                transfer_syntax=accepted.transfer_syntax[0],
            )
            write_file_meta_info(stream, meta)
        except Exception:  # pydicom raises every kind on a damaged command
            raise ValueError("a command without its UIDs") from None
        return bytes(stream.getvalue())


def _items(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Presentation context, control header and fragment of each item of a P-DATA-TF PDU.

    Raises
    ------
    ValueError, struct.error
        An item is longer than the PDU.
    """
    position = 0
    while position < len(body):
        length, context, control = _ITEM.unpack_from(body, position)
        end = position + 4 + length
        if length < 2 or end > len(body):
            raise ValueError("no presentation data value")
        yield context, control, body[position + _ITEM.size : end]
        position = end
