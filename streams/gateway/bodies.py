"""Bodies of requests: read whole, within bounds for each and for all together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

MOST_BYTES: Final = 64 << 20
"""Of one body, unpacked: OTLP's advice, and what LiteLLM's batches need."""
MOST_TOGETHER: Final = 256 << 20
PAUSE_S: Final = 10.0
"""A body of which nothing comes for so long is given up."""
SLOWEST: Final = 50_000
"""Bytes a second, in the long run."""


class BodyError(Exception):
    """The body was not read; `status` says why to the client's library, the message to people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Bodies:
    """The bodies of all requests under way."""

    def __init__(self) -> None:
        self.bytes = 0
        """Held now."""

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body, unpacked; it counts until the block is left.

        Raises:
            BodyError: it is too large or too slow, its packing is broken, or too much is being read at once.
        """
        held = 0
        parts = []
        try:
            async for part in self._parts(request):
                held += len(part)
                self.bytes += len(part)
                if held > MOST_BYTES:
                    raise BodyError(413, f"a body has at most {MOST_BYTES >> 20} MiB, unpacked; send less at a time")
                if self.bytes > MOST_TOGETHER:
                    raise BodyError(503, "too much is being read at once; try again")
                parts.append(part)
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self.bytes -= held

    async def _parts(self, request: web.Request) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        started, read = loop.time(), 0
        try:
            while True:
                left_s = started + PAUSE_S + read / SLOWEST - loop.time()
                async with asyncio.timeout(min(PAUSE_S, left_s)):
                    part = await request.content.readany()
                if not part:
                    return
                read += len(part)
                yield part
        except TimeoutError:
            raise BodyError(408, "the body came too slowly") from None
        except web.RequestPayloadError as error:
            raise BodyError(400, f"the body cannot be unpacked: {error}") from None
        except ConnectionError:
            raise BodyError(400, "the body ended too early") from None
