"""The gateway's endpoints: who calls, what it sent, and the answer. What a body means is each source's own module."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from schemas.codec import dead_letter, encode
from schemas.edge.access_key import AccessKey, AccessScope
from schemas.errors import Undecodable
from streams.clock import seconds, wall_ms
from streams.gateway.bodies import Bodies, BodyError
from streams.gateway.delivery import Delivery
from streams.gateway.guards.acks import acks_of
from streams.gateway.guards.control_stream import ControlStreams
from streams.gateway.guards.desk import GuardDesk
from streams.gateway.guards.hooks import HOOKS, Hook, ask
from streams.gateway.key_ring import KeyRing, Refused
from streams.gateway.metrics import GatewayMetrics
from streams.gateway.sources.batch import Batch, Rejected, Unreadable
from streams.gateway.sources.events import EVENTS
from streams.gateway.sources.otlp.traces import TRACES
from streams.gateway.sources.source import Answer, Headers, Source, key_answer, plain_problem
from streams.gateway.spool import Record, SpoolFullError
from streams.process.logs import fields

log = logging.getLogger("spendfuse.gateway")

HINTS: Final = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
"""Status -> headers that tell the client's library what to do."""


Verb = Callable[[str, Callable[[web.Request], Awaitable[web.StreamResponse]]], web.RouteDef]

SOURCES: Final[dict[str, Source]] = {"/v1/events": EVENTS, "/v1/traces": TRACES}
"""Path -> whose requests come there."""


class Gateway:
    """What all requests share."""

    def __init__(self, keys: KeyRing, desk: GuardDesk, delivery: Delivery, metrics: GatewayMetrics) -> None:
        self._keys = keys
        self._desk = desk
        self._delivery = delivery
        self._metrics = metrics
        self.bodies = Bodies()
        self._streams = ControlStreams(keys, desk, metrics)

    def end(self) -> None:
        """End what would go on for ever."""
        self._streams.end()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Every endpoint."""
        taking = [self._route(path, source.name, partial(self._take, source)) for path, source in SOURCES.items()]
        asked = [self._route(path, hook.name, partial(self._judge, hook)) for path, hook in HOOKS.items()]
        return [
            *taking,
            *asked,
            self._route("/v1/control/{command_id}/ack", "acks", self._acknowledge),
            self._route("/v1/key", "key", self._show_key, web.get),
            web.get("/v1/control", self._follow),
        ]

    def _route(
        self, path: str, name: str, answer: Callable[[web.Request], Awaitable[Answer]], verb: Verb = web.post
    ) -> web.RouteDef:
        async def handle(request: web.Request) -> web.StreamResponse:
            started = seconds()
            status, body, content_type = await answer(request)
            self._metrics.requests.labels(name, str(status)).inc()
            self._metrics.request_seconds.labels(name).observe(seconds() - started)
            return web.Response(status=status, body=body, content_type=content_type, headers=HINTS.get(status))

        return verb(path, handle)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """What stands, as events; see `ControlStreams`."""
        try:
            return await self._streams.serve(request, _shown(request.headers))
        except Refused as error:
            answer = plain_problem(request.headers, error.status, str(error))
            hints = HINTS.get(error.status)
            return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type, headers=hints)

    async def _acknowledge(self, request: web.Request) -> Answer:
        """A guard's answer to a command."""
        return await self._take(acks_of(request.match_info["command_id"]), request)

    async def _show_key(self, request: web.Request) -> Answer:
        """Whose key that is, and what it allows."""
        try:
            return key_answer(self._keys.find(_shown(request.headers)))
        except Refused as error:
            return plain_problem(request.headers, error.status, str(error))

    async def _judge(self, hook: Hook, request: web.Request) -> Answer:
        """Tell who asks whether its run may go on."""
        headers = request.headers
        try:
            key = self._caller(headers, "guard")
            async with self.bodies.read(request) as body:
                run, call = ask(hook, body, key)
                verdict = self._desk.check(run, call, key)
                if verdict.decision == "continue" and hook.tells(body):
                    verdict = verdict._replace(nudge=self._desk.nudge(run))
                self._metrics.verdicts.labels(hook.name, verdict.decision).inc()
                return hook.answer(verdict, body)
        except (Refused, BodyError) as error:
            return plain_problem(headers, error.status, str(error))
        except Unreadable as error:
            return plain_problem(headers, 400, str(error))

    async def _take(self, source: Source, request: web.Request) -> Answer:
        """Write what a source sends."""
        headers = request.headers
        try:
            key = self._caller(headers, source.scope)
            async with self.bodies.read(request) as body:
                batch = source.read(headers, body, key)
            await self._deliver(batch, source, key)
        except (Refused, BodyError) as error:
            return source.problem(headers, error.status, str(error))
        except Unreadable as error:
            return source.problem(headers, 400, str(error))
        except (SpoolFullError, OSError) as error:
            log.error("records were refused: neither broker nor disk takes them", extra=fields(error=str(error)))
            return source.problem(headers, 503, "neither the brokers nor the disk take records now; send this again")
        return source.taken(headers, batch)

    def _caller(self, headers: Headers, scope: AccessScope) -> AccessKey:
        """Whose key a request shows: as a bearer token or in `x-api-key`. Raises `Refused`."""
        return self._keys.check(_shown(headers), scope)

    async def _deliver(self, batch: Batch, source: Source, key: AccessKey) -> None:
        records = [Record("usage.v1", item.tenant_id.encode(), item.value) for item in batch.items]
        records += [_letter(rejected, source, key) for rejected in batch.rejected]
        await self._delivery.deliver(records)
        self._metrics.accepted.labels(source.name).inc(len(batch.items))
        self._metrics.ignored.labels(source.name).inc(batch.ignored)
        for rejected in batch.rejected:
            self._metrics.rejected.labels(source.name, rejected.reason).inc()


def _shown(headers: Headers) -> str | None:
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else headers.get("x-api-key")


def _letter(rejected: Rejected, source: Source, key: AccessKey) -> Record:
    """The dead letter of what was rejected: it stands in no topic, so that the gateway's source is named for one."""
    fault = Undecodable(rejected.reason, rejected.detail)
    owner = key.tenant_id.encode()
    letter = dead_letter(f"gateway/{source.name}", 0, rejected.place, owner, rejected.data, fault, wall_ms())
    # Of what was sent only the hash is kept: nobody has said that there is no text in it.
    return Record("usage.dlq.v1", owner, encode(msgspec.structs.replace(letter, head_base64="")))
