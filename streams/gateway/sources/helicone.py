"""Helicone: `POST /in/helicone/NAME`, its webhook, signed; and what its manual logger posts to the paths of its own.

Of what was asked and answered only the counts are read. A body of more than 10 KB is a sentence in its place: then the
counts that Helicone itself has made are all there is.
"""

import re
from typing import Any, Final

import msgspec

from models.identity import derived_id
from schemas.codec import UNREADABLE
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from streams.clock import wall_ms
from streams.gateway.sources.batch import Batch
from streams.gateway.sources.reported import nanousd_or_none, short_id, short_name
from streams.gateway.sources.source import Headers, Source, plain_answer, plain_problem
from streams.gateway.sources.usage_details import tokens_of
from streams.gateway.sources.usage_item import Usage, add_usage

LAST_CHUNKS: Final = 5
"""Of a stream, where its usage stands."""
_ERROR_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")


class _Counts(msgspec.Struct, rename="camel"):
    cost: float | str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None


class _Webhook(msgspec.Struct):
    request_id: str
    model: str | None = None
    provider: str | None = None
    user_id: str | None = None
    properties: dict[str, Any] | None = None
    metadata: _Counts | None = None
    response_body: Any = None


class _Answer(msgspec.Struct):
    """What is read of a model's answer."""

    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _Asked(msgspec.Struct):
    model: str | None = None
    type: str | None = msgspec.field(default=None, name="_type")
    toolName: str | None = None  # noqa: N815 - as the logger names it, here and below
    input: Any = None


class _Request(msgspec.Struct):
    json: _Asked


class _Response(msgspec.Struct):
    status: int = 200
    json: msgspec.Raw = msgspec.Raw(b"{}")
    textBody: str | None = None  # noqa: N815


class _Time(msgspec.Struct):
    seconds: int
    milliseconds: int = 0

    @property
    def ms(self) -> int:
        return self.seconds * 1000 + self.milliseconds


class _Timing(msgspec.Struct):
    startTime: _Time  # noqa: N815
    endTime: _Time  # noqa: N815


class _Log(msgspec.Struct):
    providerRequest: _Request  # noqa: N815
    providerResponse: _Response  # noqa: N815
    timing: _Timing


_webhook: Final = msgspec.json.Decoder(_Webhook).decode
_log: Final = msgspec.json.Decoder(_Log).decode
_answer: Final = msgspec.json.Decoder(_Answer).decode
_any: Final = msgspec.json.Decoder().decode


def read_webhook(_: Headers, body: bytes, key: AccessKey) -> Batch:
    """One call."""
    batch = Batch()
    add_usage(batch, 0, body, key, _of_webhook)
    return batch


def read_log(headers: Headers, body: bytes, key: AccessKey) -> Batch:
    """One call, or one use of a tool; what else the logger knows is nothing that is charged."""
    batch = Batch()
    add_usage(batch, 0, body, key, lambda data: _of_log(headers, data))
    return batch


def _of_webhook(data: bytes) -> Usage:
    try:
        told = _webhook(data)
    except UNREADABLE:
        raise Undecodable("not_json", "this is no webhook of Helicone") from None
    counts = told.metadata or _Counts()
    answer = _answer_in(told.response_body)
    session = (told.properties or {}).get("Helicone-Session-Id")
    tokens = tokens_of(answer.usage or {}) or tokens_of(
        {"prompt_tokens": counts.prompt_tokens, "completion_tokens": counts.completion_tokens}
    )
    latency_ms = None if counts.latency_ms is None else max(0, round(counts.latency_ms))
    return _call(
        tokens, answer, nanousd_or_none(counts.cost),
        event_id=derived_id("helicone", told.request_id), ts_ms=wall_ms(), latency_ms=latency_ms,
        run_id=short_id(session) or short_id(told.request_id), session_id=short_id(session),
        user=short_name(told.user_id), model=short_name(told.model or answer.model) or "unknown",
        provider=short_name(told.provider and told.provider.lower()),
    )  # fmt: skip


def _of_log(headers: Headers, data: bytes) -> Usage | None:
    try:
        told = _log(data)
    except UNREADABLE:
        raise Undecodable("not_json", "this is nothing that Helicone's manual logger sends") from None
    asked, response = told.providerRequest.json, told.providerResponse
    started_ms, ended_ms = told.timing.startTime.ms, told.timing.endTime.ms
    answer = _answer_in(response.textBody) if response.textBody else _decoded(bytes(response.json))
    session = headers.get("Helicone-Session-Id")
    own = headers.get("Helicone-Request-Id") or answer.id
    event_id = derived_id("helicone", own) if own else derived_id("helicone", started_ms, ended_ms, data.hex())
    about = {
        "event_id": event_id, "ts_ms": ended_ms, "started_ms": started_ms, "latency_ms": max(0, ended_ms - started_ms),
        "run_id": short_id(session) or event_id, "session_id": short_id(session),
        "user": short_name(headers.get("Helicone-User-Id")),
        "workflow": short_name(headers.get("Helicone-Session-Name")),
    }  # fmt: skip
    if asked.type == "tool":
        tool = {"type": "tool_call", "tool": short_name(asked.toolName) or "unnamed", "args": asked.input}
        return {**_known(about), **tool, "result": _any(bytes(response.json))}
    if asked.type is not None:
        return None
    model = short_name(answer.model or asked.model) or "unknown"
    return _call(tokens_of(answer.usage or {}), answer, None, **about, model=model)


def _call(tokens: dict[str, int], answer: _Answer, cost_nanousd: int | None, **about: Any) -> Usage:
    failed = answer.error is not None
    if failed and cost_nanousd is None and not tokens:
        cost_nanousd = 0
    kind = answer.error.get("type") if isinstance(answer.error, dict) else None
    call = {
        "type": "llm_call",
        "status": "error" if failed else "ok",
        "error_type": kind if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else None,
        "cost_nanousd": cost_nanousd,
        "price_source": None if cost_nanousd is None else "reported:helicone",
    }
    return _known({**about, **call, **tokens})


def _known(members: Usage) -> Usage:
    return {name: value for name, value in members.items() if value is not None}


def _answer_in(body: Any) -> _Answer:
    """A model's answer: an object, its text, or the chunks of a stream, a line each, the last of which have the usage.

    Anything else, such as the sentence in place of a long one, says nothing.
    """
    if isinstance(body, dict):
        return _decoded(msgspec.json.encode(body))
    if not isinstance(body, str):
        return _Answer()
    whole = _decoded(body.encode())
    if whole.usage or whole.error:
        return whole
    lines = [line.removeprefix("data:").strip() for line in body.splitlines()[-LAST_CHUNKS:]]
    chunks = [_decoded(line.encode()) for line in reversed(lines) if line.startswith("{")]
    return next((chunk for chunk in chunks if chunk.usage), whole)


def _decoded(data: bytes) -> _Answer:
    try:
        return _answer(data)
    except UNREADABLE:
        return _Answer()


HELICONE: Final = Source("helicone", read_webhook, plain_answer, plain_problem, signature="Helicone-Signature")
HELICONE_LOGGER: Final = Source("helicone-logger", read_log, plain_answer, plain_problem)
