"""The gateway's endpoints: who calls, what it sent, and the answer. What a body means is each source's own module."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from schemas.codec import dead_letter, encode
from schemas.edge.access_key import AccessKey, AccessScope
from schemas.errors import Undecodable
from streams.clock import seconds, wall_ms
from streams.gateway.batch import Batch, Rejected, Unreadable
from streams.gateway.bodies import Bodies, BodyError
from streams.gateway.delivery import Delivery
from streams.gateway.events import read_events
from streams.gateway.key_ring import KeyRing, Refused
from streams.gateway.metrics import GatewayMetrics
from streams.gateway.spool import Record, SpoolFullError
from streams.process.logs import fields

log = logging.getLogger("spendfuse.gateway")

RETRY_AFTER_S: Final = 1
Read = Callable[[bytes, AccessKey], Batch]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """What all requests share."""

    def __init__(self, keys: KeyRing, delivery: Delivery, metrics: GatewayMetrics) -> None:
        self._keys = keys
        self._delivery = delivery
        self._metrics = metrics
        self.bodies = Bodies()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Every endpoint."""
        return [web.post("/v1/events", self._taking("events", read_events))]

    def _taking(self, source: str, read: Read) -> Handler:
        """An endpoint that takes usage of one kind of source."""

        async def handle(request: web.Request) -> web.StreamResponse:
            started = seconds()
            response = await self._answer(request, source, read)
            self._metrics.requests.labels(source, str(response.status)).inc()
            self._metrics.request_seconds.labels(source).observe(seconds() - started)
            return response

        return handle

    async def _answer(self, request: web.Request, source: str, read: Read) -> web.Response:
        try:
            key = self._caller(request, "ingest")
            async with self.bodies.read(request) as body:
                batch = read(body, key)
            await self._deliver(batch, source, key)
        except (Refused, BodyError) as error:
            return _problem(error.status, str(error))
        except Unreadable as error:
            return _problem(400, str(error))
        except (SpoolFullError, OSError) as error:
            log.error("records were refused: neither broker nor disk takes them", extra=fields(error=str(error)))
            return _problem(503, "neither the brokers nor the disk take records now; send this again")
        return _taken(batch)

    def _caller(self, request: web.Request, scope: AccessScope) -> AccessKey:
        """Whose key the request shows: as a bearer token or in `x-api-key`. Raises `Refused`."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return self._keys.check(token if kind.lower() == "bearer" else request.headers.get("x-api-key"), scope)

    async def _deliver(self, batch: Batch, source: str, key: AccessKey) -> None:
        records = [Record("usage.v1", item.tenant_id.encode(), item.value) for item in batch.items]
        records += [_letter(rejected, source, key) for rejected in batch.rejected]
        await self._delivery.deliver(records)
        self._metrics.accepted.labels(source).inc(len(batch.items))
        for rejected in batch.rejected:
            self._metrics.rejected.labels(source, rejected.reason).inc()


def _letter(rejected: Rejected, source: str, key: AccessKey) -> Record:
    """The dead letter of what was rejected: it stands in no topic, so that the gateway's source is named for one."""
    fault = Undecodable(rejected.reason, rejected.detail)
    owner = key.tenant_id.encode()
    letter = dead_letter(f"gateway/{source}", 0, rejected.place, owner, rejected.data, fault, wall_ms())
    return Record("usage.dlq.v1", owner, encode(letter))


def _taken(batch: Batch) -> web.Response:
    """200 as soon as anything was taken, or nothing was to be; what was rejected is listed by its place."""
    rejected = [{"index": one.place, "reason": one.reason, "detail": one.detail} for one in batch.rejected]
    answer: dict[str, Any] = {"accepted": len(batch.items), "rejected": rejected}
    return _json(400 if rejected and not batch.items else 200, answer)


def _problem(status: int, text: str) -> web.Response:
    response = _json(status, {"error": text})
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json(status: int, value: Any) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
