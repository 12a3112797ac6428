"""`import` of what others have written down: LiteLLM's spend logs, Langfuse's exports, OpenRouter's activity."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from spendfuse._litellm.payload import usage_of

from models.identity import derived_id
from models.stimuli import UsageSeen
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.__main__ import main
from streams.tools.event_log import read_log

MARKER = "a-secret-that-must-not-pass-4711"
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "samples" / "litellm_spend_log.json"


def imported(source: str, path: Path) -> list[UsageMessage]:
    """What the command makes of a file, as a backtest reads it; and no text is in it."""
    out = path.parent / "log.jsonl"
    assert main(["import", "--from", source, str(path), "--tenant", "acme", "--out", str(out)]) == 0
    assert MARKER not in out.read_text(encoding="utf-8")
    return [line.message for line in read_log(out) if isinstance(line, UsageSeen)]


def written(path: Path, rows: list[dict[str, Any]], kind: str) -> Path:
    """Rows as a file of this kind. Objects within a row are text in a table, as databases write them."""
    if kind == "csv":
        columns = {name: None for row in rows for name in row}
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(columns))
            table.writeheader()
            for row in rows:
                table.writerow({k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()})
    else:
        text = json.dumps(rows, indent=1) if kind == "array" else "\n".join(map(json.dumps, rows))
        path.write_text(text, encoding="utf-8")
    return path


KINDS = pytest.mark.parametrize("kind", ["lines", "array", "csv"])


def spend_log(request_id: str, **more: Any) -> dict[str, Any]:
    """A row of LiteLLM_SpendLogs."""
    usage = {"prompt_tokens_details": {"cached_tokens": 600}}
    return {
        "request_id": request_id, "session_id": "run-1", "call_type": "acompletion", "cache_hit": "None",
        "startTime": "2026-11-01T09:20:46.847Z", "endTime": "2026-11-01T09:20:47.851Z", "model": "gpt-4o",
        "model_id": "d-1", "custom_llm_provider": "openai", "spend": 0.0012, "total_tokens": 1050,
        "prompt_tokens": 1000, "completion_tokens": 50, "request_tags": ["feature:search"], "user": "u-1",
        "metadata": {"usage_object": usage, "attempted_retries": 2}, "messages": {"content": MARKER},
        "response": {"content": MARKER}, "status": "success", **more,
    }  # fmt: skip


@KINDS
def test_litellms_spend_logs_are_the_calls_that_it_reports(tmp_path: Path, kind: str) -> None:
    """Each with the event id that its payload has, so that a log of last month and what is reported today agree."""
    failed = {
        "status": "failure", "spend": 0.0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0,
        "metadata": {},
    }  # fmt: skip
    rows = [
        spend_log("chatcmpl-1"),
        spend_log("chatcmpl-1_cache_hit1795811606.05", cache_hit="True", spend=0.0, endTime="2026-11-01T09:20:48.1Z"),
        spend_log("call-2", **failed, endTime="2026-11-01T09:20:49Z"),
        spend_log("chatcmpl-3", spend=0.0, endTime="2026-11-01T09:20:50Z"),
    ]
    first, hit, failure, unpriced = imported("litellm-spend-logs", written(tmp_path / "logs", rows, kind))
    assert isinstance(first, LlmCall)
    assert (first.run_id, first.cost_nanousd, first.cache_read_tokens, first.attempt) == ("run-1", 1_200_000, 600, 3)
    assert (first.feature, first.user, first.latency_ms) == ("search", "u-1", 1004)
    assert isinstance(hit, LlmCall)
    assert (hit.cache_hit, hit.cost_nanousd) == (True, 0)
    assert isinstance(failure, LlmCall)
    assert (failure.status, failure.cost_nanousd) == ("error", 0)
    assert isinstance(unpriced, LlmCall)
    assert unpriced.cost_nanousd is None
    reported = usage_of({
        "id": "chatcmpl-1", "litellm_call_id": "call-1", "status": "success", "model_id": "d-1", "trace_id": "run-1",
        "call_type": "acompletion", "startTime": 1793524846.847371, "endTime": 1793524847.851954, "prompt_tokens": 1,
    })  # fmt: skip
    assert reported is not None
    assert first.event_id == reported["event_id"]


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.is_file(), reason="needs the sample payloads in ../shared/data, which are not here")
def test_a_row_that_litellm_wrote_is_read(tmp_path: Path) -> None:
    """Of its own test data."""
    path = tmp_path / "row.jsonl"
    path.write_bytes(SAMPLE.read_bytes())
    (call,) = imported("litellm-spend-logs", path)
    assert isinstance(call, LlmCall)
    assert (call.run_id, call.cost_nanousd, call.input_tokens) == ("1234567890", 225_000, 10)


@KINDS
@pytest.mark.parametrize("spelling", ["of the store", "of the page"])
def test_langfuses_exports_are_the_observations_that_its_client_sends(tmp_path: Path, kind: str, spelling: str) -> None:
    """Under snake_case and camelCase names; agents and what is not ended are left out."""
    store = {
        "id": "b7ad6b7169203331", "trace_id": "0af7651916cd43dd8448eb211c80319c", "type": "GENERATION",
        "name": "answer", "start_time": "2026-11-01 09:20:46.847000", "end_time": "2026-11-01 09:20:47.847000",
        "user_id": "u-1", "session_id": "s-1", "trace_name": "support",
        "provided_model_name": "gpt-4.1", "environment": "prod",
        "usage_details": {"input": 100, "input_cached_tokens": 900, "output": 50}, "total_cost": 0.0012,
        "prompt_name": "support", "prompt_version": 3, "input": MARKER, "output": MARKER, "status_message": MARKER,
    }  # fmt: skip
    rows = [
        store,
        store | {"id": "a1", "type": "AGENT"},
        store | {"id": "a2", "end_time": None},
        store | {"id": "a3", "type": "TOOL", "name": "search"},
    ]
    if spelling == "of the page":
        rows = [{_camel(name): value for name, value in row.items()} for row in rows]
    messages = imported("langfuse-export", written(tmp_path / "export", rows, kind))
    (call,) = (message for message in messages if isinstance(message, LlmCall))
    (tool,) = (message for message in messages if isinstance(message, ToolCall))
    assert len(messages) == 2
    assert call.event_id == derived_id("otel", store["trace_id"], store["id"])  # type: ignore[arg-type]
    assert (call.model, call.input_tokens, call.cache_read_tokens, call.cost_nanousd) == (
        "gpt-4.1", 1000, 900, 1_200_000,
    )  # fmt: skip
    assert (call.workflow, call.prompt_version, call.session_id, call.latency_ms) == (
        "support", "support@3", "s-1", 1000,
    )  # fmt: skip
    assert tool.tool == "search"


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def test_openrouters_activity_is_one_call_a_row(tmp_path: Path) -> None:
    """With the id that its broadcast has; a key of the caller's own, a free variant, one that was cancelled; a row that
    is no generation is told, and the rest counts.
    """
    row = {
        "generation_id": "gen-1", "created_at": "2026-11-01 09:20:46.847", "cost_total": "0.00006958",
        "byok_usage_inference": "0", "tokens_prompt": "25", "tokens_completion": "236", "tokens_reasoning": "101",
        "tokens_cached": "10", "model_permaslug": "deepseek/deepseek-v4-flash", "provider_name": "Novita",
        "variant": "standard", "cancelled": "false", "user": "", "generation_time_ms": "1500.5",
        "app_name": "support", "api_key_name": "Agentic Coding",
    }  # fmt: skip
    rows = [
        row,
        row | {"generation_id": "gen-2", "cost_total": "0.000001", "byok_usage_inference": "0.002"},
        row | {"generation_id": "gen-3", "cost_total": "0", "variant": "free", "cancelled": "true"},
        row | {"generation_id": "gen-4", "cost_total": "0"},
        row | {"generation_id": ""},
    ]
    messages = imported("openrouter-csv", written(tmp_path / "activity.csv", rows, "csv"))
    calls = {message.run_id: message for message in messages if isinstance(message, LlmCall)}
    first = calls["gen-1"]
    assert first.event_id == derived_id("openrouter", "gen-1")
    assert (first.cost_nanousd, first.input_tokens, first.output_tokens, first.reasoning_tokens) == (
        69_580,
        25,
        236,
        101,
    )
    assert (first.owner, first.workflow, first.provider, first.cache_read_tokens) == (
        "Agentic Coding", "support", "Novita", 10,
    )  # fmt: skip
    costs = {run_id: call.cost_nanousd for run_id, call in calls.items()}
    assert costs == {"gen-1": 69_580, "gen-2": 2_001_000, "gen-3": 0, "gen-4": None}
    assert calls["gen-3"].status == "cancelled"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1,250", "n/a", "1e999"])
def test_a_row_whose_count_is_no_number_is_told_and_not_taken_for_nothing(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spreadsheet has been at it; the other rows count."""
    row = {"generation_id": "gen-1", "created_at": "2026-11-01 09:20:46", "cost_total": "0.1", "tokens_prompt": "25"}
    rows = [row, row | {"generation_id": "gen-2", "tokens_prompt": text}]
    messages = imported("openrouter-csv", written(tmp_path / "activity.csv", rows, "csv"))
    assert [message.run_id for message in messages] == ["gen-1"]
    assert "not read: 1 lines, a column of numbers holds something else" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["litellm-spend-logs", "langfuse-export", "openrouter-csv"])
@pytest.mark.parametrize("text", ["", "[{]", "a,b\n1,2\n", "{torn\n", "[1, null]", "\x00\xff"])
def test_a_file_of_something_else_makes_no_log(
    tmp_path: Path, source: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so, in words."""
    path = tmp_path / "other"
    path.write_text(text, encoding="latin-1")
    assert main(["import", "--from", source, str(path), "--out", str(tmp_path / "log.jsonl")]) != 0
    assert f"are these files of {source}?" in capsys.readouterr().err
