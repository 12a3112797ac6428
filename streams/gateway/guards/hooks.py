"""Who asks before the next step: the question in each one's own words, and the answer that it obeys.

Of a question only ids are read; prompts that come with it are not looked at. After a tool, Claude Code and Gemini CLI
tell what went in and came out: that is hashed, and gone.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from spendfuse._litellm.payload import attribution_of, id_of

from schemas.codec import UNREADABLE
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from schemas.usage import Id, Name
from streams.gateway.guards import portkey
from streams.gateway.guards.desk import AskedRun, NextCall, Verdict
from streams.gateway.sources.batch import Batch, Rejected, Unreadable
from streams.gateway.sources.coding_agents import claude_code, gemini_cli
from streams.gateway.sources.source import Answer
from streams.gateway.sources.usage_item import usage_item


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


class _LiteLlmCall(msgspec.Struct, frozen=True):
    litellm_trace_id: str | None = None
    litellm_call_id: str | None = None
    model: str | None = None
    request_data: dict[str, Any] | None = None
    """What the proxy knows of the key that the caller showed it."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One kind of asker.

    Args:
        name: what it is called, for metrics.
        ask: from the body to the run and its next call. Raises `Unreadable` or `msgspec.DecodeError`.
        answer: the verdict in its words.
        tells: whether a sentence in the answer to this body gets to the model.
        reports: from a body, and the time now, to the members of a usage.v1 message about what the asker has just done;
            None if it tells nothing of that. Raises `msgspec.DecodeError`.
    """

    name: str
    ask: Callable[[bytes, AccessKey], tuple[AskedRun, NextCall]]
    answer: Callable[[Verdict, bytes], Answer]
    tells: Callable[[bytes], bool] = lambda _: False
    reports: Callable[[bytes, int], dict[str, Any] | None] = lambda _, __: None


def ask(hook: Hook, body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    """What is asked. Raises `Unreadable` with what was expected."""
    try:
        run, call = hook.ask(body, key)
    except UNREADABLE as error:
        raise Unreadable(f"not a question of {hook.name}: {error}") from None
    return dataclasses.replace(run, asked_by=run.asked_by or hook.name), call


def report(hook: Hook, body: bytes, key: AccessKey, now_ms: int) -> Batch:
    """What the asker tells of what it has done, for a key that may report usage. Its question is answered whatever is
    wrong with that.
    """
    if "ingest" not in key.scopes:
        return Batch()
    try:
        members = hook.reports(body, now_ms)
        return Batch() if members is None else Batch(items=[usage_item(members, key.tenant_id)])
    except Undecodable as fault:
        return Batch(rejected=[Rejected(0, fault.reason, fault.detail, b"")])
    except UNREADABLE as error:
        return Batch(rejected=[Rejected(0, "wrong_value", f"not a report of {hook.name}: {error}", b"")])


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
    event = msgspec.json.decode(body, type=_AgentHook).hook_event_name
    return event in ("UserPromptSubmit", "PostToolUse", "PostToolUseFailure")


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


def _tells_gemini(body: bytes) -> bool:
    """What is answered after a tool stands behind its result."""
    return msgspec.json.decode(body, type=_AgentHook).hook_event_name == "AfterTool"


def _answer_gemini(verdict: Verdict, _: bytes) -> Answer:
    if verdict.decision == "continue":
        return _json({"hookSpecificOutput": {"additionalContext": verdict.nudge}} if verdict.nudge else {})
    return _json({"decision": "deny", "reason": _words(verdict)})


def _ask_litellm(body: bytes, key: AccessKey) -> tuple[AskedRun, NextCall]:
    asked = msgspec.json.decode(body, type=_LiteLlmCall)
    run_id = id_of(asked.litellm_trace_id) or id_of(asked.litellm_call_id)
    if run_id is None:
        raise Unreadable("neither litellm_trace_id nor litellm_call_id: which run is it?")
    attribution = attribution_of({}, asked.request_data or {})
    return AskedRun(key.tenant_id, run_id, attribution=attribution), NextCall(asked.model)


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


_LITELLM: Final = Hook("litellm-guardrail", _ask_litellm, _answer_litellm)
HOOKS: Final[dict[str, Hook]] = {
    "/v1/guard/check": Hook("guard-check", _ask_plainly, _answer_plainly, lambda _: True),
    "/hooks/claude": Hook("claude-hook", _ask_by_session, _answer_claude, _tells_claude, claude_code.of_hook),
    "/hooks/codex": Hook("codex-hook", _ask_by_session, _answer_claude, _tells_claude),
    "/hooks/gemini": Hook("gemini-hook", _ask_by_session, _answer_gemini, _tells_gemini, gemini_cli.of_hook),
    "/guard/portkey": Hook("portkey-guard", portkey.ask, portkey.answer, reports=portkey.of_hook),
    "/guard/litellm/beta/litellm_basic_guardrail_api": _LITELLM,
    "/beta/litellm_basic_guardrail_api": _LITELLM,
}
"""Path -> who asks there. LiteLLM puts a name of its own behind the address that it is given."""
