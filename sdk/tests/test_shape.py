"""Two results have the same shape when they differ in times, durations, counters, ids, temporary paths or spaces."""

import random
import uuid
from dataclasses import dataclass

import pytest

from spendfuse import Emitter
from spendfuse._usage.shape import VERSION, shape_of
from spendfuse.testing import MemoryTransport

SAME: list[tuple[object, object]] = [
    ("exit 1 at 09:00", "exit 1 at 09:41"),
    ("2026-11-27T04:05:06Z deploy failed", "2026-11-28T23:59:59.123+01:00 deploy failed"),
    ("[2026-11-27 04:05:06,123] deploy failed", "[2026-11-27 04:05:07,456] deploy failed"),
    ("Fri Nov 27 04:05:06 UTC 2026: no", "Sat Nov 28 14:05:06 UTC 2026: no"),
    ("Date: Fri, 27 Nov 2026 04:05:06 GMT, gone", "Date: Sat, 5 Dec 2026 14:05:06 GMT, gone"),
    ("last seen 1795276800", "last seen 1795276861.5"),
    ("last seen 1795276800123", "last seen 1795276861456"),
    ("timed out after 30.2 s", "timed out after 9.87 s"),
    ("2 passed in 0.12s", "2 passed in 1.45s"),
    ("took 12ms", "took 140 ms"),
    ("no such order 7f3b2c9e-1111-4222-8333-444455556666", f"no such order {uuid.UUID(int=7)}"),
    ("commit 9f8e7d6c5b refused", "commit 0a1b2c3d4e refused"),
    ("request req_011CSHoEeqs5C35K2UUqR7Fy failed", "request req_022DTIpFfrt6D46L3VVrS8Gz failed"),
    ("<Lock at 0x7f052fef8750> busy", "<Lock at 0x7f99aef87500> busy"),
    ("attempt 3 of 10 failed", "attempt 4 of 10 failed"),
    ("Retry #3 failed", "Retry #17 failed"),
    ("killed, pid 4711", "killed, pid 99"),
    ("wrote /tmp/tmpa1b2c3/out.txt", "wrote /tmp/tmpzz9/out.txt"),
    ("wrote /var/folders/xy/T/a.txt", "wrote /var/folders/zz/T/b.txt"),
    ("wrote C:\\Users\\a\\AppData\\Local\\Temp\\x1", "wrote C:\\Users\\a\\AppData\\Local\\Temp\\y2"),
    ("no   such\n\tfile ", "no such file"),
    ({"error": "busy", "request_id": "a", "ts": 5}, {"error": "busy", "request_id": "b", "ts": 6}),
    ({"error": "busy", "requestId": 1, "createdAt": "x"}, {"error": "busy", "requestId": 2, "createdAt": "y"}),
    ({"ok": False, "attempt": 1, "elapsed_ms": 9}, {"ok": False, "attempt": 2, "elapsed_ms": 8}),
    ('{"error": "busy", "id": 1}', '{"id": 2,  "error": "busy"}'),
    ('{"error": "busy", "id": 1}', {"error": "busy", "id": 2}),
    (ValueError("busy at 09:00:01"), ValueError("busy at 09:00:02")),
    ([{"name": "a", "id": 1}], [{"name": "a", "id": 2}]),
]  # fmt: skip

DIFFERENT: list[tuple[object, object]] = [
    ("exit 1 at 09:00", "exit 2 at 09:00"),
    ("3 tests failed", "2 tests failed"),
    ("error in line 12", "error in line 14"),
    ("price 10.50", "price 10.75"),
    ("429 Too Many Requests", "503 Service Unavailable"),
    ("page 1 of 9: a", "page 2 of 9: a"),
    ("found 3 files", "found 4 files"),
    ("version 1.2.3", "version 1.2.4"),
    ("a b", "ab"),
    ("No such file", "no such file"),
    ("/home/ana/a.txt", "/home/ana/b.txt"),
    ({"count": 3}, {"count": 4}),
    ({"status": "queued", "id": 1}, {"status": "running", "id": 1}),
    ({"id": 1, "x": 1}, {"id": None, "x": 1}),
    ({"items": [1, 2]}, {"items": [1, 2, 3]}),
    ({"valid": True}, {"valid": False}),
    ({"at": {"x": 1}}, {"at": {"x": 2}}),
    ("the whole face deadbeef added", "the whole face cafebabe added"),
    ("internationalization", "internationalisation"),
    (1, 2),
    ("1", "2"),
    ("yes", True),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME, ids=repr)
def test_the_same_shape(one: object, other: object) -> None:
    """What differs although nothing has changed is left out."""
    assert shape_of(one) == shape_of(other) is not None


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=repr)
def test_another_shape(one: object, other: object) -> None:
    """What may be progress stays in: a false repeat can stop a healthy run."""
    assert shape_of(one) != shape_of(other)


class Opaque:
    """An object that JSON cannot say, and whose repr is its address."""


@dataclass
class Answer:
    """An object with fields."""

    text: str
    took_ms: int


@pytest.mark.parametrize(
    "value",
    [
        Opaque(), {"answer": Opaque()}, "", "  ", "2026-11-27", str(uuid.UUID(int=7)), {}, [], "x" * 300_000,
        ["x"] * 100_000,
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_no_shape(value: object) -> None:
    """Nothing to compare by: the exact hash decides alone."""
    assert shape_of(value) is None


def test_dataclasses_have_a_shape_by_their_fields() -> None:
    """A tool's own result class is compared as its fields are."""
    assert shape_of(Answer("no", 5)) == shape_of(Answer("no", 9)) is not None
    assert shape_of(Answer("no", 5)) != shape_of(Answer("yes", 5))


@pytest.mark.timeout(60)
def test_hostile_results_hang_nothing_and_raise_nothing() -> None:
    """Texts made to be slow to match, deep or cyclic values: an agent that reports them goes on."""
    seeded = random.Random(7)
    cyclic: list[object] = []
    cyclic.append(cyclic)
    nested: object = "x"
    for _ in range(500):
        nested = [nested]
    alphabet = "a1:-/.\\ 0xT_+{[\"'"
    texts = [character * 200_000 for character in alphabet]
    texts += ["".join(seeded.choices(alphabet, k=50_000)) for _ in range(3)]
    texts += ["C:\\" * 50_000, "/tmp/" * 40_000, "12:34:" * 40_000, "Mon " * 50_000, "attempt " * 25_000, "1 " * 99_000]
    answered = 0
    for value in (cyclic, nested, *texts):
        shape_of(value)
        answered += 1
    assert answered == len(texts) + 2


def test_shapes_travel_as_keyed_hashes(transport: MemoryTransport) -> None:
    """The wire has the hash of the shape, under the emitter's key; none where there is no shape."""
    with Emitter(transport, hash_key=b"k") as emitter, emitter.run(tenant_id="acme") as run:
        for result in ("exit 1 at 09:00", "exit 1 at 09:01", Opaque()):
            run.tool_call("deploy", result=result)
    first, second, third = transport.of_type("tool_call")
    assert first["result_hash"] != second["result_hash"]
    assert first["result_shape_hash"] == second["result_shape_hash"] == emitter.shape_hash_of("exit 1 at 09:02")
    assert first["result_shape_hash"].startswith(f"{VERSION}:")
    assert len(first["result_shape_hash"].partition(":")[2]) == 32
    assert first["result_shape_hash"] != Emitter(MemoryTransport()).shape_hash_of("exit 1 at 09:00")
    assert "result_shape_hash" not in third
