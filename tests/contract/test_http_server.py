"""Every port that a process opens: whoever connects holds up neither its other clients nor its end."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from schemas.errors import SettingsError
from streams.process import http
from streams.process.http import HttpServer, HttpThread
from streams.process.pages import pages
from streams.settings import read_settings
from tests.support.kafka import wait_until
from tests.support.leftovers import without_collector
from tests.support.receivers import unused_port

PATIENCE_S = 20


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def ask(port: int, request: bytes) -> bytes:
    """All that the server says before it closes the connection."""
    with connect(port) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def get(port: int, path: str) -> bytes:
    return ask(port, f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())


@contextmanager
def serving(fault: str | None = None) -> Iterator[int]:
    """The pages of a process, with one metric; gives the port."""
    registry = CollectorRegistry()
    Gauge("spendfuse_example", "An example", registry=registry).set(7)
    port = unused_port()
    with pages(read_settings({"SPENDFUSE_METRICS_PORT": str(port)}), registry, lambda: fault):
        yield port


def test_the_pages() -> None:
    """Metrics in Prometheus' format, health by its status and a sentence, and nothing else."""
    with serving() as port:
        metrics = get(port, "/metrics")
        assert b"200 OK" in metrics
        assert b"text/plain; version=" in metrics
        assert b"spendfuse_example 7.0" in metrics
        assert get(port, "/healthz").endswith(b"\r\n\r\nok\n")
        assert b"404 Not Found" in get(port, "/")
    with serving("nothing is committed") as port:
        assert b"503 Service Unavailable" in (sick := get(port, "/healthz"))
        assert sick.endswith(b"nothing is committed\n")


def test_an_idle_connection_holds_nobody_up() -> None:
    """Somebody who connects and says nothing keeps no other from being answered, and no process from its end."""
    with serving() as port, connect(port), connect(port):
        assert get(port, "/healthz").endswith(b"ok\n")
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_headers_that_do_not_come_to_an_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a byte comes now and then: the time counts from the connection, not from the last byte."""
    monkeypatch.setattr(http, "REQUEST_S", 0.5)
    with serving() as port, connect(port) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        slow.settimeout(0.05)
        for _ in range(int(PATIENCE_S / 0.05)):
            try:
                slow.sendall(b"x")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection stays open")


@pytest.mark.parametrize("length", [b"Content-Length: 100000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_refused(length: bytes) -> None:
    """By what it says of itself before a byte is read, or, where it says nothing, once it has become too large."""

    async def read(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    port = unused_port()
    with HttpThread(HttpServer([web.post("/", read)], "127.0.0.1", port, "PORT", most_bytes=1000)):
        body = b"7d1\r\n" + b"x" * 2001 + b"\r\n"
        head = b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n" + length + b"\r\n\r\n"
        with connect(port) as connection:
            connection.sendall(head + body)
            assert b"413" in connection.recv(65_536).splitlines()[0]


def test_there_are_only_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is closed at once; when another ends there is room again."""
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 2)
    with serving() as port:
        with connect(port), connect(port), connect(port) as third:
            assert third.recv(1) == b""
        answered = False
        while not answered:  # the server learns of the two ends in its own time
            try:
                answered = get(port, "/healthz").endswith(b"ok\n")
            except ConnectionError:
                continue


def test_who_does_not_take_its_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection has an end, whatever it is at; and so has the process."""
    monkeypatch.setattr(http, "LONGEST_S", 0.2)
    monkeypatch.setattr(http, "LOOK_EVERY_S", 0.05)

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x" * 1_000_000)
        finally:
            ended.set()

    ended = asyncio.Event()

    async def steps() -> None:
        port = unused_port()
        async with HttpServer([web.get("/", endless)], "127.0.0.1", port, "PORT"):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            await asyncio.wait_for(ended.wait(), PATIENCE_S)
            writer.close()

    asyncio.run(steps())


def test_a_port_in_use_is_said() -> None:
    """With the setting to change, for pages as for any other port."""
    with serving() as port, pytest.raises(SettingsError, match=rf"SPENDFUSE_METRICS_PORT: 127\.0\.0\.1:{port} cannot"):
        pages(read_settings({"SPENDFUSE_METRICS_PORT": str(port)}), CollectorRegistry(), lambda: None).__enter__()


def test_only_this_machine_gets_in_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word in the settings pages listen on the loopback alone."""
    listened: list[str] = []

    def note(routes: object, host: str, port: int, setting: str) -> HttpServer:
        listened.append(host)
        return HttpServer([], host, port, setting)

    monkeypatch.setattr("streams.process.pages.HttpServer", note)
    given = {"SPENDFUSE_METRICS_PORT": "1"}
    for settings in (given, given | {"SPENDFUSE_METRICS_HOST": "10.0.0.7"}):
        pages(read_settings(settings), CollectorRegistry(), lambda: None)
    assert listened == ["127.0.0.1", "10.0.0.7"]


def transports() -> int:
    """How many connections there are in memory, open or not."""
    return sum(issubclass(type(one), asyncio.Transport) for one in gc.get_objects())


@pytest.mark.parametrize("most", [http.MOST_CONNECTIONS, 0], ids=["answered", "refused"])
def test_nothing_is_left_of_a_visit(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The worker has no collector: with something left of every scrape it would grow by megabytes a day."""
    monkeypatch.setattr(http, "MOST_CONNECTIONS", most)
    with serving() as port, without_collector():
        before = transports()
        for _ in range(10):
            with suppress(ConnectionResetError):  # as it may look to one who is refused
                assert bool(get(port, "/metrics")) == bool(most)
        wait_until(lambda: transports() <= before, PATIENCE_S, "all connections are gone")
