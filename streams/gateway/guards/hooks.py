"""Who asks before the next step: the question in each one's own words, and the answer that it obeys.

Of a question only ids are read; prompts, arguments and results that come with it are not looked at.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.edge.access_key import AccessKey
from schemas.usage import Id, Name
from streams.gateway.guards.desk import AskedRun, NextCall, Verdict
from streams.gateway.sources.batch import Unreadable
from streams.gateway.sources.source import Answer


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/guard/check`."""

    run_id: Id
    session_id: Id | None = None
    root_run_id: Id | None = None
    workflow: Name | None = None
    attribution: dict[Name, Name] = {}
    model: Name | None = None
    provider: Name | None = None
    route: Name | None = None
    denied_by: Name | None = None
    """Who asks, for the answer to a command; the plain question's own name unless given."""


class _AgentHook(msgspec.Struct, frozen=True):
    """What the hooks of Claude Code, Codex and Gemini CLI have in common."""

    session_id: Id
    hook_event_name: Name = "PreToolUse"


class _PortkeyMetadata(msgspec.Struct, frozen=True):
    run_id: Id | None = None
    session_id: Id | None = None
    workflow: Name | None = None


class _PortkeyHook(msgspec.Struct, frozen=True):
    metadata: _PortkeyMetadata = _PortkeyMetadata()


class _LiteLlmCall(msgspec.Struct, frozen=True):
    litellm_trace_id: str | None = None
    litellm_call_id: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """One kind of asker.

    Args:
        name: what it is called, for metrics.
        ask: from the body to the run and its next call. Raises `Unreadable` or `msgspec.DecodeError`.
        answer: the verdict in its words.
        tells: whether a sentence in the answer to this body gets to the model.
    """

    name: str
    ask: Callable[[bytes, AccessKey], tuple[AskedRun, NextCall]]
    answer: Callable[[Verdict, bytes], Answer]
    tells: Callable[[bytes], bool] = lambda _: False


def ask(hook: Hook, body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    """What is asked. Raises `Unreadable` with what was expected."""
    try:
        run, call = hook.ask(body, key)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"not a question of {hook.name}: {error}") from None
    return dataclasses.replace(run, asked_by=run.asked_by or hook.name), call


def _ask_plainly(body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    asked = msgspec.json.decode(body, type=Question)
    run = AskedRun(
        key.tenant_id, asked.run_id, asked.session_id, asked.root_run_id, asked.workflow, asked.attribution,
        asked.denied_by,
    )  # fmt: skip
    return run, NextCall(asked.model, asked.provider, asked.route)


def _answer_plainly(verdict: Verdict, _: bytes) -> Answer:
    told = {name: value for name, value in verdict._asdict().items() if value is not None}
    return _json(told)


def _ask_by_session(body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    """A coding agent's session is the run, as its usage has it."""
    asked = msgspec.json.decode(body, type=_AgentHook)
    return AskedRun(key.tenant_id, asked.session_id, asked.session_id), NextCall()


def _tells_claude(body: bytes) -> bool:
    """What is answered before a tool goes to the person."""
    return msgspec.json.decode(body, type=_AgentHook).hook_event_name in ("UserPromptSubmit", "PostToolUse")


def _answer_claude(verdict: Verdict, body: bytes) -> Answer:
    """`permissionDecision` before a tool; `continue: false` where there is nothing to permit, such as a prompt."""
    event = msgspec.json.decode(body, type=_AgentHook).hook_event_name
    if verdict.decision == "continue":
        told = {"hookEventName": event, "additionalContext": verdict.nudge}
        return _json({"hookSpecificOutput": told} if verdict.nudge else {})
    reason = _words(verdict)
    if event == "PreToolUse":
        denied = {"hookEventName": event, "permissionDecision": "deny", "permissionDecisionReason": reason}
        return _json({"hookSpecificOutput": denied})
    return _json({"continue": False, "stopReason": reason})


def _answer_gemini(verdict: Verdict, _: bytes) -> Answer:
    if verdict.decision == "continue":
        return _json({})
    return _json({"decision": "deny", "reason": _words(verdict)})


def _ask_portkey(body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    metadata = msgspec.json.decode(body, type=_PortkeyHook).metadata
    if metadata.run_id is None:
        raise Unreadable("metadata.run_id is missing: callers set it in x-portkey-metadata")
    return AskedRun(key.tenant_id, metadata.run_id, metadata.session_id, None, metadata.workflow), NextCall()


def _answer_portkey(verdict: Verdict, _: bytes) -> Answer:
    return _json({"verdict": verdict.decision == "continue"})


def _ask_litellm(body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    asked = msgspec.json.decode(body, type=_LiteLlmCall)
    run_id = asked.litellm_trace_id or asked.litellm_call_id
    if not run_id:
        raise Unreadable("neither litellm_trace_id nor litellm_call_id: which run is it?")
    return AskedRun(key.tenant_id, run_id[:128]), NextCall(asked.model)


def _answer_litellm(verdict: Verdict, _: bytes) -> Answer:
    if verdict.decision == "continue":
        return _json({"action": "NONE"})
    return _json({"action": "BLOCKED", "blocked_reason": _words(verdict)})


def _words(verdict: Verdict) -> str:
    """For the agent, and for whoever reads its log."""
    verb = "Paused" if verdict.decision == "pause" else "Stopped"
    by = f" by {verdict.rule}" if verdict.rule else ""
    return f"{verb}{by}: {verdict.reason}" if verdict.reason else f"{verb}{by}"


def _json(value: dict[str, Any]) -> Answer:
    return Answer(200, msgspec.json.encode(value))


HOOKS: Final[dict[str, Hook]] = {
    "/v1/guard/check": Hook("guard-check", _ask_plainly, _answer_plainly, lambda _: True),
    "/hooks/claude": Hook("claude-hook", _ask_by_session, _answer_claude, _tells_claude),
    "/hooks/codex": Hook("codex-hook", _ask_by_session, _answer_claude),
    "/hooks/gemini": Hook("gemini-hook", _ask_by_session, _answer_gemini),
    "/guard/portkey": Hook("portkey-guard", _ask_portkey, _answer_portkey),
    "/beta/litellm_basic_guardrail_api": Hook("litellm-guardrail", _ask_litellm, _answer_litellm),
}
"""Path -> who asks there. The last is LiteLLM's own name for it, behind the address that it is given."""
