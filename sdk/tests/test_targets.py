"""Whatever a command may name, it stands, ends, is replayed and is forged in the same way. Pure but for signatures."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from spendfuse import derive_keys
from spendfuse._control.command import TARGET_TYPES, Command, ControlRecord, parse
from spendfuse._control.intake import Believed, Intake
from spendfuse._control.signing import KeyId, signed_headers
from spendfuse._control.standing import EXPIRED_KEPT_S, StandingCommands

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
ROOT = b"the root key of the engine, in tests"
KEYS = derive_keys(ROOT, "acme")


@dataclass
class OneRun:
    """A run that every target below reaches."""

    tenant_id: str = "acme"
    run_id: str = "r1"
    session_id: str | None = "s1"
    root_run_id: str | None = "root"
    workflow: str | None = "docs"


TARGETS = {
    "run": "r1", "session": "s1", "run_tree": "root", "workflow": "docs", "tenant": "acme", "scope": "hourly/acme",
}  # fmt: skip
ELSEWHERE = {**dict.fromkeys(TARGETS, "other"), "scope": "hourly/other"}
each_target = pytest.mark.parametrize("kind", TARGETS)


def record(
    kind: str, action: str, seq: int, kid: KeyId = "engine", *, ids: Any = TARGETS, **fields: Any
) -> ControlRecord:
    """A signed record of a command to a target of this kind; a scope is of the workflow that its id stands for."""
    workflow = "docs" if ids is TARGETS else "other"
    body = {
        "command_id": f"{action}-{seq}", "action": action, "tenant_id": "acme", "seq": seq,
        "target": {"type": kind, "id": ids[kind]}, "issued_ms": NOW_MS, "expires_ms": NOW_MS + HOUR_MS,
        "scope": {"tenant_id": ["acme"], "workflow": [workflow]},
    }  # fmt: skip
    value = json.dumps(body | fields).encode()
    return ControlRecord(value, signed_headers(ROOT, kid, parse(value), value))


def after(*records: ControlRecord) -> tuple[StandingCommands, list[str]]:
    """What stands after these records, and what became of each."""
    standing, intake, verdicts = StandingCommands(), Intake("acme", KEYS), []
    for each in records:
        read = intake.read(each)
        if isinstance(read, Believed):
            verdicts.append(standing.apply(read.command, by_operator=read.by_operator, now_ms=NOW_MS).verdict)
        else:
            verdicts.append(str(read))
    return standing, verdicts


def stops(standing: StandingCommands, now_ms: int = NOW_MS) -> bool:
    """Whether the run must stop."""
    return standing.kill(OneRun(), now_ms) is not None


def test_every_kind_of_target_is_tried() -> None:
    """A new kind without a case fails here."""
    assert TARGETS.keys() == TARGET_TYPES


@each_target
def test_a_kill_stands_until_it_expires(kind: str) -> None:
    """To the millisecond, and nothing of it is left behind when it is forgotten."""
    standing, verdicts = after(record(kind, "kill", 1))
    assert verdicts == ["applied"]
    assert (stops(standing, NOW_MS + HOUR_MS - 1), stops(standing, NOW_MS + HOUR_MS)) == (True, False)
    for now_s in (0, EXPIRED_KEPT_S):
        standing.prune(NOW_MS + HOUR_MS, now_s)
    assert standing.is_quiet("acme")


@each_target
@pytest.mark.parametrize("kid", ["engine", "operator"])
def test_who_lifts_a_kill(kind: str, kid: KeyId) -> None:
    """The operator, and nobody else, whatever it is that was killed."""
    standing, verdicts = after(record(kind, "kill", 1), record(kind, "resume", 2, kid, scope=None))
    is_lifted = kid == "operator"
    assert verdicts == ["applied", "applied" if is_lifted else "not_entitled"]
    assert stops(standing) is not is_lifted


@each_target
@pytest.mark.parametrize("action", ["pause", "downgrade"])
def test_what_is_less_than_a_kill(kind: str, action: str) -> None:
    """It stands beside a kill and is lifted by either key."""
    standing, _ = after(record(kind, action, 1))
    asked = standing.pause if action == "pause" else standing.downgrade
    assert asked(OneRun(), NOW_MS) is not None
    assert not stops(standing)
    standing, _ = after(record(kind, "kill", 1), record(kind, action, 2))
    assert stops(standing)
    standing, _ = after(record(kind, action, 1), record(kind, "resume", 2))
    assert (standing.pause(OneRun(), NOW_MS), standing.downgrade(OneRun(), NOW_MS)) == (None, None)


@each_target
def test_what_is_old_changes_nothing(kind: str) -> None:
    """A resume or kill that was recorded before and is sent again meets a higher number."""
    kill, resume = record(kind, "kill", 1), record(kind, "resume", 2, "operator")
    standing, verdicts = after(kill, resume, kill)
    assert (verdicts, stops(standing)) == (["applied", "applied", "replayed"], False)
    standing, verdicts = after(kill, resume, record(kind, "kill", 3), resume)
    assert (verdicts[-1], stops(standing)) == ("replayed", True)
    standing, verdicts = after(record(kind, "kill", 1, expires_ms=NOW_MS))
    assert (verdicts, stops(standing)) == (["expired"], False)


@each_target
def test_another_target_of_the_kind_is_another(kind: str) -> None:
    """Its kill reaches the run not, and its resume lifts nothing here."""
    elsewhere = record(kind, "kill", 1, ids=ELSEWHERE)
    assert not stops(after(elsewhere)[0])
    assert stops(after(record(kind, "kill", 1), record(kind, "resume", 2, "operator", ids=ELSEWHERE))[0])


@each_target
def test_a_changed_byte_is_a_forgery(kind: str) -> None:
    """Neither the target nor the scope of a signed command can be widened."""
    kill = record(kind, "kill", 1, ids=ELSEWHERE)
    assert kill.value is not None
    forged = replace(kill, value=kill.value.replace(b"other", b"docs"))
    standing, verdicts = after(forged)
    assert (verdicts, stops(standing)) == (["forged"], False)
    assert after(replace(kill, headers=()))[1] == ["forged"]


def test_commands_to_all_kinds_stand_side_by_side() -> None:
    """Lifting one leaves the others; the narrowest is what the run is told. Its own resume exempts it from scopes."""
    kills = [record(kind, "kill", 1, issued_ms=NOW_MS + (kind == "scope")) for kind in TARGETS]
    found: list[str] = []
    resumes: list[ControlRecord] = []
    while (kill := _standing_kill(*kills, *resumes)) is not None:
        found.append(kill.target[0])
        resumes.append(record(kill.target[0], "resume", 2, "operator"))
    assert found == ["run", "run_tree", "session", "workflow", "tenant"]


def _standing_kill(*records: ControlRecord) -> Command | None:
    return after(*records)[0].kill(OneRun(), NOW_MS)
