"""What LiteLLM says of a call, as usage: each of its traps, and nothing of anybody's text."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from spendfuse._litellm.payload import usage_of

from schemas.codec import decode_usage
from schemas.edge.access_key import AccessKey
from schemas.usage import LlmCall, ToolCall
from streams.gateway.sources.batch import Unreadable
from streams.gateway.sources.litellm import read_litellm

MARKER = "a-secret-that-must-not-pass-4711"
SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "samples" / "litellm_standard_logging_payload.json"
KEY = AccessKey(
    key_id="a1", tenant_id="acme", scopes=("ingest",), secret_sha256="0" * 64, created_ms=1_790_000_000_000,
    created_by="ana",
)  # fmt: skip


def payload(**more: Any) -> dict[str, Any]:
    """A call as LiteLLM 1.110 reports it, with text wherever it puts text."""
    return {
        "id": "chatcmpl-1", "litellm_call_id": "call-1", "trace_id": "run-1", "session_id": "",
        "call_type": "acompletion", "status": "success",
        "status_fields": {"llm_api_status": "success", "guardrail_status": "not_run"},
        "custom_llm_provider": "openai", "startTime": 1795811604.592699, "endTime": 1795811604.774772,
        "model": "gpt-4o", "model_group": "main", "model_id": "d-1", "cache_hit": None,
        "prompt_tokens": 1000, "completion_tokens": 50,
        "total_tokens": 1050, "response_cost": 0.0012, "cost_breakdown": {"total_cost": 0.0012}, "request_tags": [],
        "end_user": "", "messages": [{"role": "user", "content": MARKER}], "response": {"choices": MARKER},
        "error_str": MARKER, "error_information": {"error_class": "", "error_message": MARKER, "traceback": MARKER},
        "metadata": {"user_api_key_team_alias": "team-a", "user_api_key_user_email": MARKER,
                     "requester_custom_headers": {"x-secret": MARKER}, "usage_object": {"prompt_tokens": 1000}},
        **more,
    }  # fmt: skip


def metadata(**more: Any) -> dict[str, Any]:
    return {**payload()["metadata"], **more}


DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 7, "cache_creation_tokens": 100,
                              "cache_creation_token_details": {"ephemeral_1h_input_tokens": 40}},
    "completion_tokens_details": {"reasoning_tokens": 30},
}  # fmt: skip
FAILED = {
    "status": "failure", "response_cost": 0.0, "cost_breakdown": None, "prompt_tokens": 0, "completion_tokens": 0,
    "total_tokens": 0, "error_information": {"error_class": "RateLimitError", "error_message": MARKER},
}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an answer": ({}, {"cost_nanousd": 1_200_000, "price_source": "reported:litellm", "route": "main",
                       "latency_ms": 182, "run_id": "run-1", "session_id": None, "owner": "team-a", "status": "ok"}),
    "cached and thought": (
        {"metadata": metadata(usage_object=DETAILS)},
        {"input_tokens": 1000, "cache_read_tokens": 600, "cache_write_tokens": 100, "cache_write_1h_tokens": 40,
         "input_audio_tokens": 7, "output_tokens": 50, "reasoning_tokens": 30},
    ),
    "no price": ({"response_cost": 0.0, "cost_breakdown": None}, {"cost_nanousd": None, "price_source": None}),
    "a stream whose parts alone are priced": ({"response_cost": 0.0}, {"cost_nanousd": 1_200_000}),
    "a price that is none": ({"response_cost": "n/a", "cost_breakdown": None}, {"cost_nanousd": None}),
    "from the cache": ({"cache_hit": True, "response_cost": 0.0, "cost_breakdown": None},
                       {"cache_hit": True, "cost_nanousd": 0, "input_tokens": 1000}),
    "failed": (FAILED, {"status": "error", "error_type": "RateLimitError", "cost_nanousd": 0, "input_tokens": 0}),
    "failed after it had used something": (
        {**FAILED, "prompt_tokens": 900}, {"status": "error", "cost_nanousd": None, "input_tokens": 900},
    ),
    "times of before": (
        {"startTime": "2026-11-01 09:20:46.847371", "endTime": "2026-11-01 09:20:47.851954"},
        {"started_ms": 1_793_524_846_847, "ts_ms": 1_793_524_847_851},
    ),
    "a run of its own": ({"trace_id": None}, {"run_id": "call-1"}),
    "named by its caller": (
        {"request_tags": ["feature:search", "beta", "User-Agent: curl"],
         "metadata": metadata(spend_logs_metadata={"workflow": "support", "owner": "ana", "note": MARKER})},
        {"feature": "search", "workflow": "support", "owner": "ana", "tags": {"beta": "true"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_payload_is_a_model_call(name: str) -> None:
    """And of its text nothing is written."""
    more, expected = CASES[name]
    batch = read_litellm({}, json.dumps(payload(**more)).encode(), KEY)
    (item,) = batch.items
    call = decode_usage(item.value)
    assert isinstance(call, LlmCall)
    assert {field: getattr(call, field) for field in expected} == expected
    assert MARKER.encode() not in item.value


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": metadata(is_silent_experiment=True)},
        {"call_type": "aget_responses"},
        {"call_type": "alist_fine_tuning_jobs"},
        {"call_type": "acreate_file", "prompt_tokens": 0, "completion_tokens": 0, "response_cost": 0.0,
         "cost_breakdown": None},
        {**FAILED, "status_fields": {"guardrail_status": "guardrail_intervened"}},
    ],
    ids=["a silent experiment", "an answer of before", "a list", "a file", "denied before any model was asked"],
)  # fmt: skip
def test_what_used_nothing_is_no_call(more: dict[str, Any]) -> None:
    """It is neither charged nor rejected."""
    batch = read_litellm({}, json.dumps(payload(**more)).encode(), KEY)
    assert (batch.items, batch.rejected, batch.ignored) == ([], [], 1)


def test_attempts_of_one_call_are_events_of_their_own_and_a_resent_one_is_not() -> None:
    """Failures share their call's id; they began at different times. The price of a batch is asked for again."""
    first = payload(**FAILED, id="call-1")
    second = {**first, "startTime": 1795811605.1}
    answer = payload()
    ids = [usage_of(one)["event_id"] for one in (first, second, answer, first, json.loads(json.dumps(second)))]  # type: ignore[index]
    assert len(set(ids)) == 3
    assert ids[3:] == ids[:2]
    batches = [usage_of(payload(call_type="aretrieve_batch", startTime=at)) for at in (1795811605.1, 1795811705.1)]
    assert batches[0]["event_id"] == batches[1]["event_id"]  # type: ignore[index]


