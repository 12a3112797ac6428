"""What Claude Code, Codex and Gemini CLI log of their calls, as usage: each call once, and nothing of anybody's text.

The payloads are what the programs sent (2.1.197, 0.171.0 and their present versions), shortened.
"""

import json
from typing import Any

import msgspec
import pytest

from schemas.codec import decode_usage
from schemas.edge.access_key import AccessKey
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.gateway.guards.hooks import HOOKS, report
from streams.gateway.sources.batch import Batch, Unreadable
from streams.gateway.sources.otlp.logs import LOGS
from streams.gateway.sources.otlp.metrics import METRICS
from streams.gateway.sources.otlp.traces import TRACES

MARKER = "a-secret-that-must-not-pass-4711"
KEY = AccessKey(
    key_id="k", tenant_id="acme", scopes=("ingest", "guard"), secret_sha256="0" * 64, created_ms=1, created_by="t"
)
JSON = {"Content-Type": "application/json; charset=utf-8"}
AT_NS = 1_795_811_970_949_000_000
CLAUDE = "com.anthropic.claude_code.events"
SESSION: dict[str, Any] = {"session.id": "s-1", "user.id": "4de8", "user.email": "ada@example.com"}


def attribute(name: str, value: Any) -> dict[str, Any]:
    """As the JavaScript SDK writes them: whole numbers as numbers, and nothing at all for what is not set."""
    match value:
        case None:
            return {"key": name, "value": {}}
        case bool():
            return {"key": name, "value": {"boolValue": value}}
        case int():
            return {"key": name, "value": {"intValue": value}}
        case float():
            return {"key": name, "value": {"doubleValue": value}}
        case list():
            return {"key": name, "value": {"arrayValue": {"values": [{"stringValue": item} for item in value]}}}
        case _:
            return {"key": name, "value": {"stringValue": value}}


def record(attributes: dict[str, Any], at_ns: int = AT_NS) -> dict[str, Any]:
    return {
        "timeUnixNano": str(at_ns), "observedTimeUnixNano": str(AT_NS), "body": {"stringValue": MARKER},
        "attributes": [attribute(name, value) for name, value in attributes.items()],
    }  # fmt: skip


def export(scope: str, *records: dict[str, Any], **resource: Any) -> bytes:
    given = [attribute(name, value) for name, value in resource.items()]
    of_scope = {"scope": {"name": scope}, "logRecords": records}
    return json.dumps({"resourceLogs": [{"resource": {"attributes": given}, "scopeLogs": [of_scope]}]}).encode()


def messages(batch: Batch) -> list[UsageMessage]:
    assert not batch.rejected
    assert not [item for item in batch.items if MARKER.encode() in item.value]
    return [decode_usage(item.value) for item in batch.items]


def one(scope: str, attributes: dict[str, Any], at_ns: int = AT_NS, **resource: Any) -> UsageMessage | None:
    """What one log record comes to."""
    found = messages(LOGS.read(JSON, export(scope, record(attributes, at_ns), **resource), KEY))
    return found[0] if found else None


def said(message: UsageMessage | None, expected: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(message, name) for name in expected}


