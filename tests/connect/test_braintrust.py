"""The real client of Braintrust against the running gateway, which stands where Braintrust's API would."""

from pathlib import Path

import pytest

from models.identity import derived_id
from schemas.codec import decode_usage
from schemas.usage import LlmCall, ToolCall
from tests.support.connect import environment_of, run_client
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all

MARKER = b"a-secret-that-must-not-pass-4711"
pytestmark = pytest.mark.kafka


def test_braintrusts_model_spans_are_charged_and_its_tasks_are_not(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By OpenTelemetry's names and by its own; a tool is a tool call; no text passes. A span's ids make the event's,
    as Braintrust's API will name them again.
    """
    environment_of("braintrust")
    token = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", capture=capsys)
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        (told,) = run_client(
            "braintrust", "braintrust_spans.py", BRAINTRUST_API_KEY=token, BRAINTRUST_PARENT="project_name:test",
            BRAINTRUST_API_URL=f"http://127.0.0.1:{gateway.gateway_port}",
        )  # fmt: skip
    records = read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))
    messages = [decode_usage(record.value) for record in records]
    calls = {message.model: message for message in messages if isinstance(message, LlmCall)}
    (tool,) = (message for message in messages if isinstance(message, ToolCall))
    assert len(messages) == 3
    otel, own = calls["gpt-4.1"], calls["claude-sonnet-4-5"]
    assert (otel.input_tokens, otel.output_tokens) == (500, 20)
    assert (own.input_tokens, own.cache_read_tokens, own.output_tokens, own.session_id) == (1000, 900, 50, "s-1")
    assert (otel.event_id, own.event_id) == (derived_id("otel", *told["otel"]), derived_id("otel", *told["own"]))
    assert (tool.tool, tool.run_id) == ("search", own.run_id)
    assert not any(MARKER in (record.value or b"") for record in records)
