"""Claude Code, Codex and Gemini CLI themselves, with a model on loopback that runs one command over and over.

Their telemetry and their hooks point at the running gateway. Each is stopped for its loop by its own hook: the step
after the kill is not done. What they used up is counted once, and nothing of what was said is in any topic.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from schemas.codec import decode_usage
from schemas.usage import CommandAck, LlmCall, ToolCall, UsageMessage
from tests.support.connect import environment_of
from tests.support.fake_models import CACHED, INPUT, OUTPUT, REASONING, FakeModels
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all
from tests.support.worker_process import WorkerProcess

POLICY = 'version = "coding agents"\n[[repeat]]\nname = "same-call-again"\nmode = "enforce"\n'
MARKER = "a-secret-that-must-not-pass-4711"
NUDGE = "same result"
TIMES = 60
"""How often the model asks for its command, unless it is stopped."""
LONGEST_S = 120
pytestmark = pytest.mark.kafka


class Setting(NamedTuple):
    """Where a program runs: a home of its own, the gateway, its key, the model, and what is wanted in silence."""

    home: Path
    gateway: str
    token: str
    models: str
    stops: bool
    """Whether it is to stop while no gateway answers."""


class Program(NamedTuple):
    """How to run one of them, as docs/connect says.

    Args:
        workflow: what its runs are called.
        output_tokens: of each call, as its provider charges them.
        start: from where it runs to its command line and environment.
    """

    workflow: str
    output_tokens: int
    start: Callable[[Setting], tuple[list[str], dict[str, str]]]


def curl(at: Setting, path: str, otherwise: str = "exit 2") -> str:
    """A command hook: what it is told goes to the gateway, what that answers to the program."""
    return f'curl -sSf -m 5 -H "Authorization: Bearer $SF" --data-binary @- {at.gateway}{path} || {otherwise}'


def claude_code(at: Setting) -> tuple[list[str], dict[str, str]]:
    [binary] = (environment_of("claude-code") / "node_modules" / "@anthropic-ai").glob("claude-code-*/claude")
    hook = {"type": "http", "url": f"{at.gateway}/hooks/claude", "timeout": 5, "allowedEnvVars": ["SF"],
            "headers": {"Authorization": "Bearer $SF"}}  # fmt: skip
    if at.stops:
        hook = {"type": "command", "command": curl(at, "/hooks/claude"), "timeout": 10}
    events = ("UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure")
    settings = {"hooks": {event: [{"hooks": [hook]}] for event in events}}
    (at.home / ".claude").mkdir()
    (at.home / ".claude" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {
        "ANTHROPIC_BASE_URL": at.models, "ANTHROPIC_API_KEY": "none", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1", "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": at.gateway,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_LOGS_EXPORT_INTERVAL": "500",
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer {at.token}", "DISABLE_AUTOUPDATER": "1",
    }  # fmt: skip
    return [str(binary), "-p", MARKER, "--allowedTools", "Bash", "--model", "claude-sonnet-4-5"], environment


def codex(at: Setting) -> tuple[list[str], dict[str, str]]:
    binary = environment_of("codex") / "node_modules" / ".bin" / "codex"
    (at.home / ".codex").mkdir()
    hook = curl(at, "/hooks/codex", "exit 2" if at.stops else "exit 1")
    exporter = f'endpoint = "{at.gateway}/v1/logs", protocol = "json"'
    (at.home / ".codex" / "config.toml").write_text(
        f"""
model = "gpt-5.1-codex"
model_provider = "loopback"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.loopback]
name = "loopback"
base_url = "{at.models}/v1"
env_key = "NO_KEY"
wire_api = "responses"
[otel]
exporter = {{ otlp-http = {{ {exporter}, headers = {{ "Authorization" = "Bearer {at.token}" }} }} }}
metrics_exporter = "none"
"""
        + "".join(
            f"[[hooks.{event}]]\n[[hooks.{event}.hooks]]\ntype = 'command'\ncommand = '{hook}'\n"
            for event in ("UserPromptSubmit", "PreToolUse", "PostToolUse")
        ),
        encoding="utf-8",
    )
    command = [str(binary), "exec", "--dangerously-bypass-hook-trust", "--skip-git-repo-check", MARKER]
    return command, {"NO_KEY": "none"}


def gemini_cli(at: Setting) -> tuple[list[str], dict[str, str]]:
    binary = environment_of("gemini-cli") / "node_modules" / ".bin" / "gemini"
    command = curl(at, "/hooks/gemini", "exit 2" if at.stops else "echo '{}'")
    hook = [{"hooks": [{"type": "command", "command": command}]}]
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False}, "model": {"disableLoopDetection": True},
        "telemetry": {"enabled": True, "target": "local", "otlpEndpoint": at.gateway, "otlpProtocol": "http",
                      "logPrompts": False},
        "hooks": {"BeforeTool": hook, "AfterTool": hook, "BeforeModel": hook},
    }  # fmt: skip
    (at.home / ".gemini").mkdir()
    (at.home / ".gemini" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {
        "GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": at.models, "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer {at.token}",
    }  # fmt: skip
    return [str(binary), "--yolo", "-m", "gemini-2.5-pro", "-p", MARKER], environment


PROGRAMS = {
    "Claude Code": Program("claude-code", OUTPUT, claude_code),
    "Codex": Program("codex", OUTPUT, codex),
    "Gemini CLI": Program("gemini-cli", OUTPUT + REASONING, gemini_cli),
}


def run(program: Program, at: Setting) -> str:
    """Run it to its end, with an environment in which there is nothing else; what it said."""
    at.home.mkdir()
    command, environment = program.start(at)
    work = at.home / "work"
    work.mkdir()
    done = subprocess.run(
        command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_S, check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(at.home), "SF": at.token, **environment},
    )  # fmt: skip
    return done.stdout + done.stderr


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
