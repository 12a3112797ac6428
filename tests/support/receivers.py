"""Receivers that answer as a test tells them to: real HTTP on loopback, with the real client libraries before it."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from infra.kafka.local import free_ports
from tests.support.certificates import issue, make_ca

Manner = Literal["whole", "hang", "reset", "close", "drip_head", "drip_body"]
_DRIP_S = 0.05


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do with a request. `hang`, `reset` and `close` come after it was read whole."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"

    @property
    def head(self) -> bytes:
        """Status line and headers."""
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            "Connection": "close",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()


class Receiver:
    """Answers with `script` in turn, then as usual, and keeps what it received."""

    def __init__(
        self, usual: Callable[[Received, int], Answer], *script: Answer, tls: ssl.SSLContext | None = None
    ) -> None:
        self.script = list(script)
        self.received: list[Received] = []
        self.always: Answer | None = None
        """Answers everything, before script and habit."""
        self.arrived = asyncio.Event()
        self._usual = usual
        self._tls = tls
        self._handlers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"

    @property
    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [one.path for one in self.received]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            # The client has gone, or the test is over; a task of the server's own has nobody to tell.
            pass
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await _read(reader)
        self.received.append(received)
        self.arrived.set()
        answer = self.always or (self.script.pop(0) if self.script else self._usual(received, len(self.received)))
        match answer.manner:
            case "whole":
                writer.write(answer.head + answer.body)
                await writer.drain()
            case "hang":
                await asyncio.Event().wait()
            case "reset":
                _reset(writer)
            case "close":
                pass
            case "drip_head":
                await _drip(writer, answer.head)
            case "drip_body":
                writer.write(answer.head)
                await _drip(writer, answer.body)


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(first.split(" ")[1], headers, body)


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """A byte at a time: too fast for a read to time out, too slow for anybody to wait for."""
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await writer.drain()
        await asyncio.sleep(_DRIP_S)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset in place of an end."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def slack(*script: Answer, tls: ssl.SSLContext | None = None) -> Receiver:
    """Slack's Web API: knows its channel by name, gives every message a time of its own."""
    return Receiver(_slack_answer, *script, tls=tls)


def slack_error(code: str, **headers: str) -> Answer:
    """`ok: false` with Slack's word for the error."""
    return Answer(body=json.dumps({"ok": False, "error": code}).encode(), headers=headers)


def _slack_answer(received: Received, count: int) -> Answer:
    ts = received.json.get("ts", f"1767280000.{count:06d}")
    return Answer(body=json.dumps({"ok": True, "channel": "C0CHANNEL", "ts": ts}).encode())


def pagerduty(*script: Answer, tls: ssl.SSLContext) -> Receiver:
    """PagerDuty's Events API v2."""
    return Receiver(_pagerduty_answer, *script, tls=tls)


def _pagerduty_answer(received: Received, count: int) -> Answer:
    body = {"status": "success", "message": "Event processed", "dedup_key": received.json["dedup_key"]}
    return Answer(202, json.dumps(body).encode())


def webhook(*script: Answer, tls: ssl.SSLContext | None = None) -> Receiver:
    """Anybody's own receiver."""
    return Receiver(lambda received, count: Answer(204, b""), *script, tls=tls)


def unused_port() -> int:
    """A port of this machine on which nobody listens."""
    return free_ports(1)[0]


@dataclass(frozen=True, slots=True)
class TestAuthority:
    """A certificate authority for one test run, with a server's certificate for loopback."""

    __test__ = False

    server: ssl.SSLContext
    client: ssl.SSLContext
    certificate: str
    """The authority's own, as PEM."""


def server_context(folder: Path, name: str) -> ssl.SSLContext:
    """What a server needs that shows the certificate of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def make_authority(folder: Path) -> TestAuthority:
    """Make an authority in `folder`; skips the test where there is no `openssl`."""
    authority = make_ca(folder)
    issue(folder, "server", "127.0.0.1")
    server = server_context(folder, "server")
    client = ssl.create_default_context(cafile=str(authority))
    return TestAuthority(server, client, authority.read_text())
