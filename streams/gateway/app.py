"""The gateway's endpoints: who calls, what it sent, and the answer. What a body means is each source's own module."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from schemas.codec import dead_letter, decode_usage, encode
from schemas.edge.access_key import AccessKey, AccessScope
from schemas.errors import Undecodable
from schemas.usage import LlmCall
from streams.clock import seconds, wall_ms
from streams.edge.key_ring import KeyRing, Refused
from streams.gateway.bodies import Bodies, BodyError
from streams.gateway.credentials import shown_token
from streams.gateway.delivery import Delivery
from streams.gateway.guards.acks import acks_of
from streams.gateway.guards.control_stream import ControlStreams
from streams.gateway.guards.desk import GuardDesk
from streams.gateway.guards.hooks import HOOKS, Hook, ask, report
from streams.gateway.metrics import GatewayMetrics
from streams.gateway.origin import origin_of
from streams.gateway.signers import Signers
from streams.gateway.sources.batch import Batch, Item, Rejected, Unreadable
from streams.gateway.sources.events import EVENTS
from streams.gateway.sources.helicone import HELICONE, HELICONE_LOGGER
from streams.gateway.sources.litellm import LITELLM
from streams.gateway.sources.openrouter import OPENROUTER
from streams.gateway.sources.otlp.logs import LOGS
from streams.gateway.sources.otlp.metrics import METRICS
from streams.gateway.sources.otlp.traces import BRAINTRUST_TRACES, LANGFUSE_TRACES, TRACES
from streams.gateway.sources.source import Answer, Headers, Source, key_answer, plain_problem
from streams.gateway.spool import Record, SpoolFullError
from streams.process.logs import fields
from streams.tracing.guarding import GuardTraces

log = logging.getLogger("spendfuse.gateway")

QUICK_BYTES: Final = 256 * 1024
"""Bodies of more are read beside the event loop: to hash 64 MiB of tools' results takes seconds, and others wait."""
AGENTS_ONLY: Final = (
    "Agents send what they use here: see docs/connect/http.md. For people there is the live page, python -m streams "
    "console; this address leads there once the gateway's SPENDFUSE_CONSOLE_URL says where it is.\n"
)
HINTS: Final = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
"""Status -> headers that tell the client's library what to do."""


SOURCES: Final[dict[str, Source]] = {
    "/v1/events": EVENTS,
    "/v1/traces": TRACES,
    "/v1/logs": LOGS,
    "/v1/metrics": METRICS,
    "/in/litellm": LITELLM,
    "/api/public/otel/v1/traces": LANGFUSE_TRACES,
    "/otel/v1/traces": BRAINTRUST_TRACES,
    "/in/openrouter": OPENROUTER,
    "/in/helicone/{name}": HELICONE,
    "/custom/v1/log": HELICONE_LOGGER,
    "/oai/v1/log": HELICONE_LOGGER,
    "/anthropic/v1/log": HELICONE_LOGGER,
}
"""Path -> whose requests come there."""