API_REQUEST: dict[str, Any] = {
    **SESSION, "event.name": "api_request", "event.sequence": 7, "prompt.id": "p-1", "model": "claude-sonnet-4-5",
    "input_tokens": 12, "output_tokens": 42, "cache_read_tokens": 1000, "cache_creation_tokens": 200,
    "cost_usd": 0.001716, "duration_ms": 293, "request_id": "req_1", "query_source": "sdk",
}  # fmt: skip
CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Claude Code": (
        CLAUDE, API_REQUEST,
        {"run_id": "s-1", "session_id": "s-1", "workflow": "claude-code", "user": "ada@example.com", "feature": "sdk",
         "model": "claude-sonnet-4-5", "provider": "anthropic", "input_tokens": 1212, "cache_read_tokens": 1000,
         "cache_write_tokens": 200, "output_tokens": 42, "cost_nanousd": 1_716_000, "latency_ms": 293, "status": "ok",
         "price_source": "reported:claude-code", "ts_ms": AT_NS // 1_000_000},
    ),
    "Claude Code, without a cost": (
        CLAUDE, {**API_REQUEST, "cost_usd": 0, "input_tokens": "12"}, {"cost_nanousd": None, "input_tokens": 1212},
    ),
    "Claude Code, an error": (
        CLAUDE, {**SESSION, "event.name": "api_error", "model": "claude-sonnet-4-5", "error": MARKER,
                 "status_code": 529, "attempt": 11, "duration_ms": 17},
        {"status": "error", "error_type": "529", "attempt": 11, "cost_nanousd": 0, "input_tokens": 0},
    ),
    "Codex": (
        "codex_otel.log_only",
        {"event.name": "codex.sse_event", "event.kind": "response.completed", "input_token_count": "1200",
         "output_token_count": "42", "cached_token_count": 1000, "cache_write_token_count": 0,
         "reasoning_token_count": 7, "tool_token_count": "1242", "event.timestamp": "2026-11-27T20:39:54.152Z",
         "conversation.id": "c-1", "model": "gpt-5.1-codex", "slug": "gpt-5.1-codex", "env": "prod"},
        {"run_id": "c-1", "session_id": "c-1", "workflow": "codex", "environment": "prod", "model": "gpt-5.1-codex",
         "provider": "openai", "input_tokens": 1200, "cache_read_tokens": 1000, "output_tokens": 42,
         "reasoning_tokens": 7, "cost_nanousd": None},
    ),
    "Codex, an error": (
        "codex_otel.log_only",
        {"event.name": "codex.api_request", "http.response.status_code": "429", "attempt": "1",
         "model": "gpt-5.1-codex", "error.message": MARKER, "conversation.id": "c-1", "duration_ms": "20"},
        {"status": "error", "error_type": "429", "attempt": 2, "cost_nanousd": 0},
    ),
    "Gemini CLI": (
        "gemini-cli",
        {"session.id": "g-1", "installation.id": "i-1", "event.name": "gemini_cli.api_response", "prompt_id": "g-1#0",
         "event.timestamp": "2026-11-27T20:40:35.688Z", "model": "gemini-2.5-pro", "duration_ms": 334,
         "input_token_count": 1200, "output_token_count": 42, "cached_content_token_count": 1000,
         "thoughts_token_count": 7, "tool_token_count": 5, "finish_reasons": ["stop"], "role": "main",
         "response_text": MARKER},
        {"run_id": "g-1", "workflow": "gemini-cli", "user": "i-1", "feature": "main", "model": "gemini-2.5-pro",
         "provider": "gcp.gemini", "input_tokens": 1205, "cache_read_tokens": 1000, "output_tokens": 49,
         "reasoning_tokens": 7, "cost_nanousd": None, "latency_ms": 334},
    ),
    "Gemini CLI, an error": (
        "gemini-cli",
        {"session.id": "g-1", "event.name": "gemini_cli.api_error", "model": "gemini-2.5-pro", "error": MARKER,
         "error.message": MARKER, "error.type": "ApiError", "status_code": 400, "duration_ms": 162},
        {"status": "error", "error_type": "400", "cost_nanousd": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_a_model_call(name: str) -> None:
    """Under each agent's names: its session is the run, cached tokens and thoughts count once, and a call that came to
    nothing costs nothing and says its status, not its text.
    """
    scope, attributes, expected = CALLS[name]
    call = one(scope, attributes)
    assert isinstance(call, LlmCall)
    assert said(call, expected) == expected


TOOLS: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool]] = {
    "Claude Code": (
        CLAUDE, {**SESSION, "event.name": "tool_result", "tool_name": "Edit", "tool_use_id": "toolu_1",
                 "success": "false", "duration_ms": "117", "error": MARKER, "error_type": "Error:ENOENT"},
        {"tool": "Edit", "status": "error", "error_type": "Error:ENOENT", "latency_ms": 117, "writes": True}, False,
    ),
    "Codex": (
        "codex_otel.log_only",
        {"event.name": "codex.tool_result", "tool_name": "exec_command", "call_id": "call_1", "duration_ms": "145",
         "success": "true", "arguments": json.dumps({"cmd": MARKER}), "conversation.id": "c-1", "agent_name": "/root",
         "output": f"Chunk ID: 2ca8c1\nWall time: 0.01 seconds\nProcess exited with code 0\nOutput:\n{MARKER}\n"},
        {"tool": "exec_command", "status": "ok", "latency_ms": 145, "run_id": "c-1", "agent": None}, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_a_tool_call(name: str) -> None:
    """With hashes of what it was given and brought where the agent tells, and never the text."""
    scope, attributes, expected, hashed = TOOLS[name]
    call = one(scope, attributes)
    assert isinstance(call, ToolCall)
    assert said(call, expected) == expected
    assert bool(call.args_hash) == hashed


def test_the_same_command_with_the_same_output_looks_the_same() -> None:
    """Codex puts another chunk id and time before each output: a loop of commands would never be one."""
    scope, attributes, *_ = TOOLS["Codex"]
    again = {**attributes, "call_id": "call_2", "output": attributes["output"].replace("2ca8c1", "77f001")}
    first, second = one(scope, attributes), one(scope, again, AT_NS + 1)
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.event_id != second.event_id
    assert (first.args_hash, first.result_hash, first.result_shape_hash) == (
        second.args_hash, second.result_hash, second.result_shape_hash,
    )  # fmt: skip


IGNORED: dict[str, tuple[str, dict[str, Any]]] = {
    "a response that is completed for the second time": (
        "codex_otel.log_only",
        {"event.name": "codex.sse_event", "event.kind": "response.completed", "conversation.id": "c-1"},
    ),
    "a request that was answered": (
        "codex_otel.log_only",
        {"event.name": "codex.api_request", "http.response.status_code": "200", "conversation.id": "c-1"},
    ),
    "the same call in OpenTelemetry's own words": (
        "gemini-cli",
        {"event.name": "gen_ai.client.inference.operation.details", "gen_ai.operation.name": "generate_content",
         "gen_ai.usage.input_tokens": 1200, "session.id": "g-1"},
    ),
    "a tool that the hook tells": (
        "gemini-cli", {"event.name": "gemini_cli.tool_call", "function_name": "x", "session.id": "g-1"},
    ),
    "a prompt": (CLAUDE, {**SESSION, "event.name": "user_prompt", "prompt": MARKER}),
    "another program's": ("app", {"event.name": "api_request", "input_tokens": 12, "session.id": "s-1"}),
    "nothing": ("", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", IGNORED)
def test_what_says_nothing_of_spend_is_passed_over(name: str) -> None:
    """It is no dead letter either: agents log a lot."""
    scope, attributes = IGNORED[name]
    batch = LOGS.read(JSON, export(scope, record(attributes)), KEY)
    assert (batch.items, batch.rejected, batch.ignored) == ([], [], 1)


def test_a_request_of_claude_code_counts_once_with_logs_and_traces_on() -> None:
    """Its log record, its beta span and a retry of either have one id; another request has another."""
    span = {
        "traceId": "c3149b63121bc96c8443eab0baf1962b", "spanId": "fbbe56e41e86eaa1", "name": "claude_code.llm_request",
        "startTimeUnixNano": str(AT_NS - 310_000_000), "endTimeUnixNano": str(AT_NS), "status": {"code": 0},
        "attributes": [attribute(name, value) for name, value in {
            **SESSION, "span.type": "llm_request", "model": "claude-sonnet-4-5", "gen_ai.system": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5", "input_tokens": 12, "output_tokens": 42,
            "cache_read_tokens": 1000, "cache_creation_tokens": 200, "success": True, "attempt": 1,
            "request_id": "req_1", "gen_ai.response.id": "req_1", "gen_ai.response.finish_reasons": ["tool_use"],
        }.items()],
    }  # fmt: skip
    tool = {**span, "spanId": "0802844d79f2ed89", "attributes": [
        attribute("span.type", "tool"), attribute("tool_name", "Bash"), attribute("gen_ai.tool.call.id", "toolu_1"),
    ]}  # fmt: skip
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span, tool]}]}]}).encode()
    (spanned,) = messages(TRACES.read(JSON, body, KEY))
    logged, again = one(CLAUDE, API_REQUEST), one(CLAUDE, API_REQUEST, AT_NS + 1_000_000)
    other = one(CLAUDE, {**API_REQUEST, "request_id": "req_2"})
    assert isinstance(spanned, LlmCall)
    assert isinstance(logged, LlmCall)
    assert logged.event_id == spanned.event_id == getattr(again, "event_id", None) != getattr(other, "event_id", None)
    assert (spanned.input_tokens, spanned.output_tokens, spanned.run_id) == (1212, 42, logged.run_id)


