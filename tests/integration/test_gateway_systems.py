"""The sources with protocols of their own, against the running gateway: each call once, priced as it says, no text."""

import json
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.kafka.local import LocalKafka
from models.identity import derived_id
from schemas.codec import decode_usage
from schemas.usage import LlmCall, UsageMessage
from streams.__main__ import main
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from streams.tools.access_keys import run_revoke
from tests.support.gateway_process import GatewayProcess, new_key, operator_of
from tests.support.kafka import TopicSpace, fresh_prefix, read_all, wait_until
from tests.support.polled import Stub, langfuse_api
from tests.support.systems import (
    HELICONE_SECRET,
    MARKER,
    Sent,
    everything,
    helicone,
    helicone_log,
    langfuse,
    litellm,
    openrouter,
    signed,
    traces,
)

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "samples" / "openrouter_broadcast_otlp.json"
SEED = 20_261_128
SENTENCE = "The response body is too large to be sent in a webhook"
pytestmark = pytest.mark.kafka


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)


def gateway_of(space: TopicSpace, spool: Path, token: str) -> GatewayProcess:
    """A gateway that knows the webhook's secret under the token's key."""
    secrets = json.dumps({"support": f"{token.split('_')[1]}:{HELICONE_SECRET}"})
    return GatewayProcess(space.bootstrap, space.prefix, spool, HELICONE_SECRETS=secrets)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:
    with gateway_of(kafka_topics, tmp_path / "spool", token) as process:
        process.wait_ready()
        yield process


def logged(space: TopicSpace) -> list[UsageMessage]:
    return [decode_usage(record.value) for record in read_all(space.bootstrap, space.name("usage.v1"))]


def send(gateway: GatewayProcess, sent: Sent, token: str | None) -> tuple[int, object]:
    return gateway.post(sent.path, sent.body, token, sent.method, **sent.headers)


def test_openrouters_broadcast_is_charged_as_it_says(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """POST and PUT are one event; a test of the connection is none. With a key of the caller's own the provider's price
    counts beside the fee, and nothing counts where nobody says it. Attempts below a generation are not charged.
    """
    path = "/in/openrouter"
    nothing = (200, {"accepted": 0, "rejected": []})
    assert gateway.post(path, b"{}", token, **{"X-Test-Connection": "true"}) == nothing
    assert gateway.post(path, b"", token, **{"X-Test-Connection": "true"}) == nothing
    once = traces(openrouter("gen-1"), openrouter("of another kind", **{"span.type": "provider_attempt"}))
    for method in ("POST", "PUT"):
        assert gateway.post(path, once, token, method) == (200, {"accepted": 1, "rejected": [], "ignored": 1})
    fee = {"gen_ai.usage.total_cost": 0.000001, "trace.metadata.openrouter.is_byok": True}
    own_key = [
        openrouter("gen-2", **fee, **{"gen_ai.usage.cost_details.upstream_inference_cost": 0.002}),
        openrouter("gen-3", **fee),
    ]
    assert gateway.post(path, traces(*own_key), token)[0] == 200
    calls = {message.event_id: message for message in logged(kafka_topics)}
    costs = {event_id: call.cost_nanousd for event_id, call in calls.items() if isinstance(call, LlmCall)}
    assert costs == {
        derived_id("openrouter", "gen-1"): 69_580,
        derived_id("openrouter", "gen-2"): 2_001_000,
        derived_id("openrouter", "gen-3"): None,
    }


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.is_file(), reason="needs the sample payloads in ../shared/data, which are not here")
def test_a_broadcast_as_openrouter_sends_it(kafka_topics: TopicSpace, gateway: GatewayProcess, token: str) -> None:
    """A payload that was recorded elsewhere: its cost to the nano-dollar."""
    assert gateway.post("/in/openrouter", SAMPLE.read_bytes(), token, "PUT")[0] == 200
    (call,) = logged(kafka_topics)
    assert isinstance(call, LlmCall)
    assert (call.cost_nanousd, call.input_tokens, call.output_tokens, call.reasoning_tokens) == (69_580, 25, 236, 101)
    assert (call.price_source, call.owner) == ("reported:openrouter", "Agentic Coding")


