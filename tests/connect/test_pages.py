"""The Python of the pages for frameworks runs as it stands: what it asks of a model is reported."""

from pathlib import Path

import pytest

from schemas.usage import LlmCall
from tests.connect.test_sdk_frameworks import World, needs, world
from tests.support.connect import ROOT

__all__ = ["world"]

PAGES = {
    "openai": "frameworks", "anthropic": "frameworks", "langchain": "frameworks", "openai-agents": "frameworks",
    "pydantic-ai": "frameworks", "crewai": "crewai", "autogen": "autogen", "gptcache": "gptcache",
    "claude-agent-sdk": "claude-agent", "litellm": "litellm",
}  # fmt: skip
"""Page -> the environment that it runs in."""
ONLY_SET_UP = {"crewai", "autogen", "gptcache", "litellm"}
"""Pages whose Python asks nothing yet: what is asked with it is in tests/connect/clients."""
pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("page", [pytest.param(page, marks=needs(system)) for page, system in PAGES.items()])
def test_python_of_a_page_runs(world: World, page: str) -> None:  # the fixture
    """Whoever pastes it, sets address and key, and asks, is reported: each call once, and nothing is missing."""
    path: Path = ROOT / "docs" / "connect" / f"{page}.md"
    said = world.play("page.py", PAGES[page], PAGE=str(path), CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true")
    reported = [message for message in world.log() if isinstance(message, LlmCall)]
    assert said["missing"] == 0
    assert len(reported) == said["asked"]
    assert bool(reported) == (page not in ONLY_SET_UP)
