"""An agent that reports to Braintrust by the span processor of its own client. braintrust_spans.py

It is told where by BRAINTRUST_API_URL, BRAINTRUST_API_KEY and BRAINTRUST_PARENT.
"""

import json

from braintrust.otel import BraintrustSpanProcessor
from opentelemetry.sdk.trace import TracerProvider

TEXT = "a-secret-that-must-not-pass-4711"


def main() -> None:
    """A task with a model call by OpenTelemetry's names, one by Braintrust's own, and a tool; prints the spans' ids."""
    provider = TracerProvider()
    provider.add_span_processor(BraintrustSpanProcessor())
    tracer = provider.get_tracer("test")
    told = {}
    metrics = {"prompt_tokens": 1000, "completion_tokens": 50, "prompt_cached_tokens": 900, "tokens": 1050}
    packed = {
        "braintrust.metrics": json.dumps(metrics),
        "braintrust.input_json": json.dumps(TEXT),
        "braintrust.output_json": json.dumps(TEXT),
        "braintrust.metadata": json.dumps({"model": "claude-sonnet-4-5", "session_id": "s-1", "note": TEXT}),
    }
    with tracer.start_as_current_span(
        "task", attributes={**packed, "braintrust.span_attributes": json.dumps({"type": "task"})}
    ):
        usage = {"gen_ai.usage.input_tokens": 500, "gen_ai.usage.output_tokens": 20, "gen_ai.request.model": "gpt-4.1"}
        text = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "resp-1", "gen_ai.input.messages": TEXT}
        with tracer.start_as_current_span("chat", attributes={**usage, **text}) as call:
            told["otel"] = _ids(call)
        with tracer.start_as_current_span(
            "llm", attributes={**packed, "braintrust.span_attributes": json.dumps({"type": "llm"})}
        ) as call:
            told["own"] = _ids(call)
        with tracer.start_as_current_span(
            "search", attributes={**packed, "braintrust.span_attributes": json.dumps({"type": "tool"})}
        ):
            pass
    provider.shutdown()
    print(json.dumps(told))


def _ids(span: object) -> list[str]:
    context = span.get_span_context()
    return [f"{context.trace_id:032x}", f"{context.span_id:016x}"]


main()
