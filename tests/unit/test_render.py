"""What people are shown: what happened, to whom, how bad; what was done; what to do. In that order, each thing once."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from alerting.notice import Notice
from alerting.receivers.pagerduty.sender import dedup_key, events, payload
from alerting.receivers.slack import blocks as kit
from alerting.receivers.slack.blocks import SlackMessage, slack_message, thread_reply
from alerting.rendering.course import done
from alerting.rendering.evidence import evidence
from alerting.rendering.figures import BAR_CELLS, amount, bar, clock, part_of, percent, span
from alerting.rendering.foreign import names
from alerting.rendering.render import facts, gauge, headline, line, plain_text, sentence, step, title, what_to_do
from schemas.duration import format_duration
from streams.settings import Settings
from tests.support.notices import alert, notice

LINKS = {"Run": "https://runs.example/{tenant_id}/{run_id}", "Runbook": "https://docs.example/rules/{rule}"}
BUTTONS = {kit.ACKNOWLEDGE, kit.SNOOZE, kit.NOISE, kit.PLANNED}


def texts(message: SlackMessage) -> list[str]:
    """What the message's blocks show, in order."""
    return [text for block in message.blocks for text in _texts(block)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value.get("type") in ("plain_text", "mrkdwn"):
        yield value["text"]
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def buttons(message: SlackMessage) -> list[dict[str, Any]]:
    """The message's buttons, in order."""
    return [one for block in message.blocks if block["type"] == "actions" for one in block["elements"]]


def test_the_first_line_says_what_happened_to_whom_how_bad() -> None:
    """The heading is the summary behind tenant and workflow; its dot is the severity; no id comes before it."""
    message = slack_message(notice(), LINKS)
    assert texts(message)[0] == "🔴 acme / search-agent: team search has spent 80 % of its daily budget"
    assert message.text.startswith(texts(message)[0])
    assert plain_text(notice()).startswith("CRITICAL  acme / search-agent: team search has spent")


def test_a_message_leads_to_its_incident_on_the_live_page() -> None:
    """Where the settings say where the page is: from Slack and from PagerDuty, before links of the operator's own; what
    does not fit is left out, and costs the others nothing.
    """
    long = {"Long": f"https://a.example/{'x' * 990}"}
    settings = Settings(console_url="https://spend.example.com/", links={**long, **LINKS})
    told = notice(incident_id="i 1", run_id="r&1")
    page = "https://spend.example.com/incident?tenant=acme&amp;incident=i%201"
    run = "https://spend.example.com/run?tenant=acme&amp;run=r%261"
    footer = str(slack_message(told, settings.message_links).blocks[-1])
    assert f"<{page}|Open on the live page> · <{run}|Its run>" in footer
    assert "https://runs.example/acme/r%261" in footer
    assert "a.example" not in footer
    [event] = events("d1", told, (), settings.message_links)
    assert event.properties["links"][0] == {"href": page.replace("&amp;", "&"), "text": "Open on the live page"}
    assert "example.com" not in str(slack_message(told, Settings().message_links).blocks)


def test_a_message_about_several_leads_where_all_of_them_are() -> None:
    """To the live page, and by links of the operator's own whose values all of them share; never to one of them."""
    templates = Settings(console_url="https://spend.example.com", links={"Costs": "https://costs.example/{tenant_id}"})
    several = (alert(run_id="r1", incident_id="i1"), alert(run_id="r2", incident_id="i2"))
    footer = str(slack_message(Notice("digest", several), templates.message_links).blocks[-1])
    assert "<https://spend.example.com/|All that is open> · <https://costs.example/acme|Costs>" in footer
    assert "incident=" not in footer
    assert "run=" not in footer
    of_two = str(slack_message(Notice("digest", (*several, alert(tenant_id="b"))), templates.message_links).blocks[-1])
    assert "costs.example" not in of_two


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"summary": "acme has spent $1.00 of its $2.00 budget."}, "acme has spent $1.00 of its $2.00 budget"),
        ({"summary": "acme-two has spent it"}, "acme / search-agent / search: acme-two has spent it"),
        ({"summary": "The search in search-agent failed"}, "acme: The search in search-agent failed"),
        ({"attribution": {}, "scope": {"tenant_id": "acme", "model": "m"}}, "acme / m: team search has"),
        ({"attribution": {"workflow": "unattributed"}, "scope": {"tenant_id": "acme"}}, "acme: team search has"),
        ({"scope": {"tenant_id": "acme", "run": "run-7"}, "attribution": {}}, "acme: team search has"),
        ({"summary": ""}, "acme / search-agent / search: daily-budget"),
    ],
)
def test_whom_it_is_about_is_said_once(changes: dict[str, Any], words: str) -> None:
    """The subject stands before the summary unless the summary names it; ids and missing names are no subject."""
    assert headline(alert(**changes)).startswith(words)


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("acme has", "acme", True),
        ("run acme-7 has", "acme", False),
        ("$5.03 of $10.00", "$5.03", True),
        ("$5.03 of $10.00", "5", False),
        ("costs $5.0344", "$5.03", False),
        ("10,000 tokens", "10", False),
        ("in a/b.", "b", True),
        ("aa a", "a", True),
        ("", "", False),
    ],
)
def test_a_name_is_a_word_of_its_own(text: str, what: str, expected: bool) -> None:
    """Part of a longer name, or of a longer number, does not count."""
    assert names(text, what) is expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": "kill"}, "A kill was sent to the run, not yet confirmed."),
        ({"command": "pause"}, "A pause was sent to the run: it is to wait until it may go on."),
        (
            {"command": "downgrade"},
            "Nothing was stopped: the run goes on, and was sent a downgrade to a cheaper model.",
        ),
        ({"command": "resume"}, "The run was allowed to go on."),
        ({"command": "kill", "run_id": None, "scope": {"session": "s"}}, "A kill was sent to the session, not yet"),
        ({"command": "kill", "evidence": {"killed_by": "run-cost"}}, "Not stopped: the kill has had no effect so far."),
        (
            {"command": "kill", "evidence": {"killed_by": "run-cost", "is_silent": True}},
            "It is not known whether it has stopped.",
        ),
        ({"mode": "alert"}, "Nothing was stopped: this rule only alerts."),
        ({}, "Nothing was stopped."),
        ({"run_id": None}, "Nothing was stopped."),
        ({"run_id": None, "level": 1.0, "evidence": {"at_limit": "pause"}}, "Runs that spend here are being paused."),
        (
            {"run_id": None, "level": 1.0, "evidence": {"at_limit": "alert"}},
            "Nothing was stopped: this rule only alerts.",
        ),
        (
            {"run_id": None, "level": 1.0, "evidence": {"at_limit": "kill", "late": True}},
            "Nothing was stopped: it was reported",
        ),
        ({"run_id": None, "level": 1.0, "evidence": {}}, ""),
        ({"run_id": None, "level": 1.0, "evidence": {"at_limit": "downgrade"}}, "Nothing was stopped: runs that spend"),
        ({"evidence": {"late": True}}, "Nothing was stopped: it was reported when its time was over."),
        ({"evidence": {"accepted_ms": 5}}, "Nothing was stopped: its output was accepted, and only what it used since"),
        ({"evidence": {"resumed_by": "ana"}}, "Nothing was stopped: an operator has let it go on."),
        (
            {"evidence": {"resumed_by": "ana", "allowed_until_ms": 2 * 10**12}},
            "Nothing was stopped: an operator has let",
        ),
        (
            {"mode": "alert", "evidence": {"nudged_ms": 1_767_279_990_000}},
            "Nothing was stopped: this rule only alerts. Its agent was sent a word about it.",
        ),
        (
            {"command": "kill", "state": "escalated", "evidence": {"nudged_ms": 5}},
            "A kill was sent to the run, not yet confirmed.",
        ),
        (
            {"command": "kill", "evidence": {"nudged_ms": 5, "nudge_delivered_ms": 1_767_279_990_000}},
            "A kill was sent to the run, not yet confirmed. The agent was told at 15:06:30 UTC.",
        ),
        ({"run_id": None, "evidence": {"runs_stopped": 7}}, "Each of these 7 runs was sent a command to stop."),
        ({"detector": "unpriced", "mode": "alert"}, "Nothing was stopped: this is about records, not about a run."),
    ],
)
def test_it_says_plainly_whether_anything_was_stopped(changes: dict[str, Any], words: str) -> None:
    """What stands on the run, or that nothing does; where the alert does not say, nothing is claimed."""
    one = alert(**changes)
    assert done(one).startswith(words)
    assert bool(done(one)) == bool(words)
    assert done(one) in plain_text(Notice("incident", (one,)))


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"evidence": {"resumed_by": "ana", "rule_limit": 5 * 10**9, "allowed_up_to_nanousd": 10 * 10**9}},
            ["let go on by ana, up to $10.00, where the rule allows $5.00"],
        ),
        (
            {"evidence": {"resumed_by": "ana", "allowed_until_ms": 1_767_280_000_000}},
            ["let go on by ana, until Thu 1 Jan 2026, 15:06:40 UTC"],
        ),
        ({"evidence": {"released": "ana: a test", "resumed_by": "ana"}}, ["let go on by: ana: a test"]),
        (
            {"evidence": {"accepted_ms": 1_767_280_000_000, "accepted_nanousd": 4 * 10**9}},
            ["counts since its output was accepted at 15:06:40 UTC; $4.00 until then does not"],
        ),
        (
            {"run_id": None, "unit": "count", "summary": "4 runs of docs were stopped",
             "evidence": {"runs_stopped": 4, "latest_runs": ["r3", "r4"], "calls": 2, "cost_nanousd": 7}},
            ["stopped last: r3, r4"],
        ),
        (
            {"detector": "data_quality", "unit": "calls", "summary": "12 calls were reported to cost $3.00",
             "evidence": {"kind": "price_mismatch", "records": 12, "reported_nanousd": 3 * 10**9,
                          "models": ["m1", "m2"], "computed_nanousd": 9 * 10**9, "runs": ["r1"],
                          "examples": ["e1", "e2"]}},
            ["cost by the price tables: $9.00", "models: m1, m2", "for example in runs: r1", "for example: e1, e2"],
        ),
        ({"evidence": {"stopped_by": "run-cost", "action": "kill", "late": True}}, ["stopped by rule: run-cost"]),
        ({"baseline": None, "limit": None, "evidence": {"active_hours": 11}}, []),
        (
            {"evidence": {"owners": [{"owner": "ana", "cost_nanousd": 4 * 10**9}, {"owner": "bob"}, 7]}},
            ["$4.00 by ana", "also by bob"],
        ),
    ],
)  # fmt: skip
def test_why_it_is_so_is_said_in_words(changes: dict[str, Any], lines: list[str]) -> None:
    """Terms of a resume, an accepted output, a workflow's runs and wrong records are sentences, not names of fields."""
    assert evidence(alert(**changes)) == lines


