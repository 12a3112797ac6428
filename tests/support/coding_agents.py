"""Claude Code, Codex and Gemini CLI themselves, set up as docs/connect says, each in a home of its own."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.connect import ROOT, environment_of
from tests.support.fake_models import OUTPUT, REASONING

PAGES: Final = ROOT / "docs" / "connect"
MARKER: Final = "a-secret-that-must-not-pass-4711"
"""What each is asked."""
LONGEST_S: Final = 120


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
