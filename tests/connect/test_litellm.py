"""The real LiteLLM against the running gateway: what it calls is counted once and right, and a stop reaches it."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka.local import LocalKafka
from schemas.codec import decode_usage
from schemas.usage import LlmCall
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.support.connect import environment_of, run_client
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, fresh_prefix, read_all

MARKER = b"a-secret-that-must-not-pass-4711"
CALLS = 600
AWAY_S = 30
ON_DISK = "spendfuse_gateway_spool_bytes"
pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def packages() -> None:
    environment_of("litellm")


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as process:
        process.wait_ready()
        yield process


def logged(space: TopicSpace) -> list[LlmCall]:
    """Every model call in the log, each event once."""
    records = read_all(space.bootstrap, space.name("usage.v1"))
    messages = {message.event_id: message for message in (decode_usage(record.value) for record in records)}
    return [message for message in messages.values() if isinstance(message, LlmCall)]


@pytest.mark.parametrize("log_format", ["json_array", "ndjson", "single"])
def test_each_kind_of_call_is_counted_as_what_it_was(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str, log_format: str
) -> None:
    """An answer and a stream with their price, a hit of the cache for nothing, a model that nobody knows without a
    price, and each of three failed attempts of one call; all in the session's run, and no text anywhere.
    """
    endpoint = f"http://127.0.0.1:{gateway.gateway_port}/in/litellm"
    told = run_client("litellm", "litellm_calls.py", endpoint, token, log_format, "kinds")
    calls = logged(kafka_topics)
    assert {call.run_id for call in calls} == {"run-1"}, told
    by_kind = {
        "hit": [call for call in calls if call.cache_hit],
        "failed": [call for call in calls if call.status == "error"],
        "unknown": [call for call in calls if call.model == "never-heard-of"],
        "priced": [call for call in calls if call.cost_nanousd],
    }
    assert {kind: len(found) for kind, found in by_kind.items()} == {"hit": 1, "failed": 3, "unknown": 1, "priced": 2}
    assert len(calls) == 7
    assert by_kind["unknown"][0].cost_nanousd is None
    assert by_kind["hit"][0].cost_nanousd == 0
    assert all(call.input_tokens > 0 and call.output_tokens > 0 for call in by_kind["priced"])
    assert {(call.cost_nanousd, call.input_tokens, call.error_type) for call in by_kind["failed"]} == {
        (0, 0, "InternalServerError")
    }
    for topic in ("usage.v1", "usage.dlq.v1"):
        for record in read_all(kafka_topics.bootstrap, kafka_topics.name(topic)):
            assert MARKER not in (record.value or b"")
    assert MARKER.decode() not in gateway.text


def test_many_long_prompts_while_no_broker_answers_are_all_counted_once(
    own_kafka: LocalKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """600 calls with prompts of 100 KB, and the broker away for thirty seconds meanwhile: each is in the log, once."""
    space = TopicSpace(own_kafka.bootstrap, fresh_prefix(), 2)
    apply(Admin(Settings(kafka_bootstrap=space.bootstrap)), space.prefix, space.partitions, replication=1)
    token = new_key(space.bootstrap, space.prefix, "acme", capture=capsys)
    with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        endpoint = f"http://127.0.0.1:{gateway.gateway_port}/in/litellm"
        sending = threading.Thread(
            target=run_client, args=("litellm", "litellm_calls.py", endpoint, token, "json_array", "many", CALLS)
        )
        sending.start()
        gateway.wait_for(lambda: gateway.metric("spendfuse_gateway_accepted_total") != {}, 60, "the first are there")
        own_kafka.kill()
        threading.Event().wait(AWAY_S)  # the promise is about a stretch of time
        own_kafka.start()
        sending.join()
        gateway.wait_for(lambda: gateway.metric(ON_DISK).get("") == 0, 60, "the disk is handed on")
        assert gateway.stop() == 0
    counted = Counter(call.run_id for call in logged(space))
    assert counted == {f"run-{number}": 1 for number in range(CALLS)}