def test_all_owners_of_a_shared_budget_are_named() -> None:
    """An alert that is nobody's alone says whose it is; there is room for eight."""
    owners = [f"o{number}" for number in range(11)]
    assert ("Owners", "o0, o1, o2, o3, o4, o5, o6, o7 and 3 more") in facts(alert(owner=None, owners=owners))
    assert ("Owners", "ana, bob") in facts(alert(owner=None, owners=["ana", "bob"]))


SINCE = {"since_ms": 1_767_280_000_000 - 90_000}
STOPPED = {"run_status": "killed", "cost_nanousd": 5_040_000_000, "command_id": "c", "overshoot_nanousd": 20_000_000}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"evidence": {**STOPPED, **SINCE, "cause_to_stop_ms": 120}},
            "The run stopped within 120 ms and spent $0.02 more; it cost $5.04 in all. The incident lasted 1 min 30 s.",
        ),
        (
            {"evidence": {**STOPPED, "run_status": "completed"}},
            "The run has finished; the kill was never confirmed, and $0.02 was spent after it; it cost $5.04 in all.",
        ),
        (
            {"evidence": {"cause_to_stop_ms": 1200, "overshoot_nanousd": 410_000_000, "action": "kill"}},
            "The run stopped at 15:06:40 UTC, within 1.2 s and spent $0.41 more.",
        ),
        (
            {"evidence": {"cause_to_stop_ms": 1200, "overshoot_nanousd": 0, "action": "kill"}},
            "The run stopped at 15:06:40 UTC, within 1.2 s and spent nothing more.",
        ),
        (
            {"evidence": {"cause_to_stop_ms": 900, "overshoot_nanousd": 7, "action": "downgrade"}},
            "The run went on with a cheaper model at 15:06:40 UTC, within 900 ms.",
        ),
        (
            {"evidence": {"cause_to_stop_ms": 900, "run_status": "completed", "action": "downgrade"}},
            "The run has finished; before, it went on with a cheaper model within 900 ms.",
        ),
        (
            {"evidence": {"cause_to_stop_ms": 900, "run_status": "completed", "action": "pause"}},
            "The run has finished; before, it was paused within 900 ms.",
        ),
        (
            {
                "evidence": {"run_status": "completed"}
                | dict.fromkeys(("command_id", "overshoot_nanousd"), 7)
                | {"action": "downgrade"}
            },
            "The run has finished; the downgrade was never confirmed.",
        ),
        ({"evidence": {"stopped_by": "<!channel>", "command_id": "c"}}, "The run was stopped by another rule."),
        (
            {"evidence": {"run_status": "completed", "nudged_ms": 5, "nudge_delivered_ms": 1_767_279_990_000}},
            "The run has finished. The agent was told at 15:06:30 UTC.",
        ),
        ({"evidence": {"limit_raised": True}}, "The limit was raised, or a new allowance has begun."),
        ({"evidence": {"run_status": "failed"}}, "The run has failed."),
        ({"evidence": {"run_status": "idle", "cost_nanousd": 10**9}}, "The run has gone quiet; it cost $1.00 in all."),
        ({"evidence": {"period": "day"}, "window_end_ms": 1_767_280_000_000}, "The day is over."),
        ({"evidence": {"period": 5}, "window_end_ms": 1_767_280_000_000}, "Its time is over."),
        ({"evidence": {"released": "it was meant", "command_id": "c"}}, "An operator has let it go on."),
        ({"evidence": {"run_status": "<!channel>", "since_ms": "soon"}}, "It is over."),
    ],
)
def test_its_end_says_how_it_went(changes: dict[str, Any], words: str) -> None:
    """How it ended, how long it took to stop, what was spent until then and in all, and how long it lasted."""
    told = notice(state="resolved", **changes)
    message = slack_message(told, LINKS)
    assert done(told.alert) == words
    assert texts(message)[0].startswith("🟢 Resolved: ")
    assert f"*{words}*" in texts(message)
    assert words in thread_reply(told).text
    assert not what_to_do(told)


