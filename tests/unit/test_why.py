"""`why RUN`: in ten lines of a terminal why a run was stopped, on whose order, and how it may go on."""

from typing import Any

import pytest

from infra.kafka.embedded import EmbeddedBroker
from schemas.codec import encode
from schemas.control import Command, Target
from schemas.duration import DAY_MS, HOUR_MS
from schemas.operator import Resume
from schemas.signing import OperatorKey
from streams.__main__ import main
from streams.clock import wall_ms
from streams.tools.inspection.run_facts import RunFacts, RunKey, command_on
from streams.tools.inspection.why import MOST_LINES, why_lines
from streams.tools.orders.audit import Audited, OrderRecord
from tests.support.facts import NOW_MS, alert, command, put
from tests.support.kafka import Record, produce

KEY = RunKey("acme", "r1")
OPERATOR = "the root key of operators, in tests"
STOPPED = {"command_id": "c1", "action": "kill", "overshoot_nanousd": 0, "cause_to_stop_ms": 26}
CAUSE = alert(ts_ms=NOW_MS - HOUR_MS, command="kill")
RESUME = Resume(message_id="m1", ts_ms=NOW_MS, tenant_id="acme", who="ana", why="wanted", target=Target("run", "r1"))


def ordered(status: Any, refused: str = "") -> Audited:
    """A resume of run r1, an hour after its kill."""
    return Audited(OrderRecord(0, 0, NOW_MS, None, []), RESUME, status, refused)


ROWS: list[tuple[str, RunFacts, list[str]]] = [
    (
        "killed by a rule, and obeyed",
        RunFacts(KEY, command(), (CAUSE, alert(state="resolved", evidence=STOPPED, level=1.0, command="kill"))),
        [
            "Run r1 of acme is killed.",
            "why     It spent $5.01.",
            "figure  $5.01 of $5.00",
            "by      the rule run-cost, policy v1",
            "since   Sun 22 Nov 2026, 23:00:00 UTC, until Mon 23 Nov 2026, 01:00:00 UTC",
            "within 26 ms and spent nothing more",
            'go on   python -m streams resume --run r1 --tenant acme --why "…"',
        ],
    ),
    (
        "not answered",
        RunFacts(KEY, command(), (CAUSE,)),
        ["now     The kill was sent; nobody has confirmed it so far."],
    ),
    (
        "disobeyed",
        RunFacts(KEY, command(), (CAUSE, alert("i2", evidence={"command_id": "c1", "killed_by": "run-cost"}))),
        ["now     Not stopped: the kill has had no effect so far."],
    ),
    (
        "killed by a person",
        RunFacts(KEY, command(rule="operator", reason="ana: writes to the wrong bucket", incident_id="op-1")),
        ["why     writes to the wrong bucket", "by      ana, an operator"],
    ),
    (
        "paused with its scope",
        RunFacts(KEY, command("pause", Target("scope", "a/b"))),
        ["Run r1 of acme is paused, as all of scope a/b.", "resume --scope a/b", "stands for what starts there, too"],
    ),
    (
        "stopped with its tenant",
        RunFacts(KEY, command(target=Target("tenant", "acme"))),
        ["resume --all --tenant acme"],
    ),
    (
        "a resume on its way",
        RunFacts(KEY, command(), (CAUSE,), (ordered("done"),)),
        ["now     ana has ordered a resume since; the worker has not come to it."],
    ),
    (
        "a resume that was refused",
        RunFacts(KEY, command(), (CAUSE,), (ordered("refused", "not signed by an operator's key"),)),
        ["now     A resume of Mon 23 Nov 2026, 00:00:00 UTC was refused: not signed by an", "operator's key."],
    ),
    (
        "let go on",
        RunFacts(KEY, command("resume", reason="ana: wanted"), (CAUSE,)),
        [
            "Run r1 of acme is not stopped any more: it may go on.",
            "why     ana: wanted",
            "before  run-cost: Run r1",
        ],
    ),
    (
        "run out",
        RunFacts(KEY, command(expires_ms=NOW_MS), (CAUSE,)),
        ["Run r1 of acme is not stopped any more.", "The kill ended by itself on Mon 23 Nov 2026, 00:00:00 UTC."],
    ),
    (
        "never stopped",
        RunFacts(KEY, None, (alert(severity="warning", level=0.8),)),
        ["Run r1 of acme is not stopped: nothing stands against it.", "open    run-cost: Run r1 has spent $5.01."],
    ),
    ("never in trouble", RunFacts(KEY), ["nothing stands against it.", "No incident about it is open."]),
    (
        "held back",
        RunFacts(KEY, None, (alert("i2", evidence={"held_target": "run/r1", "held_rule": "run-cost"}),)),
        ["Run r1 of acme is not stopped yet: its kill is held back.", "rule    run-cost"],
    ),
]


