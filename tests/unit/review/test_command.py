"""`report weekly` over a file of effects: no broker, the same review, and errors that say what to do."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from infra.demo.log.weeks import Weeks, messages
from schemas.codec import encode
from streams.__main__ import main
from tests.support.messages import HOUR_MS, USD
from tests.support.reviews import WEEK, feedback, hour, incident, kill, limit_exception, rollup

POLICY = """
version = "review-1"
timezone = "Europe/Berlin"
unpriced_usd_per_million_tokens = 2.0

[[budget]]
name = "daily"
period = "day"
limit_usd = 5.0
exceptions = [{ scope = "acme", limit_usd = 9.0, until = 2026-12-02T00:00:00Z, why = "launch", who = "ana" }]
"""
DEMO = Path(__file__).parents[3] / "infra" / "demo"


def effects(path: Path, *values: tuple[str, Any]) -> Path:
    """A file as `backtest --out` writes it."""
    lines = [encode({"topic": topic, "key": "k", "value": value}) for topic, value in values]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def a_file(tmp_path: Path) -> Path:
    """Two weeks, with an hour that grew and one line of every topic."""
    return effects(
        tmp_path / "effects.jsonl",
        ("rollups.v1", hour(-7, 4)),
        ("rollups.v1", hour(0, 1)),
        ("rollups.v1", hour(0, 3)),
        ("rollups.v1", hour(0, 2, "globex", at=10)),
        ("rollups.v1", rollup(WEEK.end_ms - HOUR_MS)),
        *(("alerts.v1", one) for one in incident("i1", "open", "resolved")),
        ("control.v1", kill("k", WEEK.start_ms + 5, incident_id="i1")),
        ("operator.v1", feedback("i1", "useful")),
        ("operator.v1", limit_exception(WEEK.start_ms, WEEK.end_ms + HOUR_MS)),
        ("usage.dlq.v1", {"reason": "not_json"}),
    )


def test_message_page_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message is printed; page and data are written where asked; an hour counts with its last message."""
    html, data, policy = tmp_path / "review.html", tmp_path / "review.json", tmp_path / "policy.toml"
    policy.write_text(POLICY)
    arguments = ["--effects", str(a_file(tmp_path)), "--policy", str(policy), "--week", "2026-W48"]
    assert main(["report", "weekly", *arguments, "--html", str(html), "--json", str(data)]) == 0
    said = capsys.readouterr().out
    assert "Spend     $5.00, +25 % on the week before ($4.00)" in said
    assert html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    review = json.loads(data.read_text(encoding="utf-8"))
    assert review["totals"]["cost_nanousd"] == 5 * USD
    assert review["week"]["timezone"] == "Europe/Berlin"
    assert review["charges_unpriced"] is True
    assert [one["limit_nanousd"] for one in review["exceptions_expiring"]] == [300 * USD, 9 * USD]
    assert [one["verdict"] for one in review["kills"]] == ["useful"]


def test_a_rule_brings_its_own_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a rule that is mostly noise the review names the numbers that the policy in force gives it."""
    alerts = [one for name in "abcd" for one in incident(name, "open", rule="daily")]
    orders = [("operator.v1", feedback(name, "noise")) for name in "abcd"]
    path = effects(tmp_path / "effects.jsonl", *(("alerts.v1", one) for one in alerts), *orders)
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    assert main(["report", "weekly", "--effects", str(path), "--policy", str(policy), "--week", "2026-W48"]) == 0
    said = capsys.readouterr().out
    assert "Look at limit_usd = 5, or put it in shadow mode." in said
    assert "  daily: 4 pages, 0 notices; 0 % useful, 4 of 4 judged" in said


def test_the_last_full_week_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A week whose last hour is in the file is over; one that has only begun is not yet it."""
    path = a_file(tmp_path)
    assert main(["report", "weekly", "--effects", str(path)]) == 0
    assert "Weekly review, 23 – 29 November 2026\n" in capsys.readouterr().out
    with path.open("ab") as file:
        file.write(encode({"topic": "rollups.v1", "value": rollup(WEEK.end_ms)}) + b"\n")
    assert main(["report", "weekly", "--effects", str(path)]) == 0
    assert "Weekly review, 23 – 29 November 2026\n" in capsys.readouterr().out
    assert main(["report", "weekly", "--effects", str(path), "--week", "2026-W49"]) == 0
    assert "30 November – 6 December 2026, until Mon 30 Nov, 01:00\n" in capsys.readouterr().out


def test_a_zipped_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the backtest reads its events."""
    path = a_file(tmp_path)
    zipped = tmp_path / "effects.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert main(["report", "weekly", "--effects", str(zipped)]) == 0
    assert "$5.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (b"", [], "holds neither rollups nor alerts; write it with: backtest --out"),
        (b'{"topic": "rollups.v1", "value": {}}\n', [], "line 1 is no effect as backtest --out writes it"),
        (b"\n{nonsense\n", [], "line 2 is no effect"),
        (b"\xff\xfe\n", [], "line 1 is no effect"),
        (None, [], "cannot be read"),
        ("good", ["--week", "last"], "--week: 'last' is no week; write it as 2026-W47"),
        ("good", ["--week", "2026-W60"], "--week: there is no week 2026-W60"),
        ("good", ["--week", "2027-W01"], "week 2027-W01 has not begun"),
        ("good", ["--html", "/no/such/folder/review.html"], "/no/such/folder/review.html cannot be written"),
        ("good", ["--policy", "/no/such/policy.toml"], "/no/such/policy.toml cannot be read"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | str | None, arguments: list[str], words: str
) -> None:
    """Exit code 2 and one sentence."""
    path = tmp_path / "effects.jsonl"
    if content == "good":
        a_file(tmp_path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    assert main(["report", "weekly", "--effects", str(path), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_demos_two_weeks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the README shows: two whole weeks, three kills of which one was not obeyed, and what people said."""
    path = tmp_path / "weeks.jsonl"
    path.write_bytes(b"".join(Weeks().lines()))
    data = tmp_path / "review.json"
    arguments = ["--effects", str(path), "--policy", str(DEMO / "policy.toml"), "--json", str(data)]
    assert main(["report", "weekly", *arguments]) == 0
    assert "Weekly review, 16 – 22 November 2026\n" in capsys.readouterr().out
    review = json.loads(data.read_text(encoding="utf-8"))
    assert review["comparable"] is True
    assert [(one["target_id"], one["fate"], one["verdict"]) for one in review["kills"]] == [
        ("initech-docs-agent-0023", "stopped", "useful"),
        ("acme-coding-agent-0034", "went on", "useful"),
        ("acme-coding-agent-0037", "stopped", "useful"),
    ]
    assert (review["verdicts"]["useful"], review["verdicts"]["noise"], review["verdicts"]["planned"]) == (3, 1, 1)
    assert [one["kind"] for one in review["attention"]] == ["kill not obeyed", "low acceptance", "spike"]
    # Counted again from the usage: what the stopped runs would still have spent is not in it.
    killed = {"initech-docs-agent-0023", "acme-coding-agent-0037"}
    asked = [
        one for one in messages() if 1_794_787_200_000 <= one.ts_ms < 1_795_392_000_000 and one.run_id not in killed
    ]
    runs = {one.run_id for one in asked}
    assert review["totals"]["runs_started"] == len(runs) + len(killed)