def test_a_reminder_says_for_how_long() -> None:
    """That it is still open, and since when, before what was done."""
    told = notice(state="reminder", evidence=SINCE)
    assert title(told).startswith("Still open: ")
    assert done(told.alert) == "It has been open for 1 min 30 s. Nothing was stopped."


@pytest.mark.parametrize(
    ("value", "limit", "baseline", "unit", "summary", "words"),
    [
        (41_000_000_000, 50_000_000_000, None, "nanousd", "$41.00 of $50.00 spent", "82%"),
        (41_000_000_000, 50_000_000_000, None, "nanousd", "too much", "82%, $41.00 of $50.00"),
        (60_000_000_000, 50_000_000_000, None, "nanousd", "too much", "120%, $60.00 of $50.00"),
        (4_200_000, 3_600_000, None, "ms", "1 h 10 min of the 1 h it may take", "116%"),
        (53, 50, None, "count", "has made 53 of the 50 model calls", "106%"),
        (3, 5, None, "calls", "called 3 times", "3 of 5 calls"),
        (36_000_000_000, None, 12_000_000_000, "nanousd", "3 times the usual $12.00", "now $36.00|usual"),
        (41_000_000_000, 50_000_000_000, 12_000_000_000, "nanousd", "", "82%, $41.00 of $50.00|usual $12.00"),
        (60_000_000_000, 50_000_000_000, 12_000_000_000, "nanousd", "", "now $60.00|usual $12.00"),
        (7, None, None, "calls", "", "7 calls"),
        (7, 0, None, "calls", "7 calls", ""),
        (float("nan"), 1, None, "", "", "beyond measure of 1"),
        (10**400, 1, 1, "nanousd", "", "now beyond measure|usual $0.000000001"),
    ],
)
def test_the_value_stands_against_its_limit_or_baseline(
    value: float, limit: float | None, baseline: float | None, unit: str, summary: str, words: str
) -> None:
    """A bar for the limit, two for what is usual, and numbers where the summary has none. Absurd ones do no harm."""
    rows = gauge(alert(value=value, limit=limit, baseline=baseline, unit=unit, summary=summary)).split("\n")
    assert [row.lstrip("█░ ") for row in rows] == words.split("|")
    assert {sum(row.count(cell) for cell in "█░") for row in rows} <= {0, BAR_CELLS}


