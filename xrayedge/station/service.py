"""`Station`: every part of a station in one process, from start to SIGTERM."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BundleError, StationError, StorageFullError
from . import memory, monitor
from .config import Destination, StationConfig
from .inputs.folder import WatchedFolder
from .outputs.delivery import Carrier, Delivery, PeerAway
from .state import StateFolder
from .worker import Worker

if TYPE_CHECKING:
    from .console.server import Console

#: AE title that peers know us by where nothing is listened on.
_DEFAULT_AE = "XRAYEDGE"
_LOOK_SECONDS = 0.5
_KEEP_HOUSE_SECONDS = 60.0
# A day counts as a day in service once the process has run this long. A process that restarts over
# and over, with a clock that is set at each start, counts none.
_DAY_COUNTS_AFTER = 3600.0
_EXIT_SECONDS = 60.0


class Station:
    """A station, running from `start` until `stop`.

    Parameters
    ----------
    config
        What it does.
    state
        Its folder, open.

    Raises
    ------
    XrayEdgeError
        The model, an address or a certificate can't be used.
    """

    def __init__(self, config: StationConfig, state: StateFolder) -> None:
        self._config, self._state = config, state
        _keep_quiet()
        memory.share_one_heap()
        state.use_as_temporary_folder()
        self._deliveries = [
            Delivery(one, state.store, state.outbox, carrier(one, config, state), _new_uid)
            for one in config.destinations
        ]
        worker = Worker(config, state, wake_senders=self._wake_deliveries)
        point = config.screen.operating_point
        self._parts: list[Worker | Delivery | WatchedFolder | Console] = [worker, *self._deliveries]
        if config.folder is not None:
            self._parts.append(WatchedFolder(config.folder, state, point))
        self._listener = None
        if config.listen is not None:
            from .inputs.dicom import DicomListener

            self._listener = DicomListener(
                config.listen, config.tls, config.destinations, state, point
            )
        self._console = None
        if config.console.enabled:
            from .console.server import Console

            self._console = Console(config, state, worker)
            # First, because an address that can't be listened on must fail the start.
            self._parts.insert(0, self._console)
        self._stop = threading.Event()

    @property
    def dicom_port(self) -> int | None:
        """The port of the DICOM listener, if there is one."""
        return None if self._listener is None else self._listener.port

    @property
    def url(self) -> str | None:
        """Where the console is, if there is one."""
        return None if self._console is None else self._console.url

    def start(self) -> None:
        """Start every part.

        Raises
        ------
        StationError
            An address can't be listened on.
        """
        if self._listener is not None:
            self._listener.start()
        for part in self._parts:
            part.start()

    def request_stop(self) -> None:
        """Make `run` return; may be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Do the periodic work until `request_stop`, then stop.

        Raises
        ------
        StationError
            A part ended with an unexpected error; the process must end with it.
        """
        started = time.monotonic()
        next_look = 0.0
        try:
            while not self._stop.wait(_LOOK_SECONDS):
                self._look_for_failures()
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + _KEEP_HOUSE_SECONDS
                    with suppress(StorageFullError):  # later
                        self._keep_house(time.monotonic() - started)
        finally:
            self.stop()

    def stop(self) -> None:
        """Accept nothing new, finish the image and the objects in progress, and end."""
        if self._listener is not None:
            self._listener.stop()
        for part in self._parts:
            part.stop()
        deadline = time.monotonic() + _EXIT_SECONDS
        for part in self._parts:
            if part.is_alive():
                part.join(max(0.0, deadline - time.monotonic()))

    def _wake_deliveries(self) -> None:
        for one in self._deliveries:
            one.wake()

    def _look_for_failures(self) -> None:
        for part in self._parts:
            if part.failure is not None:
                raise StationError(
                    f"{part.name} ended by {type(part.failure).__name__}"
                ) from part.failure

    def _keep_house(self, seconds_up: float) -> None:
        if seconds_up >= _DAY_COUNTS_AFTER:
            self._state.store.retention.count_day(date.today())
        if self._config.keep.days is not None:
            self._state.forget_old(self._config.keep.days)
            counted = max(self._config.keep.days, monitor.DAYS_SHOWN)
            self._state.store.measures.forget(counted, date.today())
        self._state.store.events.write_held()
        self._state.store.events.forget(self._config.keep.events)
        # While a model is being replaced there is nothing to compare with.
        with suppress(BundleError):
            reference = monitor.reference_of(self._config.screen)
            monitor.note_changes(self._state.store, reference, date.today())


def carrier(destination: Destination, config: StationConfig, state: StateFolder) -> Carrier:
    """The carrier for a destination.

    Raises
    ------
    StationError
        The certificates can't be used.
    """
    if destination.stow_url is not None:
        from .outputs.stow import StowCarrier

        return StowCarrier(destination)
    from .outputs.dicom import DicomCarrier

    own_ae = config.listen.ae if config.listen else _DEFAULT_AE
    return DicomCarrier(destination, own_ae, config.tls, state)


def check_destinations(config: StationConfig, state: StateFolder) -> dict[str, tuple[bool, str]]:
    """Echo every destination: whether it answers, and a line with its answer."""
    found = {}
    for one in config.destinations:
        try:
            found[one.name] = (True, carrier(one, config, state).echo())
        except PeerAway as error:
            found[one.name] = (False, str(error))
    return found


def open_state(path: Path, config: StationConfig, stack: ExitStack) -> StateFolder:
    """Open the state folder for a station's process, whose files only its user can read."""
    os.umask(0o077)
    return stack.enter_context(StateFolder(path, free_mb=config.keep.free_mb))


def _new_uid() -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def _keep_quiet() -> None:
    """Silence the libraries: their logs and warnings quote files and requests."""
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    for name in ("asyncio", "pydicom", "pynetdicom", "highdicom", "uvicorn"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
