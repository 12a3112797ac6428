"""The real client of Langfuse against the running gateway, which stands where Langfuse's server would."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.identity import derived_id
from schemas.codec import decode_usage
from schemas.usage import LlmCall, ToolCall
from tests.support.connect import environment_of, run_client
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all

MARKER = "a-secret-that-must-not-pass-4711"
pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def packages() -> None:
    environment_of("langfuse")


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", capture=capsys)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as process:
        process.wait_ready()
        yield process


def test_langfuse_generations_are_charged_with_all_of_their_input(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """Cached tokens are a part of the total, whichever way they were reported; cost, prompt and environment are there;
    the agent's span is not charged, a failed call is one, and no text is anywhere.
    """
    public, secret = token.rsplit("_", 1)
    (told,) = run_client("langfuse", "langfuse_spans.py", f"http://127.0.0.1:{gateway.gateway_port}", public, secret)
    records = read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))
    messages = [decode_usage(record.value) for record in records]
    calls = {message.model: message for message in messages if isinstance(message, LlmCall)}
    (tool,) = (message for message in messages if isinstance(message, ToolCall))
    assert len(messages) == 3
    answer, check = calls["claude-sonnet-4-5"], calls["gpt-4.1"]
    assert (answer.input_tokens, answer.cache_read_tokens, answer.cache_write_tokens) == (1012, 900, 100)
    assert (answer.output_tokens, answer.cost_nanousd, answer.price_source) == (40, 1_250_000, "reported:langfuse")
    assert (answer.prompt_version, answer.environment) == ("support@3", "prod")
    assert answer.event_id == derived_id("otel", told["answer"]["traceId"], told["answer"]["id"])
    assert (check.input_tokens, check.output_tokens, check.status) == (500, 20, "error")
    assert (tool.tool, tool.run_id) == ("search", answer.run_id)
    for topic in ("usage.v1", "usage.dlq.v1"):
        for record in read_all(kafka_topics.bootstrap, kafka_topics.name(topic)):
            assert MARKER.encode() not in (record.value or b"")
    assert MARKER not in gateway.text


def test_a_wrong_secret_is_refused(gateway: GatewayProcess, kafka_topics: TopicSpace, token: str) -> None:
    """Of a public key that is known, too; nothing of it is in the log."""
    public, secret = token.rsplit("_", 1)
    wrong = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    run_client("langfuse", "langfuse_spans.py", f"http://127.0.0.1:{gateway.gateway_port}", public, wrong)
    assert gateway.metric("spendfuse_gateway_requests_total") == {'source="langfuse",status="401"': 1.0}
    assert not list(read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1")))
