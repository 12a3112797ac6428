"""The edge where bytes are checked: nothing gets through half understood, and nothing but `Undecodable` is raised."""

import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import default_policy
from models.stimuli import RecordRefused, Ticked, UsageSeen
from schemas.codec import (
    DETAIL_CHARACTERS,
    MAX_DEPTH,
    dead_letter,
    decode_alert,
    decode_command,
    decode_operator,
    decode_rollup,
    decode_usage,
    encode,
)
from schemas.errors import Undecodable
from schemas.usage import UsageMessage
from tests.support.corpus import ACCEPTED, REFUSED, VALID, Accepted, Refused, spelled, written
from tests.support.examples import examples

DECODERS: tuple[Callable[[bytes | None], Any], ...] = (
    decode_usage,
    decode_operator,
    decode_alert,
    decode_command,
    decode_rollup,
)
FUZZ_ROUNDS = 20_000
SECRET = "sk-live-my-prompt-and-its-answer"


def test_names_in_the_corpus_are_distinct() -> None:
    """A failure names one input."""
    names = Counter([*(bad.name for bad in REFUSED), *(odd.name for odd in ACCEPTED)])
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.name)
def test_bad_input_is_refused_for_its_reason(bad: Refused) -> None:
    """Every kind of bad input has one reason from the closed list, and a short detail for people."""
    with pytest.raises(Undecodable) as caught:
        decode_usage(bad.value)
    assert caught.value.reason == bad.reason
    assert 0 < len(caught.value.detail) <= DETAIL_CHARACTERS


@pytest.mark.parametrize("odd", ACCEPTED, ids=lambda odd: odd.name)
def test_odd_input_is_read_as_documented(odd: Accepted) -> None:
    """What is odd and allowed is read in one fixed way, and written so that it is read the same again."""
    message = decode_usage(odd.value)
    assert getattr(message, odd.field) == odd.expected
    assert decode_usage(encode(message)) == message


@pytest.mark.parametrize("decode", DECODERS)
def test_every_reader_refuses_what_is_no_message(decode: Callable[[bytes | None], Any]) -> None:
    """Alerting, agents and the worker need to catch one class only, tombstones included."""
    for bad in REFUSED:
        if bad.reason in ("empty", "not_json", "not_utf8", "too_deep"):
            with pytest.raises(Undecodable) as caught:
                decode(bad.value)
            assert bad.reason in (caught.value.reason, "not_json"), bad.name


def test_the_depth_allowed_does_not_depend_on_the_callers_stack() -> None:
    """A replay from a shallow stack and a worker deep in its framework refuse the same messages."""
    allowed = spelled(b'"note":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1))
    room = sys.getrecursionlimit() - MAX_DEPTH - 250

    def from_below(frames: int) -> UsageMessage:
        return from_below(frames - 1) if frames else decode_usage(allowed)

    assert from_below(room) == decode_usage(allowed)


@pytest.mark.parametrize("field", ["type", "status", "cost_nanousd", "tags", "cache_hit", "run_id"])
def test_a_refusal_does_not_quote_what_it_refuses(field: str) -> None:
    """The detail goes to logs and alerts; a prompt put in the wrong place does not."""
    for value in (SECRET * 20, [SECRET], {"a": {SECRET: 1}}):
        with pytest.raises(Undecodable) as caught:
            decode_usage(written(**{field: value}))
        assert SECRET not in str(caught.value)


def test_mutated_messages_are_read_or_refused_and_nothing_else() -> None:
    """Whatever happens to the bytes, the reader ends in a message that can be written again, or in `Undecodable`."""
    seed = 20261122
    chance = random.Random(seed)
    originals = [example.data for example in examples("usage.v1")]
    read = 0
    for turn in range(FUZZ_ROUNDS):
        data = _mutated(chance, chance.choice(originals))
        try:
            message = decode_usage(data)
            again = decode_usage(encode(message))
        except Undecodable:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}, round {turn}: {error!r} for {data!r}")
        assert again == message, f"seed {seed}, round {turn}: {data!r}"
        read += 1
    assert 0 < read < FUZZ_ROUNDS, f"seed {seed}: the mutations are all harmless or all fatal"


def _mutated(chance: random.Random, data: bytes) -> bytes:
    """The bytes after one to four flips, insertions, deletions or repetitions."""
    mutant = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(mutant))
        match chance.randrange(5):
            case 0:
                mutant[at] ^= 1 << chance.randrange(8)
            case 1:
                mutant.insert(at, chance.choice(b'"\\{}[],:-.0129eE \xff\x00\xed'))
            case 2:
                del mutant[at]
            case 3:
                mutant[at] = chance.randrange(256)
            case _:
                length = chance.randint(1, 40)
                mutant[at:at] = mutant[at : at + length]
    return bytes(mutant)