@pytest.mark.parametrize(("facts", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_said_of_a_run(facts: RunFacts, said: list[str]) -> None:
    """Rule, figure against limit, when, whose order, what has become of it, and what to type."""
    lines = why_lines(facts, NOW_MS)
    assert [each for each in said if each not in "\n".join(lines)] == []
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 80


def test_how_a_run_stands_is_said_whole() -> None:
    """An id of 32 characters, as the SDK makes them, does not push the news off the line."""
    key = RunKey("acme", "d9dc81d6f12a4ed79eb3561bad68e87a")
    for command_now, news in ((None, "nothing stands against it."), (command("resume"), "it may go on.")):
        assert news in " ".join(why_lines(RunFacts(key, command_now), NOW_MS)[:2])


@pytest.mark.parametrize("action", ["kill", "pause", "downgrade", "resume"])
def test_ten_lines_hold_whatever_others_call_their_runs(action: str) -> None:
    """Ids, reasons and names of any length and kind, terminal codes among them: ten lines of 80, but for the command
    to type, which has whole ids.
    """
    long = "\x1b[31m" + "x" * 128
    one = command(action, Target("run", long), tenant_id=long, rule=long, reason="word " * 400)
    evidence = {"command_id": "c1", "killed_by": long}
    about = (alert(run_id=long, tenant_id=long, summary="word " * 400, policy_version=long, evidence=evidence),)
    for facts in (RunFacts(RunKey(long, long), one, about), RunFacts(RunKey(long, long), None, about * 9)):
        lines = why_lines(facts, NOW_MS)
        assert len(lines) <= MOST_LINES
        typed = "resume --run", "--tenant"
        assert [each for each in lines if len(each) > 80 and not any(word in each for word in typed)] == []
        assert "\x1b" not in "\n".join(lines)


DIMENSIONS = {"session_id": "s1", "root_run_id": "t1", "workflow": "docs", "environment": "prod"}
REACHING: list[tuple[Command, bool]] = [
    (command(target=Target("session", "s1")), True),
    (command(target=Target("session", "s2")), False),
    (command(target=Target("run_tree", "t1")), True),
    (command(target=Target("workflow", "docs")), True),
    (command(target=Target("workflow", "chat")), False),
    (command(target=Target("tenant", "acme")), True),
    (command(target=Target("tenant", "globex"), tenant_id="globex"), False),
    (command("pause", Target("scope", "x"), scope={"tenant_id": ["acme"], "environment": ["prod", "dev"]}), True),
    (command("pause", Target("scope", "x"), scope={"owner": ["unattributed"]}), True),
    (command("pause", Target("scope", "x"), scope={"environment": ["dev"]}), False),
    (command("resume", Target("session", "s1")), False),
    (command(target=Target("session", "s1"), expires_ms=NOW_MS), False),
]


@pytest.mark.parametrize(("one", "reaches"), REACHING)
def test_what_a_run_belongs_to_stops_it(one: Command, reaches: bool) -> None:
    """A run is stopped as well by what stands against its session, tree, workflow, tenant or scope."""
    assert command_on([one], KEY, DIMENSIONS, NOW_MS) == (one if reaches else None)


def test_the_strongest_command_is_the_reason() -> None:
    """A run that is killed within a scope that is paused was killed; its own resume lifts no kill of its session."""
    kill, pause = command(), command("pause", Target("session", "s1"))
    assert command_on([pause, kill], KEY, DIMENSIONS, NOW_MS) == kill
    assert command_on([command("resume"), pause], KEY, DIMENSIONS, NOW_MS) == pause


@pytest.fixture
def broker(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> str:
    """A broker with topics, for the commands."""
    embedded.create_topics("", 2)
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    monkeypatch.setenv("SPENDFUSE_OPERATOR_KEY", OPERATOR)
    return embedded.bootstrap


def test_a_run_is_found_by_the_beginning_of_its_id(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Over a broker: unknown, ambiguous and other tenants' ids are exit 2 with what to do."""
    now_ms = wall_ms()
    lasting: dict[str, Any] = {"issued_ms": now_ms - HOUR_MS, "expires_ms": now_ms + DAY_MS}
    put(broker, "control.v1", command(target=Target("run", "run-aa1"), **lasting))
    put(broker, "alerts.v1", alert(run_id="run-ab1"), alert("i2", run_id="twice"))
    put(broker, "alerts.v1", alert("i3", run_id="twice", tenant_id="globex"))
    answers = {
        "run-aa": (0, "Run run-aa1 of acme is killed."),
        "run-a": (2, "did you mean run-aa1 or run-ab1?"),
        "run-ab1": (0, "Run run-ab1 of acme is not stopped"),
        "nobody": (2, "nobody has heard of a run 'nobody'"),
        "twice": (2, "several tenants have a run twice: acme, globex. Say which with --tenant"),
        "twice --tenant globex": (0, "Run twice of globex is not stopped"),
        "run-aa1 --tenant globex": (2, "nobody has heard of a run 'run-aa1' of globex"),
    }
    for typed, (code, said) in answers.items():
        assert main(["why", *typed.split()]) == code, typed
        heard = capsys.readouterr()
        assert said in (heard.err if code else heard.out), typed


def test_an_order_that_waits_is_told(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who has given a resume and sees the run stand still learns that it was not come to."""
    now_ms = wall_ms()
    put(broker, "control.v1", command(issued_ms=now_ms - HOUR_MS, expires_ms=now_ms + DAY_MS))
    value = encode(
        Resume(message_id="m", ts_ms=now_ms, tenant_id="acme", who="ana", why="w", target=Target("run", "r1"))
    )
    headers = tuple(OperatorKey(OPERATOR.encode()).order_headers("acme", value))
    produce(broker, "operator.v1", [Record(value, b"acme", headers, now_ms, 0)])
    assert main(["why", "r1"]) == 0
    assert "ana has ordered a resume since" in capsys.readouterr().out
