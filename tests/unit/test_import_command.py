"""`import`: what people have already becomes a log for a backtest, each thing once and nothing lost in silence."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from models.stimuli import UsageSeen
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.__main__ import main
from streams.tools.event_log import read_log

MARKER = "a-secret-that-must-not-pass-4711"
DATA = Path(__file__).parents[3] / "shared" / "data"
SESSION = DATA / "tracelab_example_claude_raw.txt.gz"
ROUNDS = DATA / "tracelab_example_rounds.jsonl.gz"


def entry(kind: str, at: str, message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": kind, "sessionId": "s-1", "timestamp": f"2026-11-01T10:00:{at}Z", "cwd": "/home/a/shop",
        "message": message, **more,
    }  # fmt: skip


def said(at: str, part: dict[str, Any], output_tokens: int = 50, **more: Any) -> dict[str, Any]:
    """One line of the one message that each session here has."""
    usage = {
        "input_tokens": 10, "cache_read_input_tokens": 9000, "cache_creation_input_tokens": 500,
        "output_tokens": output_tokens, "cache_creation": {"ephemeral_1h_input_tokens": 400},
    }  # fmt: skip
    message = {"id": "msg_1", "model": "claude-opus-4-8", "usage": usage, "content": [part]}
    return entry("assistant", at, message, requestId="req_1", **more)


TEXT = {"type": "text", "text": MARKER}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "Edit", "input": {"path": MARKER}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": MARKER, "is_error": True}
SESSION_LINES = [
    {"type": "ai-title", "aiTitle": MARKER, "sessionId": "s-1"},
    entry("user", "00.000", {"role": "user", "content": MARKER}),
    said("01.000", TEXT, output_tokens=1),
    said("02.000", TOOL),
    entry("user", "04.500", {"role": "user", "content": [RESULT]}),
]


def write(path: Path, lines: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def imported(path: Path, out: Path) -> list[UsageMessage]:
    """What the command makes of files, as a backtest reads it."""
    assert main(["import", "--from", "claude-code", str(path), "--tenant", "acme", "--out", str(out)]) == 0
    return [line.message for line in read_log(out) if isinstance(line, UsageSeen)]


def test_claude_codes_sessions_count_each_message_once(tmp_path: Path) -> None:
    """A message over several lines counts once, with the line that says most, and again in a resumed session not at
    all; cached tokens are part of the input; a tool call has hashes and how it ended; no text is in the log.
    """
    write(tmp_path / "projects" / "shop" / "s-1.jsonl", SESSION_LINES)
    resumed = [line | {"sessionId": "s-2"} for line in SESSION_LINES]
    write(tmp_path / "projects" / "shop" / "s-2.jsonl", resumed)
    call, used = imported(tmp_path / "projects", tmp_path / "log.jsonl")
    assert isinstance(call, LlmCall)
    assert isinstance(used, ToolCall)
    assert (call.run_id, call.workflow, call.project, call.provider) == ("s-1", "claude-code", "shop", "anthropic")
    assert (call.input_tokens, call.cache_read_tokens, call.cache_write_tokens) == (9510, 9000, 500)
    assert (call.cache_write_1h_tokens, call.output_tokens, call.cost_nanousd) == (400, 50, None)
    assert (used.tool, used.status, used.writes, used.latency_ms) == ("Edit", "error", True, 2500)
    assert used.args_hash
    assert used.result_hash
    assert MARKER not in (tmp_path / "log.jsonl").read_text(encoding="utf-8")


def test_fast_mode_is_a_model_of_its_own(tmp_path: Path) -> None:
    """It costs more than the model does: it has the name that gateways give it."""
    line = said("05.000", TEXT)
    line["message"]["usage"]["speed"] = "fast"
    (call,) = imported(write(tmp_path / "s-1.jsonl", [line]), tmp_path / "log.jsonl")
    assert isinstance(call, LlmCall)
    assert call.model == f"{line['message']['model']}-fast"


def test_what_cannot_be_read_is_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the place of the first of its kind; the rest is in the log, in the order of time."""
    lines = [*SESSION_LINES, "{torn\n", "{torn too\n", said("05.000", TEXT) | {"timestamp": "yesterday"}]
    path = write(tmp_path / "s-1.jsonl", lines)
    messages = imported(path, tmp_path / "log.jsonl.gz")
    assert [message.ts_ms for message in messages] == sorted(message.ts_ms for message in messages)
    told = capsys.readouterr().out
    assert "1 model calls, 1 tool calls of 1 runs" in told
    assert f"not read: 2 lines, it is no line of a session (the first: {path}, line 6)" in told
    assert "not read: 1 lines, its time is none" in told


def test_files_of_something_else_make_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and leaves no empty file behind that a backtest would find quiet."""
    path = write(tmp_path / "other.jsonl", [{"level": "info"}])
    out = tmp_path / "log.jsonl"
    assert main(["import", "--from", "claude-code", str(path), "--out", str(out)]) != 0
    assert main(["import", "--from", "claude-code", str(tmp_path / "nowhere"), "--out", str(out)]) != 0
    assert "are these files of claude-code?" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.data
@pytest.mark.skipif(not SESSION.is_file(), reason="needs the real session in ../shared/data, which is not here")
def test_a_real_session_comes_to_what_others_counted(tmp_path: Path) -> None:
    """Ten calls over 34 lines: the tokens that the session's publishers count themselves."""
    text = gzip.decompress(SESSION.read_bytes()).decode()
    records = re.split(r"^===== record \d+ =====\n", text, flags=re.MULTILINE)[1:]
    messages = imported(write(tmp_path / "s.jsonl", [json.loads(one) for one in records]), tmp_path / "log.jsonl")
    with gzip.open(ROUNDS, "rt", encoding="utf-8") as lines:
        rounds = [one for one in map(json.loads, lines) if one["provider"] == "claude"]
    calls = [message for message in messages if isinstance(message, LlmCall)]
    assert [call.input_tokens for call in calls] == [one["input_tokens_total"] for one in rounds]
    assert [call.output_tokens for call in calls] == [one["output_tokens"] for one in rounds]
    used = [message.tool for message in messages if isinstance(message, ToolCall)]
    assert sorted(used) == sorted(tool["tool_name"] for one in rounds for tool in one["tools"])
