"""The HTTP server of every port that a process opens: pages for Prometheus, health, Slack's buttons.

Whoever connects can neither hold it up nor fill it: a connection that does not bring a request, or does not take its
answer, is closed; there are only so many at a time; a body has a limit; and at the end of the process the connections
that are left are closed, whatever they are at.
"""

import asyncio
import logging
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from schemas.errors import SettingsError
from streams.clock import monotonic_ms
from streams.process.logs import fields
from streams.process.watchdog import when_told_to_end
from streams.settings import PREFIX

log = logging.getLogger("spendfuse.http")

REQUEST_S: Final = 5.0
"""Within it the headers of a request must be there, counted from the connection or from the answer before."""
LONGEST_S: Final = 60.0
"""No connection lives longer."""
LOOK_EVERY_S: Final = 1.0
MOST_CONNECTIONS: Final = 100
END_S: Final = 3.0
"""How long requests under way are waited for at the end, unless told otherwise."""
START_S: Final = 10.0
BEAT_S: Final = 1.0


class HttpServer:
    """Serves while it is entered, in the event loop that enters it.

    Args:
        routes: what it answers to.
        host: the address to listen on.
        port: likewise.
        setting: the setting that says so, for a message.
        most_bytes: a larger body is answered with 413, and not read.
        most_connections: one more is closed at once; None for `MOST_CONNECTIONS`.
        longest_s: no connection lives longer; None for `LONGEST_S`.
        tls: the certificate to serve with; None for plain HTTP.
        end_s: how long requests under way are waited for at the end.
        headers: what every answer carries besides.

    Raises:
        SettingsError: when entered, if the address cannot be listened on.
    """

    def __init__(
        self,
        routes: Sequence[web.AbstractRouteDef],
        host: str,
        port: int,
        setting: str,
        *,
        most_bytes: int = 64 * 1024,
        most_connections: int | None = None,
        longest_s: float | None = None,
        tls: ssl.SSLContext | None = None,
        end_s: float = END_S,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        app = web.Application(client_max_size=most_bytes, middlewares=[_bounded(most_bytes)])
        if headers is not None:
            app.on_response_prepare.append(_with_headers(headers))
        app.add_routes(routes)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=end_s,
            keepalive_timeout=REQUEST_S,  # from the connection on, not only between requests
            lingering_time=END_S,
        )
        self._host, self._port, self._setting = host, port, setting
        self._most_connections = MOST_CONNECTIONS if most_connections is None else most_connections
        self._longest_s = LONGEST_S if longest_s is None else longest_s
        self._tls = tls
        self._listening: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                self._connection, self._host, self._port, reuse_address=True, ssl=self._tls
            )
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"{self._setting}: {self._host}:{self._port} cannot be listened on: {error.strerror or error}"
            ) from None
        self._sweeping = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection."""
        server = self._server
        return _Connection(server() if len(server.connections) < self._most_connections else _Refused())

    async def _sweep(self) -> None:
        """Close what has been connected for too long: a client that takes no answer, or sends no end."""
        loop = asyncio.get_running_loop()
        since: dict[web.RequestHandler, float] = {}
        while True:
            now = loop.time()
            since = {connection: since.get(connection, now) for connection in self._server.connections}
            for connection, first_seen in since.items():
                if now - first_seen > self._longest_s and connection.transport is not None:
                    connection.transport.abort()  # closing would wait for the client to take what is left
            await asyncio.sleep(LOOK_EVERY_S)

    @property
    def _server(self) -> web.Server:
        server = self._runner.server
        assert server is not None, "it was entered"
        return server


class Serving:
    """A process that is there to serve: whether it does by now, and whether its event loop moves."""

    def __init__(self) -> None:
        self._beat_ms: int | None = None
        """None until it serves."""

    @property
    def beat_ms(self) -> int:
        """When the loop last showed that it moves. Before there is one that is now: a start has patience of its own."""
        return monotonic_ms() if self._beat_ms is None else self._beat_ms

    def fault(self) -> str | None:
        """That it does not serve yet."""
        return "it does not serve yet: what it has to know is being read" if self._beat_ms is None else None

    @asynccontextmanager
    async def until_told(self, server: HttpServer) -> AsyncIterator[asyncio.Event]:
        """Serve within the block, which gets what is set once a signal asks the process to end."""
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        when_told_to_end(lambda: loop.call_soon_threadsafe(told.set))
        async with server:
            self._beat_ms = monotonic_ms()
            beating = asyncio.create_task(self._beat())
            yield told
        beating.cancel()

    async def _beat(self) -> None:
        while True:
            self._beat_ms = monotonic_ms()
            await asyncio.sleep(BEAT_S)


class HttpThread:
    """An `HttpServer` in a thread of its own, so that it answers while the process is busy, or stands still.

    Raises:
        SettingsError: the address cannot be listened on.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._started = threading.Event()
        self._fault: BaseException | None = None
        self._end: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(START_S)
        if self._fault is not None:
            raise self._fault
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(3 * END_S)
        if self._thread.is_alive():  # it does not keep the process: its thread is a daemon
            log.warning("a connection did not end; it is left behind", extra=fields(thread=self._thread.name))

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # it belongs to whoever waits for the start
            self._fault = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._server:
            self._started.set()
            await self._end.wait()


def server_tls(certificate: Path | None, key: Path | None, setting: str) -> ssl.SSLContext | None:
    """What to serve TLS with; None without a certificate. `setting` is what the two settings' names begin with.

    Raises:
        SettingsError: they cannot be used.
    """
    if certificate is None:
        if key is not None:
            raise SettingsError(f"{PREFIX}{setting}_KEY is set without {PREFIX}{setting}_CERTIFICATE: set both")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # With a password, or OpenSSL would ask at the terminal for that of a key which has one.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{PREFIX}{setting}_CERTIFICATE and _KEY: {certificate} with {key or 'its key inside'} cannot be used: "
            f"{error.strerror or error}. Both are PEM files, the key without a password and of this certificate"
        ) from None
    return context


class _Connection(asyncio.Protocol):
    """A protocol's connection, gone when it is closed: asyncio's transport keeps a method of its own and waits for the
    collector, which the worker has off. Every visit to a page would stay for good.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        vars(self._transport).pop("_read_ready_cb", None)
        self._transport = None


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _with_headers(headers: Mapping[str, str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def add(_: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers.setdefault(name, value)

    return add


def _bounded(most_bytes: int) -> Middleware:
    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (request.content_length or 0) > most_bytes:
            raise web.HTTPRequestEntityTooLarge(most_bytes, request.content_length or 0)
        return await handler(request)

    return refuse