def test_a_bar_fills_with_its_share() -> None:
    """Empty at nothing, full at the limit and beyond and not a moment before, in between in proportion."""
    shares = (-1.0, 0.0, 0.5, 0.999, 1.0, 7.0)
    assert [bar(share).count("█") for share in shares] == [0, 0, BAR_CELLS // 2, BAR_CELLS - 1, BAR_CELLS, BAR_CELLS]
    assert [percent(share) for share in (0.999, 1.0, 0.29)] == ["99%", "100%", "29%"]


def test_amounts_and_times_are_readable() -> None:
    """Money to the cent, durations in words, times with day and zone; what is beyond a calendar says so."""
    assert part_of(12_400_000_000, 10_000_000_000, "nanousd") == "$12.40 of $10.00"
    assert [amount(1, "calls"), amount(12_345, "calls"), amount(6_000_000, "ms")] == [
        "1 call",
        "12,345 calls",
        "1 h 40 min",
    ]
    assert [format_duration(ms) for ms in (0, 999, 9_999, 60_000, -5)] == ["0 ms", "999 ms", "9.9 s", "1 min", "-5 ms"]
    assert clock(1_767_280_000_000) == "Thu 1 Jan 2026, 15:06:40 UTC"
    assert span(1_767_225_600_000, 1_767_312_000_000) == "Thu 1 Jan, all day UTC"
    assert span(1_767_225_600_000, 1_767_830_400_000) == "Thu 1 Jan, 00:00 to Thu 8 Jan, 00:00 UTC"
    assert {clock(10**18), span(0, 10**18)} == {"an impossible time"}


def test_a_message_says_what_a_tired_person_needs() -> None:
    """Value against limit, what was done, what to do, owner, run, where, evidence: on Slack and in the terminal."""
    one = notice()
    shown = "\n".join(texts(slack_message(one, LINKS)))
    for text in (shown, plain_text(one)):
        for needed in (
            "82%, $41.00 of $50.00", "Nothing was stopped.", "What to do: Look at the top runs", "run-7", "prod",
            "$30.00 by run run-7", "limit is reached in 2 h 46 min, at 17:53:20 UTC", "Critical · rule daily-budget",
        ):  # fmt: skip
            assert needed in text
    assert "Owner: alice" in shown
    assert "owner alice" in plain_text(one)
    assert "<https://runs.example/acme/run-7|Run>" in shown


def test_nothing_is_said_twice() -> None:
    """What the summary or the heading says is no fact and no evidence again."""
    one = alert(
        summary="The run has made 53 of the 50 model calls it may make with gpt-5",
        attribution={"workflow": "search-agent", "agent": "search-agent", "environment": "prod"},
        evidence={
            "counter": "calls",
            "calls": 53,
            "cost_nanousd": 10**9,
            "model": "gpt-5",
            "status": "ok",
            "attempt": 1,
        },
        unit="count",
    )
    assert evidence(one) == ["cost so far: $1.00"]
    assert [label for label, _ in facts(one)] == ["Owner", "Run", "Period", "Environment"]
    assert not evidence(alert(evidence={"cost_nanousd": 41_000_000_000}))


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"args_hash": "5f1c", "result_hash": "e3b0", "tool": "t"}, ["last call: arguments 5f1c, result e3b0"]),
        ({"prompt_hash": "9f2c", "error_type": "overloaded"}, ["last call: prompt 9f2c", "last error: overloaded"]),
        ({"active_hours": 168, "mad_nanousd": 3}, ["usual: the median of 168 hours with spend in the last 7 days"]),
        ({"finished_runs": 24, "multiple": 5.0}, ["usual: the median of the workflow's last 24 finished runs"]),
        ({"top_runs": [{"run_id": "a", "cost_nanousd": 1_500_000_000}, "b", {}]}, ["$1.50 by run a", "run b", "run ?"]),
        ({"issued_ms": 1_767_280_000_000}, ["kill sent: Thu 1 Jan 2026, 15:06:40 UTC"]),
        ({"wait_ms": 1_500, "dry_run": True, "of": ["x", "y"]}, ["wait: 1.5 s", "dry run: yes", "of: x, y"]),
        ({"forecast_limit_reached_ms": 1}, []),
        ({f"key{number}": number for number in range(20)}, [f"key{number}: {number}" for number in range(6)]),
    ],
)
def test_evidence_is_in_words(given: dict[str, Any], lines: list[str]) -> None:
    """What the engine's rules give is said in words, what it cannot know by its name, and not more than six of it."""
    assert evidence(alert(evidence=given, summary="")) == lines