HOOK: dict[str, Any] = {
    "session_id": "s-1", "hook_event_name": "PostToolUse", "tool_name": "Bash", "tool_use_id": "toolu_1",
    "tool_input": {"command": MARKER}, "tool_response": {"stdout": MARKER, "stderr": ""}, "duration_ms": 117,
}  # fmt: skip


def hooked(key: AccessKey = KEY, **more: Any) -> list[UsageMessage]:
    body = json.dumps({**HOOK, **more}).encode()
    return messages(report(HOOKS["/hooks/claude"], body, key, AT_NS // 1_000_000))


def test_the_hook_after_a_tool_reports_what_the_log_leaves_out() -> None:
    """Hashes of arguments and result, under the id that the log record of the same call has, and the same run."""
    (call,) = hooked()
    logged = one(CLAUDE, {**SESSION, "event.name": "tool_result", "tool_name": "Bash", "tool_use_id": "toolu_1"})
    assert isinstance(call, ToolCall)
    assert isinstance(logged, ToolCall)
    assert (call.event_id, call.run_id, call.tool) == (logged.event_id, logged.run_id, logged.tool)
    assert call.args_hash
    assert call.result_hash
    assert (call.latency_ms, call.status) == (117, "ok")
    (failed,) = hooked(hook_event_name="PostToolUseFailure", error=MARKER)
    assert getattr(failed, "status", None) == "error"


def test_gemini_clis_hook_after_a_tool_reports_it() -> None:
    """With hashes that do not change with the number of a process; once more is the same call."""
    used = {"session_id": "g-1", "hook_event_name": "AfterTool", "timestamp": "2026-11-27T20:40:36.123Z",
            "tool_name": "run_shell_command", "tool_input": {"command": MARKER},
            "tool_response": {"llmContent": f"Output: {MARKER}\nProcess Group PGID: 15554\n"}}  # fmt: skip
    later = json.loads(json.dumps(used).replace("15554", "15560").replace("36.123", "37.123"))
    failed = {**used, "tool_name": "write_file", "tool_response": {"llmContent": MARKER, "error": {"message": MARKER}}}
    hook = HOOKS["/hooks/gemini"]
    first, again, second, third = (
        messages(report(hook, json.dumps(body).encode(), KEY, 1))[0] for body in (used, used, later, failed)
    )
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first == again
    assert (first.run_id, first.workflow, first.ts_ms) == ("g-1", "gemini-cli", 1_795_812_036_123)
    assert first.event_id != second.event_id
    assert (first.args_hash, first.result_hash) == (second.args_hash, second.result_hash)
    assert said(third, {"status": "error", "writes": True}) == {"status": "error", "writes": True}


def test_a_hook_reports_nothing_before_a_tool_nor_with_a_key_that_may_not() -> None:
    """What has not run is not counted, and a key for asking cannot write."""
    assert not hooked(hook_event_name="PreToolUse")
    assert not hooked(msgspec.structs.replace(KEY, scopes=("guard",)))


def test_a_record_without_a_session_is_rejected_with_the_reason() -> None:
    """Nobody could be stopped by it; the sender's library is told in its own words."""
    batch = LOGS.read(JSON, export(CLAUDE, record({**API_REQUEST, "session.id": None})), KEY)
    assert [rejected.reason for rejected in batch.rejected] == ["missing_field"]
    assert json.loads(LOGS.taken(JSON, batch).body)["partialSuccess"]["rejectedLogRecords"] == "1"


def test_our_own_names_go_first() -> None:
    """A team names its workflow, owner and environment in `OTEL_RESOURCE_ATTRIBUTES`."""
    resource: dict[str, Any] = {
        "service.name": "claude-code",
        "spendfuse.workflow": "migrations",
        "spendfuse.owner": "team-a",
        "deployment.environment": "ci",
    }
    call = one(CLAUDE, {**API_REQUEST, "spendfuse.user": "ada"}, **resource)
    expected = {"workflow": "migrations", "owner": "team-a", "environment": "ci", "user": "ada"}
    assert said(call, expected) == expected


def test_metrics_are_counted_and_never_charged() -> None:
    """In both encodings; what is none is refused in words."""
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "a"}, {"name": "b"}]}]}]}).encode()
    batch = METRICS.read(JSON, body, KEY)
    assert (batch.items, batch.rejected, batch.ignored) == ([], [], 2)
    assert METRICS.read({}, b"", KEY).ignored == 0
    with pytest.raises(Unreadable):
        METRICS.read({}, b"\x00nonsense", KEY)