class Gateway:
    """What all requests share."""

    def __init__(
        self,
        keys: KeyRing,
        signers: Signers,
        desk: GuardDesk,
        delivery: Delivery,
        metrics: GatewayMetrics,
        traces: GuardTraces | None = None,
        console_url: str | None = None,
    ) -> None:
        self._keys = keys
        self._signers = signers
        self._desk = desk
        self._delivery = delivery
        self._metrics = metrics
        self._traces = traces or GuardTraces(None)
        self._console_url = console_url
        self.bodies = Bodies()
        self._streams = ControlStreams(keys, desk, metrics)

    def end(self) -> None:
        """End what would go on for ever."""
        self._streams.end()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Every endpoint."""
        taking = [
            self._route(path, source.name, partial(self._take, source), method)
            for path, source in SOURCES.items()
            for method in source.methods
        ]
        asked = [self._route(path, hook.name, partial(self._judge, hook)) for path, hook in HOOKS.items()]
        return [
            *taking,
            *asked,
            self._route("/v1/control/{command_id}/ack", "acks", self._acknowledge),
            self._route("/v1/key", "key", self._show_key, "GET"),
            web.get("/v1/control", self._follow),
            web.get("/", self._show_people_on),
        ]

    def _route(
        self, path: str, name: str, answer: Callable[[web.Request], Awaitable[Answer]], method: str = "POST"
    ) -> web.RouteDef:
        async def handle(request: web.Request) -> web.StreamResponse:
            started = seconds()
            await self._keys.wait_for_new(shown_token(request.headers))
            status, body, content_type = await answer(request)
            self._metrics.requests.labels(name, str(status)).inc()
            self._metrics.request_seconds.labels(name).observe(seconds() - started)
            return web.Response(status=status, body=body, content_type=content_type, headers=HINTS.get(status))

        return web.route(method, path, handle)

    async def _show_people_on(self, request: web.Request) -> web.StreamResponse:
        """Somebody who looks in with a browser wants the live page, which is not here."""
        del request
        if self._console_url is not None:
            return web.Response(status=302, headers={"Location": self._console_url}, text=f"{self._console_url}\n")
        return web.Response(status=404, text=AGENTS_ONLY)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """What stands, as events; see `ControlStreams`."""
        shown = shown_token(request.headers)
        await self._keys.wait_for_new(shown)
        try:
            return await self._streams.serve(request, shown)
        except Refused as error:
            answer = plain_problem(request.headers, error.status, str(error))
            hints = HINTS.get(error.status)
            return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type, headers=hints)

    async def _acknowledge(self, request: web.Request) -> Answer:
        """A guard's answer to a command."""
        command_id = request.match_info["command_id"]
        answer = await self._take(acks_of(command_id), request)
        if answer.status == HTTPStatus.OK:
            with suppress(Refused):  # a key that was revoked just now
                self._traces.answered(command_id, self._keys.find(shown_token(request.headers)).tenant_id)
        return answer

    async def _show_key(self, request: web.Request) -> Answer:
        """Whose key that is, and what it allows."""
        try:
            return key_answer(self._keys.find(shown_token(request.headers)))
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
                answer = hook.answer(verdict, body)
                await self._report(report(hook, body, key, wall_ms()), hook, key)
                return answer
        except (Refused, BodyError) as error:
            return plain_problem(headers, error.status, str(error))
        except Unreadable as error:
            return plain_problem(headers, 400, str(error))

    async def _report(self, done: Batch, hook: Hook, key: AccessKey) -> None:
        """Write what an asker tells of what it has done; it is answered whatever becomes of that."""
        try:
            await self._deliver(done, hook.name, key)
        except (SpoolFullError, OSError) as error:
            log.error("a hook's report was lost: neither broker nor disk takes it", extra=fields(error=str(error)))

    async def _take(self, source: Source, request: web.Request) -> Answer:
        """Write what a source sends."""
        headers = request.headers
        try:
            sender = self._sender(source, request)
            async with self.bodies.read(request) as body:
                key = sender or self._signer(source, request, body)
                read = partial(source.read, headers, body, key)
                batch = await asyncio.to_thread(read) if len(body) > QUICK_BYTES else read()
            await self._deliver(batch, source.name, key)
        except (Refused, BodyError) as error:
            return source.problem(headers, error.status, str(error))
        except Unreadable as error:
            await self._note_unreadable(error, source, key)
            return source.problem(headers, 400, str(error))
        except (SpoolFullError, OSError) as error:
            log.error("records were refused: neither broker nor disk takes them", extra=fields(error=str(error)))
            return source.problem(headers, 503, "neither the brokers nor the disk take records now; send this again")
        return source.taken(headers, batch)

    async def _note_unreadable(self, error: Unreadable, source: Source, key: AccessKey) -> None:
        """Say in the dead letters that a whole request was refused; its sender is told whatever becomes of that."""
        letter = Batch(rejected=[Rejected(0, "not_json", str(error), b"")])
        with suppress(SpoolFullError, OSError):
            await self._deliver(letter, source.name, key)

    def _sender(self, source: Source, request: web.Request) -> AccessKey | None:
        """Whose key a request shows; None while its body has to be read for that. Raises `Refused`."""
        if source.signature is None:
            return self._caller(request.headers, source.scope)
        self._signers.refuse_unknown(request.match_info["name"])
        return None

    def _signer(self, source: Source, request: web.Request, body: bytes) -> AccessKey:
        """Whose key a signed body stands for. Raises `Refused`."""
        return self._signers.check(request.match_info["name"], request.headers.get(source.signature or ""), body)

    def _caller(self, headers: Headers, scope: AccessScope) -> AccessKey:
        """Whose key a request shows. Raises `Refused`."""
        return self._keys.check(shown_token(headers), scope)

    async def _deliver(self, batch: Batch, source: str, key: AccessKey) -> None:
        items = batch.items if key.charges(source) else [item for item in batch.items if not _is_model_call(item)]
        origin = origin_of(source, key)
        records = [Record("usage.v1", item.tenant_id.encode(), item.value, origin) for item in items]
        records += [_letter(rejected, source, key) for rejected in batch.rejected]
        await self._delivery.deliver(records)
        self._metrics.accepted.labels(source).inc(len(items))
        self._metrics.observed.labels(source).inc(len(batch.items) - len(items))
        self._metrics.ignored.labels(source).inc(batch.ignored)
        for rejected in batch.rejected:
            self._metrics.rejected.labels(source, rejected.reason).inc()


def _is_model_call(item: Item) -> bool:
    return isinstance(decode_usage(item.value), LlmCall)


def _letter(rejected: Rejected, source: str, key: AccessKey) -> Record:
    """The dead letter of what was rejected: it stands in no topic, so that the gateway's source is named for one."""
    fault = Undecodable(rejected.reason, rejected.detail)
    owner = key.tenant_id.encode()
    letter = dead_letter(f"gateway/{source}", 0, rejected.place, owner, rejected.data, fault, wall_ms())
    # Of what was sent only the hash is kept: nobody has said that there is no text in it.
    value = encode(msgspec.structs.replace(letter, head_base64=""))
    return Record("usage.dlq.v1", owner, value, origin_of(source, key))
