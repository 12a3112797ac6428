"""`tune` says what other settings would have come to, proposes what is clearly better, and writes nothing."""

import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.detectors import REGISTRY
from models.rules.policy import default_policy, read_policy_toml
from streams.__main__ import main
from streams.tools.tune.policy_text import diff
from streams.tools.tune.variants import Variant, variants

T0_MS = 1_794_819_600_000
HOUR_MS = 3_600_000
POLICY = """version = "t"
[[repeat]]
name = "again"
page_at = 5  # as it came
mode = "enforce"
"""
NOTHING_TO_TUNE = {"stop_rule", "spending_after_kill", "data_quality", "unpriced", "premium_escalation"}
"""What a run has declared, what guards our own promises, and what asks for a reason."""
Fields = dict[str, Any]


def run(number: int, calls: int, outcome: str | None = None) -> list[Fields]:
    """A run that makes the same call so often, costs $1 a call, and whose output is wanted or not."""
    envelope = {"tenant_id": "acme", "run_id": f"r{number}", "workflow": f"w{number}"}
    start_ms = T0_MS + number * HOUR_MS
    lines: list[Fields] = [
        {
            "type": "tool_call", "event_id": f"e{number}-{n}", "ts_ms": start_ms + n * 2000, "tool": "look",
            "args_hash": "a", "result_hash": "x", "cost_nanousd": 10**9, **envelope,
        }
        for n in range(calls)
    ]  # fmt: skip
    if outcome is not None:
        ended = {"type": "outcome", "event_id": f"o{number}", "ts_ms": start_ms + 60_000, "outcome": outcome}
        lines.append({**ended, **envelope})
    return lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Twelve runs that look five times and are right to, and eight that never stop looking."""
    lines = [line for number in range(12) for line in run(number, 5, "accepted")]
    lines += [line for number in range(12, 20) for line in run(number, 20)]
    return written(tmp_path / "log.jsonl", lines)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(POLICY)
    return path


def written(path: Path, lines: Iterable[Fields]) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def labels(folder: Path, stuck: Iterable[int], working: Iterable[int]) -> Path:
    named = [(number, "stuck") for number in stuck] + [(number, "working") for number in working]
    lines = [{"run_id": f"r{number}", "label": label} for number, label in named]
    return written(folder / "labels.jsonl", [*lines, {"run_id": "elsewhere", "label": "stuck"}])


def tune(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What it prints; every line fits."""
    assert main(["tune", *map(str, words)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    return said


def row(said: str, name: str) -> list[str]:
    """The figures of a setting."""
    [line] = [line for line in said.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).split()


def test_a_setting_that_is_clearly_better_is_proposed(
    log: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages, kills, false kills, what was saved, precision and recall of each setting; the nearest one that is as
    right and less wrong stands in a diff, with a word of caution, and the file is as it was.
    """
    known = labels(tmp_path, range(12, 20), range(12))
    said = tune(capsys, "--events", log, "--policy", policy, "--labels", known)
    days = (19 * HOUR_MS + 38_000) / 86_400_000
    assert days < 1
    assert "labels: 21, of them in the log 20, stuck 8" in said
    assert "figures per day are those of the whole log" in said
    assert row(said, "as it is") == ["20.00", "0.00", "20", "12", "$120.00", "0/0/0", "8", "of", "20", "8", "of", "8"]
    assert row(said, "page_at = 6")[:7] == ["8.00", "12.00", "8", "0", "$112.00", "0/0/0", "8"]
    assert "-> proposed: page_at = 6, now 5: pages known to be wrong 12 -> 0, right 8 -> 8" in said
    assert "\n-page_at = 5  # as it came\n+page_at = 6  # as it came\n" in said
    assert "Nothing was written." in said
    assert policy.read_text() == POLICY


def test_verdicts_of_people_count(log: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What operators have called noise in a recorded log is what a better setting tells no more."""
    out = tmp_path / "o.jsonl"
    main(["backtest", "--events", str(log), "--policy", str(policy), "--out", str(out)])
    alerts = [each["value"] for each in map(json.loads, out.read_text().splitlines()) if each["topic"] == "alerts.v1"]
    incidents = {alert["run_id"]: alert["incident_id"] for alert in alerts}
    records = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [{"topic": "usage.v1", "append_ms": one["ts_ms"], "value": one} for one in records]
    for number in range(20):
        verdict = "useful" if number >= 12 else "planned" if number == 11 else "noise"
        at_ms = T0_MS + 30 * HOUR_MS + number
        value = {
            "type": "feedback", "message_id": f"m{number}", "ts_ms": at_ms, "tenant_id": "acme", "who": "ana",
            "why": "seen", "incident_id": incidents[f"r{number}"], "verdict": verdict,
        }  # fmt: skip
        lines.append({"topic": "operator.v1", "append_ms": at_ms, "value": value})
    recorded = written(tmp_path / "recorded.jsonl", lines)
    capsys.readouterr()
    said = tune(capsys, "--events", recorded, "--policy", policy)
    assert "verdicts of people: 20" in said
    assert row(said, "as it is")[5:] == ["8/11/1", "8", "of", "20", "-"], "a false kill is wrong, planned or not"
    assert "proposed: page_at = 6" in said


@pytest.mark.parametrize(
    ("stuck", "working", "says"),
    [
        ((), (), "-> nobody has judged a page of it: give --labels, or `feedback` on its incidents"),
        ((12,), (0, 1), "-> 3 judged pages: too few to say"),
        ((12,), (), "-> 1 judged page: too few to say"),
        (range(12, 20), (0, 1), "-> no setting is clearly better by 10 judged pages: keep it"),
    ],
)
def test_it_is_honest_about_few_data(
    tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str], stuck: Any, working: Any, says: str
) -> None:
    """Nothing is proposed where a handful of pages, or a difference of two, would be all that speaks for it."""
    lines = [line for number in range(12) for line in run(number, 5)]
    lines += [line for number in range(12, 20) for line in run(number, 20)]
    log = written(tmp_path / "log.jsonl", lines)
    words = ["--labels", labels(tmp_path, stuck, working)] if stuck else []
    said = tune(capsys, "--events", log, "--policy", policy, *words)
    assert says in said
    assert said.endswith("Nothing is proposed.\n")


def test_defaults_are_tuned_and_can_be_tried_enforcing(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a policy file the diff is of an empty one, and keeps the other defaults; rules that alert stop nothing,
    unless asked what they would have stopped.
    """
    known = labels(tmp_path, range(12, 20), range(12))
    said = tune(capsys, "--events", log, "--labels", known, "--rule", "repeat")
    assert row(said, "as it is")[2:5] == ["0", "0", "$0.00"]
    added = [line.removeprefix("+") for line in said.splitlines() if line.startswith("+") and "+++" not in line]
    proposed = read_policy_toml("\n".join(added))
    assert proposed.rules["repeat"].settings.page_at == 6
    assert proposed.rules.keys() == default_policy().rules.keys()
    said = tune(capsys, "--events", log, "--labels", known, "--rule", "repeat", "--enforced")
    assert row(said, "as it is")[2:5] == ["20", "12", "$120.00"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rule", "nobody"], "no rule is called 'nobody'; there are again"),
        (["--labels", "{folder}/bad"], "line 2: Invalid enum value 'odd' - at `$.label`; write {\"run_id\""),
        (["--labels", "{folder}/nameless"], "line 1 names no run: write"),
        (["--labels", "{folder}/missing"], "missing cannot be read"),
        (["--since", "7d"], "a file is read whole"),
    ],
)
def test_wrong_words_are_exit_2_with_what_to_write(
    log: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    """Nobody waits for replays to learn that a label is misspelt."""
    written(tmp_path / "bad", [{"run_id": "r1", "label": "stuck"}, {"run_id": "r2", "label": "odd"}])
    written(tmp_path / "nameless", [{"label": "stuck"}])
    given = [word.replace("{folder}", str(tmp_path)) for word in words]
    assert main(["tune", "--events", str(log), "--policy", str(policy), *given]) == 2
    assert says in capsys.readouterr().err


def test_every_step_is_of_a_setting_and_can_be_tried() -> None:
    """What a detector calls its main settings are settings; from their defaults on, each has something to try."""
    for detector in set(REGISTRY.values()):
        assert detector.settings_class.steps.keys() <= detector.settings_class.model_fields.keys(), detector
        assert bool(detector.settings_class.steps) == (detector.name not in NOTHING_TO_TUNE), detector
    found = variants(default_policy())
    assert {"repeat", "cycle", "retry_storm", "error_streak", "hourly-5x", "run-5x"} <= {one.rule for one in found}
    for one in found:
        assert getattr(one.policy.rules[one.rule].settings, one.setting) == one.value != one.was
        assert one.policy.rules.keys() == default_policy().rules.keys()


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ('[[cap]]\nname = "c"\nlimit_usd = 5.0  # each', {"-limit_usd = 5.0  # each", "+limit_usd = 7.5  # each"}),
        (
            '[[cap]]\nlimit_usd = 1\nname = "b"\n[[cap]]\nlimit_usd = 5\nname = "c"',
            {"-limit_usd = 5", "+limit_usd = 7.5"},
        ),
        ("[cap]\nname = 'c'\nlimit_usd = 5", {"-limit_usd = 5", "+limit_usd = 7.5"}),
    ],
)  # fmt: skip
def test_the_diff_is_of_the_file_as_it_is_written(text: str, changed: set[str]) -> None:
    """One line of the right table changes, its comment stays."""
    policy = read_policy_toml(text)
    variant = Variant("c", "limit_usd", Decimal("7.5"), Decimal(5), policy)
    lines = diff("p.toml", text, policy, [variant])
    assert {line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")} == changed
