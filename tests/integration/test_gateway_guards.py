"""A run that loops is stopped through each hook that none of our code runs in: from its cause to the denied step."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode_usage
from schemas.usage import CommandAck
from streams.clock import wall_ms
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all, wait_until
from tests.support.worker_process import WorkerProcess

POLICY = 'version = "gateway"\n[[repeat]]\nname = "same-call-again"\nmode = "enforce"\n'
MARKER = "somebody-s-own-words-4711"
pytestmark = pytest.mark.kafka

Asking = dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]]


def asking(run_id: str) -> Asking:
    """Who -> where it asks, what, and what it is told while the run may go on, and once it may not."""
    tool = {"tool_name": "Bash", "tool_input": {"command": MARKER}, "tool_use_id": "t1"}
    denied = {"hookEventName": "PreToolUse", "permissionDecision": "deny"}
    return {
        "plain": ("/v1/guard/check", {"run_id": run_id, "model": "gpt-4.1"},
                  {"decision": "continue", "downgrade": False}, {"decision": "stop", "rule": "same-call-again"}),
        "claude": ("/hooks/claude", {"session_id": run_id, "hook_event_name": "PreToolUse", **tool}, {},
                   {"hookSpecificOutput": denied}),
        "claude prompt": ("/hooks/claude", {"session_id": run_id, "hook_event_name": "UserPromptSubmit"}, {},
                          {"continue": False}),
        "codex": ("/hooks/codex", {"session_id": run_id, "hook_event_name": "PreToolUse", **tool}, {},
                  {"hookSpecificOutput": denied}),
        "gemini": ("/hooks/gemini", {"session_id": run_id, "hook_event_name": "BeforeTool", **tool}, {},
                   {"decision": "deny"}),
        "portkey": ("/guard/portkey", {"metadata": {"run_id": run_id}, "request": {"json": MARKER}}, {"verdict": True},
                    {"verdict": False}),
        "litellm": ("/beta/litellm_basic_guardrail_api",
                    {"litellm_trace_id": run_id, "texts": [MARKER], "input_type": "request"}, {"action": "NONE"},
                    {"action": "BLOCKED"}),
    }  # fmt: skip


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as process:
        process.wait_ready()
        yield process


def loop(gateway: GatewayProcess, token: str, run_id: str, calls: int = 6) -> None:
    """The same search with the same result, half a second apart."""
    now_ms = wall_ms()
    sent = [
        {"type": "tool_call", "event_id": f"{run_id}-{number}", "ts_ms": now_ms - 3000 + 500 * number, "run_id": run_id,
         "tool": "search", "args_hash": "a", "result_hash": "b"}
        for number in range(calls)
    ]  # fmt: skip
    assert gateway.post("/v1/events", json.dumps(sent).encode(), token) == (200, {"accepted": calls, "rejected": []})


def sentence_in(answer: Any) -> str | None:
    """What is to be put before the model, wherever the answer has it."""
    told: str | None = answer.get("nudge") or answer.get("hookSpecificOutput", {}).get("additionalContext")
    return told


def holds(answer: Any, expected: dict[str, Any]) -> bool:
    """Whether the answer has all that is expected, with whatever reasons beside it."""
    return isinstance(answer, dict) and all(
        holds(answer.get(name), value) if isinstance(value, dict) else answer.get(name) == value
        for name, value in expected.items()
    )


def test_a_loop_is_denied_through_every_hook(
    kafka_topics: TopicSpace, tmp_path: Path, gateway: GatewayProcess, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each asks before and is let go on, in exactly its own words; its run loops; each asks again and is denied with
    the reason. The command is acknowledged, and nothing of what the hooks carried is in the log.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    waits_ms: dict[str, float] = {}
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy) as worker:
        worker.wait_said("state restored")
        for name in asking(""):
            run_id = f"run-{name.replace(' ', '-')}"
            path, question, free, stopped = asking(run_id)[name]
            body = json.dumps(question).encode()
            assert gateway.post(path, body, token) == (200, free), name
            started = time.monotonic()
            loop(gateway, token, run_id)
            wait_until(lambda p=path, b=body, f=free: gateway.post(p, b, token)[1] != f, 30, f"{name} is denied")  # type: ignore[misc]
            waits_ms[name] = 1000 * (time.monotonic() - started)
            status, answer = gateway.post(path, body, token)
            assert (status, holds(answer, stopped)) == (200, True), (name, answer)
            assert name == "portkey" or "search" in json.dumps(answer), "it says why"
        assert gateway.stop() == 0
    records = [record.value or b"" for record in read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))]
    acks = [message for message in map(decode_usage, records) if isinstance(message, CommandAck)]
    assert {ack.run_id for ack in acks} == {f"run-{name.replace(' ', '-')}" for name in asking("")}
    assert MARKER.encode() not in b"".join(records)
    assert MARKER not in gateway.text
    with capsys.disabled():
        print("\n  from cause to denied step:", ", ".join(f"{name} {ms:.0f} ms" for name, ms in waits_ms.items()))


def test_an_agent_is_told_of_its_loop_before_it_is_stopped(
    kafka_topics: TopicSpace, tmp_path: Path, gateway: GatewayProcess, token: str
) -> None:
    """Once, where the answer gets to the model: by a plain check, and by what a coding agent asks after a tool; not by
    what it asks before one.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.replace("enforce", "alert"), encoding="utf-8")
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy) as worker:
        worker.wait_said("state restored")
        for run_id, (path, question) in {
            "plain": ("/v1/guard/check", {"run_id": "plain"}),
            "coder": ("/hooks/claude", {"session_id": "coder", "hook_event_name": "PostToolUse"}),
        }.items():
            before = json.dumps({"session_id": run_id, "hook_event_name": "PreToolUse"}).encode()
            body = json.dumps(question).encode()
            loop(gateway, token, run_id, calls=4)
            told = wait_until(lambda p=path, b=body: sentence_in(gateway.post(p, b, token)[1]), 30, "it is told")  # type: ignore[misc]
            assert "search" in told
            assert gateway.post("/hooks/claude", before, token) == (200, {})
            assert sentence_in(gateway.post(path, body, token)[1]) is None, "once is enough"


