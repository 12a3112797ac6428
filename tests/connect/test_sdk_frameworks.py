"""The libraries that agents are made with, against a running gateway: each reports once, and is stopped by two lines.

Each program of `clients` plays an agent; its model is a fake on loopback, or the library's own.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from spendfuse import ack_id

from schemas.codec import decode_usage, encode
from schemas.control import Target
from schemas.signing import EngineKeys, control_key, nudge_key
from schemas.usage import CommandAck, LlmCall, RunFinished, RunStarted, ToolCall, UsageMessage
from streams.clock import wall_ms
from tests.support import facts
from tests.support.connect import ENVIRONMENTS, run_client
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.service_process import ENGINE_KEY

MARKER = "somebody-s-own-words-4711"
pytestmark = pytest.mark.kafka


def needs(system: str) -> pytest.MarkDecorator:
    """Skip a test, by the system's name, where its packages are not: before anything is started for it."""
    is_there = (ENVIRONMENTS / system / "lock").is_file()
    return pytest.mark.skipif(
        not is_there, reason=f"the packages of {system} are not here; `make connect-tests` has them"
    )


class World:
    """A gateway with a key for it, and somebody who gives commands when a program asks for them."""

    def __init__(self, space: TopicSpace, gateway: GatewayProcess, token: str) -> None:
        self.space, self.gateway, self.token = space, gateway, token
        self.given: list[str] = []

    def give(self, action: str, run_id: str, reason: str) -> None:
        """Command a run as the engine does."""
        now_ms, seq = wall_ms(), len(self.given) + 1
        self.given.append(f"{action}-{run_id}-{seq}")
        fields: dict[str, Any] = {
            "command_id": self.given[-1], "reason": reason, "issued_ms": now_ms, "expires_ms": now_ms + 600_000,
            "seq": seq,
        }  # fmt: skip
        command = facts.command(action, Target("run", run_id), **fields)
        value = encode(command)
        headers = EngineKeys(ENGINE_KEY.encode()).command_headers(command, value, "engine")
        key = nudge_key("acme", run_id) if action == "nudge" else control_key("acme", "run", run_id)
        produce(self.space.bootstrap, self.space.name("control.v1"), [Record(value, key.encode(), tuple(headers))])

    @contextmanager
    def commands(self) -> Iterator[str]:
        """Where a program asks for a command."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _commands(self))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()

    def play(self, script: str, system: str = "frameworks", **environment: str) -> dict[str, Any]:
        """Run a program to its end; what it has said."""
        address = f"http://127.0.0.1:{self.gateway.gateway_port}"
        with self.commands() as commands:
            lines = run_client(
                system, script, SPENDFUSE_URL=address, SPENDFUSE_KEY=self.token, COMMANDS=commands, **environment
            )
        return {name: value for line in lines for name, value in line.items()}

    def log(self, *, is_sent_once: bool = True) -> list[UsageMessage]:
        """What is in usage.v1, each event id once; nothing of what anybody said is there, or in the gateway's log."""
        records = read_all(self.space.bootstrap, self.space.name("usage.v1"))
        assert MARKER.encode() not in b"".join(record.value or b"" for record in records)
        assert MARKER not in self.gateway.text
        messages = {message.event_id: message for message in (decode_usage(record.value or b"") for record in records)}
        assert len(messages) == len(records) or not is_sent_once, "nothing is sent twice"
        return list(messages.values())


