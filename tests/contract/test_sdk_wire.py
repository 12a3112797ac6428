"""The agents' client and the service each have their own idea of the wire. Here each reads what the other wrote."""

import json
from collections.abc import Iterator
from operator import methodcaller
from typing import Any, get_args

import msgspec
import pytest
import spendfuse._usage.wire as sdk_wire
from spendfuse import Emitter, Guard, InvalidEvent, Run, Stopped, derive_keys
from spendfuse._control.command import ALL_TENANTS as OURS
from spendfuse._control.command import ControlRecord, parse, record_key
from spendfuse._control.intake import Believed, Intake
from spendfuse.testing import FakeControl, MemoryTransport

from schemas.codec import MAX_MESSAGE_BYTES, decode_usage, encode
from schemas.control import Command, Target, TargetType
from schemas.export import topic_documents
from schemas.internal.spend import ALL_TENANTS
from schemas.policy import Action
from schemas.signing import EngineKeys, KeyId, control_key, tenant_key
from schemas.usage import (
    ATTRIBUTION,
    CommandAck,
    LlmCall,
    Outcome,
    RunFinished,
    RunStarted,
    ToolCall,
    UsageMessage,
)
from tests.support.corpus import ACCEPTED, REFUSED
from tests.support.examples import examples

NOW_MS = 1_795_276_800_000
ROOT = b"the root key of the engine, in tests"
ENGINE = EngineKeys(ROOT)
HOSTILE_NAMES = (
    "acme", "a/b", "a|b", "a%2Fb", "../..", "a b", "ümlaut/日本", "v1|engine|kill", "a\0b", "a\nb", "~.-_", "'\"\\",
    "x" * 128, "\U0001f600", "é", "e\u0301",
)  # fmt: skip


@pytest.fixture
def transport() -> MemoryTransport:
    """Where the client's messages arrive."""
    return MemoryTransport()


@pytest.fixture
def emitter(transport: MemoryTransport) -> Iterator[Emitter]:
    """A client whose clock stands still."""
    with Emitter(transport, clock_ms=lambda: NOW_MS) as emitter:
        yield emitter


def _sent(emitter: Emitter, transport: MemoryTransport) -> list[UsageMessage]:
    """Everything sent so far, as the service reads it."""
    assert emitter.flush(5.0) == 0
    return [decode_usage(record.value) for record in transport.records]


ATTRIBUTED: dict[str, Any] = {name: f"{name} ü" for name in ATTRIBUTION} | {"tags": {"region": "eu", "日本": "x"}}


def _llm_call(run: Run) -> None:
    run.llm_call(
        model="claude-sonnet-4-5", input_tokens=900, output_tokens=70, cost_usd="0.0042", prompt="Dear Sir",
        provider="anthropic", route="cheap", cache_read_tokens=1, cache_write_tokens=2, reasoning_tokens=3,
        price_source="invoice", attempt=2, status="error", error_type="overloaded", latency_ms=800,
        started_ms=NOW_MS - 800, images=1, cache_hit=True, ts_ms=NOW_MS - 5,
        cache_write_1h_tokens=1, input_audio_tokens=4, output_audio_tokens=5, output_image_tokens=6,
        service_tier="flex", web_searches=7, fallback_from="claude-opus", context_reload=True,
        escalation_reason="low_confidence",
    )  # fmt: skip


def _tool_call(run: Run) -> None:
    run.tool_call(
        "search", args={"q": "x"}, result=[1], status="cancelled", latency_ms=9, cost_usd="0.001", ts_ms=NOW_MS,
        started_ms=NOW_MS - 9, writes=True, error_type="no_match",
    )  # fmt: skip


