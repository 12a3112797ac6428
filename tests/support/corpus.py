"""What a usage.v1 record may hold instead of a message, and the reason it must be refused with.

`REFUSED` and `ACCEPTED` are also sent through a real worker, so every value is what a broker could hand out.
"""

import gzip
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from schemas.codec import MAX_DEPTH, MAX_MESSAGE_BYTES
from schemas.dead_letter import Reason
from tests.support.messages import YESTERDAY_MS

TENANT = "corpus"
VALID: dict[str, Any] = {
    "type": "llm_call",
    "event_id": "corpus-1",
    "ts_ms": YESTERDAY_MS,
    "tenant_id": TENANT,
    "run_id": "run-1",
    "model": "claude-sonnet-4-5",
}
"""A message with nothing but what it must have."""

OWN_REQUIRED = {
    "llm_call": {"model": "claude-sonnet-4-5"},
    "tool_call": {"tool": "search"},
    "run_started": {},
    "run_finished": {"status": "completed"},
    "outcome": {"outcome": "accepted"},
    "command_ack": {"command_id": "command-1", "acted": "stopped"},
}
"""Message type -> what it must have beside what every message must have."""


class Refused(NamedTuple):
    """A record that is no message."""

    name: str
    value: bytes | None
    reason: Reason


class Accepted(NamedTuple):
    """An odd record that is a message all the same, and what one of its fields then says."""

    name: str
    value: bytes
    field: str
    expected: Any


def written(**fields: Any) -> bytes:
    """`VALID` with these fields, as JSON."""
    return json.dumps(VALID | fields, ensure_ascii=False, separators=(",", ":")).encode()


def spelled(members: bytes) -> bytes:
    """`VALID` with these members put at its end as they stand, valid JSON or not."""
    return written()[:-1] + b"," + members + b"}"


def _sized(size_bytes: int) -> bytes:
    bare = spelled(b'"note":""')
    return bare[:-2] + b"x" * (size_bytes - len(bare)) + bare[-2:]


def _nested(depth: int) -> bytes:
    """`VALID` with an unknown field that takes it to this depth, itself counted."""
    return spelled(b'"note":' + b"[" * (depth - 1) + b"]" * (depth - 1))


def _tags(count: int) -> dict[str, str]:
    return {f"tag-{number}": "x" for number in range(count)}


def _no_numbers() -> Iterator[Refused]:
    """JSON has no word for what is not finite; a decoder that lets it in makes sums wrong for ever."""
    for word in (b"NaN", b"Infinity", b"-Infinity", b"nan", b"01", b"+1", b".5", b"1.", b"0x10"):
        yield Refused(f"number written {word.decode()}", spelled(b'"cost_nanousd":' + word), "not_json")
    yield Refused("NaN in an unknown field", spelled(b'"note":NaN'), "not_json")


def _wrong_numbers() -> Iterator[Refused]:
    spellings = {
        "beyond floats": b"1e999",
        "with exponent": b"1e3",
        "with fraction": b"0.5",
        "whole with fraction": b"1.0",
        "minus zero with fraction": b"-0.0",
        "negative": b"-1",
        "above a million dollars": b"1000000000000001",
        "of 64 bits": b"9223372036854775808",
        "just beyond 64 bits": b"18446744073709551616",
        "of 5000 digits": b"9" * 5000,
        "as bool": b"true",
        "as text": b'"5"',
        "in a list": b"[5]",
        "as object": b'{"usd":5}',
    }
    for what, spelling in spellings.items():
        yield Refused(f"cost {what}", spelled(b'"cost_nanousd":' + spelling), "wrong_value")
    yield Refused("tokens negative", written(output_tokens=-5), "wrong_value")
    yield Refused("tokens beyond their bound", written(input_tokens=10**12 + 1), "wrong_value")
    yield Refused("tokens as bool", written(input_tokens=True), "wrong_value")
    yield Refused("time negative", written(ts_ms=-1), "bad_time")
    yield Refused("time zero", written(ts_ms=0), "bad_time")
    yield Refused("time in seconds", written(ts_ms=1_795_276_800), "bad_time")
    yield Refused("time a millisecond too early", written(ts_ms=999_999_999_999), "bad_time")
    yield Refused("time in microseconds", written(ts_ms=1_795_276_800_000_000), "bad_time")
    yield Refused("time in nanoseconds", written(ts_ms=1_795_276_800_000_000_000), "bad_time")
    yield Refused("time in the year 2200", written(ts_ms=7_258_118_400_000), "bad_time")
    yield Refused("time the largest of 63 bits", written(ts_ms=2**63 - 1), "bad_time")
    yield Refused("time as float", written(ts_ms=1_795_276_800_000.5), "wrong_value")
    yield Refused("time as text", written(ts_ms="2026-11-22T06:00:00Z"), "wrong_value")
    yield Refused("time beyond 63 bits", written(ts_ms=2**63), "bad_time")
    yield Refused("time beyond 64 bits", written(ts_ms=2**64), "bad_time")
    yield Refused("service tier unknown", written(service_tier="cheap"), "wrong_value")
    yield Refused("writes as number", written(type="tool_call", tool="t", writes=1), "wrong_value")
    yield Refused("seq zero", written(seq=0), "wrong_value")
    yield Refused("attempt zero", written(attempt=0), "wrong_value")
    yield Refused("flag as number", written(cache_hit=1), "wrong_value")