def _commands(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            world.give(**json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def world(kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    token = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        yield World(kafka_topics, gateway, token)


def model_calls(log: list[UsageMessage], run_id: str) -> list[LlmCall]:
    """A run's calls to models."""
    return [message for message in log if isinstance(message, LlmCall) and message.run_id == run_id]


def tool_calls(log: list[UsageMessage], run_id: str) -> list[ToolCall]:
    """A run's calls to tools."""
    return [message for message in log if isinstance(message, ToolCall) and message.run_id == run_id]


def ended(log: list[UsageMessage]) -> dict[str, str]:
    """How each run has ended."""
    return {run.run_id: run.status for run in log if isinstance(run, RunFinished)}


def cut(log: list[UsageMessage], run_id: str) -> Counter[tuple[str, int, int | None]]:
    """How each of a run's streams ended, with the parts that had come by then, and what was said to be its cost."""
    return Counter((call.status, call.output_tokens, call.cost_nanousd) for call in model_calls(log, run_id))


def check_answer(log: list[UsageMessage], run_id: str, denied_by: str) -> None:
    """The kill of the run is answered once, with whose hook denied."""
    acks = [ack for ack in log if isinstance(ack, CommandAck) and ack.run_id == run_id and ack.acted == "stopped"]
    assert [(ack.denied_by, ack.event_id) for ack in acks] == [(denied_by, ack_id("acme", run_id, acks[0].command_id))]


@needs("frameworks")
def test_openai_client(world: World) -> None:
    """`guarded(OpenAI())`: every way of asking is reported once, under the response's own id, with what it cost; a
    stream shows no chunk that nobody has asked for. Killed, a stream under way ends, and nothing is asked any more.
    """
    said = world.play("sdk_openai.py")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"]) + 1, "embeddings have no id"
    chats = [call for call in calls if call.model != "text-embedding-3-small"]
    assert {
        (call.input_tokens, call.cache_read_tokens, call.output_tokens, call.reasoning_tokens) for call in chats
    } == {(100, 40, 20, 5)}
    assert {(call.model, call.route, call.provider, call.status) for call in chats} == {
        ("gpt-5-2025-08-07", "gpt-5", "openai", "ok")
    }
    faults = Counter((call.status, call.error_type, call.cost_nanousd) for call in model_calls(log, "faults"))
    assert faults == {("cancelled", None, None): 1, ("error", "InternalServerError", 0): 1}
    assert cut(log, "left") == {("error", 2, None): 1, ("cancelled", 0, None): 1, ("cancelled", 1, None): 2}
    assert (said["told"], said["last"]) == (1, "you have done this before")
    tools = tool_calls(log, "tools")
    assert [tool.tool for tool in tools] == ["search"] * 3, "the fourth result goes to no model"
    assert len({(tool.args_hash, tool.result_hash) for tool in tools}) == 1, "a loop is seen"
    kept = tool_calls(log, "kept")
    assert [tool.tool for tool in kept] == ["search"] * 2, "the provider keeps what was asked"
    assert len({tool.args_hash for tool in kept}) == 2, "two questions are two"
    (alone,) = [run for run in log if isinstance(run, RunStarted) and run.workflow == "support"]
    assert alone.cap_nanousd == 2_500_000_000, "a call in nobody's block is a run of its own, as the client was told"
    assert len(model_calls(log, alone.run_id)) == 1
    assert ended(log)[alone.run_id] == "completed"
    assert said["stopped"] == ["given by the test"] * 3
    assert said["calls_after"] == 0
    assert [call.status for call in model_calls(log, "killed")] == ["ok", "cancelled"]
    check_answer(log, "killed", "spendfuse.openai")


@needs("frameworks")
def test_anthropic_client(world: World) -> None:
    """`guarded(Anthropic())`: as with OpenAI's; input is told with its cached parts, and a stream that was cut off with
    what it had cost by then.
    """
    said = world.play("sdk_anthropic.py")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"]) == 6
    kinds = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens")
    assert {tuple(getattr(call, kind) for kind in kinds) for call in calls} == {(100, 40, 10, 4, 20)}
    assert {(call.model, call.provider, call.service_tier) for call in calls} == {
        ("claude-sonnet-4-5", "anthropic", "standard")
    }
    assert [(tool.tool, tool.status) for tool in tool_calls(log, "tools")] == [("search", "ok"), ("search", "error")]
    assert said["told"] == "you have done this before"
    assert said["stopped"] == ["given by the test"] * 3
    assert said["calls_after"] == 0
    (cut,) = model_calls(log, "killed")
    assert (cut.status, cut.input_tokens, cut.output_tokens) == ("cancelled", 100, 1)
    check_answer(log, "killed", "spendfuse.anthropic")


@needs("frameworks")
def test_langchain_and_langgraph(world: World) -> None:
    """A callback handler: models and tools are reported once, plain, streamed or awaited; one `invoke` is a run of its
    thread. A stream that breaks off or is left costs what has come of it. A nudge is put before the model of an agent
    with the middleware, once. A run that is killed while a tool works asks no model any more, and uses no tool; one
    that is killed in a stream ends with it. A tool that waits for a person has not failed.
    """
    said = world.play("sdk_langchain.py")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"]) == 3
    assert {(call.model, call.route, call.provider) for call in calls} == {("gpt-5-2025-08-07", "gpt-5", "openai")}
    assert {
        (call.input_tokens, call.cache_read_tokens, call.output_tokens, call.reasoning_tokens) for call in calls
    } == {(100, 40, 20, 5)}
    threads = [run for run in log if isinstance(run, RunStarted) and run.session_id == "thread-1"]
    assert [run.workflow for run in threads] == ["support"] * 2
    tools = [tool for run in threads for tool in tool_calls(log, run.run_id)]
    assert [(tool.tool, tool.status) for tool in tools] == [("search", "ok")] * said["used"]
    assert sum(len(model_calls(log, run.run_id)) for run in threads) == said["used"] + 2
    assert [ended(log)[run.run_id] for run in threads] == ["completed"] * 2
    assert cut(log, "streams") == {("error", 2, None): 1, ("cancelled", 1, None): 1}
    assert (said["cut"], cut(log, "cut")) == ("given by the test", {("cancelled", 2, None): 1})
    assert [(tool.tool, tool.status) for tool in tool_calls(log, "person")] == [("approve", "ok")]
    assert said["heard"] == [1, 0, 1, 0]
    assert said["stopped"] == ["given by the test"] * 4
    assert (said["asked_after"], said["used_after"]) == (1, 1), "the tool that was under way, and the model before it"
    check_answer(log, "killed", "spendfuse.langchain")


@needs("frameworks")
def test_openai_agents(world: World) -> None:
    """Run hooks: a model is reported once, by its response's id, whatever spans sum it up; with tracing or without. A
    nudge is put before the model; a run that is killed while a tool works asks no model any more.
    """
    said = world.play("sdk_openai_agents.py")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"]) == 3
    assert {(call.model, call.input_tokens, call.cache_read_tokens, call.output_tokens, call.reasoning_tokens)
            for call in calls} == {("gpt-5-2025-08-07", 100, 40, 20, 5), ("gpt-5", 100, 40, 20, 5)}  # fmt: skip
    assert [tool.tool for tool in tool_calls(log, "tools")] == ["search"] * 2
    assert said["told"][0] == {"role": "user", "content": "you have done this before"}
    traced = "trace_0123456789abcdef0123456789abcdef"
    assert len(model_calls(log, traced)) == 1
    started = [run for run in log if isinstance(run, RunStarted) and run.run_id == traced]
    assert [(run.workflow, run.session_id) for run in started] == [("support desk", "group-1")]
    assert ended(log)[traced] == "completed"
    assert sorted(ended(log)[run_id] for run_id in said["failed"]) == ["failed", "failed"], "by a model, by a tool"
    assert len(model_calls(log, "nested")) == 3, "the agent that is another's tool as well"
    assert len(model_calls(log, "untraced")) == 1
    assert said["stopped"] == ["you have done this before"] * 2
    assert (said["asked_after"], said["used_after"]) == (1, 1), "the tool that was under way, and the model before it"
    check_answer(log, "killed", "spendfuse.openai_agents")


@needs("frameworks")
def test_pydantic_ai(world: World) -> None:
    """A capability: models and tools are reported once, plain and streamed; a run of the agent is a run of its
    conversation. A stream that breaks off or is left costs what has come of it. A nudge is put before the model; a run
    that is killed while a tool works asks no model any more.
    """
    said = world.play("sdk_pydantic_ai.py")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"]) == 2
    assert {(call.model, call.input_tokens, call.cache_read_tokens, call.output_tokens, call.reasoning_tokens)
            for call in calls} == {("gpt-5-2025-08-07", 100, 40, 20, 5)}  # fmt: skip
    assert cut(log, "streams") == {("cancelled", 1, None): 2}
    assert [tool.tool for tool in tool_calls(log, "tools")] == ["search"] * 2
    assert said["told"] == 2, "it stays in the conversation"
    (own,) = [run for run in log if isinstance(run, RunStarted) and run.session_id == "conversation-1"]
    assert (own.workflow, len(model_calls(log, own.run_id))) == ("asker", 1)
    assert said["stopped"] == ["you have done this before"] * 2
    assert (said["asked_after"], said["used_after"]) == (1, 1), "the tool that was under way, and the model before it"
    check_answer(log, "killed", "spendfuse.pydantic_ai")


@needs("claude-agent")
def test_claude_agent_sdk(world: World) -> None:
    """`query` and `ClaudeSDKClient`, with Claude Code itself: each answer is reported once with all that it cost, each
    tool with its hashes; a session is a run. A nudge reaches the model; a run that is killed uses no tool any more and
    asks no model.
    """
    said = world.play("sdk_claude_agent.py", "claude-agent")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"])
    kinds = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens")
    assert {tuple(getattr(call, kind) for kind in kinds) for call in calls} == {(100, 40, 10, 4, 20)}
    assert "StreamEvent" not in said["kinds"], "no message that nobody has asked for"
    assert [tool.tool for tool in tool_calls(log, "tools")] == ["Bash"]
    assert said["told"] == 1
    assert len(model_calls(log, said["session"])) == 1
    assert [run.status for run in log if isinstance(run, RunFinished) and run.run_id == said["session"]] == [
        "completed"
    ]
    assert said["stopped"] == ["you have done this before"] * 2
    assert said["asked_after"] == 1
    assert tool_calls(log, "killed") == []
    talk = [message for message in log if message.run_id == said["talk"]]
    assert [type(message) for message in talk] == [RunStarted, LlmCall, LlmCall, RunFinished], "one run, two turns"
    assert ended(log)[said["talk"]] == "completed"
    check_answer(log, "killed", "spendfuse.claude_agent")


@needs("crewai")
def test_crewai(world: World) -> None:
    """Hooks and a listener: models and tools are reported once; a kickoff is a run. A nudge is put before the model; a
    run that is killed while a tool works asks no model any more.
    """
    said = world.play("sdk_crewai.py", "crewai", CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"]) == 1
    assert {(call.model, call.input_tokens, call.cache_read_tokens, call.output_tokens, call.reasoning_tokens)
            for call in calls} == {("gpt-5", 100, 40, 20, 5)}  # fmt: skip
    assert [tool.tool for tool in tool_calls(log, "tools")] == ["search"]
    assert said["told"] == 1
    (own,) = [run for run in log if isinstance(run, RunStarted) and run.workflow == "support desk"]
    assert len(model_calls(log, own.run_id)) == 1
    assert [run.status for run in log if isinstance(run, RunFinished) and run.run_id == own.run_id] == ["completed"]
    assert said["stopped"] == ["you have done this before"] * 2
    assert (said["asked_after"], said["used_after"]) == (1, 1), "the tool that was under way, and the model before it"
    check_answer(log, "killed", "spendfuse.crewai")


@needs("autogen")
def test_autogen(world: World) -> None:
    """A guarded model client: models and tools are reported once, plain and streamed, and streams are asked what they
    have cost. One that breaks off or is left costs what has come of it. A nudge reaches the model; a run that is killed
    while a tool works asks no model any more, and one that is killed in a stream ends with it.
    """
    said = world.play("sdk_autogen.py", "autogen")
    log = world.log()
    calls = model_calls(log, "ways")
    assert len(calls) == len(said["ids"]) == 2
    kinds = ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")
    assert [tuple(getattr(call, kind) for kind in kinds) for call in calls] == [(100, 40, 20, 5), (100, 0, 20, 0)]
    assert cut(log, "streams") == {("error", 2, None): 1, ("cancelled", 1, None): 1}
    assert (said["cut"], cut(log, "cut")) == ("given by the test", {("cancelled", 2, None): 1})
    assert [tool.tool for tool in tool_calls(log, "tools")] == ["search"] * 2
    assert said["told"] == 1
    assert said["stopped"] == ["you have done this before"] * 2
    assert (said["asked_after"], said["used_after"]) == (1, 1), "the tool that was under way, and the model before it"
    assert said["team"] == "RuntimeError", "AutoGen makes its own of whatever ends a team"
    assert ended(log)["team"] == "killed"
    check_answer(log, "killed", "spendfuse.autogen")


@needs("gptcache")
def test_gptcache(world: World) -> None:
    """GPTCache's adapter of OpenAI's client of before 1.0: a hit is reported with `cache_hit` and no cost, plain and
    as a stream; a run that is killed is given nothing, from the cache neither.
    """
    said = world.play("sdk_gptcache.py", "gptcache")
    log = world.log()
    assert said["hits"] == [False, True]
    calls = model_calls(log, "ways")
    assert [(call.cache_hit, call.input_tokens, call.cost_nanousd) for call in calls] == [
        (False, 100, None), (True, 0, 0), (True, 0, 0),
    ]  # fmt: skip
    assert len(said["ids"]) == 1
    assert said["stopped"] == ["given by the test"] * 2
    assert said["asked_after"] == 0
    check_answer(log, "killed", "spendfuse.gptcache")