METHODS: dict[str, Any] = {
    "start": (methodcaller("start"), RunStarted, {"expected_route": "cheap", "cap_nanousd": 2_500_000_000,
        "max_retries": 3, "max_tool_calls": 40, "max_duration_s": 900, "expected_outcome": "accepted"}),
    "llm_call with as little as it takes": (methodcaller("llm_call", model="m"), LlmCall,
        {"model": "m", "attempt": 1}),
    "llm_call": (_llm_call, LlmCall, {"cost_nanousd": 4_200_000, "input_tokens": 900, "output_tokens": 70,
        "provider": "anthropic", "route": "cheap", "cache_read_tokens": 1, "cache_write_tokens": 2,
        "reasoning_tokens": 3, "price_source": "invoice", "attempt": 2, "status": "error", "error_type": "overloaded",
        "latency_ms": 800, "started_ms": NOW_MS - 800, "images": 1, "cache_hit": True, "ts_ms": NOW_MS - 5,
        "cache_write_1h_tokens": 1, "input_audio_tokens": 4, "output_audio_tokens": 5, "output_image_tokens": 6,
        "service_tier": "flex", "web_searches": 7, "fallback_from": "claude-opus", "context_reload": True,
        "escalation_reason": "low_confidence"}),
    "tool_call with as little as it takes": (methodcaller("tool_call", "t"), ToolCall,
        {"tool": "t", "status": "ok"}),
    "tool_call": (_tool_call, ToolCall, {"tool": "search", "status": "cancelled", "latency_ms": 9,
        "cost_nanousd": 1_000_000, "started_ms": NOW_MS - 9, "writes": True, "error_type": "no_match"}),
    "acknowledge": (methodcaller("acknowledge", "c-1", "paused"), CommandAck,
        {"command_id": "c-1", "acted": "paused"}),
} | {
    f"outcome {word}": (methodcaller("outcome", word), Outcome, {"outcome": word})
    for word in ("accepted", "edited", "rejected", "escalated")
} | {
    f"finish {word}": (methodcaller("finish", word), RunFinished, {"status": word})
    for word in ("completed", "failed", "cancelled", "killed")
}  # fmt: skip
"""What is called on a run -> the call, the message it sends, and what that message says."""


@pytest.mark.parametrize("method", METHODS)
def test_the_service_reads_what_every_method_of_a_run_sends(
    method: str, emitter: Emitter, transport: MemoryTransport
) -> None:
    """Type, values and attribution arrive as they were given, under the tenant's key."""
    call, kind, expected = METHODS[method]
    parent = emitter.run("acme", run_id="parent", session_id="session-1")
    run = parent.child(
        run_id="run-1", expected_route="cheap", expected_outcome="accepted", cap_usd="2.5", max_retries=3,
        max_tool_calls=40, max_duration_s=900, **ATTRIBUTED,
    )  # fmt: skip
    call(run)
    (message,) = _sent(emitter, transport)
    assert type(message) is kind
    assert {name: getattr(message, name) for name in expected} == expected
    assert {name: getattr(message, name) for name in ATTRIBUTED} == ATTRIBUTED
    assert (message.tenant_id, message.run_id, message.seq) == ("acme", "run-1", 1)
    assert (message.session_id, message.parent_run_id, message.root_run_id) == ("session-1", "parent", "parent")
    assert transport.records[0].key == message.tenant_id.encode()
    assert transport.records[0].event_id == message.event_id


def test_the_service_reads_a_whole_run_in_order(emitter: Emitter, transport: MemoryTransport) -> None:
    """`seq` rises from 1 without a gap, ids are distinct, and text that was hashed did not leave the agent."""
    with emitter.run("acme", **ATTRIBUTED) as run:
        run.llm_call(model="m", prompt="my secret prompt")
        run.tool_call("t", args="my secret prompt", result="my secret prompt")
        run.outcome("accepted")
    messages = _sent(emitter, transport)
    assert [type(message) for message in messages] == [RunStarted, LlmCall, ToolCall, Outcome, RunFinished]
    assert [message.seq for message in messages] == [1, 2, 3, 4, 5]
    assert len({message.event_id for message in messages}) == len(messages)
    assert not [record for record in transport.records if b"secret" in record.value]


@pytest.mark.parametrize("example", examples("usage.v1"), ids=str)
def test_the_client_can_send_every_example(example: Any, emitter: Emitter, transport: MemoryTransport) -> None:
    """What the service documents, the client lets through unchanged; only fields nobody knows it refuses."""
    if "unknown" in example.name:
        with pytest.raises(InvalidEvent):
            emitter.emit(example.value)
        return
    emitter.emit(example.value)
    assert _sent(emitter, transport) == [decode_usage(example.data)]


