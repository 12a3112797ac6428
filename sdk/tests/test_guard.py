"""A guard obeys what is authentic, new and unexpired, nothing else; a kill holds until an operator lifts it."""

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from spendfuse import Emitter, Guard, Paused, Stopped, derive_keys, derive_tenant_key
from spendfuse._control import ed25519, freshness
from spendfuse._control.command import ALL_TENANTS, ControlRecord, parse
from spendfuse._control.signing import (
    KID_HEADER,
    LIFT_HEADER,
    SIGNATURE_HEADER,
    key_check_text,
    lift_seed,
    signature,
    signed_headers,
    signed_text,
)
from spendfuse._control.standing import EXPIRED_KEPT_S
from spendfuse.testing import FakeControl, MemoryTransport

NOW_MS = 1_800_000_000_000
ROOT = b"the root key of the engine, in tests"
KEYS = derive_keys(ROOT, "acme")
TIMEOUT_S = 10.0

Change = Callable[[ControlRecord], ControlRecord]


@dataclass(slots=True)
class Clock:
    """A wall clock that the test moves."""

    now_ms: int = NOW_MS

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    """A clock at NOW_MS."""
    return Clock()


@pytest.fixture
def control() -> FakeControl:
    """A control topic whose commands are signed for tenant acme."""
    return FakeControl(root=ROOT)


@pytest.fixture
def guard(control: FakeControl, emitter: Emitter, clock: Clock) -> Iterator[Guard]:
    """A guard of tenant acme that knows its keys."""
    with Guard(
        control, emitter, when_blind="continue", blind_after_s=3600, tenant_id="acme", keys=KEYS, clock_ms=clock
    ) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        yield guard


def given(action: str, seq: int, *, kid: str = "engine", ends_in_ms: int = 60_000, **fields: object) -> ControlRecord:
    """A properly signed record of a command to run r1 of acme."""
    body: dict[str, object] = {
        "command_id": f"{action}-{seq}",
        "action": action,
        "tenant_id": "acme",
        "target": {"type": "run", "id": "r1"},
        "reason": "looping",
        "rule": "repeat",
        "incident_id": "i1",
        "issued_ms": NOW_MS - 1_000,
        "expires_ms": NOW_MS + ends_in_ms,
        "seq": seq,
    }
    return signed(json.dumps(body | fields).encode(), kid)


def signed(value: bytes, kid: str) -> ControlRecord:
    """The value with its signature, as the service makes it."""
    return ControlRecord(value, signed_headers(ROOT, kid, parse(value), value))  # type: ignore[arg-type]


def with_value(old: bytes, new: bytes) -> Change:
    """A change of the signed bytes."""
    return lambda record: replace(record, value=(record.value or b"").replace(old, new))


