"""A stop reaches what LiteLLM runs: in the agent's own process, and in the real proxy by its generic guardrail."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka.local import free_ports
from schemas.codec import decode_usage
from schemas.usage import CommandAck, LlmCall, UsageMessage
from tests.support.connect import environment_of, run_client
from tests.support.gateway_process import GatewayProcess, new_key, post
from tests.support.kafka import TopicSpace, read_all
from tests.support.proxies import MARKER, MASTER, MODEL, proxy_of, proxy_settings
from tests.support.worker_process import WorkerProcess

POLICY = """version = "litellm"
[[cap]]
name = "run-cost"
per = "run"
limit_usd = 0.001
at_limit = "kill"
mode = "enforce"
"""
UNAFRAID = {"fail_open": 200, "fail_closed": 500}
"""What a proxy does while its guardrail does not answer -> the status of a call."""
pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def packages() -> None:
    environment_of("litellm")


@pytest.fixture
def worker(kafka_topics: TopicSpace, tmp_path: Path) -> Iterator[WorkerProcess]:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy) as process:
        process.wait_said("state restored")
        yield process


def logged(space: TopicSpace) -> list[UsageMessage]:
    records = read_all(space.bootstrap, space.name("usage.v1"))
    assert not any(MARKER.encode() in (record.value or b"") for record in records)
    return list({message.event_id: message for message in (decode_usage(record.value) for record in records)}.values())


@pytest.mark.parametrize("over", ["Kafka", "HTTP"])
def test_an_agent_with_the_callback_is_stopped_by_what_its_own_calls_cost(
    kafka_topics: TopicSpace, worker: WorkerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str], over: str
) -> None:
    """The call after the kill is not made: its error has the rule's reason. What was called is reported with the
    workflow that the callback was given and the owner that the call named; what was refused is no call.
    """
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    token = new_key(bootstrap, prefix, "acme", "ingest", "guard", capture=capsys)
    with GatewayProcess(bootstrap, prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        where = {"SPENDFUSE_URL": f"http://127.0.0.1:{gateway.gateway_port}", "SPENDFUSE_KEY": token}
        if over == "Kafka":
            where = {"SPENDFUSE_KAFKA_BOOTSTRAP": bootstrap, "SPENDFUSE_PREFIX": prefix, "SPENDFUSE_TENANT": "acme"}
        (told,) = run_client("litellm", "litellm_guarded.py", "run-1", SPENDFUSE_WHEN_BLIND="stop", **where)
    assert told["rule"] == "run-cost", told
    messages = logged(kafka_topics)
    calls = [message for message in messages if isinstance(message, LlmCall)]
    assert len(calls) == told["calls"]
    assert {(call.run_id, call.workflow, call.owner, call.status) for call in calls} == {
        ("run-1", "support", "ana", "ok")
    }
    acks = [(ack.acted, ack.denied_by) for ack in messages if isinstance(ack, CommandAck)]
    assert acks == [("stopped", "spendfuse.litellm")]


def test_every_kind_of_call_in_a_process_is_reported_once_and_told_of_its_loop() -> None:
    """Synchronous ones, streams, failures, and those by the responses API; none of their text. A sentence that is to be
    put before the model gets there, once. By its rule, synchronous ones of a run that is killed are not made. What a
    router asks in the block of a run is that run's, and a kill comes out of it at once: it tries no other model.
    """
    told = run_client("litellm", "litellm_in_process.py")
    asked = [line["asked"] for line in told if "asked" in line]
    assert asked == [[MARKER, "you have asked this before"], [MARKER], [MARKER]]
    events = [line for line in told if line.get("type") == "llm_call"]
    assert {(event["run_id"], event["status"], event.get("cost_nanousd", 0) > 0) for event in events} == {
        ("sync", "ok", True), ("sync stream", "ok", True), ("sync failure", "error", False), ("stream", "ok", True),
        ("responses", "ok", True), ("nudged", "ok", False), ("block", "ok", True), ("sync block", "ok", True),
        ("routed", "ok", False),
    }  # fmt: skip
    assert len(events) == 10
    assert {(event["workflow"], event.get("feature")) for event in events if event["run_id"] != "routed"} == {
        ("support", "search")
    }
    assert [line for line in told if "routed" in line] == [{"routed": "test-rule"}]
    assert len([line for line in told if "stopped" in line]) == 2
    assert [line["acted"] for line in told if line.get("type") == "command_ack"] == [
        "stopped", "delivered", "stopped",
    ]  # fmt: skip
    assert MARKER not in json.dumps(events)


def test_a_proxy_with_the_callback_reports_and_refuses_by_one_line_of_its_settings(
    kafka_topics: TopicSpace, worker: WorkerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the kill its client is answered 403 with the reason; another run goes on; each call is reported once."""
    token = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)
    (port,) = free_ports(1)
    settings = tmp_path / "proxy.yaml"
    callbacks = {"callbacks": ["spendfuse.litellm.callback"]}
    settings.write_text(json.dumps({"model_list": [MODEL], "litellm_settings": callbacks}), encoding="utf-8")
    body = json.dumps({"model": "main", "messages": [{"role": "user", "content": MARKER}]}).encode()
    made = 0

    def call(run_id: str) -> tuple[int, str]:
        nonlocal made
        status, answer = post(port, "/v1/chat/completions", body, MASTER, **{"x-litellm-session-id": run_id})
        made += status == 200
        return status, json.dumps(answer)

    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        where = {"SPENDFUSE_URL": f"http://127.0.0.1:{gateway.gateway_port}", "SPENDFUSE_KEY": token}
        with proxy_of(settings, port, **where) as proxy:
            proxy.wait_for(lambda: call("run-1")[0] == 200, 90, "it calls")
            proxy.wait_for(lambda: call("run-1")[0] == 403, 60, "a call is refused")
            assert "its $0.001 cap" in call("run-1")[1]
            assert call("run-2")[0] == 200
            accepted = "spendfuse_gateway_accepted_total"
            gateway.wait_for(lambda: sum(gateway.metric(accepted).values()) > made, 30, "all is reported")
    calls = [message for message in logged(kafka_topics) if isinstance(message, LlmCall)]
    assert len(calls) == made, "what was refused is no call"
    assert {(call.run_id, call.status) for call in calls} == {("run-1", "ok"), ("run-2", "ok")}


