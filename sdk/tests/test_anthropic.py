"""What Anthropic's answers say, by the contract's names."""

import pytest

from spendfuse._integrations.anthropic_api import Anthropic

USAGE = {"input_tokens": 10, "output_tokens": 2, "speed": "fast"}


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        ({"model": "claude-opus-5", "usage": USAGE}, "claude-opus-5-fast"),
        ({"type": "message_start", "message": {"model": "claude-opus-5", "usage": USAGE}}, "claude-opus-5-fast"),
        ({"model": "claude-opus-5", "usage": {**USAGE, "speed": "standard"}}, "claude-opus-5"),
        ({"model": "claude-opus-5"}, "claude-opus-5"),
        ({"type": "message_delta", "usage": USAGE}, None),
    ],
)
def test_fast_mode_is_reported_as_a_model_of_its_own(answer: dict[str, object], model: str | None) -> None:
    """It is a setting of the call and costs more than the model: without it in the name the call would look cheap."""
    assert Anthropic().model(answer) == model