def _foreign_names() -> Iterator[Refused]:
    """What other systems call our fields: valid JSON, and worth nothing."""
    for name in ("prompt_tokens", "completion_tokens", "cost_usd", "cost", "response_cost", "cache_read_input_tokens"):
        yield Refused(f"{name} in place of ours", written(**{name: 7}), "foreign_name")
    yield Refused("a tool's cost in dollars", written(type="tool_call", tool="t", cost_usd=0.5), "foreign_name")
    for ours, theirs in (
        ("tenant_id", "tenant"),
        ("ts_ms", "timestamp"),
        ("run_id", "trace_id"),
        ("model", "model_name"),
    ):
        members = {theirs if name == ours else name: value for name, value in VALID.items()}
        yield Refused(f"{theirs} in place of {ours}", json.dumps(members).encode(), "missing_field")


def _wrong_text() -> Iterator[Refused]:
    for field in ("event_id", "tenant_id", "run_id", "session_id", "root_run_id", "parent_run_id"):
        yield Refused(f"{field} of 129 characters", written(**{field: "i" * 129}), "wrong_value")
    for field in ("event_id", "tenant_id", "run_id"):
        yield Refused(f"{field} empty", written(**{field: ""}, session_id=""), "wrong_value")
    yield Refused("tenant_id null", written(tenant_id=None), "wrong_value")
    yield Refused("run_id as number", written(run_id=7), "wrong_value")
    yield Refused("user of 257 characters", written(user="u" * 257), "wrong_value")
    yield Refused("hash of 129 characters", written(prompt_hash="h" * 129), "wrong_value")
    yield Refused("status unknown", written(status="timeout"), "wrong_value")
    yield Refused("status unknown and long", written(status="s" * 1000), "wrong_value")
    yield Refused("17 tags", written(tags=_tags(17)), "wrong_value")
    yield Refused("tag not text", written(tags={"type": 1}), "wrong_value")
    yield Refused("tag of 257 characters", written(tags={"k": "v" * 257}), "wrong_value")
    yield Refused("tag name of 257 characters", written(tags={"k" * 257: "v"}), "wrong_value")
    yield Refused("tags in a list", written(tags=["a", "b"]), "wrong_value")
    yield Refused("tag an object", written(tags={"a": {"b": "c"}}), "wrong_value")


def _wrong_types() -> Iterator[Refused]:
    for what, kind in {
        "unknown": "video_call", "empty": "", "in capitals": "LLM_CALL", "of 300 characters": "x" * 300,
        "with another fault's words": "Object missing required field", "number": 1, "null": None, "object": {},
    }.items():  # fmt: skip
        yield Refused(f"type {what}", written(type=kind), "unknown_type")
    yield Refused("two types", spelled(b'"type":"tool_call"'), "unknown_type")


