"""What docs/policy.md and the example policies promise, tried."""

import re
from pathlib import Path
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import UsageSeen
from schemas.control import Command
from tests.support import messages
from tests.support.messages import MONDAY_MS, SECOND_MS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "policy.md"
EXAMPLES = sorted((ROOT / "infra" / "policies").glob("*.toml"))
OPUS = ("claude-opus-4-6", "openrouter/anthropic/claude-opus-4-6", "us.anthropic.claude-opus-4-6-v1:0")
DOCUMENTATION_AGENT = ROOT / "infra" / "policies" / "documentation-agent.toml"


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
def test_every_example_of_the_page_is_a_policy(text: str) -> None:
    """Whoever copies one gets no fault."""
    assert read_policy_toml(text).rules


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_file_is_a_policy(path: Path) -> None:
    """Whoever starts from one gets no fault."""
    assert read_policy_toml(path.read_text(encoding="utf-8")).rules


def _calls_until_killed(**fields: Any) -> tuple[int, str]:
    """After how many calls, each a second after the one before, the run is killed, and by which rule."""
    engine = Engine(read_policy_toml(DOCUMENTATION_AGENT.read_text(encoding="utf-8")))
    for number in range(1, 41):
        at_ms = MONDAY_MS + number * SECOND_MS
        own: dict[str, Any] = {name: value(number) if callable(value) else value for name, value in fields.items()}
        engine.handle(UsageSeen(messages.llm_call(at_ms, run_id="d", workflow="docs-agent", **own), at_ms))
        for effect in engine.drain_effects():
            if isinstance(effect.value, Command) and effect.value.action == "kill":
                return number, effect.value.rule
    return 0, ""


def test_eighteen_retries_stop_the_documentation_agent() -> None:
    """Each retry reloads the context, so that no two prompts are equal: the ninth is one too many."""
    calls = _calls_until_killed(
        usd=0.2,
        attempt=2,
        context_reload=True,
        prompt_hash=lambda number: f"p{number}",
        input_tokens=lambda n: 9_000 + n,
    )
    assert calls == (9, "docs-run")


def test_the_same_prompt_again_stops_it_sooner() -> None:
    """Five attempts at one call are a storm."""
    assert _calls_until_killed(usd=0.2, attempt=lambda n: n, prompt_hash="p", input_tokens=9_000) == (5, "retries")


def test_a_premium_fallback_stops_it_through_any_gateway() -> None:
    """Five premium calls are allowed, by whatever name the gateway calls the model."""
    calls = _calls_until_killed(
        usd=0.2,
        model=lambda n: (
            "claude-opus-4-6",
            "openrouter/anthropic/claude-opus-4-6",
            "us.anthropic.claude-opus-4-6-v1:0",
        )[n % 3],
        prompt_hash=lambda number: f"p{number}",
        input_tokens=lambda n: 9_000 + n,
    )
    assert calls == (6, "docs-run")
