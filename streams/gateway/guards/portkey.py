"""Portkey's webhook guardrail: asked before a call whether it may be made, and told after it what it used.

Portkey tries once, and withholds nothing that it has an answer for: what was paid for is let through.
"""

import hashlib
from typing import Any

import msgspec

from models.identity import derived_id
from schemas.edge.access_key import AccessKey
from schemas.usage import Id, Name
from streams.gateway.guards.desk import AskedRun, NextCall, Verdict
from streams.gateway.sources.batch import Unreadable
from streams.gateway.sources.reported import short_name
from streams.gateway.sources.source import Answer
from streams.gateway.sources.usage_details import tokens_of

AFTER = "afterRequestHook"


class _Metadata(msgspec.Struct, frozen=True):
    """What the caller sets in `x-portkey-metadata`."""

    run_id: Id | None = None
    session_id: Id | None = None
    workflow: Name | None = None
    owner: Name | None = None
    user: Name | None = msgspec.field(default=None, name="_user")


class _Asked(msgspec.Struct, frozen=True):
    model: Name | None = None


class _Request(msgspec.Struct, frozen=True):
    json: _Asked | str | None = None


class _Answered(msgspec.Struct, frozen=True):
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


class _Response(msgspec.Struct, frozen=True):
    json: _Answered | None = None
    statusCode: int | None = None  # noqa: N815 - as Portkey names it, here and below


class _Hook(msgspec.Struct, frozen=True):
    metadata: _Metadata | None = None
    eventType: str = "beforeRequestHook"  # noqa: N815
    provider: Name | None = None
    request: _Request | None = None


class _Told(_Hook, frozen=True):
    response: _Response | None = None


def ask(body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    """Which run asks, and for which model. Raises `Unreadable` or `msgspec.DecodeError`."""
    hook = msgspec.json.decode(body, type=_Hook)
    metadata = hook.metadata
    if metadata is None or metadata.run_id is None:
        raise Unreadable("metadata.run_id is missing: callers set it in x-portkey-metadata")
    attribution = {} if metadata.owner is None else {"owner": metadata.owner}
    run = AskedRun(key.tenant_id, metadata.run_id, metadata.session_id, None, metadata.workflow, attribution)
    return run, NextCall(_model(hook), hook.provider)


def answer(verdict: Verdict, body: bytes) -> Answer:
    """Portkey hands `data` on to its client, beside the error."""
    if verdict.decision == "continue" or msgspec.json.decode(body, type=_Hook).eventType == AFTER:
        return Answer(200, msgspec.json.encode({"verdict": True}))
    why = {"reason": verdict.reason, "rule": verdict.rule, "decision": verdict.decision}
    return Answer(200, msgspec.json.encode({"verdict": False, "data": why}))


def of_hook(body: bytes, now_ms: int) -> dict[str, Any] | None:
    """What a call has used, as the members of its message; None before it is made. Raises `msgspec.DecodeError`."""
    hook = msgspec.json.decode(body, type=_Told)
    if hook.eventType != AFTER or hook.response is None or hook.metadata is None:
        return None
    metadata, answered = hook.metadata, hook.response.json or _Answered()
    tokens = tokens_of(answered.usage or {})
    failed = hook.response.statusCode not in (None, 200)
    asked = _model(hook)
    call = {
        "type": "llm_call",
        "event_id": derived_id("portkey", answered.id or hashlib.sha256(body).hexdigest()),
        "ts_ms": now_ms,
        "run_id": metadata.run_id,
        "session_id": metadata.session_id,
        "workflow": metadata.workflow,
        "owner": metadata.owner,
        "user": metadata.user,
        "model": short_name(answered.model or asked) or "unknown",
        "route": short_name(asked),
        "provider": short_name(hook.provider),
        "status": "error" if failed else "ok",
        "cost_nanousd": 0 if failed and not tokens else None,
        **tokens,
    }
    return {name: value for name, value in call.items() if value is not None}


def _model(hook: _Hook) -> str | None:
    """Which model was asked for, if the request is one that says so."""
    asked = hook.request.json if hook.request else None
    return asked.model if isinstance(asked, _Asked) else None