@pytest.mark.parametrize("fallback", UNAFRAID)
def test_the_proxy_refuses_the_call_after_a_kill_and_says_why(
    kafka_topics: TopicSpace, worker: WorkerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str], fallback: str
) -> None:
    """Its own feed reports what it calls, under the run that its guardrail asks about. While the gateway is gone, its
    `unreachable_fallback` decides.
    """
    token = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)
    (port,) = free_ports(1)
    settings = tmp_path / "proxy.yaml"
    body = json.dumps({"model": "main", "messages": [{"role": "user", "content": MARKER}]}).encode()
    run = {"x-litellm-session-id": "run-1"}
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        settings.write_text(proxy_settings(gateway.gateway_port, token, fallback), encoding="utf-8")
        with proxy_of(settings, port) as proxy:
            proxy.wait_for(lambda: post(port, "/v1/chat/completions", body, MASTER, **run)[0] == 200, 90, "it calls")

            def call() -> tuple[int, str]:
                status, answer = post(port, "/v1/chat/completions", body, MASTER, **run)
                return status, json.dumps(answer)

            proxy.wait_for(lambda: call()[0] != 200, 60, "a call is refused")
            status, answer = call()
            assert status == 400, answer
            assert "run-cost" in answer, answer
            other = post(port, "/v1/chat/completions", body, MASTER, **{"x-litellm-session-id": "run-2"})
            assert other[0] == 200, "another run goes on"
            assert gateway.stop() == 0
            alone = post(port, "/v1/chat/completions", body, MASTER, **{"x-litellm-session-id": "run-3"})
            assert alone[0] == UNAFRAID[fallback], alone
    messages = logged(kafka_topics)
    assert {call.run_id for call in messages if isinstance(call, LlmCall)} >= {"run-1"}
    assert {call.status for call in messages if isinstance(call, LlmCall)} == {"ok"}
    assert {ack.run_id for ack in messages if isinstance(ack, CommandAck)} == {"run-1"}
