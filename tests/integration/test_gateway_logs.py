"""OpenTelemetry's own log and metric exporters against the running gateway, and what its doctor says of it all."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from schemas.codec import decode_usage
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.__main__ import main
from streams.clock import wall_ms
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all, wait_until

MARKER = "a-secret-that-must-not-pass-4711"
pytestmark = pytest.mark.kafka


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as process:
        process.wait_ready()
        yield process


def logged(space: TopicSpace) -> list[UsageMessage]:
    return [decode_usage(record.value) for record in read_all(space.bootstrap, space.name("usage.v1"))]


def claude(at_ms: int) -> dict[str, Any]:
    """The attributes of a request of Claude Code."""
    return {
        "event.name": "claude_code.api_request", "session.id": "s-1", "model": "claude-sonnet-4-5",
        "request_id": "req_1", "input_tokens": 12, "cache_read_tokens": 1000, "cache_creation_tokens": 200,
        "output_tokens": 42, "cost_usd": 0.001716, "event.timestamp": str(at_ms), "prompt": MARKER,
    }  # fmt: skip


def as_json(*records: dict[str, Any], at_ms: int) -> bytes:
    def value(told: Any) -> dict[str, Any]:
        match told:
            case int():
                return {"intValue": str(told)}
            case float():
                return {"doubleValue": told}
        return {"stringValue": told}

    written = [
        {"timeUnixNano": f"{at_ms}000000", "body": {"stringValue": MARKER},
         "attributes": [{"key": name, "value": value(told)} for name, told in record.items()]}
        for record in records
    ]  # fmt: skip
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": written}]}]}).encode()


def post_in_chunks(port: int, path: str, body: bytes, token: str) -> int:
    """As Node's exporters send: the length is not said."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    parts = (body[at : at + 100] for at in range(0, len(body), 100))
    connection.request("POST", path, parts, headers, encode_chunked=True)
    return connection.getresponse().status


