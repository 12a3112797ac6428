"""What other systems send, with a marker wherever they put somebody's text."""

import hashlib
import hmac
import json
import time
from typing import Any, NamedTuple

MARKER = "a-secret-that-must-not-pass-4711"
HELICONE_SECRET = "the secret of the webhook"


class Sent(NamedTuple):
    """One request."""

    path: str
    body: bytes
    headers: dict[str, str]
    method: str = "POST"


def litellm(call_id: str = "chatcmpl-1", **more: Any) -> dict[str, Any]:
    """A payload of LiteLLM's generic callback, of a moment ago."""
    ended = time.time()
    return {
        "id": call_id, "litellm_call_id": call_id, "trace_id": "run-1", "call_type": "acompletion", "status": "success",
        "custom_llm_provider": "openai", "startTime": ended - 1, "endTime": ended, "model": "gpt-4o",
        "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050, "response_cost": 0.0012,
        "messages": [{"role": "user", "content": MARKER}], "response": {"choices": [{"message": MARKER}]},
        "error_str": MARKER, "error_information": {"error_message": MARKER, "traceback": MARKER},
        "metadata": {"requester_custom_headers": {"x-key": MARKER}, "user_api_key_user_email": MARKER}, **more,
    }  # fmt: skip


def span(number: int, attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A span in OTLP's JSON, of a moment ago."""
    ended_ns = time.time_ns()
    return {
        "traceId": f"{number // 10 + 1:032x}", "spanId": f"{number + 1:016x}", "name": "answer",
        "startTimeUnixNano": ended_ns - 10**9, "endTimeUnixNano": ended_ns, "attributes": attributes_of(attributes),
        "status": {"code": 1, "message": MARKER}, **more,
    }  # fmt: skip


def attributes_of(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP's JSON has them; OpenRouter writes whole numbers as numbers."""
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return [{"key": name, "value": {kinds[type(value)]: value}} for name, value in attributes.items()]


def traces(*spans: dict[str, Any]) -> bytes:
    """A request of spans."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def langfuse(number: int, **more: Any) -> dict[str, Any]:
    """A generation as Langfuse's client exports it."""
    attributes = {
        "langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-4.1",
        "langfuse.observation.usage_details": '{"input": 100, "input_cached_tokens": 900, "output": 50}',
        "langfuse.observation.cost_details": '{"total": 0.0012}', "langfuse.observation.input": MARKER,
        "langfuse.observation.output": MARKER, "langfuse.observation.status_message": MARKER,
        "langfuse.observation.metadata.note": MARKER, **more,
    }  # fmt: skip
    return span(number, attributes)


def openrouter(generation: str, **more: Any) -> dict[str, Any]:
    """A generation as OpenRouter broadcasts it, with prompts although they can be left out."""
    attributes = {
        "span.type": "generation", "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "deepseek/deepseek-v4-flash",
        "gen_ai.response.id": generation, "gen_ai.usage.input_tokens": 25, "gen_ai.usage.output_tokens": 236,
        "gen_ai.usage.total_cost": 0.00006958, "gen_ai.prompt": MARKER, "gen_ai.completion": MARKER, **more,
    }  # fmt: skip
    return span(0, attributes, traceId="any text will do")


def braintrust(number: int, kind: str) -> dict[str, Any]:
    """A span with what Braintrust packs into attributes."""
    metrics = {"prompt_tokens": 1000, "completion_tokens": 50, "prompt_cached_tokens": 900}
    attributes = {
        "braintrust.span_attributes": json.dumps({"type": kind}), "braintrust.metrics": json.dumps(metrics),
        "braintrust.metadata": json.dumps({"model": "gpt-4.1", "note": MARKER}), "braintrust.input_json": MARKER,
        "braintrust.output_json": MARKER,
    }  # fmt: skip
    return span(number, attributes)


def helicone(request_id: str, **more: Any) -> dict[str, Any]:
    """A webhook of Helicone."""
    answer = {"choices": [{"message": {"content": MARKER}}], "usage": {"prompt_tokens": 1000, "completion_tokens": 50,
              "prompt_tokens_details": {"cached_tokens": 900}}}  # fmt: skip
    return {
        "request_id": request_id, "request_body": json.dumps({"messages": MARKER}), "response_body": json.dumps(answer),
        "model": "gpt-4.1", "provider": "OPENAI",
        "metadata": {"cost": 0.0012, "promptTokens": 1000, "completionTokens": 50, "latencyMs": 830}, **more,
    }  # fmt: skip


def signed(name: str, body: bytes, secret: str = HELICONE_SECRET) -> Sent:
    """A body on its way to the webhook's path, with its signature."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Sent(f"/in/helicone/{name}", body, {"Helicone-Signature": signature})


def helicone_log(**response: Any) -> bytes:
    """What Helicone's manual logger posts."""
    now = int(time.time())
    timing = {"startTime": {"seconds": now - 1, "milliseconds": 0}, "endTime": {"seconds": now, "milliseconds": 5}}
    return json.dumps({
        "providerRequest": {"url": "custom-model-nopath", "json": {"model": "gpt-4.1", "messages": MARKER}, "meta": {}},
        "providerResponse": {"headers": {"x-key": MARKER}, "status": 200, "json": {
            "id": "resp-1", "choices": MARKER, "usage": {"prompt_tokens": 1000, "completion_tokens": 50}, **response}},
        "timing": timing,
    }).encode()  # fmt: skip


def portkey(run_id: str) -> bytes:
    """What Portkey's hook after a call carries."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
    answer = {"id": f"chatcmpl-{run_id}", "model": "gpt-4o", "choices": [{"message": MARKER}], "usage": usage}
    return json.dumps({
        "request": {"json": {"model": "gpt-4o", "messages": MARKER}, "text": MARKER},
        "response": {"json": answer, "text": MARKER, "statusCode": 200}, "provider": "openai",
        "metadata": {"run_id": run_id, "note": MARKER}, "eventType": "afterRequestHook",
    }).encode()  # fmt: skip


def everything() -> dict[str, Sent]:
    """One request of each system that names no key in its path, and what is refused of it besides."""
    return {
        "litellm": Sent("/in/litellm", json.dumps([litellm(), {"id": MARKER, "messages": MARKER}]).encode(), {}),
        "langfuse": Sent("/api/public/otel/v1/traces", traces(langfuse(0), {"name": MARKER}), {}),
        "openrouter": Sent("/in/openrouter", traces(openrouter("gen-1")), {}, "PUT"),
        "braintrust": Sent("/otel/v1/traces", traces(braintrust(30, "llm"), braintrust(31, "task")), {}),
        "helicone": signed("support", json.dumps(helicone("req-1", response_body=MARKER)).encode()),
        "helicone logger": Sent("/custom/v1/log", helicone_log(), {"Helicone-Auth": MARKER}),
        "broken litellm": Sent("/in/litellm", f'[{{"id": "{MARKER}'.encode(), {"X-Key": MARKER}),
        "broken helicone": signed("support", f'{{"request_id": "{MARKER}'.encode()),
        "litellm guardrail": Sent(
            "/guard/litellm/beta/litellm_basic_guardrail_api",
            json.dumps({"litellm_trace_id": "run-1", "texts": [MARKER], "request_headers": {"x": MARKER}}).encode(), {},
        ),
        "portkey usage": Sent("/guard/portkey", portkey("run-1"), {}),
        "portkey guard": Sent(
            "/guard/portkey", json.dumps({"metadata": {"run_id": "run-1"}, "request": {"text": MARKER}}).encode(), {},
        ),
    }  # fmt: skip
