"""`Console`: the page's server, in a thread of the station's process.

It listens on this machine alone unless a certificate and users are set. What a stranger can occupy
is bounded: connections, seconds to send a request, seconds to fetch an answer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from contextlib import suppress
from weakref import WeakSet

import anyio.to_thread
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...errors import StationError
from ..config import ConsoleConfig, StationConfig, is_loopback
from ..state import DATABASE, StateFolder
from ..store import Store
from ..worker import Worker
from .api import Api, Parts
from .app import create_app
from .auth import Auth, Users

#: Simultaneous connections: in total, and from one address that is not this machine's.
MOST_CONNECTIONS, MOST_OF_ONE = 256, 64
#: Seconds until a request's headers have come, and a connection stays open between two.
HEADERS_SECONDS, KEEP_ALIVE_SECONDS = 10.0, 15
_STUCK_MS = 30_000  # without an acknowledgement of what was sent
_GRACE_SECONDS = 3  # for answers that are on their way when the station stops
_LONGEST_HEADERS = 32_768
_THREADS = 6
_BACKLOG = 64
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Console(threading.Thread):
    """Serves the page and its interface until `stop` is called.

    Parameters
    ----------
    config
        The station's; its console may be enabled.
    state
        Where images go and the database is.
    worker
        What screens.

    Raises
    ------
    StationError
        It would be open to the network without a certificate and users, or these can't be used.
    """

    def __init__(self, config: StationConfig, state: StateFolder, worker: Worker) -> None:
        super().__init__(name="console", daemon=True)
        console = config.console
        _check_secured(console)
        self._console = console
        users = None if console.password is None else Users(console.password)
        self._context = _tls(console)
        self._store = Store(state.path / DATABASE)
        self._api = Api(Parts(config, state, self._store, worker, Auth(users)))
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._halt = threading.Event()
        #: The error that ended the thread, if it was not `stop`.
        self.failure: BaseException | None = None

    @property
    def url(self) -> str:
        """Where the page is, once it is started."""
        assert self._socket is not None
        scheme = "http" if self._context is None else "https"
        host = self._console.host
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}:{self._port}/"

    def start(self) -> None:
        """Listen, and serve.

        Raises
        ------
        StationError
            The address can't be listened on.
        """
        self._socket = _listen(self._console)
        self._port = self._socket.getsockname()[1]
        super().start()

    def run(self) -> None:
        """Serve until stopped."""
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.failure = error
        finally:
            self._store.close()

    def stop(self) -> None:
        """Accept no more requests, end every stream, and stop."""
        self._halt.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._shut)

    def _shut(self) -> None:
        self._api.events.stop()
        if self._server is not None:
            self._server.should_exit = True

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        config = uvicorn.Config(
            create_app(self._api, _hosts(self._console), self._store.events.warn),
            http=_Http,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            h11_max_incomplete_event_size=_LONGEST_HEADERS,
        )
        config.load()
        config.ssl = self._context
        self._server = uvicorn.Server(config)
        self._server.should_exit = self._halt.is_set()
        assert self._socket is not None
        await self._server.serve(sockets=[self._socket])


class _Http(H11Protocol):
    """uvicorn's protocol with a time limit for a request's headers; its own has none."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._forget()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(HEADERS_SECONDS, self._give_up)

    def _forget(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        self._overdue = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class _Listener(socket.socket):
    """A listening socket that drops a connection at once if too many are open.

    Before any byte of TLS, and so that the rest of the process never lacks file descriptors.
    """

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._open: WeakSet[socket.socket] = WeakSet()

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().accept()
        peers = Counter(_peer(one) for one in self._open)
        crowd = 0 if is_loopback(address[0]) else peers[address[0]]
        if peers.total() - peers[""] >= MOST_CONNECTIONS or crowd >= MOST_OF_ONE:
            connection.close()
            raise ConnectionAbortedError
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STUCK_MS)
        self._open.add(connection)
        return connection, address


def _peer(connection: socket.socket) -> str:
    """The other side's address; empty of a connection that has ended."""
    try:
        return str(connection.getpeername()[0])
    except OSError:
        return ""


def check_console(console: ConsoleConfig) -> None:
    """Check certificate and users without listening; raises `StationError`."""
    if console.enabled:
        _check_secured(console)
        _tls(console)
        if console.password is not None:
            Users(console.password)


def _check_secured(console: ConsoleConfig) -> None:
    if not is_loopback(console.host) and not _is_secured(console):
        raise StationError(
            f"[console] host {console.host!r} is open to the network; "
            "set cert, key and password, or use 127.0.0.1"
        )


def _is_secured(console: ConsoleConfig) -> bool:
    return None not in (console.cert, console.key, console.password)


def _tls(console: ConsoleConfig) -> ssl.SSLContext | None:
    if console.cert is None or console.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key would ask for its password on a terminal that nobody watches.
        context.load_cert_chain(console.cert, console.key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StationError(
            f"{console.cert}, {console.key}: no certificate with its key, unencrypted ({why})"
        ) from None
    return context


def _listen(console: ConsoleConfig) -> socket.socket:
    where = f"[console] {console.host}:{console.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            console.host, console.port, type=socket.SOCK_STREAM
        )[0]
        listener = _Listener(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise StationError(f"{where}: can't be listened on ({error.strerror})") from None
    if not is_loopback(listener.getsockname()[0]) and not _is_secured(console):
        listener.close()
        raise StationError(f"{where}: is not this machine's own; set cert, key and password")
    return listener


def _hosts(console: ConsoleConfig) -> list[str]:
    return [*_LOCAL_NAMES, console.host, *console.hosts]