def with_headers(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of the headers."""

    def changed(record: ControlRecord) -> ControlRecord:
        headers: dict[str, Any] = dict(record.headers)
        change(headers)
        return replace(record, headers=tuple(headers.items()))

    return changed


def state_of(guard: Guard, run: Any) -> str:
    """What a check says."""
    try:
        guard.check(run)
    except Stopped:
        return "stopped"
    except Paused:
        return "paused"
    return "downgraded" if guard.advice(run).downgrade else "free"


TOMBSTONE = ControlRecord(None)
KILL, PAUSE, DOWN = given("kill", 5), given("pause", 5), given("downgrade", 5)

TABLE: list[tuple[str, list[ControlRecord], str, dict[str, int]]] = [
    ("nothing", [], "free", {}),
    ("kill", [KILL], "stopped", {"applied": 1}),
    ("pause", [PAUSE], "paused", {"applied": 1}),
    ("downgrade", [DOWN], "downgraded", {"applied": 1}),
    ("the same kill again", [KILL, KILL], "stopped", {"applied": 1, "replayed": 1}),
    ("operator kills", [given("kill", 5, kid="operator")], "stopped", {"applied": 1}),
    # What lifts what.
    ("operator lifts a kill", [KILL, given("resume", 6, kid="operator")], "free", {"applied": 2}),
    ("engine cannot lift a kill", [KILL, given("resume", 6)], "stopped", {"applied": 1, "not_entitled": 1}),
    ("engine lifts a pause", [PAUSE, given("resume", 6)], "free", {"applied": 2}),
    ("engine lifts a downgrade", [DOWN, given("resume", 6)], "free", {"applied": 2}),
    ("engine lifts the pause over a kill", [KILL, given("pause", 6), given("resume", 7)], "stopped",
     {"applied": 2, "not_entitled": 1}),
    ("pause does not replace a kill", [KILL, given("pause", 6)], "stopped", {"applied": 2}),
    ("downgrade does not replace a pause", [PAUSE, given("downgrade", 6)], "paused", {"applied": 2}),
    ("killed again after a resume", [KILL, given("resume", 6, kid="operator"), given("kill", 7)], "stopped",
     {"applied": 3}),
    # Replay.
    ("resume with the kill's seq", [KILL, given("resume", 5, kid="operator")], "stopped", {"replayed": 1}),
    ("resume with a lower seq", [KILL, given("resume", 4, kid="operator")], "stopped", {"replayed": 1}),
    ("an old kill after a resume", [given("resume", 6, kid="operator"), KILL], "free", {"replayed": 1}),
    ("an old pause", [given("resume", 6), PAUSE], "free", {"replayed": 1}),
    # Expiry.
    ("expired kill", [given("kill", 5, ends_in_ms=0)], "free", {"expired": 1}),
    ("expired resume", [KILL, given("resume", 6, kid="operator", ends_in_ms=-1)], "stopped", {"expired": 1}),
    ("a replay under an expired one", [given("kill", 6, ends_in_ms=-1), KILL], "free", {"expired": 1, "replayed": 1}),
    # Tombstones.
    ("tombstone after a kill", [KILL, TOMBSTONE], "stopped", {"tombstone": 1}),
    ("tombstone alone", [TOMBSTONE], "free", {"tombstone": 1}),
    # Others.
    ("another run", [given("kill", 5, target={"type": "run", "id": "r2"})], "free", {"applied": 1}),
    ("a run id as a session", [given("kill", 5, target={"type": "session", "id": "r1"})], "free", {"applied": 1}),
    ("a separator in an id", [given("kill", 5, target={"type": "run", "id": "r1|6"})], "free", {"applied": 1}),
    ("another tenant", [given("kill", 5, tenant_id="other")], "free", {"other_tenant": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("records", "state", "counts"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_stands_after(
    guard: Guard,
    control: FakeControl,
    emitter: Emitter,
    records: list[ControlRecord],
    state: str,
    counts: dict[str, int],
) -> None:
    """Each row: the records on the topic, in order; what a check says then; what was counted."""
    for record in records:
        control.put(record)
    assert state == state_of(guard, emitter.run(tenant_id="acme", run_id="r1"))
    assert counts == {name: getattr(guard.stats, name) for name in counts}


FORGERIES: list[tuple[str, Change]] = [
    ("no headers", lambda record: replace(record, headers=())),
    ("no signature", with_headers(lambda headers: headers.pop(SIGNATURE_HEADER))),
    ("no kid", with_headers(lambda headers: headers.pop(KID_HEADER))),
    ("unknown kid", with_headers(lambda headers: headers.update({KID_HEADER: b"root"}))),
    ("the other key's name", with_headers(lambda headers: headers.update({KID_HEADER: b"engine"}))),
    ("empty signature", with_headers(lambda headers: headers.update({SIGNATURE_HEADER: b""}))),
    ("null signature", with_headers(lambda headers: headers.update({SIGNATURE_HEADER: None}))),
    ("signature not ASCII", with_headers(lambda headers: headers.update({SIGNATURE_HEADER: b"\xff" * 64}))),
    ("two signatures", lambda record: replace(record, headers=(*record.headers, (SIGNATURE_HEADER, b"x")))),
    ("no lift", with_headers(lambda headers: headers.pop(LIFT_HEADER))),
    ("lift not in hexadecimal", with_headers(lambda headers: headers.update({LIFT_HEADER: b"\xff" * 128}))),
    ("an HMAC as lift", with_headers(lambda headers: headers.update({LIFT_HEADER: headers[SIGNATURE_HEADER]}))),
    ("two lifts", lambda record: replace(record, headers=(*record.headers, record.headers[-1]))),
    ("two kids", lambda record: replace(record, headers=((KID_HEADER, b"engine"), *record.headers))),
    ("another action", with_value(b'"resume"', b'"kill"')),
    ("another run", with_value(b'"r1"', b'"r2"')),
    ("a higher seq", with_value(b'"seq": 6', b'"seq": 7')),
    ("a later expiry", with_value(str(NOW_MS + 60_000).encode(), str(NOW_MS + 60_001).encode())),
    ("another reason", with_value(b"looping", b"no loop")),
    ("a doubled key", with_value(b'{"command_id"', b'{"seq": 9, "command_id"')),
]


@pytest.mark.parametrize("forge", [row[1] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_a_forged_resume_lifts_nothing(control: FakeControl, emitter: Emitter, clock: Clock, forge: Change) -> None:
    """Whatever was done to a genuine operator's resume, the kill stands, and the forgery is counted and reported."""
    heard: list[str] = []
    with Guard(
        control,
        emitter,
        when_blind="continue",
        tenant_id="acme",
        keys=KEYS,
        clock_ms=clock,
        on_ignored=lambda reason, _: heard.append(reason),
    ) as guard:
        guard.wait_ready(TIMEOUT_S)
        control.put(KILL)
        control.put(forge(given("resume", 6, kid="operator")))
        assert state_of(guard, emitter.run(tenant_id="acme", run_id="r1")) == "stopped"
        assert (heard, guard.stats.forged) == (["forged"], 1)
        control.put(given("resume", 6, kid="operator"))
        assert state_of(guard, emitter.run(tenant_id="acme", run_id="r1")) == "free"


def test_an_agent_can_let_nothing_go_on(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """All that an agent holds makes no resume that any guard believes, not even of its own tenant's runs."""
    resume = given("resume", 6, kid="operator")
    assert resume.value is not None
    command = parse(resume.value)
    mac = signature(KEYS["engine"], signed_text("operator", command, resume.value))
    own_key = ed25519.sign(KEYS["lift"], signed_text("operator", command, resume.value)).hex().encode()
    control.put(KILL)
    for lift in ((), ((LIFT_HEADER, own_key),)):
        control.put(replace(resume, headers=((KID_HEADER, b"operator"), (SIGNATURE_HEADER, mac), *lift)))
    assert state_of(guard, emitter.run(tenant_id="acme", run_id="r1")) == "stopped"
    assert guard.stats.forged == 2


def test_while_a_key_is_replaced_both_are_believed(emitter: Emitter) -> None:
    """Guards are given the new keys beside the old ones, the engine changes over, then the old ones are taken away."""
    control = FakeControl(root=b"the root key of the engine, from now on")
    after = derive_keys(b"the root key of the engine, from now on", "acme")
    both = {name: [KEYS[name], after[name]] for name in KEYS}
    with Guard(control, emitter, when_blind="continue", tenant_id="acme", keys=both) as guard:
        run = emitter.run(tenant_id="acme", run_id="r1")
        for root in (ROOT, control._root):
            control._root = root
            control.kill(run)
            assert state_of(guard, run) == "stopped"
            control.resume(run)
            assert state_of(guard, run) == "free"
        assert guard.stats.forged == 0


@pytest.mark.parametrize("keys", [{"engine": b"short"}, {"lift": b"k" * 31}, {"engine": [b"k" * 32, b""]}])
def test_keys_that_can_be_none_are_refused(control: FakeControl, emitter: Emitter, keys: Any) -> None:
    """A truncated key would make every command a forged one, and nobody would know why."""
    with pytest.raises(ValueError, match="has 32 bytes"):
        Guard(control, emitter, when_blind="stop", tenant_id="acme", keys=keys)


def test_another_tenants_key_signs_nothing_here(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """Keys derive per tenant, so an agent's keys are of no use against others."""
    record = given("kill", 5)
    assert record.value is not None
    mac = signature(derive_tenant_key(ROOT, "other"), signed_text("engine", parse(record.value), record.value))
    control.put(replace(record, headers=((KID_HEADER, b"engine"), (SIGNATURE_HEADER, mac))))
    assert state_of(guard, emitter.run(tenant_id="acme", run_id="r1")) == "free"
    assert guard.stats.forged == 1


def test_the_signature_is_the_published_one() -> None:
    """Signer and guard are two programs: the canonical bytes are pinned down here, hostile names included."""
    value = json.dumps(
        {
            "command_id": "c",
            "action": "kill",
            "tenant_id": "a|b/ü",
            "target": {"type": "workflow", "id": "x/y|z"},
            "issued_ms": 1,
            "expires_ms": 2,
            "seq": 3,
        }
    ).encode()
    text = "v1|engine|kill|a%7Cb%2F%C3%BC|workflow/x%2Fy%7Cz|3|1|2|" + hashlib.sha256(value).hexdigest()
    expected = hmac.new(b"k", text.encode(), hashlib.sha256).hexdigest().encode()
    assert signature(b"k", signed_text("engine", parse(value), value)) == expected
    assert derive_tenant_key(b"root", "a|b") == hmac.new(b"root", b"control|a|b", hashlib.sha256).digest()


CHANGES: list[dict[str, object]] = [
    {"action": "explode"},
    {"seq": "6"},
    {"seq": 6.0},
    {"seq": True},
    {"seq": -1},
    {"seq": 2**63},
    {"expires_ms": None},
    {"expires_ms": float("nan")},
    {"command_id": ""},
    {"tenant_id": 7},
    {"target": "r1"},
    {"target": {"type": "planet", "id": "r1"}},
    {"target": {"type": "run"}},
    {"reason": {}},
]
MALFORMED = [
    *(b"", b"nonsense", b"[]", b"null", b"\xff", b"[" * 50_000, b" " * 70_000, b'{"seq": 1}'),
    *(json.dumps(json.loads(KILL.value or b"") | change).encode() for change in CHANGES),
]


@pytest.mark.parametrize("value", MALFORMED, ids=[str(i) for i in range(len(MALFORMED))])
def test_a_malformed_record_changes_nothing(guard: Guard, control: FakeControl, emitter: Emitter, value: bytes) -> None:
    """The guard counts it and goes on to the next."""
    control.put(KILL)
    control.put(ControlRecord(value, KILL.headers))
    assert guard.stats.malformed == 1
    assert state_of(guard, emitter.run(tenant_id="acme", run_id="r1")) == "stopped"
    control.put(given("resume", 6, kid="operator"))
    assert state_of(guard, emitter.run(tenant_id="acme", run_id="r1")) == "free"


@pytest.mark.parametrize(
    ("target", "stopped"),
    [
        (("run", "child"), {"child"}),
        (("session", "s"), {"root", "child"}),
        (("run_tree", "root"), {"root", "child"}),
        (("run_tree", "child"), set()),
        (("workflow", "w"), {"root", "child", "same workflow"}),
        (("tenant", "acme"), {"root", "child", "same workflow", "alone"}),
        (("tenant", "other"), set()),
    ],
)
def test_who_a_target_reaches(
    guard: Guard, control: FakeControl, emitter: Emitter, target: tuple[str, str], stopped: set[str]
) -> None:
    """A kill reaches the run itself, its session, its tree from the root, its workflow, its tenant; no other run."""
    root = emitter.run(tenant_id="acme", run_id="root", session_id="s", workflow="w")
    runs = [
        root,
        root.child(run_id="child"),
        emitter.run(tenant_id="acme", run_id="same workflow", workflow="w"),
        emitter.run(tenant_id="acme", run_id="alone"),
    ]
    control.kill(target, tenant_id="acme", expires_ms=NOW_MS + 1)
    assert stopped == {run.run_id for run in runs if state_of(guard, run) == "stopped"}


@pytest.mark.parametrize("name", ["r|1", "r/1", "%7C", "ü🙂", '"', "\x00", " "])
def test_hostile_names_are_killed_like_others(emitter: Emitter, transport: MemoryTransport, name: str) -> None:
    """No choice of tenant or run id makes a run unstoppable or its signature ambiguous."""
    keys = derive_keys(ROOT, name)
    control = FakeControl(root=ROOT)
    with (
        Guard(control, emitter, when_blind="stop", keys=lambda _: keys) as guard,
        emitter.run(tenant_id=name, run_id=name) as run,
    ):
        guard.wait_ready(TIMEOUT_S)
        control.kill(run)
        with pytest.raises(Stopped):
            guard.check(run)
    emitter.flush()
    assert [event["acted"] for event in transport.of_type("command_ack")] == ["stopped"]


def test_stopped_says_by_what(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """The exception is evidence enough to find the incident."""
    control.put(KILL)
    with pytest.raises(Stopped, match="looping") as stopped:
        guard.check(emitter.run(tenant_id="acme", run_id="r1"))
    error = stopped.value
    assert (error.reason, error.rule, error.command_id, error.incident_id) == ("looping", "repeat", "kill-5", "i1")


def test_a_pause_ends_by_itself(guard: Guard, control: FakeControl, emitter: Emitter, clock: Clock) -> None:
    """Nobody has to be there at its end."""
    run = emitter.run(tenant_id="acme", run_id="r1")
    control.put(PAUSE)
    with pytest.raises(Paused) as paused:
        guard.check(run)
    assert (paused.value.until_ms, paused.value.command_id) == (NOW_MS + 60_000, "pause-5")
    assert not guard.wait_while_paused(run, timeout_s=0.01)
    clock.now_ms += 60_000
    assert guard.wait_while_paused(run)


def test_waiting_ends_with_a_resume_or_a_kill(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """A paused agent wakes when it may go on, and when it must not."""
    ends: list[str] = []
    run = emitter.run(tenant_id="acme", run_id="r1")

    def wait() -> None:
        try:
            guard.wait_while_paused(run)
            ends.append("went on")
        except Stopped:
            ends.append("stopped")

    for record, after in ((PAUSE, given("resume", 6)), (given("pause", 7), given("kill", 8))):
        control.put(record)
        waiter = threading.Thread(target=wait)
        waiter.start()
        control.put(after)
        waiter.join(TIMEOUT_S)
    assert ends == ["went on", "stopped"]


def test_expired_targets_are_forgotten(guard: Guard, control: FakeControl, emitter: Emitter, clock: Clock) -> None:
    """Memory holds what is live, and forgetting opens no door: the old records are expired when replayed."""
    control.put(KILL)
    clock.now_ms += 60_000
    for now_s in (0, EXPIRED_KEPT_S):
        guard._standing.prune(clock.now_ms, now_s)
    assert guard._standing.is_quiet("acme")
    control.put(KILL)
    assert (guard.stats.expired, state_of(guard, emitter.run(tenant_id="acme", run_id="r1"))) == (1, "free")


@pytest.mark.parametrize("ahead_ms", [2 * 60_000, 20 * 3_600_000], ids=["minutes", "most of a day"])
@pytest.mark.parametrize("comes_meanwhile", [False, True], ids=["it stood before", "it comes meanwhile"])
def test_a_clock_that_is_ahead_for_a_while_lifts_nothing(
    guard: Guard, control: FakeControl, emitter: Emitter, clock: Clock, ahead_ms: int, comes_meanwhile: bool
) -> None:
    """A machine that wakes with a wrong clock, which is set right a moment later, lets no killed run go on."""
    run = emitter.run(tenant_id="acme", run_id="r1")
    if not comes_meanwhile:
        control.put(KILL)
    clock.now_ms += ahead_ms
    if comes_meanwhile:
        control.put(KILL)
    for now_s in (0, 60):
        guard._standing.prune(clock.now_ms, now_s)
    clock.now_ms -= ahead_ms
    assert state_of(guard, run) == "stopped"


def test_what_expires_earlier_ends_nothing_that_expires_later(
    guard: Guard, control: FakeControl, emitter: Emitter, clock: Clock
) -> None:
    """A pause that is over when it comes does not end the one that stands."""
    run = emitter.run(tenant_id="acme", run_id="r1")
    control.put(given("pause", 5))
    control.put(given("pause", 6, expires_ms=clock.now_ms - 1))
    assert state_of(guard, run) == "paused"


def acks(emitter: Emitter, transport: MemoryTransport) -> list[tuple[str, str]]:
    """Every acknowledgement sent: command and what was done."""
    emitter.flush()
    return [(event["command_id"], event["acted"]) for event in transport.of_type("command_ack")]


def test_each_command_is_acknowledged_once_per_run(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """The first obeying answers; checking again does not. The answer carries the run's ids and number."""
    with emitter.run(tenant_id="acme", run_id="r1", session_id="s") as run:
        for record in (DOWN, given("pause", 6), given("resume", 7), given("kill", 8), given("resume", 9)):
            control.put(record)
            for _ in range(3):
                state_of(guard, run)
        control.put(given("resume", 10, kid="operator"))
        assert state_of(guard, run) == "free"
    assert acks(emitter, transport) == [
        ("downgrade-5", "downgraded"),
        ("pause-6", "paused"),
        ("resume-7", "resumed"),
        ("kill-8", "stopped"),
        ("resume-9", "ignored"),
        ("resume-10", "resumed"),
    ]
    assert {("acme", "r1", "s")} == {(e["tenant_id"], e["run_id"], e["session_id"]) for e in transport.events}
    assert list(range(1, 9)) == [event["seq"] for event in transport.events]


def test_an_acknowledgement_is_the_same_message_from_every_process(
    control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """Its id derives from command and run: a restarted agent that obeys again is counted once."""
    for _ in range(2):
        with Guard(control, emitter, when_blind="stop") as guard:
            guard.wait_ready(TIMEOUT_S)
            run = emitter.run(tenant_id="acme", run_id="r1")
            if not guard.stats.applied:
                control.kill(run)
            with pytest.raises(Stopped):
                guard.check(run)
        control._handed = control._taken = 0
    emitter.flush()
    assert len({event["event_id"] for event in transport.of_type("command_ack")}) == 1
    assert len(transport.of_type("command_ack")) == 2


def test_a_dropped_acknowledgement_is_given_again(control: FakeControl, transport: MemoryTransport) -> None:
    """A full buffer delays the answer; it does not swallow it, and the run stops all the same."""
    transport.down = True
    with Emitter(transport, max_buffered=1) as emitter, Guard(control, emitter, when_blind="stop") as guard:
        guard.wait_ready(TIMEOUT_S)
        run = emitter.run(tenant_id="acme", run_id="r1")
        run.llm_call(model="m")
        control.kill(run)
        for _ in range(2):
            with pytest.raises(Stopped):
                guard.check(run)
            transport.down = False
            assert emitter.flush(TIMEOUT_S) == 0
        assert acks(emitter, transport) == [("command-1", "stopped")]


def test_a_command_for_a_run_that_is_over(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """The service learns that there was nothing left to stop."""
    with emitter.run(tenant_id="acme", run_id="r1"):
        pass
    control.put(KILL)
    with emitter.run(tenant_id="acme", run_id="r2", workflow="w") as unaware:
        kill = control.kill(("workflow", "w"), tenant_id="acme", expires_ms=NOW_MS + 1)
        assert unaware.stop_event.is_set()
    assert [("kill-5", "already_finished"), (kill, "already_finished")] == acks(emitter, transport)
    assert {"completed"} == {event["status"] for event in transport.of_type("run_finished")}


def test_a_forgery_is_not_answered(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """A forger learns nothing and makes no traffic."""
    with emitter.run(tenant_id="acme", run_id="r1") as run:
        control.put(replace(KILL, headers=()))
        guard.check(run)
    assert acks(emitter, transport) == []


def test_a_nudge_is_handed_over_once(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport, clock: Clock
) -> None:
    """The agent that asks has the sentence before its next call, once, and the service hears that it has. Of two that
    wait the later one is told; none that is expired, replayed, forged or another run's.
    """
    with emitter.run(tenant_id="acme", run_id="r1") as run, emitter.run(tenant_id="acme", run_id="r2") as other:
        assert guard.nudge(run) is None
        control.put(given("nudge", 5, reason="the third time"))
        assert (state_of(guard, run), guard.nudge(other)) == ("free", None)
        assert [guard.nudge(run), guard.nudge(run)] == ["the third time", None]
        control.put(given("nudge", 5, reason="replayed"))
        control.put(given("nudge", 6, reason="too old", ends_in_ms=-1))
        control.put(replace(given("nudge", 7, reason="forged"), headers=()))
        assert guard.nudge(run) is None
        control.put(given("nudge", 8, reason="earlier"))
        control.put(given("nudge", 9, reason="later"))
        assert [guard.nudge(run), guard.nudge(run)] == ["later", None]
        control.put(given("nudge", 10, reason="asked for too late"))
        clock.now_ms += 60_000
        assert guard.nudge(run) is None
    assert acks(emitter, transport) == [("nudge-5", "delivered"), ("nudge-9", "delivered")]
    assert (guard.stats.replayed, guard.stats.expired, guard.stats.forged) == (1, 1, 1)


def test_a_nudge_stands_for_nothing(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """It neither hides a kill whose number is lower nor lifts one, and a run that is over does not answer it."""
    run = emitter.run(tenant_id="acme", run_id="r1")
    control.put(given("nudge", 50))
    control.put(given("kill", 5))
    assert state_of(guard, run) == "stopped"
    control.put(given("nudge", 51))
    assert state_of(guard, run) == "stopped"
    with emitter.run(tenant_id="acme", run_id="r3"):
        pass
    control.put(given("nudge", 52, target={"type": "run", "id": "r3"}))
    assert acks(emitter, transport) == [("kill-5", "stopped")]


def test_a_forged_nudge_blinds_nobody(control: FakeControl, emitter: Emitter, clock: Clock) -> None:
    """What nobody has to obey cannot stop an agent that fails closed."""
    with Guard(control, emitter, when_blind="stop", tenant_id="acme", keys=KEYS, clock_ms=clock) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        control.put(replace(given("nudge", 5), headers=()))
        assert (guard.stats.forged, guard.blind) == (1, False)
        guard.check(emitter.run(tenant_id="acme", run_id="r1"))


def test_nudges_that_nobody_asked_for_are_forgotten(
    guard: Guard, control: FakeControl, emitter: Emitter, clock: Clock
) -> None:
    """A guard that follows a topic for months remembers no run that was told of something once."""
    for number in range(20):
        control.put(given("nudge", number + 1, target={"type": "run", "id": f"r{number}"}))
    clock.now_ms += 60_000
    guard._standing.prune(clock.now_ms, 0)
    assert guard._standing.is_quiet("acme")


def test_a_kill_is_pushed_to_live_runs_only(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """Event and callback come without a check, once; a broken callback does not keep the others from hearing."""
    heard: list[tuple[str, str]] = []
    guard.on_stop(lambda *_: 1 / 0)
    end = guard.on_stop(lambda run, stopped: heard.append((run.run_id, stopped.reason)))
    with emitter.run(tenant_id="acme", run_id="r1") as run, emitter.run(tenant_id="acme", run_id="r2") as other:
        control.put(KILL)
        control.put(given("kill", 6))
        assert (run.stop_event.is_set(), other.stop_event.is_set()) == (True, False)
        control.put(given("resume", 7, kid="operator"))
        assert not run.stop_event.is_set()
        end()
        control.put(given("kill", 8))
        assert run.stop_event.is_set()
    assert heard == [("r1", "looping")]


def test_a_run_that_starts_under_a_kill_is_told_at_once(guard: Guard, control: FakeControl, emitter: Emitter) -> None:
    """A killed workflow stays stopped for runs that come later."""
    control.kill(("workflow", "w"), tenant_id="acme", expires_ms=NOW_MS + 1)
    with emitter.run(tenant_id="acme", workflow="w") as run:
        assert run.stop_event.is_set()


def test_a_long_call_is_cancelled_by_a_push(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """An agent that waits for a model ends as killed, with its answer given."""

    async def agent() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        guard.on_stop(lambda run, stopped: loop.call_soon_threadsafe(task.cancel))
        with emitter.run(tenant_id="acme", run_id="r1"):
            loop.run_in_executor(None, control.put, KILL)
            await asyncio.sleep(3600)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(agent())
    assert acks(emitter, transport) == [("kill-5", "stopped")]
    assert [event["status"] for event in transport.of_type("run_finished")] == ["killed"]


@dataclass
class OwnRun:
    """A run object of somebody else's."""

    tenant_id: str = "acme"
    run_id: str = "r1"
    session_id: str | None = None
    root_run_id: str | None = None
    workflow: str | None = None


def test_own_run_objects_are_guarded_too(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """Whatever has the ids can be checked and watched."""
    run = OwnRun()
    event = guard.watch(run)
    control.put(KILL)
    assert event.is_set()
    assert state_of(guard, run) == "stopped"
    guard.unwatch(run)
    assert acks(emitter, transport) == [("kill-5", "stopped")]


def test_two_objects_of_one_run_both_hear_of_its_kill(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """Two requests of one conversation are in a process at once: each is stopped, also when another has ended."""
    with emitter.run("acme", run_id="r1") as first, emitter.run("acme", run_id="r1") as second:
        with emitter.run("acme", run_id="r1"):
            pass
        control.put(KILL)
        assert (first.stop_event.is_set(), second.stop_event.is_set()) == (True, True)
        assert acks(emitter, transport) == []
        assert state_of(guard, second) == "stopped"
    assert acks(emitter, transport) == [("kill-5", "stopped")]


def test_a_run_is_over_when_its_last_object_is(
    guard: Guard, control: FakeControl, emitter: Emitter, transport: MemoryTransport
) -> None:
    """That one of them ends regularly after the kill does not say that there was nothing left to stop."""
    with emitter.run("acme", run_id="r1") as last:
        with emitter.run("acme", run_id="r1"):
            control.put(KILL)
        assert acks(emitter, transport) == []
        with pytest.raises(Stopped):
            guard.check(last)
    assert acks(emitter, transport) == [("kill-5", "stopped")]


@pytest.mark.parametrize(("when_blind", "state"), [("continue", "free"), ("stop", "stopped")])
def test_the_first_check_may_wait(
    control: FakeControl, emitter: Emitter, clock: Clock, when_blind: Any, state: str
) -> None:
    """A program that asks as soon as it runs neither misses what stands nor stops for not having looked; where there
    is nothing to be read in time, it does as it was told to while it is blind.
    """
    control.put(KILL)
    with Guard(control, emitter, when_blind=when_blind, first_check_waits=True, clock_ms=clock) as guard:
        assert state_of(guard, emitter.run("acme", run_id="r2")) == "free"
        assert state_of(guard, emitter.run("acme", run_id="r1")) == "stopped"
    away = FakeControl(ready=False)
    with Guard(away, emitter, when_blind=when_blind, first_check_waits=True, blind_after_s=0.05) as guard:
        assert state_of(guard, emitter.run("acme", run_id="r2")) == state


def await_blind(guard: Guard, *, blind: bool) -> None:
    """Wait until the guard says so."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while guard.blind != blind:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.mark.parametrize(("when_blind", "state"), [("continue", "free"), ("stop", "stopped")])
def test_blind_is_what_the_constructor_said(emitter: Emitter, when_blind: Any, state: str) -> None:
    """Before the first reading and whenever the topic is away: fail open or closed, as chosen; then back to normal."""
    control = FakeControl(ready=False)
    run = emitter.run(tenant_id="acme", run_id="r1")
    with Guard(control, emitter, when_blind=when_blind, blind_after_s=1.0) as guard:
        assert not guard.wait_ready(0.01)
        assert state == state_of(guard, run)
        control.recover()
        assert guard.wait_ready(TIMEOUT_S)
        assert state_of(guard, run) == "free"
        control.go_blind()
        await_blind(guard, blind=True)
        assert state == state_of(guard, run)
        control.recover()
        await_blind(guard, blind=False)
        assert state_of(guard, run) == "free"
        control.kill(run)
        control.go_blind()
        await_blind(guard, blind=True)
        assert state_of(guard, run) == "stopped"


def test_blind_has_no_default(control: FakeControl, emitter: Emitter) -> None:
    """Nobody gets fail-open without having said so."""
    with pytest.raises(TypeError, match="when_blind"):
        Guard(control, emitter)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="when_blind"):
        Guard(control, emitter, when_blind="perhaps")  # type: ignore[arg-type]


def test_a_guard_for_one_tenant_refuses_runs_of_another(guard: Guard, emitter: Emitter) -> None:
    """It would never stop them, so it says so instead of letting them through."""
    with pytest.raises(ValueError, match="another tenant"):
        guard.check(emitter.run(tenant_id="other"))
    with pytest.raises(ValueError, match="tenant_id"):
        Guard(FakeControl(), emitter, when_blind="stop", keys=KEYS)


def test_without_keys_only_the_operators_name_lifts_a_kill(emitter: Emitter) -> None:
    """Where the broker's access rules are the only protection, a kill is sticky all the same."""
    control = FakeControl()
    with Guard(control, emitter, when_blind="stop") as guard:
        guard.wait_ready(TIMEOUT_S)
        run = emitter.run(tenant_id="acme", run_id="r1")
        control.kill(run)
        control.resume(run, kid="engine")
        assert state_of(guard, run) == "stopped"
        control.resume(run)
        assert state_of(guard, run) == "free"


def key_check(tenant_id: str = "acme", root: bytes = ROOT) -> ControlRecord:
    """The engine's key check of a tenant, as the worker writes it."""
    value = json.dumps({"type": "key_check", "tenant_id": tenant_id, "operator_keys": []}).encode()
    text = key_check_text(tenant_id, value)
    lift = ed25519.sign(lift_seed(root), text).hex().encode()
    mac = signature(derive_tenant_key(root, tenant_id), text)
    return ControlRecord(value, ((KID_HEADER, b"engine"), (SIGNATURE_HEADER, mac), (LIFT_HEADER, lift)))


OTHERS = derive_keys(b"the root key of another engine, in tests", "acme")


@pytest.mark.parametrize("wrong", ["engine", "lift"])
def test_wrong_keys_fail_closed(control: FakeControl, emitter: Emitter, wrong: str) -> None:
    """Of a guard whose keys are not the engine's every command would be a forged one: it is never ready, says so, and
    stops its runs if that is what it is for.
    """
    control.put(key_check())
    keys = KEYS | {wrong: OTHERS[wrong]}
    run = emitter.run(tenant_id="acme", run_id="r1")
    with Guard(control, emitter, when_blind="stop", tenant_id="acme", keys=keys) as guard:
        assert not guard.wait_ready(TIMEOUT_S)
        assert "keys derive --tenant acme" in (guard.waiting_for or "")
        with pytest.raises(Stopped, match="the keys of acme are not those of the engine"):
            guard.check(run)
    with Guard(FakeControl(root=ROOT), emitter, when_blind="stop", tenant_id="acme", keys=KEYS) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        assert guard.waiting_for is None


def test_a_key_check_of_another_tenant_says_nothing(control: FakeControl, emitter: Emitter) -> None:
    """Nor does one that holds harm, or count as ignored."""
    control.put(key_check("globex", b"the root key of another engine, in tests"))
    control.put(key_check())
    with Guard(control, emitter, when_blind="stop", tenant_id="acme", keys=KEYS) as guard:
        assert guard.wait_ready(TIMEOUT_S), guard.waiting_for
        assert (guard.stats.malformed, guard.stats.forged) == (0, 0)
        guard.check(emitter.run(tenant_id="acme", run_id="r1"))


@pytest.mark.parametrize("action", ["kill", "pause", "downgrade", "resume"])
@pytest.mark.parametrize("answer", ["the engine's word", "its denial before", "expiry"])
def test_what_cannot_be_verified_may_be_genuine(
    control: FakeControl, emitter: Emitter, clock: Clock, action: str, answer: str
) -> None:
    """A guard that fails closed stops while somebody's kill, pause or downgrade stands that it cannot verify, until the
    engine has said what really stands there, in whatever order, or until it has expired. A resume asks for no caution.
    """
    unsigned = replace(given(action, 5), headers=())
    assert unsigned.value is not None
    denial = given("resume", 6, cause_event_id="forged/" + hashlib.sha256(unsigned.value).hexdigest())
    run = emitter.run(tenant_id="acme", run_id="r2")
    with Guard(control, emitter, when_blind="stop", tenant_id="acme", keys=KEYS, clock_ms=clock) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        if answer == "its denial before":
            control.put(denial)
        control.put(unsigned)
        assert guard.blind == (action != "resume" and answer != "its denial before")
        if guard.blind:
            with pytest.raises(Stopped, match=f"a {action} of the run r1 has no signature"):
                guard.check(run)
        if answer == "expiry":
            clock.now_ms += 60_000
        elif answer == "the engine's word":
            control.put(given("resume", 7))
        guard.check(run)
        assert guard.waiting_for is None


def to_all(action: str = "pause", seq: int = 5, **fields: Any) -> ControlRecord:
    """A command to a scope of all tenants, properly signed."""
    scope = {"tenant_id": ALL_TENANTS, "target": {"type": "scope", "id": "s1"}, "scope": {}}
    return given(action, seq, **(scope | fields))


def test_what_all_tenants_are_told_is_believed_by_the_lift_key_alone(emitter: Emitter, clock: Clock) -> None:
    """Every guard hears it, so no agent's key may be able to sign it: with any tenant's key, the one that stands for
    all among them, it is forged, and blinds nobody: that the lift key is the right one is known by the key check.
    """
    mac = {KID_HEADER: b"engine"}
    forged = []
    for tenant_id in ("acme", ALL_TENANTS):
        value = to_all().value or b""
        text = signed_text("engine", parse(value), value)
        headers = mac | {SIGNATURE_HEADER: signature(derive_tenant_key(ROOT, tenant_id), text)}
        forged.append(ControlRecord(value, tuple(headers.items())))
    for records, state, counts in (
        (forged, "free", {"forged": 2}),
        ([to_all()], "paused", {"applied": 1}),
        ([*forged, to_all()], "paused", {"forged": 2, "applied": 1}),
        ([to_all(), to_all("resume", 6)], "free", {"applied": 2}),
    ):
        control = FakeControl(root=ROOT)
        for record in records:
            control.put(record)
        with Guard(
            control, emitter, when_blind="stop", blind_after_s=3600, tenant_id="acme", keys=KEYS, clock_ms=clock
        ) as guard:
            assert guard.wait_ready(TIMEOUT_S)
            assert not guard.blind
            assert state_of(guard, emitter.run(tenant_id="acme")) == state
            assert {name: getattr(guard.stats, name) for name in counts} == counts


def test_what_was_known_before_the_machine_slept_is_old(
    control: FakeControl, emitter: Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop wakes after an hour: until the topic is read again nobody knows what was commanded meanwhile."""
    slept_s = 0.0
    monkeypatch.setattr(freshness, "slept_s", lambda: slept_s)
    with (
        Guard(control, emitter, when_blind="stop", tenant_id="acme", keys=KEYS) as guard,
        emitter.run(tenant_id="acme") as run,
    ):
        assert guard.wait_ready(TIMEOUT_S)
        guard.check(run)
        control.go_blind()
        slept_s = 3_600.0
        with pytest.raises(Stopped, match="has not been readable"):
            guard.check(run)
        control.recover()
        deadline_s = time.monotonic() + TIMEOUT_S
        while guard.blind and time.monotonic() < deadline_s:
            time.sleep(0.01)
        guard.check(run)


def test_a_closed_guard_is_let_go_of(control: FakeControl, emitter: Emitter) -> None:
    """A program that makes a guard for each task and one emitter for all keeps none of them; a run that is open when
    the guard is closed still answers for itself.
    """
    guard = Guard(control, emitter, when_blind="continue", tenant_id="acme", keys=KEYS)
    with emitter.run(tenant_id="acme"):
        guard.close()
        assert guard in emitter.observers
    assert guard not in emitter.observers
    Guard(FakeControl(root=ROOT), emitter, when_blind="continue", tenant_id="acme", keys=KEYS).close()
    assert emitter.observers == ()
