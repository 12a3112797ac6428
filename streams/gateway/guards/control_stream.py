"""`GET /v1/control`: what stands for a tenant's runs, as server-sent events, for guards without Kafka.

Events: `hello` with the tenant and this machine's clock; `command` with a record of control.v1, and the place behind it
as its id; `fresh` every second, with the clock again and how old the gateway's knowledge is, so that a guard goes blind
as it would by Kafka. A client that does not take its events is cut off, and goes on by `Last-Event-ID` where it was:
nothing is kept for it here but that.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
from aiohttp import web

from schemas.edge.access_key import AccessKey
from streams.clock import seconds
from streams.edge.key_ring import KeyRing, Refused
from streams.gateway.guards.control_log import Cursor, cursor_text, read_cursor
from streams.gateway.guards.desk import GuardDesk
from streams.gateway.metrics import GatewayMetrics
from streams.process.logs import fields

log = logging.getLogger("spendfuse.control-stream")

BEAT_S: Final = 1.0
TAKEN_S: Final = 5.0
"""A client that takes nothing for so long is cut off."""
LONGEST_S: Final = 3_600.0
"""Then a client comes again: clocks of two machines drift apart."""
MOST_STREAMS: Final = 1_000
MOST_OF_A_TENANT: Final = 500
HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ControlStreams:
    """All streams of this process."""

    def __init__(self, keys: KeyRing, desk: GuardDesk, metrics: GatewayMetrics) -> None:
        self._keys = keys
        self._desk = desk
        self._cut = metrics.control_cut
        self._open: Counter[str] = Counter()
        self._ending = asyncio.Event()
        metrics.control_streams.set_function(self._open.total)

    def end(self) -> None:
        """Have every client look for another gateway."""
        self._ending.set()

    async def serve(self, request: web.Request, shown: str | None) -> web.StreamResponse:
        """Send until the client goes, is too slow, or may not hear any more. Raises `Refused`."""
        key = self._keys.check(shown, "guard")
        with self._counted(key):
            response = web.StreamResponse(headers=HEADERS)
            await response.prepare(request)
            try:
                # A key that was revoked meanwhile is refused when its client comes again.
                with suppress(Refused, ConnectionError):
                    await self._send_all(response, shown, key, request.headers.get("Last-Event-ID", ""))
            except TimeoutError:
                self._cut.inc()
                log.warning("a control stream was not taken; it is cut off", extra=fields(key=key.key_id))
                if request.transport is not None:
                    request.transport.abort()  # closing would wait for the client to take what is left
            return response

    async def _send_all(self, response: web.StreamResponse, shown: str | None, key: AccessKey, last_id: str) -> None:
        news = asyncio.Event()
        loop = asyncio.get_running_loop()
        end = self._desk.log.hear(lambda: loop.call_soon_threadsafe(news.set))
        try:
            sending = _Sending(self._desk, key.tenant_id, read_cursor(last_id) or {})
            await response.write(sending.hello())
            until_s = seconds() + LONGEST_S
            while not self._ending.is_set() and seconds() < until_s:
                self._keys.check(shown, "guard")
                for event in sending.events():
                    async with asyncio.timeout(TAKEN_S):
                        await response.write(event)
                news.clear()
                if not sending.is_behind:
                    await self._wait(news)
        finally:
            end()

    async def _wait(self, news: asyncio.Event) -> None:
        """For a command, the end, or the next beat."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (news, self._ending)]
        await asyncio.wait(waiting, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    @contextmanager
    def _counted(self, key: AccessKey) -> Iterator[None]:
        if self._open.total() >= MOST_STREAMS or self._open[key.tenant_id] >= MOST_OF_A_TENANT:
            raise Refused(503, "too many control streams are open here; try another gateway, or again")
        self._open[key.tenant_id] += 1
        try:
            yield
        finally:
            self._open[key.tenant_id] -= 1
            self._open += Counter()  # forget who has none


class _Sending:
    """What one client has been sent."""

    def __init__(self, desk: GuardDesk, tenant_id: str, cursor: Cursor) -> None:
        self._desk = desk
        self._tenant_id = tenant_id
        self._known = cursor
        """What it had when it came."""
        self._cursor: Cursor | None = None
        """Up to where it has been sent everything; None before it was sent anything."""
        self._number = 0

    @property
    def is_behind(self) -> bool:
        """Whether there is more to be sent."""
        return self._cursor is not None and bool(self._desk.log.after(self._number, self._tenant_id))

    def hello(self) -> bytes:
        """Whose commands these are, and what time it is here."""
        return _event("hello", msgspec.json.encode({"tenant_id": self._tenant_id, "at_s": seconds()}))

    def events(self) -> Iterator[bytes]:
        """The commands that are new to it, then how current that is: what is known by then has been sent."""
        sight = self._desk.sight(self._tenant_id)
        if sight.age_s is not None:
            yield from self._commands(self._begun())
        told = {"at_s": seconds(), "age_s": sight.age_s, "blind": sight.blind}
        yield _event("fresh", msgspec.json.encode(told))

    def _begun(self) -> Cursor:
        """Where it is. A place that this process has not come to, of a topic that was made anew, is none."""
        if self._cursor is None:
            self._known = self._known if self._desk.log.knows(self._known) else {}
            self._cursor = dict(self._known)
        return self._cursor

    def _commands(self, cursor: Cursor) -> Iterator[bytes]:
        for standing in self._desk.log.after(self._number, self._tenant_id):
            self._number = standing.number
            if standing.offset < self._known.get(standing.partition, 0):
                continue
            cursor[standing.partition] = standing.offset + 1
            yield _event("command", standing.data, cursor_text(cursor))


def _event(name: str, data: bytes, event_id: str | None = None) -> bytes:
    id_line = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    return b"".join((id_line, b"event: ", name.encode(), b"\ndata: ", data, b"\n\n"))