def test_a_question_that_cannot_be_understood_is_refused_in_words(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """And one without a key that may ask: nobody learns of other tenants' runs."""
    for path in ("/v1/guard/check", "/hooks/claude", "/guard/portkey", "/beta/litellm_basic_guardrail_api"):
        status, answer = gateway.post(path, b"{}", token)
        assert (status, bool(answer["error"])) == (400, True), path
        assert gateway.post(path, b"{}", None)[0] == 401


def test_who_wants_to_stop_while_nothing_is_known_is_stopped(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that this gateway's keys cannot verify makes it blind: one key says go on then, another says stop."""
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    carefree = new_key(bootstrap, prefix, "acme", "guard", capture=capsys)
    careful = new_key(bootstrap, prefix, "acme", "guard", capture=capsys, when_blind="stop")
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    ingest = new_key(bootstrap, prefix, "acme", "ingest", capture=capsys)
    other: dict[str, Any] = {"ENGINE_KEY": "another root key than the engine's own"}
    with (
        WorkerProcess(bootstrap, prefix, policy) as worker,
        GatewayProcess(bootstrap, prefix, tmp_path / "spool", **other) as gateway,
    ):
        gateway.wait_ready()
        worker.wait_said("state restored")
        loop(gateway, ingest, "run-1")
        body = json.dumps({"run_id": "run-2"}).encode()
        wait_until(
            lambda: gateway.post("/v1/guard/check", body, carefree)[1].get("blind"), 30, "it says that it is blind"
        )
        assert gateway.post("/v1/guard/check", body, carefree)[1]["decision"] == "continue"
        assert gateway.post("/v1/guard/check", body, careful)[1]["decision"] == "stop"
