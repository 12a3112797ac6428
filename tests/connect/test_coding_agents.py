"""Claude Code, Codex and Gemini CLI themselves, with a model on loopback that runs one command over and over.

Their telemetry and their hooks are set as docs/connect says, and point at the running gateway. Each is stopped for its
loop by its own hook: the step after the kill is not done. What they used up is counted once, and nothing of what was
said is in any topic.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.codec import decode_usage
from schemas.usage import CommandAck, LlmCall, ToolCall, UsageMessage
from tests.support.coding_agents import MARKER, PROGRAMS, Setting, run
from tests.support.fake_models import CACHED, INPUT, FakeModels
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all
from tests.support.worker_process import WorkerProcess

POLICY = 'version = "coding agents"\n[[repeat]]\nname = "same-call-again"\nmode = "enforce"\n'
NUDGE = "same result"
TIMES = 60
"""How often the model asks for its command, unless it is stopped."""
pytestmark = pytest.mark.kafka


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as process:
        process.wait_ready()
        yield process


def counted(space: TopicSpace) -> list[UsageMessage]:
    """What is in the log, each event once, as it came first."""
    found: dict[str, UsageMessage] = {}
    for record in read_all(space.bootstrap, space.name("usage.v1")):
        assert MARKER.encode() not in (record.value or b"")
        message = decode_usage(record.value)
        found.setdefault(message.event_id, message)
    return list(found.values())


@pytest.mark.parametrize(
    ("name", "stops"), [("Claude Code", False), ("Claude Code", True), ("Codex", True), ("Gemini CLI", True)],
    ids=["Claude Code, HTTP hooks", "Claude Code, command hooks", "Codex", "Gemini CLI"],
)  # fmt: skip
def test_what_it_does_is_counted_once_and_its_loop_is_stopped(
    name: str, stops: bool, kafka_topics: TopicSpace, tmp_path: Path, gateway: GatewayProcess, token: str
) -> None:
    """First a session of one command: two calls of the model, with tokens as the provider charges them, and one of a
    tool. Then one that loops: its hook denies the next step with the reason, and the model hears it.
    """
    program = PROGRAMS[name]
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    url = f"http://127.0.0.1:{gateway.gateway_port}"
    with FakeModels(f"echo {MARKER}", times=1) as models:
        said = run(program, Setting(tmp_path / "quiet", url, token, models.url, stops))
    assert models.calls == 2, said
    messages = counted(kafka_topics)
    calls = [message for message in messages if isinstance(message, LlmCall)]
    assert [(call.input_tokens, call.cache_read_tokens, call.output_tokens) for call in calls] == [
        (INPUT, CACHED, program.output_tokens)
    ] * 2
    (tool,) = (message for message in messages if isinstance(message, ToolCall))
    assert tool.args_hash is not None
    assert {message.run_id for message in messages} == {tool.session_id}
    assert {message.workflow for message in messages} == {program.workflow}

    ran = tmp_path / "ran"
    with (
        WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy) as worker,
        FakeModels(f"echo {MARKER} | tee -a {ran}; sleep 0.3", TIMES) as models,
    ):
        worker.wait_said("state restored")
        said = run(program, Setting(tmp_path / "loop", url, token, models.url, stops))
    times = ran.read_text(encoding="utf-8").count(MARKER)
    assert times < TIMES, f"{said}\nit was never stopped"
    messages = counted(kafka_topics)
    (stopped,) = (one for one in messages if isinstance(one, CommandAck) and one.acted == "stopped")
    assert stopped.run_id != tool.run_id
    assert any("same-call-again" in told for told in [said, *models.heard])
    told = [one for one in messages if isinstance(one, CommandAck) and one.acted == "delivered"]
    assert len(told) == 1, "it is told of its loop, once"
    assert any(NUDGE in asked for asked in models.asked), "and its model hears it"
    print(f"\n  {name}: stopped after {times} calls")
    assert MARKER not in gateway.text


@pytest.mark.parametrize("stops", [True, False], ids=["stops", "goes on"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_while_no_gateway_answers_it_does_as_was_chosen(name: str, stops: bool, tmp_path: Path) -> None:
    """Whoever sets up the hook decides, by how it ends; a program whose telemetry finds nobody goes on as well."""
    ran = tmp_path / "ran"
    with FakeModels(f"echo hello | tee -a {ran}", times=1) as models:
        said = run(PROGRAMS[name], Setting(tmp_path / "home", "http://127.0.0.1:9", "none", models.url, stops))
    assert ran.exists() != stops, said