def test_helicones_webhook_counts_what_is_signed_and_nothing_else(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """A body whose answer is a sentence, as it was too long to be sent, counts by Helicone's own counts. Sent again it
    is the same event; changed by a byte, signed with another secret or sent to another name, it is refused; and so is
    everything once its key is revoked.
    """
    body = json.dumps(helicone("req-1")).encode()
    for _ in range(2):
        assert send(gateway, signed("support", body), None)[0] == 200
    long = json.dumps(helicone("req-2", response_body=SENTENCE, request_body=SENTENCE)).encode()
    assert send(gateway, signed("support", long), None)[0] == 200
    failed = json.dumps({"error": {"type": "rate_limit_error", "message": MARKER}})
    none = {"cost": 0, "promptTokens": 0, "completionTokens": 0}
    body = json.dumps(helicone("req-3", response_body=failed, metadata=none)).encode()
    assert send(gateway, signed("support", body), None)[0] == 200
    good = signed("support", body)
    for wrong in (
        good._replace(body=body + b" "),
        good._replace(headers={}),
        good._replace(path="/in/helicone/nobody"),
        signed("support", body, "another secret"),
    ):
        assert send(gateway, wrong, None)[0] == 401
    assert run_revoke(operator_of(kafka_topics), token) == 0
    wait_until(lambda: send(gateway, good, None)[0] == 401, 10, "the revoked key's webhook is refused")
    calls = {message.event_id: message for message in logged(kafka_topics) if isinstance(message, LlmCall)}
    first, second, third = (calls[derived_id("helicone", f"req-{number}")] for number in (1, 2, 3))
    assert len(calls) == 3
    assert (first.input_tokens, first.cache_read_tokens, first.cost_nanousd) == (1000, 900, 1_200_000)
    assert (second.input_tokens, second.output_tokens, second.cost_nanousd) == (1000, 50, 1_200_000)
    assert (third.status, third.error_type, third.cost_nanousd) == ("error", "rate_limit_error", 0)


def test_a_marker_in_every_text_is_found_nowhere(
    own_kafka: LocalKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In no topic, log, metric, answer or dead letter; and not on the disk, where the same is kept without a broker."""
    space = TopicSpace(own_kafka.bootstrap, fresh_prefix(), 2)
    apply(Admin(Settings(kafka_bootstrap=space.bootstrap)), space.prefix, space.partitions, replication=1)
    token = new_key(space.bootstrap, space.prefix, "acme", "ingest", "guard", capture=capsys)
    with gateway_of(space, tmp_path / "spool", token) as gateway:
        gateway.wait_ready()
        answers = {name: send(gateway, sent, token) for name, sent in everything().items()}
        assert MARKER not in json.dumps(answers)
        for name, (status, _) in answers.items():
            assert status == (400 if name.startswith("broken") else 200), (name, answers[name])
        topics = {name: read_all(space.bootstrap, space.name(name)) for name in ("usage.v1", "usage.dlq.v1")}
        assert len(topics["usage.v1"]) == 7
        assert topics["usage.dlq.v1"]
        for records in topics.values():
            assert not any(MARKER.encode() in (record.value or b"") + (record.key or b"") for record in records)
        own_kafka.kill()
        again = {name: send(gateway, sent, token)[0] for name, sent in everything().items()}
        assert again == {name: status for name, (status, _) in answers.items()}
        kept = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("*.spool"))
        assert b"llm_call" in kept
        assert MARKER.encode() not in kept
        assert MARKER not in json.dumps(gateway.numbers())
        assert MARKER not in gateway.text


def test_two_gateways_and_a_poller_report_each_call_once(
    kafka_topics: TopicSpace, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls are sent to both, some twice, in any order, and are polled besides: the events in the log are
    those that were sent, each with one id, and say the same whoever reported them.
    """
    chance = random.Random(SEED)
    generations = [langfuse(number) for number in range(60)]
    payloads = [litellm(f"call-{number}") for number in range(60)]
    sent = [Sent("/api/public/otel/v1/traces", traces(one), {}) for one in generations]
    sent += [Sent("/in/litellm", json.dumps([one]).encode(), {}) for one in payloads]
    sent += [Sent("/custom/v1/log", helicone_log(id=f"resp-{number}"), {}) for number in range(10)]
    with (
        gateway_of(kafka_topics, tmp_path / "one", token) as one,
        gateway_of(kafka_topics, tmp_path / "two", token) as other,
        Stub(langfuse_api([_observation(call) for call in generations], "pk:sk", page=25)) as stub,
    ):
        for name, value in {"LANGFUSE_BASE_URL": stub.url, "LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk",
                            "SPENDFUSE_KAFKA_BOOTSTRAP": kafka_topics.bootstrap,
                            "SPENDFUSE_PREFIX": kafka_topics.prefix}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        one.wait_ready()
        other.wait_ready()

        def replay(gateway: GatewayProcess, order: list[Sent]) -> None:
            assert {send(gateway, request, token)[0] for request in order} == {200}

        orders = [chance.sample(sent, len(sent)) + chance.sample(sent, 40) for _ in range(2)]
        senders = [threading.Thread(target=replay, args=pair) for pair in zip((one, other), orders, strict=True)]
        for sender in senders:
            sender.start()
        assert main(["poll", "--from", "langfuse", "--tenant", "acme", "--once"]) == 0
        for sender in senders:
            sender.join()
    said: dict[str, set[tuple[object, ...]]] = {}
    for message in logged(kafka_topics):
        assert isinstance(message, LlmCall)
        facts = (message.ts_ms, message.run_id, message.model, message.input_tokens, message.cost_nanousd)
        said.setdefault(message.event_id, set()).add(facts)
    assert len(said) == len(sent), f"seed {SEED}"
    assert all(len(facts) == 1 for facts in said.values()), f"seed {SEED}"
    of_langfuse = {derived_id("otel", call["traceId"], call["spanId"]) for call in generations}
    assert of_langfuse <= said.keys()


def _observation(span: dict[str, object]) -> dict[str, object]:
    """The same generation as Langfuse's API has it."""
    return {
        "id": span["spanId"], "traceId": span["traceId"], "type": "GENERATION", "name": "answer",
        "startTime": _iso(span["startTimeUnixNano"]), "endTime": _iso(span["endTimeUnixNano"]), "model": "gpt-4.1",
        "usageDetails": {"input": 100, "input_cached_tokens": 900, "output": 50}, "totalCost": 0.0012,
    }  # fmt: skip


def _iso(ns: object) -> str:
    assert isinstance(ns, int)
    return datetime.fromtimestamp(ns // 1_000_000 / 1000, UTC).isoformat().replace("+00:00", "Z")