def test_what_the_service_refuses_the_client_does_not_send(emitter: Emitter, transport: MemoryTransport) -> None:
    """A mistake shows where it is made. The client completes ids and times, so those may be missing."""
    repaired = ("without event_id", "without ts_ms", "two types", "tokens null", "cost of 5000 digits")
    events = [
        (bad.name, json.loads(bad.value or b""))
        for bad in REFUSED
        if bad.reason in ("missing_field", "unknown_type", "wrong_value") and not bad.name.endswith(repaired)
    ]
    assert not [name for name, event in events if isinstance(event, dict) and _lets_through(emitter, event)]
    assert _sent(emitter, transport) == []


def _lets_through(emitter: Emitter, event: dict[str, Any]) -> bool:
    try:
        emitter.emit(event)
    except InvalidEvent:
        return False
    return True


def test_what_the_service_accepts_the_client_can_send(emitter: Emitter, transport: MemoryTransport) -> None:
    """The client is not stricter than the wire, but for unknown fields and its limit on size."""
    for odd in ACCEPTED:
        if b'"note"' in odd.value or odd.name.startswith("unknown field"):
            continue
        emitter.emit(json.loads(odd.value))
        assert _sent(emitter, transport)[-1] == decode_usage(odd.value), odd.name


def test_both_sides_know_the_same_fields_and_which_must_be_given() -> None:
    """A field added on one side only fails here."""
    definitions = topic_documents()["usage.v1"]["$defs"].values()
    kinds = {each["properties"]["type"]["enum"][0]: each for each in definitions}
    assert {kind: set(fields) for kind, fields in sdk_wire.FIELDS.items()} == {
        kind: each["properties"].keys() - {"type"} for kind, each in kinds.items()
    }
    assert {kind: set(names) for kind, names in sdk_wire.REQUIRED.items()} == {
        kind: set(each["required"]) - {"type"} for kind, each in kinds.items()
    }
    assert sdk_wire.MAX_VALUE_BYTES == MAX_MESSAGE_BYTES


def _command(tenant_id: str, target_type: TargetType, target_id: str, action: Action = "kill") -> Command:
    given: dict[str, Any] = {
        "command_id": "command-1", "reason": "too much", "rule": "run-cost", "incident_id": "incident-1",
        "issued_ms": NOW_MS, "expires_ms": NOW_MS + 3_600_000, "seq": 7, "cause_event_id": None, "cause_ts_ms": NOW_MS,
    }  # fmt: skip
    given |= {"action": action, "tenant_id": tenant_id, "target": Target(type=target_type, id=target_id)}
    return Command(**given, scope={"workflow": [target_id], "tags.team": []} if target_type == "scope" else None)


def _record(command: Command, kid: KeyId) -> ControlRecord:
    value = encode(command)
    return ControlRecord(value, tuple(ENGINE.command_headers(command, value, kid)))


def _keys(tenant_id: str) -> dict[str, bytes]:
    return derive_keys(ROOT, tenant_id)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_keys_are_the_same_on_both_sides(name: str) -> None:
    """Record keys and tenant keys do not depend on who makes them, whatever the names hold."""
    assert {"engine": tenant_key(ROOT, name), "lift": ENGINE.lift_key} == derive_keys(ROOT, name)
    for target_type in get_args(TargetType):
        assert control_key("t/|" + name, target_type, name).encode() == record_key("t/|" + name, (target_type, name))


@pytest.mark.parametrize("kid", get_args(KeyId))
@pytest.mark.parametrize("target_type", get_args(TargetType))
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_the_client_believes_what_the_service_signed(kid: KeyId, target_type: TargetType, name: str) -> None:
    """A command of either signer gets through whole, whatever characters tenant and target hold."""
    command = _command(name, target_type, name, action="resume" if kid == "operator" else "kill")
    read = Intake(None, _keys).read(_record(command, kid))
    assert isinstance(read, Believed)
    assert read.by_operator == (kid == "operator")
    assert read.command == parse(encode(command))
    assert (read.command.tenant_id, read.command.target) == (name, (target_type, name))
    allowed = {dimension: frozenset(values) for dimension, values in (command.scope or {}).items()}
    assert read.command.scope == (allowed or None)
    assert (read.command.action, read.command.seq) == (command.action, command.seq)
    assert (read.command.issued_ms, read.command.expires_ms) == (command.issued_ms, command.expires_ms)


