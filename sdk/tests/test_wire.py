"""What may be on the wire: bounds, money, sizes, and no text of anybody's."""

import json
import math
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal

import pytest

from spendfuse import Emitter, InvalidEvent, hash_of
from spendfuse._usage.money import nanousd
from spendfuse._usage.wire import ATTRIBUTION, MAX_VALUE_BYTES, encoded
from spendfuse.testing import MemoryTransport

CALL = {"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"}


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, 0),
        (1, 10**9),
        ("0.1", 10**8),
        (0.1, 10**8),
        (Decimal("0.0000000005"), 1),
        (Decimal("0.00000000049999999999999999999999999999"), 0),
        ("0.0000000015", 2),
        (1e-12, 0),
        (1_000_000, 10**15),
        (-0.0, 0),
    ],
)
def test_dollars_become_nanodollars_once_rounded_half_up(amount: object, expected: int) -> None:
    """A price of 0.1 is a tenth whatever type it came in, and half a nano-dollar counts as one."""
    assert expected == nanousd(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "amount",
    [
        math.nan,
        math.inf,
        -math.inf,
        -0.01,
        "-1",
        "NaN",
        "sNaN",
        "Infinity",
        "1e999999",
        1_000_000.01,
        "",
        "a",
        True,
        b"1",
    ],
)
def test_what_is_no_sum_of_money_is_refused(amount: object) -> None:
    """Neither NaN nor a credit nor a typing error becomes a cost."""
    with pytest.raises(InvalidEvent, match="cost_usd"):
        nanousd(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"type": "nonsense"},
        {"tenant_id": ""},
        {"tenant_id": "x" * 129},
        {"tenant_id": None},
        {"run_id": 7},
        {"model": None},
        {"model": "x" * 257},
        {"model": "\ud800"},
        {"input_tokens": True},
        {"input_tokens": 1.0},
        {"input_tokens": -1},
        {"input_tokens": 10**12 + 1},
        {"cost_nanousd": 10**15 + 1},
        {"cost_nanousd": 1, "cost_usd": 1},
        {"cost_usd": "NaN"},
        {"attempt": 0},
        {"status": "fine"},
        {"cache_hit": 1},
        {"service_tier": "cheap"},
        {"web_searches": -1},
        {"context_reload": "yes"},
        {"ts_ms": 1_800_000_000},
        {"ts_ms": 1_800_000_000_000_000},
        {"tags": {str(i): "" for i in range(17)}},
        {"tags": {"a": 1}},
        {"tags": ["a"]},
        {"prompt": "what was asked"},
    ],
)
def test_what_the_log_would_refuse_is_refused_at_the_call(emitter: Emitter, change: dict[str, object]) -> None:
    """The traceback points at the mistake, and its text does not quote the value."""
    with pytest.raises(InvalidEvent) as refused:
        emitter.emit(CALL | change)
    assert "what was asked" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ['"', "\\", "a|b/c", "\x00\x1f", "<!channel>", "𝕬🙂", "%2F", "' OR 1=1 --", "{}", "\u2028"]
)
def test_hostile_names_arrive_as_they_are(emitter: Emitter, transport: MemoryTransport, name: str) -> None:
    """A name is data: it changes neither the message's shape nor its key."""
    emitter.emit(CALL | {"tenant_id": name, "user": name, "tags": {name: name}})
    emitter.flush()
    (event,) = transport.events
    assert (name, name, {name: name}) == (event["tenant_id"], event["user"], event["tags"])
    assert name.encode() == transport.records[0].key


def test_tags_go_first_when_an_event_is_too_large(emitter: Emitter, transport: MemoryTransport) -> None:
    """The spend is recorded even when its decoration is oversized, and the loss is counted."""
    names = dict.fromkeys(ATTRIBUTION, "\x01" * 256)
    emitter.emit(CALL | names | {"tags": {f"{i:02}" + "\x01" * 254: "\x01" * 256 for i in range(16)}, "cost_usd": 1})
    emitter.flush()
    assert "tags" not in transport.events[0]
    assert transport.events[0]["cost_nanousd"] == 10**9
    assert len(transport.records[0].value) <= MAX_VALUE_BYTES
    assert emitter.stats.tags_dropped == 1


def test_too_large_without_tags_is_refused() -> None:
    """No event is cut in the middle."""
    with pytest.raises(InvalidEvent, match="200 are allowed"):
        encoded({"model": "x" * 200, "tags": {}}, max_bytes=200)


@dataclass
class Query:
    """An argument that is an object."""

    text: str
    limit: int


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [1, 2]}, OrderedDict(b=(1, 2), a=1)),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        (Query("q", 3), Query("q", 3)),
        (b"abc", bytearray(b"abc")),
        ({1: "a"}, {1: "a"}),
        (float("nan"), float("nan")),
    ],
)
def test_equal_values_hash_alike(one: object, other: object) -> None:
    """Loops are found by hash: the order of keys and the kind of container are no difference."""
    assert hash_of(one) == hash_of(other)


def test_different_values_hash_differently() -> None:
    """Nothing is taken for a repeat that is none: a false repeat can stop a healthy run."""
    cyclic: list[object] = []
    cyclic.append(cyclic)
    values = [
        None,
        0,
        "",
        "0",
        [],
        {},
        b"",
        object(),
        object(),
        Query("q", 1),
        Query("q", 2),
        {1: "a"},
        {"1": "a"},
        cyclic,
    ]
    assert len(values) == len({hash_of(value) for value in values})


def test_the_hash_is_the_published_one() -> None:
    """Other producers can make the same hash: SHA-256 of compact JSON with sorted keys, 32 hex characters."""
    assert hash_of({"b": 2, "a": 1}) == "43258cff783fe7036d8a43033f830adf"


def test_an_object_that_cannot_be_shown_is_still_hashed() -> None:
    """A broken `repr` in the agent's own classes does not reach the agent through us."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert len(hash_of({"x": Broken(), "deep": _nested(10_000)})) == 32


def _nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def test_no_text_leaves(transport: MemoryTransport) -> None:
    """Prompts, arguments and results reach the wire as hashes only, and the key changes the hashes."""
    secret = "sk-planted-4711"
    with Emitter(transport, hash_key=b"k") as emitter, emitter.run(tenant_id="acme", workflow="w") as run:
        run.llm_call(model="m", prompt=[{"role": "user", "content": secret}])
        run.tool_call("search", args={secret: [secret]}, result=Query(secret, 1))
        run.tool_call("fetch", args=secret, result=secret.encode())
        with pytest.raises(InvalidEvent) as refused:
            run.llm_call(model="m", prompt_text=secret)  # type: ignore[call-arg]
        assert secret not in str(refused.value)
    wire = b"".join(record.key + record.value for record in transport.records)
    assert secret.encode() not in wire
    assert hash_of(secret).encode() not in wire
    assert hash_of(secret, key=b"k") == transport.of_type("tool_call")[1]["args_hash"]
    assert len([json.loads(record.value) for record in transport.records]) == 5
