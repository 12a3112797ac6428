"""Claude Code, Codex and Gemini CLI themselves, with a model on loopback that runs one command over and over.

Their telemetry and their hooks are set as docs/connect says, and point at the running gateway. Each is stopped for its
loop by its own hook: the step after the kill is not done. What they used up is counted once, and nothing of what was
said is in any topic.
"""

import json
import re
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
PAGES = Path(__file__).parents[2] / "docs" / "connect"
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


def page(name: str, at: Setting) -> str:
    """What the page of a program says to write, with this gateway and key."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    block = text.partition("```")[2].partition("\n")[2].partition("```")[0]
    return block.replace("http://127.0.0.1:8440", at.gateway).replace("sf_…", at.token)


def claude_code(at: Setting) -> tuple[list[str], dict[str, str]]:
    [binary] = (environment_of("claude-code") / "node_modules" / "@anthropic-ai").glob("claude-code-*/claude")
    settings = json.loads(page("claude-code", at))
    if at.stops:
        (command,) = re.findall(
            r"^    (curl .*)$", (PAGES / "claude-code.md").read_text(encoding="utf-8"), re.MULTILINE
        )
        hook = {"type": "command", "command": command.replace("http://127.0.0.1:8440", at.gateway), "timeout": 10}
        settings["hooks"] = {event: [{"hooks": [hook]}] for event in settings["hooks"]}
    (at.home / ".claude").mkdir()
    (at.home / ".claude" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {
        "ANTHROPIC_BASE_URL": at.models, "ANTHROPIC_API_KEY": "none", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1", "OTEL_LOGS_EXPORT_INTERVAL": "500",
        # what would count a request for the second time
        "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp",
    }  # fmt: skip
    return [str(binary), "-p", MARKER, "--allowedTools", "Bash", "--model", "claude-sonnet-4-5"], environment


def codex(at: Setting) -> tuple[list[str], dict[str, str]]:
    binary = environment_of("codex") / "node_modules" / ".bin" / "codex"
    told = page("codex", at)
    (at.home / ".codex").mkdir()
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
{told if at.stops else told.replace(" || exit 2", "")}
""",
        encoding="utf-8",
    )
    command = [str(binary), "exec", "--dangerously-bypass-hook-trust", "--skip-git-repo-check", MARKER]
    return command, {"NO_KEY": "none", "SF": at.token}


def gemini_cli(at: Setting) -> tuple[list[str], dict[str, str]]:
    binary = environment_of("gemini-cli") / "node_modules" / ".bin" / "gemini"
    told = page("gemini-cli", at)
    settings = json.loads(told if at.stops else told.replace("exit 2", "echo '{}'"))
    settings |= {
        "security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False}, "model": {"disableLoopDetection": True},
    }  # fmt: skip
    (at.home / ".gemini").mkdir()
    (at.home / ".gemini" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {
        "GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": at.models, "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer {at.token}", "SF": at.token,
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
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(at.home), **environment},
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