@pytest.mark.parametrize("kid", get_args(KeyId))
def test_the_client_refuses_every_changed_byte(kid: KeyId) -> None:
    """No single bit of the value and no byte of the headers can be changed without the record being ignored."""
    record = _record(_command("acme/ü|", "workflow", "triage|1", action="resume" if kid == "operator" else "kill"), kid)
    assert record.value is not None
    intake = Intake("acme/ü|", _keys("acme/ü|"))
    assert isinstance(intake.read(record), Believed)
    for at in range(len(record.value)):
        for bit in range(8):
            changed = ControlRecord(_flipped(record.value, at, bit), record.headers)
            assert not isinstance(intake.read(changed), Believed), (at, bit)
    for index, (name, header) in enumerate(record.headers):
        assert header is not None
        for at in range(len(header)):
            headers = list(record.headers)
            headers[index] = (name, _flipped(header, at, 0))
            assert intake.read(ControlRecord(record.value, tuple(headers))) == "forged", (name, at)


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def test_the_client_refuses_another_signers_another_tenants_and_missing_signatures() -> None:
    """The engine's own word is no operator's, one tenant's key is of no use against another."""
    command = _command("acme", "run", "run-1", action="resume")
    value = encode(command)
    intake = Intake("acme", _keys("acme"))
    by_engine = dict(ENGINE.command_headers(command, value, "engine"))
    forged = {
        "no headers": (),
        "the engine as operator": tuple((by_engine | {"spendfuse-kid": b"operator"}).items()),
        "another root": tuple(EngineKeys(b"another").command_headers(command, value, "operator")),
        "another tenant's key": tuple(
            ENGINE.command_headers(_command("evil", "run", "run-1", action="resume"), value, "operator")
        ),
        "signed twice": tuple(ENGINE.command_headers(command, value, "operator")) * 2,
        "another value's signature": tuple(ENGINE.command_headers(command, value + b" ", "operator")),
    }
    for what, headers in forged.items():
        assert intake.read(ControlRecord(value, headers)) == "forged", what


@pytest.mark.parametrize("action", ["pause", "downgrade", "resume"])
def test_the_client_believes_what_the_service_tells_all_tenants(action: Action) -> None:
    """By the key that every agent may hold because it signs nothing, whoever the guard serves."""
    assert OURS == ALL_TENANTS
    command = msgspec.structs.replace(_command(ALL_TENANTS, "scope", "s1", action=action), scope={"owner": ["ana"]})
    record = _record(command, "engine")
    read = Intake("acme", _keys("acme")).read(record)
    assert isinstance(read, Believed)
    assert (read.command.tenant_id, read.command.scope) == (ALL_TENANTS, {"owner": frozenset({"ana"})})
    without = ControlRecord(record.value, tuple(each for each in record.headers if each[0] != "spendfuse-lift"))
    assert Intake("acme", _keys("acme")).read(without) == "forged"
    assert Intake("acme", {"engine": _keys("acme")["engine"]}).read(record) == "forged"


def test_a_signed_kill_of_the_service_stops_the_run_and_a_forged_one_does_not(
    emitter: Emitter, transport: MemoryTransport
) -> None:
    """From the service's command to the agent's answer, by the public parts of both."""
    control = FakeControl()
    guard = Guard(control, emitter, when_blind="continue", keys=_keys, clock_ms=lambda: NOW_MS + 1)
    with guard, emitter.run("acme/ü", run_id="run|1") as run:
        genuine = _record(_command("acme/ü", "run", "run|1"), "engine")
        assert genuine.value is not None
        control.put(ControlRecord(genuine.value.replace(b"too much", b"too mucH"), genuine.headers))
        guard.check(run)
        control.put(genuine)
        with pytest.raises(Stopped):
            guard.check(run)
    acks = [message for message in _sent(emitter, transport) if isinstance(message, CommandAck)]
    assert [(ack.command_id, ack.acted, ack.run_id) for ack in acks] == [("command-1", "stopped", "run|1")]


def test_the_documented_commands_can_be_read_by_the_client() -> None:
    """The examples of control.v1 are commands to the agents' client."""
    for example in examples("control.v1"):
        assert parse(example.data).command_id == example.value["command_id"]
