"""OpenTelemetry's own SDK and exporter against the running gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from schemas.codec import decode_usage
from schemas.usage import LlmCall, ToolCall, UsageMessage
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import TopicSpace, read_all

MARKER = "a-secret-that-must-not-pass-4711"
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "samples" / "openrouter_broadcast_otlp.json"
pytestmark = pytest.mark.kafka


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", capture=capsys)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:
    """It starts behind the key, so that it knows it."""
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as process:
        process.wait_ready()
        yield process


def logged(space: TopicSpace) -> list[UsageMessage]:
    return [decode_usage(record.value) for record in read_all(space.bootstrap, space.name("usage.v1"))]


def test_otel_sdk_spans_are_charged_once_and_no_text_passes(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """An agent's span, its model call and its tool, exported by the real SDK as protobuf, packed: the model call and
    the tool are there, the agent's sum is not; prompts, answers, arguments and results are in no topic.
    """
    exporter = OTLPSpanExporter(
        endpoint=f"http://127.0.0.1:{gateway.gateway_port}/v1/traces",
        headers={"Authorization": f"Bearer {token}"},
        compression=Compression.Gzip,
    )
    provider = TracerProvider(resource=Resource.create({"service.name": "support-bot"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    usage: dict[str, Any] = {
        "gen_ai.usage.input_tokens": 900,
        "gen_ai.usage.output_tokens": 80,
        "gen_ai.request.model": "gpt-4.1",
    }
    with tracer.start_as_current_span("agent", attributes={**usage, "gen_ai.operation.name": "invoke_agent"}):
        text = {"gen_ai.input.messages": MARKER, "gen_ai.output.messages": MARKER}
        with tracer.start_as_current_span("chat", attributes={**usage, **text, "gen_ai.operation.name": "chat"}):
            pass
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
        arguments = {"gen_ai.tool.call.arguments": MARKER, "gen_ai.tool.call.result": MARKER}
        with tracer.start_as_current_span("tool", attributes={**tool, **arguments}):
            pass
    provider.shutdown()
    messages = logged(kafka_topics)
    assert sorted(type(message).__name__ for message in messages) == ["LlmCall", "ToolCall"]
    (call,) = (message for message in messages if isinstance(message, LlmCall))
    (used,) = (message for message in messages if isinstance(message, ToolCall))
    assert (call.tenant_id, call.workflow, call.input_tokens, call.output_tokens) == ("acme", "support-bot", 900, 80)
    assert (used.tool, used.run_id) == ("search", call.run_id)
    for topic in ("usage.v1", "usage.dlq.v1"):
        for record in read_all(kafka_topics.bootstrap, kafka_topics.name(topic)):
            assert MARKER.encode() not in (record.value or b"") + (record.key or b"")
    assert MARKER not in gateway.text


def test_protobuf_and_json_land_equal_and_again_is_the_same_event(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """What a sender's retry brings again has the event id of before; errors are answered in the sender's own words."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: PLC0415

    request = ExportTraceServiceRequest()
    sent = request.resource_spans.add().scope_spans.add().spans.add()
    sent.trace_id, sent.span_id = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
    sent.start_time_unix_nano, sent.end_time_unix_nano = 1_790_000_000_000_000_000, 1_790_000_001_000_000_000
    attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4.1"}
    for name, value in attributes.items():
        sent.attributes.add(key=name).value.string_value = value
    sent.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 77
    protobuf = {"Content-Type": "application/x-protobuf"}
    for _ in range(2):
        assert gateway.post("/v1/traces", request.SerializeToString(), token, **protobuf)[0] == 200
    spans = [{
        "traceId": sent.trace_id.hex().upper(), "spanId": sent.span_id.hex(),
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": 1_790_000_001_000_000_000,
        "attributes": [*({"key": name, "value": {"stringValue": value}} for name, value in attributes.items()),
                       {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "77"}}],
    }]  # fmt: skip
    as_json = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [*spans, {"name": "without ids"}]}]}]}).encode()
    status, answer = gateway.post("/v1/traces", as_json, token)
    assert (status, answer["partialSuccess"]["rejectedSpans"]) == (200, "1")
    first, *others = logged(kafka_topics)
    assert isinstance(first, LlmCall)
    assert first.input_tokens == 77
    assert others == [first, first]
    assert gateway.post("/v1/traces", b"\x00no protobuf", token, **protobuf)[0] == 400
    assert gateway.post("/v1/traces", b"{}", "sf_wrong")[0] == 401


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.is_file(), reason="needs the sample payloads in ../shared/data, which are not here")
def test_openrouter_broadcast_is_charged_as_it_says(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """The cost that it reports to the nano-dollar, its tokens, and the key's name as the owner."""
    assert gateway.post("/v1/traces", SAMPLE.read_bytes(), token) == (200, {})
    (call,) = logged(kafka_topics)
    assert isinstance(call, LlmCall)
    assert (call.cost_nanousd, call.input_tokens, call.output_tokens, call.reasoning_tokens) == (69_580, 25, 236, 101)
    assert (call.model, call.provider, call.owner) == ("deepseek/deepseek-v4-flash", "novita/fp8", "Agentic Coding")
