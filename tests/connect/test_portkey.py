"""The real Portkey gateway (its open one), with Spendfuse as its webhook guardrail before and after each call."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.local import free_ports
from schemas.codec import decode_usage
from schemas.usage import CommandAck, LlmCall
from tests.support.connect import ClientProcess, environment_of
from tests.support.gateway_process import GatewayProcess, new_key, post
from tests.support.kafka import TopicSpace, read_all
from tests.support.polled import Answer, Stub
from tests.support.proxies import MARKER, portkey_config
from tests.support.worker_process import WorkerProcess

POLICY = """version = "portkey"
[[cap]]
name = "run-cost"
per = "run"
limit_usd = 0.01
at_limit = "kill"
mode = "enforce"
"""
DENIED = 446
"""What Portkey answers with where a guardrail denies."""
pytestmark = pytest.mark.kafka


class Provider:
    """A model's API that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object) -> Answer:
        """An answer in OpenAI's words."""
        self.calls += 1
        message = {"role": "assistant", "content": MARKER}
        return 200, {
            "id": f"chatcmpl-{self.calls}", "object": "chat.completion", "created": 1, "model": "gpt-4o",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
                      "prompt_tokens_details": {"cached_tokens": 900}},
        }  # fmt: skip


@pytest.fixture
def worker(kafka_topics: TopicSpace, tmp_path: Path) -> Iterator[WorkerProcess]:
    environment_of("portkey")
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy) as process:
        process.wait_said("state restored")
        yield process


def test_portkey_asks_before_a_call_and_tells_after_it(
    kafka_topics: TopicSpace, worker: WorkerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run over its cap is denied with the rule and the reason, and the provider is not asked; another one goes on.
    Each call that was made is counted once. While no gateway answers, its `failOnError` decides.
    """
    token = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)
    (port,) = free_ports(1)
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": MARKER}]}).encode()
    provider = Provider()

    def call(run_id: str, *, fail_on_error: bool = False) -> tuple[int, Any]:
        headers = {
            "x-portkey-config": portkey_config(models.url, gateway.gateway_port, token, fail_on_error=fail_on_error),
            "x-portkey-metadata": json.dumps({"run_id": run_id, "workflow": "support", "_user": "u-1"}),
        }
        return post(port, "/v1/chat/completions", body, None, **headers)

    with (
        Stub(provider) as models,
        GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as gateway,
        ClientProcess("portkey", "node_modules/.bin/gateway", "--headless", f"--port={port}") as portkey,
    ):
        gateway.wait_ready()
        portkey.wait_for(lambda: call("run-1")[0] == 200, 60, "it calls")
        portkey.wait_for(lambda: call("run-1")[0] == DENIED, 60, "a call is denied")
        made = provider.calls
        status, answer = call("run-1")
        assert (status, provider.calls) == (DENIED, made)
        assert "run-cost" in json.dumps(answer["hook_results"]), answer
        assert call("run-2")[0] == 200
        assert gateway.stop() == 0
        assert call("run-3")[0] == 200
        assert call("run-3", fail_on_error=True)[0] == DENIED
        counted = provider.calls - 1
    records = read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))
    messages = [decode_usage(record.value) for record in records]
    calls = [message for message in messages if isinstance(message, LlmCall)]
    assert len({call.event_id for call in calls}) == len(calls) == counted
    assert {(call.workflow, call.user, call.input_tokens, call.cache_read_tokens) for call in calls} == {
        ("support", "u-1", 1000, 900)
    }
    assert {ack.run_id for ack in messages if isinstance(ack, CommandAck)} == {"run-1"}
    assert not any(MARKER.encode() in (record.value or b"") for record in records)