def test_otel_sdk_logs_are_charged_once_and_metrics_never(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """The real exporter's protobuf, packed, and JSON in chunks without a length say the same; metrics are welcome and
    harmless; Claude Code's hook adds a tool's hashes. No text is in any topic, nor in the gateway's log.
    """
    now_ms = wall_ms()
    to: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"}, "compression": Compression.Gzip}
    url = f"http://127.0.0.1:{gateway.gateway_port}"
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs", **to)))
    sent = LogRecord(timestamp=now_ms * 1_000_000, body=MARKER, attributes=claude(now_ms))
    provider.get_logger("com.anthropic.claude_code.events").emit(sent)
    provider.shutdown()
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics", **to))])
    meters.get_meter("test").create_counter("claude_code.cost.usage").add(5)
    meters.shutdown()
    body = as_json(claude(now_ms), {"event.name": "claude_code.user_prompt", "prompt": MARKER}, at_ms=now_ms)
    assert post_in_chunks(gateway.gateway_port, "/v1/logs", body, token) == 200
    hook = {"session_id": "s-1", "hook_event_name": "PostToolUse", "tool_name": "Bash", "tool_use_id": "t1",
            "tool_input": {"command": MARKER}, "tool_response": {"stdout": MARKER}}  # fmt: skip
    assert gateway.post("/hooks/claude", json.dumps(hook).encode(), token) == (200, {})
    first, second, tool = logged(kafka_topics)
    assert isinstance(first, LlmCall)
    assert isinstance(second, LlmCall)
    assert isinstance(tool, ToolCall)
    for name in ("event_id", "run_id", "model", "input_tokens", "cache_read_tokens", "output_tokens", "cost_nanousd"):
        assert getattr(first, name) == getattr(second, name), name
    assert (first.input_tokens, first.cost_nanousd, first.run_id) == (1212, 1_716_000, "s-1")
    assert (tool.run_id, bool(tool.args_hash), bool(tool.result_hash)) == ("s-1", True, True)
    for topic in ("usage.v1", "usage.dlq.v1"):
        for record in read_all(kafka_topics.bootstrap, kafka_topics.name(topic)):
            assert MARKER.encode() not in (record.value or b"") + (record.key or b"")
    assert MARKER not in gateway.text


def test_the_doctor_knows_the_first_event_of_a_new_installation(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """While nothing was ever refused, and other partitions are empty: nothing has come, and then one call has."""
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", kafka_topics.bootstrap)
    monkeypatch.setenv("SPENDFUSE_PREFIX", kafka_topics.prefix)
    asking = ["gateway", "doctor", "--key", token, "--url", f"http://127.0.0.1:{gateway.gateway_port}"]
    main(asking)
    assert "model call" not in capsys.readouterr().out
    call = {"type": "llm_call", "event_id": "e1", "ts_ms": wall_ms(), "run_id": "r", "model": "m", "input_tokens": 1,
            "output_tokens": 1}  # fmt: skip
    assert gateway.post("/v1/events", json.dumps(call).encode(), token)[0] == 200
    main(asking)
    assert "1 model call" in " ".join(capsys.readouterr().out.split())


def test_the_doctor_says_what_arrives_and_what_is_wrong(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """From whom and how much, what was rejected and why, which runs are blind, and a call that two systems tell. A key
    whose model calls do not count ends that: its tools are still there.
    """
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", kafka_topics.bootstrap)
    monkeypatch.setenv("SPENDFUSE_PREFIX", kafka_topics.prefix)
    now_ms = wall_ms()
    tool = {"event.name": "claude_code.tool_result", "session.id": "s-1", "tool_name": "Bash", "tool_use_id": "t1"}
    body = as_json(claude(now_ms), tool, {"event.name": "claude_code.api_request", "model": "x"}, at_ms=now_ms)
    assert gateway.post("/v1/logs", body, token)[0] == 200
    seen = {"type": "llm_call", "event_id": "e1", "ts_ms": now_ms + 900, "run_id": "trace-7",
            "model": "anthropic/claude-sonnet-4-5", "input_tokens": 1212, "output_tokens": 42}  # fmt: skip
    assert gateway.post("/v1/events", json.dumps(seen).encode(), token)[0] == 200
    assert gateway.post("/v1/traces", b"{no json", token)[0] == 400

    def doctor(key: str = token) -> tuple[int, str]:
        capsys.readouterr()
        url = f"http://127.0.0.1:{gateway.gateway_port}"
        code = main(["gateway", "doctor", "--key", key, "--url", url])
        return code, " ".join(capsys.readouterr().out.split())

    code, said = doctor()
    assert code == 1
    for words in (
        "it may ingest, guard; it may not read, operate",
        "this key may send usage",
        "this key may ask what a run may do",
        "otlp-logs, with this key: 1 model call, 1 tool call of 1 run, last",
        "events, with this key: 1 model call",
        "otlp-logs, with this key: 1 for missing_field",
        "otlp-traces, with this key: 1 for not_json",
        "1 of 1 tool calls of claude-code say nothing of their arguments: in 1 run no rule",
        "1 call from events, with this key, and again from otlp-logs, with this key",
        "through whichever gateway",
    ):
        assert words in said
    assert doctor("sf_" + "0" * 12 + "_" + "0" * 48)[0] == 1

    observing = new_key(
        kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys, charge=[]
    )
    used = {"type": "tool_call", "event_id": "e3", "ts_ms": now_ms, "run_id": "trace-7", "tool": "search"}
    again = json.dumps([{**seen, "event_id": "e2"}, used]).encode()
    wait_until(lambda: gateway.post("/v1/metrics", b"{}", observing)[0] == 200, 10, "the gateway knows the key")
    assert gateway.post("/v1/events", again, observing)[0] == 200
    assert [message.event_id for message in logged(kafka_topics)][-1] == "e3"
    assert len(logged(kafka_topics)) == 4
    code, said = doctor(observing)
    assert "model calls do not count" in said
    assert "events, with this key: 1 tool call of 1 run" in said
    assert MARKER not in said