def _missing() -> Iterator[Refused]:
    always = {name: value for name, value in VALID.items() if name != "model"}
    for kind, own in OWN_REQUIRED.items():
        whole = always | {"type": kind} | own
        for field in whole:
            lacking = {name: value for name, value in whole.items() if name != field}
            yield Refused(f"{kind} without {field}", json.dumps(lacking).encode(), "missing_field")
    yield Refused("empty object", b"{}", "missing_field")


def _wrong_roots() -> Iterator[Refused]:
    for what, value in {"list": b"[]", "null": b"null", "number": b"1", "text": b'"llm_call"', "true": b"true"}.items():
        yield Refused(f"root {what}", value, "wrong_value")
    yield Refused("root a list of messages", b"[" + written() + b"]", "wrong_value")


def _no_json() -> Iterator[Refused]:
    whole = written()
    for what, value in {
        "one byte short": whole[:-1],
        "cut in half": whole[: len(whole) // 2],
        "blank": b" \r\n\t ",
        "zero byte": b"\0",
        "trailing garbage": whole + b"x",
        "two messages": whole + b"\n" + whole,
        "trailing comma": whole[:-1] + b",}",
        "comment": b"/* first */" + whole,
        "single quotes": whole.replace(b'"', b"'"),
        "byte order mark": b"\xef\xbb\xbf" + whole,
        "raw line break in text": spelled(b'"user":"a\nb"'),
        "raw zero byte in text": spelled(b'"user":"a\0b"'),
        "unknown escape": spelled(rb'"user":"\q"'),
        "lone high surrogate": spelled(rb'"user":"\ud800 and more"'),
        "lone low surrogate": spelled(rb'"user":"\udc00 and more"'),
        "lone surrogate in an unknown field": spelled(rb'"note":"\ud800 and more"'),
        "lone surrogate at the end": spelled(rb'"user":"\ud800"'),
        "Python": b"{'type': None}",
    }.items():
        yield Refused(what, value, "not_json")


def _no_utf8() -> Iterator[Refused]:
    for what, text in {
        "stray byte": b"\xff", "cut short": b"\xe2\x82", "overlong": b"\xc0\x80", "surrogate": b"\xed\xa0\x80",
        "beyond Unicode": b"\xf5\x80\x80\x80", "Latin-1": b"caf\xe9",
    }.items():  # fmt: skip
        yield Refused(f"UTF-8 {what}", spelled(b'"user":"' + text + b'"'), "not_utf8")
        yield Refused(f"UTF-8 {what} in an unknown field", spelled(b'"note":"' + text + b'"'), "not_utf8")
    yield Refused("UTF-8 wrong in a name", spelled(b'"\xff":1'), "not_utf8")
    yield Refused("compressed", gzip.compress(written(), mtime=0), "not_utf8")
    yield Refused("UTF-16", written().decode().encode("utf-16"), "not_utf8")


def _too_much() -> Iterator[Refused]:
    yield Refused("no value", None, "empty")
    yield Refused("no bytes", b"", "empty")
    yield Refused("one byte too large", _sized(MAX_MESSAGE_BYTES + 1), "too_large")
    yield Refused("too large and no JSON", b"x" * (MAX_MESSAGE_BYTES + 1), "too_large")
    yield Refused("nested too deep", _nested(MAX_DEPTH + 1), "too_deep")
    yield Refused("nested 20000 deep", _nested(20_000), "too_deep")
    yield Refused("nested objects", spelled(b'"note":' + b'{"a":' * 5000 + b"1" + b"}" * 5000), "too_deep")
    yield Refused("nested in a known field", spelled(b'"tags":' + b'{"a":' * 5000 + b"1" + b"}" * 5000), "too_deep")
    yield Refused("nested and never closed", spelled(b'"note":' + b"[" * 30_000), "too_deep")
    yield Refused("nested root", b"[" * 5000 + b"]" * 5000, "too_deep")
    yield Refused("nested behind an open text", b'\\"' * 20_000 + b"[" * 600, "not_json")


def _all_refused() -> Iterator[Refused]:
    for kind in (
        _no_numbers, _wrong_numbers, _foreign_names, _wrong_text,
        _wrong_types, _missing, _wrong_roots, _no_json, _no_utf8, _too_much,
    ):  # fmt: skip
        yield from kind()


REFUSED: tuple[Refused, ...] = tuple(_all_refused())

ACCEPTED: tuple[Accepted, ...] = (
    Accepted("duplicate name, the last wins", spelled(b'"run_id":"run-2"'), "run_id", "run-2"),
    Accepted("same type twice", spelled(b'"type":"llm_call"'), "run_id", "run-1"),
    Accepted("duplicate tag, the last wins", spelled(b'"tags":{"a":"1","a":"2"}'), "tags", {"a": "2"}),
    Accepted("type at the end", json.dumps(dict(reversed(VALID.items()))).encode(), "run_id", "run-1"),
    Accepted("zero character in a name", written(user="a\0b"), "user", "a\0b"),
    Accepted("line separator in a name", written(user="a\u2028b\u202e"), "user", "a\u2028b\u202e"),
    Accepted("escaped pair", spelled(rb'"user":"\ud83d\ude00"'), "user", "\U0001f600"),
    Accepted("separators in an id", written(run_id="a/b|c%2F\n"), "run_id", "a/b|c%2F\n"),
    Accepted("id of 128 characters", written(run_id="ü" * 128), "run_id", "ü" * 128),
    Accepted("name of 256 characters", written(user="u" * 256), "user", "u" * 256),
    Accepted("name empty", written(workflow=""), "workflow", None),
    Accepted("hash empty", written(prompt_hash=""), "prompt_hash", None),
    Accepted("session_id empty", written(session_id=""), "session_id", None),
    Accepted("choice empty", written(service_tier=""), "service_tier", None),
    Accepted("choice empty that has a value of its own", written(status=""), "status", "ok"),
    Accepted("tag empty", written(tags={"a": "", "b": "c"}), "tags", {"b": "c"}),
    Accepted("tokens null", written(input_tokens=None), "input_tokens", 0),
    Accepted("cost beside tokens that are null", written(cost_nanousd=5, output_tokens=None), "cost_nanousd", 5),
    Accepted("choice null that has a value of its own", written(status=None, attempt=None), "status", "ok"),
    Accepted("tag null", written(tags={"a": None, "b": "c"}), "tags", {"b": "c"}),
    Accepted("16 tags", written(tags=_tags(16)), "tags", _tags(16)),
    Accepted("optional null", written(session_id=None, cost_nanousd=None), "cost_nanousd", None),
    Accepted("minus zero", spelled(b'"input_tokens":-0'), "input_tokens", 0),
    Accepted("a million dollars", written(cost_nanousd=10**15), "cost_nanousd", 10**15),
    Accepted("time the earliest", written(ts_ms=10**12), "ts_ms", 10**12),
    Accepted("time in the year 2099", written(ts_ms=4_070_908_800_000), "ts_ms", 4_070_908_800_000),
    Accepted("time the latest", written(ts_ms=7_258_118_399_999), "ts_ms", 7_258_118_399_999),
    Accepted("unknown field", written(note={"text": ["x", None, 1.5, True]}), "run_id", "run-1"),
    Accepted("unknown field beside ours", written(input_tokens=5, prompt_tokens=5), "input_tokens", 5),
    Accepted("unknown field where a cost is given", written(cost_nanousd=5, prompt_tokens=5), "cost_nanousd", 5),
    Accepted("unknown field that says nothing", written(cost_usd=None, prompt_tokens=0), "input_tokens", 0),
    Accepted("foreign name in a tag", written(tags={"cost_usd": "5"}), "tags", {"cost_usd": "5"}),
    Accepted("unknown field beyond floats", spelled(b'"note":1e999'), "run_id", "run-1"),
    Accepted("unknown field of 5000 digits", spelled(b'"note":' + b"9" * 5000), "run_id", "run-1"),
    Accepted("unknown field as deep as allowed", _nested(MAX_DEPTH), "run_id", "run-1"),
    Accepted("brackets in text", written(note="[" * 5000, user='"[\\"' * 60), "user", '"[\\"' * 60),
    Accepted("as large as allowed", _sized(MAX_MESSAGE_BYTES), "run_id", "run-1"),
    Accepted("blanks around", b"\n \t" + written() + b"\r\n", "run_id", "run-1"),
)
"""Times are not judged here: the engine holds them to the time of the append."""