def test_buttons_carry_whom_they_are_about() -> None:
    """The most useful first; each names tenant and incident exactly; resuming names the run and asks again."""
    found = buttons(slack_message(notice(command="kill"), {}))
    assert [one["text"]["text"] for one in found] == ["Acknowledge", "Snooze 1 h", "Planned", "Noise", "Resume run"]
    for button in found:
        value = json.loads(button["value"])
        assert (value["tenant_id"], value["incident_id"]) == ("acme", "4f2d9c01aa")
        assert ("target_id" in value) == ("confirm" in button) == (button["action_id"] == kit.RESUME)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"command": "kill"}, BUTTONS | {kit.RESUME}),
        ({"command": "pause", "state": "resolved"}, {kit.RESUME, kit.USEFUL, kit.NOISE, kit.PLANNED}),
        ({"state": "resolved"}, {kit.USEFUL, kit.NOISE, kit.PLANNED}),
        ({"command": None}, BUTTONS),
        ({"command": "resume"}, BUTTONS),
        ({"command": "kill", "run_id": None}, BUTTONS),
        ({"tenant_id": "x" * 10_000}, set()),
    ],
)
def test_buttons_are_those_that_can_work(changes: dict[str, Any], expected: set[str]) -> None:
    """None to acknowledge what is over, none to resume what was not stopped, none whose identifiers would be cut."""
    assert {one["action_id"] for one in buttons(slack_message(notice(**changes), {}))} == expected


