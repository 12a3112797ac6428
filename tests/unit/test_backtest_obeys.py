"""A backtest obeys: what would not have happened is neither judged nor spent, and what that saved is said."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streams.__main__ import main

T0_MS = 1_794_819_600_000
SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
USD = 10**9

CAP = """
version = "x"
[[cap]]
name = "cost"
per = "{per}"
limit_usd = {limit_usd}
thresholds = [1.0]
at_limit = "kill"
mode = "enforce"
"""
RUN_CAP = CAP.format(per="run", limit_usd=5)

Fields = dict[str, Any]


def call(number: int, at_ms: int, usd: float = 1.0, run: str = "r", **more: Any) -> Fields:
    """A model call, so long after the beginning of the log."""
    return {
        "type": "llm_call", "event_id": f"e{number}", "ts_ms": T0_MS + at_ms, "tenant_id": "acme", "run_id": run,
        "model": "m", "workflow": "w", "cost_nanousd": round(usd * USD), **more,
    }  # fmt: skip


def event(kind: str, name: str, at_ms: int, run: str = "r", **more: Any) -> Fields:
    """Another message of a run."""
    return {"type": kind, "event_id": name, "ts_ms": T0_MS + at_ms, "tenant_id": "acme", "run_id": run, **more}


def calls(count: int, every_ms: int, **more: Any) -> list[Fields]:
    """So many calls at $1 each, the first at once."""
    return [call(number, number * every_ms, **more) for number in range(count)]


def record(topic: str, at_ms: int, value: Fields) -> Fields:
    """A record of a topic, appended so long after the beginning."""
    return {"topic": topic, "append_ms": T0_MS + at_ms, "value": value}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a backtest."""

    effects: list[Fields]
    card: str

    def alerts(self, rule: str, *states: str) -> list[Fields]:
        """The alerts of a rule in one of these states, open or escalated unless named."""
        wanted = states or ("open", "escalated")
        return [
            one["value"]
            for one in self.effects
            if one["topic"] == "alerts.v1" and one["value"]["rule"] == rule and one["value"]["state"] in wanted
        ]

    def commands(self) -> list[tuple[str, str]]:
        """What was ordered of whom, in order."""
        found = [one["value"] for one in self.effects if one["topic"] == "control.v1"]
        return [(one["action"], one["target"]["id"]) for one in found]

    def command_id(self) -> str:
        """The id of the first command."""
        return str(next(one["value"]["command_id"] for one in self.effects if one["topic"] == "control.v1"))

    def spent_nanousd(self) -> int:
        """What the engine counted: the last of each hour's totals."""
        last = {one["key"]: one["value"]["cost_nanousd"] for one in self.effects if one["topic"] == "rollups.v1"}
        return sum(last.values())

    def figure(self, name: str) -> str:
        """A number of the scorecard by its name."""
        found = re.search(rf"{name}: (\S+)", self.card)
        assert found, self.card
        return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def backtest(folder: Path, policy: str, lines: Sequence[Fields], *words: str) -> Result:
    """Run the command over these lines."""
    (folder / "p.toml").write_text(policy)
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = folder / "out.jsonl"
    files = ["--policy", str(folder / "p.toml"), "--events", str(folder / "log.jsonl"), "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        assert main(["backtest", *files, *words]) == 0
    return Result([json.loads(line) for line in out.read_text().splitlines()], "\n".join(printed))


def test_a_killed_run_stops(folder: Path) -> None:
    """Calls that begin a second after the kill or later are not made: they are saved, not counted, and nobody is paged
    because nobody stopped.
    """
    found = backtest(folder, RUN_CAP, calls(60, 2 * SECOND_MS))
    assert found.commands() == [("kill", "r")]
    assert found.spent_nanousd() == 5 * USD
    assert (found.figure("saved"), found.figure("overshoot"), found.figure("pages")) == ("$55.00", "$0.00", "1")
    assert found.figure("spent after the cause of a kill") == "$55.00"
    assert "acme / w: $55.00" in found.card
    assert [alert["evidence"]["cause_to_stop_ms"] for alert in found.alerts("cost", "resolved")] == [SECOND_MS]
    assert [alert["mode"] for alert in found.alerts("spending-after-kill")] == ["shadow"]


def test_each_of_the_first_three_that_go_on_is_told(folder: Path) -> None:
    """One that goes on after its kill does not hide another within the hour; a fourth adds nothing but its number."""
    lines = [
        one | {"event_id": f"{run}-{one['event_id']}", "run_id": f"r{run}", "ts_ms": one["ts_ms"] + run * 600_000}
        for run in range(5)
        for one in calls(60, 2 * SECOND_MS)
    ]
    told = backtest(folder, RUN_CAP, lines).alerts("spending-after-kill")
    assert [(alert["run_id"], alert["mode"]) for alert in told] == [(f"r{run}", "shadow") for run in range(3)]
    assert len({alert["incident_id"] for alert in told}) == 3


def test_as_recorded_nobody_obeys(folder: Path) -> None:
    """With --as-recorded everything is counted as it is in the log, and who goes on is paged."""
    found = backtest(folder, RUN_CAP, calls(60, 2 * SECOND_MS), "--as-recorded")
    assert found.spent_nanousd() == 60 * USD
    assert (found.figure("saved"), found.figure("overshoot")) == ("$0.00", "$55.00")
    assert [alert["mode"] != "shadow" for alert in found.alerts("spending-after-kill")] == [True]
    assert found.figure("pages") == "2"


@pytest.mark.parametrize(
    ("reaction_ms", "more", "saved"),
    [
        ("1000", {}, "$16.00"),
        ("0", {}, "$17.00"),
        ("5000", {}, "$12.00"),
        ("1000", {"latency_ms": 1500}, "$15.00"),
        ("1000", {"latency_ms": 1500, "started_ms": T0_MS}, "$0.00"),
    ],
    ids=["a second", "at once", "five seconds", "under way", "begun long ago"],
)
def test_a_call_under_way_is_made(folder: Path, reaction_ms: str, more: Fields, saved: str) -> None:
    """What had begun when the guard heard of the kill is paid all the same."""
    lines = [call(0, 0, usd=5), *(call(n, n * SECOND_MS - 1, **more) for n in range(1, 18))]
    found = backtest(folder, RUN_CAP, lines, "--reaction-ms", reaction_ms)
    assert found.figure("saved") == saved


TREE = [call(0, 0, run="root"), *(call(n, n * MINUTE_MS, run=f"child{n}", root_run_id="root") for n in range(1, 9))]
SESSION = [call(n, n * MINUTE_MS, run=f"turn{n}", session_id="chat") for n in range(9)]


@pytest.mark.parametrize(("per", "lines"), [("session", SESSION), ("run_tree", TREE)])
def test_a_whole_group_stops(folder: Path, per: str, lines: list[Fields]) -> None:
    """What is killed as a whole makes no calls in any of its runs, those that start later included."""
    found = backtest(folder, CAP.format(per=per, limit_usd=3), [*lines, call(99, 9 * MINUTE_MS, run="stranger")])
    assert [action for action, _ in found.commands()] == ["kill"]
    assert (found.figure("saved"), found.spent_nanousd()) == ("$6.00", 4 * USD)


BUDGET = """
version = "x"
[[budget]]
name = "hourly"
period = "hour"
limit_usd = 3
thresholds = [1.0]
at_limit = "pause"
mode = "enforce"
"""


def test_a_pause_holds_until_it_ends(folder: Path) -> None:
    """Nobody in a budget that is used up makes calls for the rest of the hour, runs that start later included, and all
    go on in the next: that is no saving.
    """
    lines = [*calls(4, 10 * MINUTE_MS), call(50, 35 * MINUTE_MS, run="new"), *calls(9, 10 * MINUTE_MS)[4:]]
    found = backtest(folder, BUDGET, lines)
    assert {action for action, _ in found.commands()} == {"pause"}
    assert (found.figure("held back by pauses"), found.figure("saved")) == ("$4.00", "$0.00")
    assert found.spent_nanousd() == 6 * USD


RESUME = {
    "type": "resume", "message_id": "o1", "ts_ms": T0_MS + 10 * MINUTE_MS, "tenant_id": "acme", "who": "ana",
    "why": "wanted", "target": {"type": "run", "id": "r"},
}  # fmt: skip


def test_an_operators_resume_lets_it_go_on(folder: Path) -> None:
    """From the operator's message on the run's calls count again; what lay between was not made."""
    lines = [
        record("usage.v1", n * 2 * MINUTE_MS, call(n, n * 2 * MINUTE_MS, usd=5 if n == 0 else 1)) for n in range(8)
    ]
    lines.insert(5, record("operator.v1", 9 * MINUTE_MS, RESUME))
    found = backtest(folder, RUN_CAP, lines)
    assert found.commands()[:2] == [("kill", "r"), ("resume", "r")]
    assert (found.figure("saved"), found.spent_nanousd()) == ("$4.00", 8 * USD)


@pytest.mark.parametrize(
    ("target", "saved"),
    [
        ({"type": "workflow", "id": "w"}, "$3.00"),
        ({"type": "tenant", "id": "acme"}, "$4.00"),
        ({"type": "run", "id": "later"}, "$1.00"),
    ],
)
def test_what_an_operator_kills_stops(folder: Path, target: Fields, saved: str) -> None:
    """An operator's kill in the log stops what it names, runs that start after it included, and nothing else."""
    kill = RESUME | {"type": "kill", "ts_ms": T0_MS + 90 * SECOND_MS, "target": target}
    spend = [
        call(0, 0),
        call(1, 2 * MINUTE_MS),
        call(2, 3 * MINUTE_MS),
        call(3, 4 * MINUTE_MS, run="later"),
        call(4, 5 * MINUTE_MS, run="elsewhere", workflow="v"),
    ]
    lines = [record("usage.v1", one["ts_ms"] - T0_MS, one) for one in spend]
    lines.insert(1, record("operator.v1", 90 * SECOND_MS, kill))
    assert backtest(folder, CAP.format(per="run", limit_usd=99), lines).figure("saved") == saved


@pytest.mark.parametrize("acted", ["ignored", "stopped"])
def test_the_log_knows_how_a_guard_answered(folder: Path, acted: str) -> None:
    """Where somebody answers the very command in the log, it shows what really happened: nothing is assumed."""
    lines = calls(9, 40 * SECOND_MS, usd=5)
    command_id = backtest(folder, RUN_CAP, lines).command_id()
    ack = event("command_ack", "ack", 30 * SECOND_MS, command_id=command_id, acted=acted)
    found = backtest(folder, RUN_CAP, [lines[0], ack, *lines[1:]])
    assert (found.figure("saved"), found.spent_nanousd()) == ("$0.00", 45 * USD)
    assert [alert["mode"] != "shadow" for alert in found.alerts("spending-after-kill")] == [True]


def test_rules_of_the_whole_speak_only_of_what_was_spent(folder: Path) -> None:
    """A budget that only a run that nobody stopped would have used up is silent."""
    budget = BUDGET.replace("limit_usd = 3", "limit_usd = 20")
    policy = RUN_CAP + budget.replace('version = "x"\n', "")
    assert not backtest(folder, policy, calls(60, SECOND_MS)).alerts("hourly")
    assert backtest(folder, policy, calls(60, SECOND_MS), "--as-recorded").alerts("hourly")


def test_a_kill_by_the_clock_stops_the_next_call(folder: Path) -> None:
    """A run that is killed while it makes no call, because it has lasted too long, makes no further one."""
    policy = RUN_CAP.replace("limit_usd = 5", "max_duration_s = 600")
    found = backtest(folder, policy, [call(0, 0), call(1, 5 * MINUTE_MS), call(2, 50 * MINUTE_MS)])
    assert found.commands() == [("kill", "r")]
    assert (found.figure("saved"), found.figure("pages")) == ("$1.00", "1")
    assert not [one for one in found.alerts("spending-after-kill") if one["mode"] != "shadow"]


def test_a_false_kill_is_one_whose_output_was_wanted(folder: Path) -> None:
    """A kill of a run whose output is accepted or edited later in the log is false; one that is rejected is not."""
    lines = [call(n, 0, usd=6, run=f"r{n}") for n in range(4)]
    for number, outcome in enumerate(("accepted", "edited", "rejected")):
        lines.append(event("outcome", f"o{number}", MINUTE_MS, run=f"r{number}", outcome=outcome))
    found = backtest(folder, RUN_CAP, lines)
    assert (found.figure("kills"), found.figure("false kills")) == ("4", "2")


def test_nudges_are_counted_and_save_nothing(folder: Path) -> None:
    """Whether an agent would have heeded its guard no log can tell: the run goes on as it did, and is killed for it."""
    policy = '[[repeat]]\nname = "again"\nmode = "enforce"'
    lines = [event("tool_call", f"t{n}", n * 1000, tool="look", args_hash="a", result_hash="x") for n in range(5)]
    found = backtest(folder, policy, [*lines, call(9, 20_000)])
    assert found.commands() == [("nudge", "r"), ("kill", "r")]
    assert (found.figure("nudges"), found.figure("kills"), found.figure("saved")) == ("1", "1", "$1.00")


def test_every_event_is_counted_once(folder: Path) -> None:
    """Repetitions, what comes too late and what cannot be read stand apart, and their money is not added, before and
    after a kill.
    """
    lines = [call(n, n * SECOND_MS) for n in range(10)]
    repeated = [one | {"ts_ms": one["ts_ms"] + 10 * SECOND_MS} for one in lines]
    late = record("usage.v1", 30 * SECOND_MS, call(99, -48 * HOUR_MS, run="old"))
    bad = call(98, 0) | {"ts_ms": T0_MS // 1000}
    found = backtest(folder, RUN_CAP, [*lines, *repeated, late, bad])
    assert "10 events, $10.00 spent, 1 dead letters" in found.card
    assert "duplicates: 10 events, $10.00 not counted" in found.card
    assert "too late: 1 events, $1.00 not counted" in found.card
    assert "refused: bad_time 1" in found.card
    assert (found.figure("saved"), found.spent_nanousd()) == ("$5.00", 5 * USD)


def test_a_wrong_time_is_said(folder: Path) -> None:
    """A line that counts when its neighbours were, because its own time cannot be true, is on the scorecard."""
    lines = [call(n, n * MINUTE_MS, usd=0.1) for n in range(9)]
    lines[4]["ts_ms"] += 400 * 24 * HOUR_MS
    found = backtest(folder, RUN_CAP, lines)
    assert "wrong times: 1 (acme: 1 counted when the lines around them were)" in found.card
    assert found.spent_nanousd() == round(0.9 * USD)


def test_a_rule_on_trial_pages_nobody(folder: Path) -> None:
    """Alerts of a rule in shadow mode are listed as what would have been, and are no pages."""
    found = backtest(folder, RUN_CAP.replace("enforce", "shadow"), calls(9, SECOND_MS))
    assert found.figure("pages") == "0"
    assert "no alerts" in found.card
    assert re.search(r"would have.*cost +critical", found.card, re.DOTALL)


def test_the_last_hour_is_told_and_nothing_of_what_nobody_knows(folder: Path) -> None:
    """Totals of the running hour come out at the end; a kill in the last line is not "unanswered", and no run that the
    log leaves running is said to last too long.
    """
    policy = RUN_CAP + '[[cap]]\nname = "long"\nmax_duration_s = 60\nthresholds = [1.0]\nmode = "enforce"\n'
    for words in ((), ("--as-recorded",)):
        found = backtest(folder, policy, [call(0, 0, run="open"), call(1, SECOND_MS, usd=6)], *words)
        assert found.spent_nanousd() == 7 * USD
        assert not found.alerts("spending-after-kill")
        assert not found.alerts("long")


def test_policies_in_the_log_rule_unless_told_otherwise(folder: Path) -> None:
    """A policy in the log is in force from there on, a faulty one is refused, which is said; with --keep-policy the one
    that is tried stays.
    """
    raised = {"version": "2", "cap": [{"name": "cost", "limit_usd": 50, "at_limit": "kill", "mode": "enforce"}]}
    lines = [
        record("policy.v1", 0, raised),
        record("policy.v1", 0, {"cap": [{"name": "cost", "limit_usd": -1}]}),
        *(record("usage.v1", n * SECOND_MS, call(n, n * SECOND_MS)) for n in range(10)),
    ]
    found = backtest(folder, RUN_CAP, lines)
    assert not found.commands()
    assert re.search(r"policies changed: 1 \(2\).*policy refused: 1 \(line 2: cap\[0\]", found.card, re.DOTALL)
    kept = backtest(folder, RUN_CAP, lines, "--keep-policy")
    assert kept.commands() == [("kill", "r")]
    assert "policies left out: 1 (2)" in kept.card


def test_comparing_policies_obeys_each(folder: Path) -> None:
    """Under each of two policies the runs stop when that policy stops them."""
    (folder / "q.toml").write_text(RUN_CAP.replace("= 5", "= 8"))
    found = backtest(folder, RUN_CAP, calls(10, 2 * SECOND_MS), "--against", str(folder / "q.toml"))
    assert re.findall(r"saved: (\S+)", found.card) == ["$5.00", "$2.00"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--events", "x", "--since", "7d"], "a file is read whole"),
        (["--topic", "usage.v1"], "--since"),
        (["--topic", "usage.v1", "--since", "yesterday"], "such as 90m or 7d"),
        (["--topic", "usage.v1", "--since", "2026-12-01T00:00"], "in which time zone"),
        (["--topic", "usage.v1", "--since", "1h", "--until", "2h"], "is not before"),
        (["--events", "x", "--reaction-ms", "-1"], "--reaction-ms"),
    ],
)
def test_wrong_words_are_exit_2_with_what_to_write(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Options that make no sense together, or no time, are named."""
    assert main(["backtest", *words]) == 2
    assert said in capsys.readouterr().err
