"""The real manual logger of Helicone against the running gateway, which stands where Helicone's worker would."""

from pathlib import Path

import pytest

from schemas.codec import decode_usage
from schemas.usage import LlmCall, ToolCall
from tests.support.connect import environment_of, run_client
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all

MARKER = b"a-secret-that-must-not-pass-4711"
pytestmark = pytest.mark.kafka


def test_what_the_manual_logger_sends_is_counted(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By each of its paths: all of the input, a stream's last word, a tool with its hashes; in the session's run."""
    environment_of("helicone")
    token = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", capture=capsys)
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        run_client("helicone", "helicone_log.py", f"http://127.0.0.1:{gateway.gateway_port}", token)
    records = read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))
    messages = [decode_usage(record.value) for record in records]
    calls = [message for message in messages if isinstance(message, LlmCall)]
    (tool,) = (message for message in messages if isinstance(message, ToolCall))
    assert {(call.model, call.input_tokens, call.cache_read_tokens, call.output_tokens) for call in calls} == {
        ("gpt-4.1", 1000, 900, 50), ("claude-sonnet-4-5", 912, 900, 40), ("gpt-4.1", 700, 0, 7),
    }  # fmt: skip
    assert {(message.run_id, message.user) for message in messages} == {("run-1", "u-1")}
    assert (tool.tool, bool(tool.args_hash), bool(tool.result_hash)) == ("search", True, True)
    assert not any(MARKER in (record.value or b"") for record in records)