def test_only_what_pages_asks_loudly() -> None:
    """The green button is for what wakes somebody."""
    styles = {
        severity: buttons(slack_message(notice(severity=severity), {}))[0].get("style") for severity in _SEVERITIES
    }
    assert styles == {"critical": "primary", "error": "primary", "warning": None, "info": None}


_SEVERITIES = ("critical", "error", "warning", "info")


def test_several_incidents_are_listed_and_the_rest_counted() -> None:
    """Each has its line with its run; how many more there are is said; no button, which could not tell them apart."""
    many = tuple(
        alert(severity="warning", summary=f"search {n}", run_id=f"run-{n}", ts_ms=1_767_280_000_000 + 1_000 * n)
        for n in range(12)
    )
    told = Notice("digest", many, more=37)
    message = slack_message(told, LINKS)
    shown = "\n".join(texts(message))
    for text in (shown, plain_text(told)):
        assert "49 warnings for alice" in text
        assert "and 37 more" in text
        assert "What to do: Look at the top runs" in text
        for number in range(12):
            assert f"acme / search-agent: search {number} · run-{number}" in text
    assert texts(message)[0] == "🟡 49 warnings for alice"
    assert texts(message)[-1] == "Thu 1 Jan 2026, 15:06:51 UTC"
    assert not buttons(message)


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ((alert(), alert(severity="error")), "🔴 2 incidents for alice"),
        ((alert(owner="a"), alert(owner="b")), "🔴 2 critical incidents"),
        ((alert(severity="info"),), "🔵 1 note for alice"),
        ((alert(severity="error"), alert(severity="error")), "🟠 2 errors for alice"),
        ((alert(state="resolved"), alert(state="resolved")), "🟢 2 resolved critical incidents for alice"),
    ],
)
def test_several_are_summed_up_by_what_they_share(alerts: Any, words: str) -> None:
    """Severity and owner are named where they are the same for all; the dot is the worst that is not over."""
    assert texts(slack_message(Notice("digest", alerts), LINKS))[0] == words


