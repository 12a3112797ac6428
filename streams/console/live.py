"""Changes of a page as they happen: server-sent events, each with only those parts that are another now.

`parts`: place -> its content. `runs`: rows of live runs that changed, and those that are gone. `say`: what is new, for
those who listen. `beat`: all is current up to now, or since when it is not. A page that hears nothing says so itself.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import orjson
from aiohttp import web

from alerting.review.page.markup import Markup
from streams.clock import seconds

LOOK_EVERY_S: Final = 0.1
"""How often it is looked whether anything has changed."""
SEND_EVERY_S: Final = 0.25
"""Changes that follow each other faster are sent together."""
BEAT_EVERY_S: Final = 1.0
REFRESH_S: Final = 20.0
"""Forecasts move with time alone."""
MOST_STREAMS: Final = 200
WRITE_S: Final = 20.0
"""Who takes nothing for so long is left."""


class Live(Protocol):
    """What a page shows and how it changes. Looked at by one stream alone."""

    def version(self) -> object:
        """Another one whenever there may be something new."""

    def parts(self) -> dict[str, Markup]:
        """The parts of the page, by their places in it."""

    def rows(self) -> dict[str, Any] | None:
        """Rows that are new since the last call; None for none."""

    def news(self) -> list[str]:
        """What is to be said aloud since the last call."""


class Streams:
    """Every open stream of changes."""

    def __init__(self, stale: Callable[[], int]) -> None:
        """`stale` says since when nothing comes from the brokers, in epoch milliseconds; 0 while it does."""
        self._stale = stale
        self._open: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def end(self) -> None:
        """End all of them."""
        for task in list(self._open):
            task.cancel()

    async def serve(self, request: web.Request, live: Live, allowed: Callable[[], bool]) -> web.StreamResponse:
        """Send changes until the reader leaves, or may not see them any more (`allowed`)."""
        if len(self._open) >= MOST_STREAMS:
            return web.Response(status=503, text="too many pages are open", headers={"Retry-After": "5"})
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None, "a request is served in a task"
        self._open.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError, TimeoutError):
                await self._send_changes(response, live, allowed)
        finally:
            self._open.discard(task)
        return response

    async def _send_changes(self, response: web.StreamResponse, live: Live, allowed: Callable[[], bool]) -> None:
        sent: dict[str, bytes] = {}
        version: object = None
        beat_s = shown_s = -REFRESH_S
        while allowed():
            now_s, found = seconds(), live.version()
            is_new = found != version and now_s - shown_s >= SEND_EVERY_S
            if is_new or now_s - shown_s >= REFRESH_S:
                version, shown_s = found, now_s
                await _write(response, _changes(live, sent))
            if seconds() - beat_s >= BEAT_EVERY_S:
                beat_s = seconds()
                await _write(response, _event("beat", {"stale": self._stale()}))
            await asyncio.sleep(LOOK_EVERY_S)
        await _write(response, _event("over", {}))


def _changes(live: Live, sent: dict[str, bytes]) -> bytes:
    """The events of what is another now than what was sent."""
    events = b""
    if parts := _changed(live.parts(), sent):
        events += _event("parts", parts)
    if (rows := live.rows()) is not None:
        events += _event("runs", rows)
    if said := live.news():
        events += _event("say", said)
    return events


def _changed(parts: Mapping[str, Markup], sent: dict[str, bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, content in parts.items():
        mark = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if sent.get(place) != mark:
            sent[place] = mark
            found[place] = content
    return found


def _event(kind: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps(data, default=str))


async def _write(response: web.StreamResponse, data: bytes) -> None:
    if data:
        await asyncio.wait_for(response.write(data), WRITE_S)