def test_a_tool_over_mcp_is_a_tool_call_with_hashes() -> None:
    """So that its loops are seen."""
    tool = {
        "name": "search",
        "namespaced_tool_name": "docs-search",
        "arguments": {"q": MARKER},
        "result": {"a": MARKER},
    }
    given = payload(call_type="call_mcp_tool", metadata=metadata(mcp_tool_call_metadata=tool))
    (item,) = read_litellm({}, json.dumps(given).encode(), KEY).items
    used = decode_usage(item.value)
    assert isinstance(used, ToolCall)
    assert (used.tool, bool(used.args_hash), bool(used.result_hash)) == ("docs-search", True, True)
    assert MARKER.encode() not in item.value


@pytest.mark.parametrize("written", ["array", "lines", "one"])
def test_each_of_its_formats_is_read(written: str) -> None:
    """What is wrong among them is named by its place, and the rest counts."""
    whole = [payload(id="a"), {"id": "no time"}, payload(id="b")]
    body = {
        "array": json.dumps(whole), "lines": "\n".join(map(json.dumps, whole)), "one": json.dumps(payload(), indent=1),
    }[written]  # fmt: skip
    batch = read_litellm({}, body.encode(), KEY)
    assert len(batch.items) == (1 if written == "one" else 2)
    assert [(one.place, one.reason) for one in batch.rejected] == ([] if written == "one" else [(1, "missing_field")])


@pytest.mark.parametrize("body", [b"", b"[", b"[{]"])
def test_a_body_that_is_nothing_of_that_is_refused(body: bytes) -> None:
    """With a word about what was expected."""
    with pytest.raises(Unreadable):
        read_litellm({}, body, KEY)


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.is_file(), reason="needs the sample payloads in ../shared/data, which are not here")
def test_a_payload_of_an_older_version_is_read() -> None:
    """Its times are text, without a zone."""
    (item,) = read_litellm({}, SAMPLE.read_bytes(), KEY).items
    call = msgspec.json.decode(item.value)
    assert (call["cost_nanousd"], call["input_tokens"], call["ts_ms"]) == (225_000, 10, 1_737_710_446_851)