def _with_secrets(message: UsageMessage) -> bytes:
    """The message as a careless producer would send it: texts in fields of its own, also deep within."""
    fields = msgspec.json.decode(encode(message))
    texts = {
        "prompt": SECRET,
        "messages": [{"role": "user", "content": [{"text": SECRET}]}],
        "args": {"query": SECRET, SECRET: {SECRET: SECRET}},
        SECRET: SECRET,
        "error": f"{SECRET}\n",
    }
    return encode(texts | fields | {f"after_{name}": value for name, value in texts.items()})


def _runaway_run() -> list[UsageMessage]:
    """A run that does everything wrong that the default policy knows of."""
    start_ms = VALID["ts_ms"]
    calls: list[dict[str, Any]] = [{"type": "run_started", "workflow": "w", "cap_nanousd": 10**9, "owner": "o"}]
    for _ in range(60):
        calls.append({"type": "tool_call", "tool": "search", "args_hash": "a", "result_hash": "b"})
        calls.append(
            {"type": "llm_call", "model": "m", "cost_nanousd": 10**10, "attempt": 3, "status": "error",
             "input_tokens": 10**6}
        )  # fmt: skip
        calls.append({"type": "llm_call", "model": "nobody-has-a-price-for-this", "input_tokens": 10**7})
    calls.append({"type": "command_ack", "command_id": "c", "acted": "ignored"})
    calls.append({"type": "outcome", "outcome": "rejected"})
    calls.append({"type": "run_finished", "status": "failed"})
    every = {"tenant_id": "t", "run_id": "r"}
    return [
        decode_usage(encode(every | {"event_id": f"e{number}", "ts_ms": start_ms + number * 1000} | call))
        for number, call in enumerate(calls)
    ]


def test_no_unknown_field_survives() -> None:
    """Prompts, completions and arguments end at the edge: no message, alert, command, rollup or state row has them."""
    engine = Engine(default_policy())
    effects: list[Effect] = []
    rows: list[tuple[bytes, bytes | None]] = []
    for message in _runaway_run():
        careless = _with_secrets(message)
        assert SECRET.encode() in careless
        read = decode_usage(careless)
        assert read == message
        assert SECRET not in repr(read)
        assert SECRET.encode() not in encode(read)
        engine.handle(UsageSeen(read, read.ts_ms))
        rows += engine.drain_rows()
    engine.handle(Ticked(VALID["ts_ms"] + 3 * 3_600_000))
    effects += engine.drain_effects()
    rows += engine.drain_rows()
    assert {"alerts.v1", "rollups.v1", "control.v1"} <= {effect.topic for effect in effects}
    for effect in effects:
        assert SECRET not in repr(effect)
        assert SECRET.encode() not in encode(effect.value)
    assert rows
    assert not [key for key, value in rows if SECRET.encode() in key + (value or b"")]


def test_of_a_refused_record_only_its_first_bytes_are_kept() -> None:
    """A dead letter holds a hash and 256 bytes, however much text the record held; its detail quotes none."""
    value = written(status="timeout", note="x" * 300 + SECRET)
    with pytest.raises(Undecodable) as caught:
        decode_usage(value)
    letter = dead_letter("usage.v1", 0, 7, b"corpus", value, caught.value, VALID["ts_ms"])
    engine = Engine(default_policy())
    engine.handle(RecordRefused(letter))
    (effect,) = engine.drain_effects()
    assert effect.value == letter
    assert letter.size_bytes == len(value)
    assert len(letter.head_base64) <= 4 * 86
    assert SECRET not in repr(letter)


@pytest.mark.parametrize(("ts_ms", "unit"), [(1_795_276_800, "seconds"), (1_795_276_800_000_000, "microseconds")])
def test_a_time_in_another_unit_is_refused_with_that_hint(ts_ms: int, unit: str) -> None:
    """Whoever finds the dead letter reads which unit the producer sent, and which one is wanted."""
    with pytest.raises(Undecodable, match=f"it counts {unit}.*send milliseconds since 1970") as caught:
        decode_usage(written(ts_ms=ts_ms))
    assert caught.value.reason == "bad_time"


@pytest.mark.parametrize(("theirs", "ours"), [("prompt_tokens", "input_tokens"), ("cost_usd", "cost_nanousd")])
def test_a_foreign_name_is_answered_with_the_right_one(theirs: str, ours: str) -> None:
    """A producer that copies another system's usage is told what to write, and counts as nothing in silence no more."""
    with pytest.raises(Undecodable, match=f"`{theirs}` is called `{ours}` here"):
        decode_usage(written(**{theirs: 7}))


@pytest.mark.parametrize(
    ("field", "theirs", "ours"),
    [
        ("status", "success", "cancelled, error, ok"),
        ("service_tier", "default", "batch, flex, priority, standard"),
        ("type", "llm", "llm_call, tool_call, run_started, run_finished, outcome, command_ack"),
    ],
)
def test_a_word_that_is_none_of_ours_is_answered_with_those_that_are(field: str, theirs: str, ours: str) -> None:
    """A producer that passes a provider's own word on reads which ones count; the refused one is quoted nowhere."""
    with pytest.raises(Undecodable, match=f"{field}`: it is one of {ours}") as caught:
        decode_usage(written(**{field: theirs}))
    assert f"{theirs!r}" not in caught.value.detail