def test_a_paging_incident_among_several_is_never_a_number() -> None:
    """However many a message is given, each is listed, as far as the receiver takes it."""
    many = Notice("incident", tuple(alert(summary=f"page {number}") for number in range(10)))
    shown = "\n".join(texts(slack_message(many, LINKS)))
    assert all(f"page {number}" in shown for number in range(10))
    assert len(payload("d1", many)["custom_details"]["Incidents"]) == 10


def test_what_comes_and_goes_says_so() -> None:
    """And that nobody is told of each change."""
    told = Notice("flapping", (alert(),))
    assert title(told).startswith("Comes and goes: acme / search-agent")
    assert "You are notified once" in sentence(told)


def test_a_change_is_one_line_of_the_thread() -> None:
    """When, what, and what was done."""
    assert step(notice(state="escalated", command="kill")) == (
        "15:06:40 UTC · acme / search-agent: team search has spent 80 % of its daily budget. "
        "A kill was sent to the run, not yet confirmed."
    )


def test_a_page_reads_well() -> None:
    """The summary is the whole story in a line, run and all; the details are labelled for people."""
    page = payload("d1", notice(command="kill"))
    assert page["summary"].endswith("daily budget. A kill was sent to the run, not yet confirmed. Run: run-7")
    assert payload("d1", notice(run_id=None))["summary"].endswith("daily budget. Nothing was stopped.")
    assert payload("d1", notice(summary="Run run-7 is stuck"))["summary"].count("run-7") == 1
    assert (page["source"], page["component"], page["group"]) == ("acme", "search-agent", "daily-budget")
    assert list(page["custom_details"])[:4] == ["What was done", "What to do", "Value", "Owner"]
    assert page["custom_details"]["Run"] == "run-7"


def test_what_is_too_long_is_cut_between_lines() -> None:
    """Slack is sent no more than it takes: what does not fit is left out whole; the message says so and leads to it."""
    long = notice(summary="&" * 600, owner="<" * 120, evidence={f"k{n}": "&" * 200 for n in range(6)})
    message = slack_message(long, LINKS)
    assert len(message) < kit.MOST_OF_A_MESSAGE
    assert "Shortened." in texts(message)
    assert "https://runs.example/acme/run-7" in str(message.blocks[-1])


def test_a_repetition_is_marked() -> None:
    """After a send of unknown outcome the message says so, on Slack and in the terminal."""
    one = notice(maybe_repeated=True)
    assert "may be a repetition" in plain_text(one)
    assert any("may be a repetition" in text for text in texts(slack_message(one, {})))
    assert "may be a repetition" not in plain_text(dataclasses.replace(one, maybe_repeated=False))


def test_a_key_is_the_incident_and_its_level() -> None:
    """Levels have keys of their own, states have not."""
    assert dedup_key(alert(level=0.5)) != dedup_key(alert(level=0.8))
    assert dedup_key(alert(state="open")) == dedup_key(alert(state="reminder"))


def test_a_line_of_several_names_its_run() -> None:
    """By which it is told from its like."""
    assert line(alert()) == "acme / search-agent: team search has spent 80 % of its daily budget · run-7"
    assert line(alert(run_id=None, state="resolved")).startswith("Resolved: acme / search-agent: team search")