DEEP = "[" * 20_000 + "]" * 20_000
HOSTILE: dict[str, dict[str, Any]] = {
    "arguments nested without end": {"arguments": DEEP, "output": DEEP},
    "numbers beyond measure": {"arguments": "[" + "9" * 10_000 + "]", "duration_ms": "1e400", "output": "NaN"},
    "half of a letter": {"arguments": '{"a": "\\ud800"}', "output": '"\\udfff"'},
    "names without end": {"tool_name": "x" * 70_000, "conversation.id": "c" * 70_000, "agent_name": "a" * 70_000},
    "other types": {"arguments": 7, "output": True, "success": 0.5, "call_id": False, "duration_ms": "soon"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_log_holds_it_is_a_call_or_a_dead_letter(name: str) -> None:
    """Nobody can end the gateway by what their agent was told to say."""
    told = {"event.name": "codex.tool_result", "conversation.id": "c-1", "tool_name": "x", **HOSTILE[name]}
    batch = LOGS.read(JSON, export("codex", record(told), record(API_REQUEST)), KEY)
    assert len(batch.items) + len(batch.rejected) + batch.ignored == 2


@pytest.mark.parametrize(
    "more", [{"duration_ms": 1e300}, {"duration_ms": -5}, {"tool_response": float("nan")}, {"session_id": 7}]
)
def test_a_report_that_makes_no_sense_is_a_dead_letter(more: dict[str, Any]) -> None:
    """Whoever asked is answered all the same: its run may have to be stopped."""
    batch = report(HOOKS["/hooks/claude"], json.dumps({**HOOK, **more}).encode(), KEY, AT_NS // 1_000_000)
    assert (batch.items, [rejected.reason for rejected in batch.rejected]) == ([], ["wrong_value"])


def test_times_that_nobody_can_place_are_rejected() -> None:
    """A record without any time, or with one beyond all calendars, is a dead letter, and no crash."""
    for at_ns, told in ((0, {}), (0, {"event.timestamp": "soon"}), (10**30, {})):
        batch = LOGS.read(
            JSON, export(CLAUDE, {**record({**API_REQUEST, **told}, at_ns), "observedTimeUnixNano": 0}), KEY
        )
        assert [rejected.reason for rejected in batch.rejected] == ["bad_time"]
