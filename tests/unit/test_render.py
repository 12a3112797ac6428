"""What people are shown: the facts of the alert, and nothing that a hostile name could do."""

import dataclasses
import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from alerting.notice import Kind, Notice
from alerting.render import BAR_CELLS, amount, bar, clean, gauge, links, plain_text, sentence, step
from alerting.senders import blocks as kit
from alerting.senders.blocks import escape, slack_message, thread_reply
from alerting.senders.pagerduty import MOST_OF_A_KEY, MOST_OF_A_SUMMARY, dedup_key, events
from schemas.alert import Alert
from tests.support.notices import HOSTILE, alert, notice

LINKS = {"Run": "https://runs.example/{tenant_id}/{run_id}", "Runbook": "https://docs.example/rules/{rule}"}
TEXT_FIELDS = (
    "alert_id", "incident_id", "rule", "detector", "tenant_id", "run_id", "owner", "unit", "summary", "next_action",
    "cause_event_id", "policy_version",
)  # fmt: skip
KINDS: tuple[Kind, ...] = ("incident", "digest", "flapping", "watchdog")
OUR_MARKDOWN = {"*Owner*", "*Run*", "*Scope*", "*Window*", "*Mode*"}
LIMITS = {"header": 150, "section": 3_000, "field": 2_000, "context": 3_000, "button": 75}
BUTTONS = {kit.ACKNOWLEDGE, kit.SNOOZE, kit.RESUME, kit.NOISE, kit.PLANNED}


def hostile_alerts(text: str) -> Iterator[Alert]:
    """The alert with `text` in each place for text, and in all at once."""
    for name in TEXT_FIELDS:
        yield alert(**{name: text})
    nested: list[dict[str, Any]] = [
        {"scope": {text: text, "team": text}},
        {"evidence": {text: text, "top_runs": [{"run_id": text, "cost_nanousd": 1}]}},
        {"evidence": {"signatures": [text, text], "nested": {text: [text]}, "top_runs": text}},
    ]
    for changes in nested:
        yield alert(**changes)
    everything: dict[str, Any] = dict.fromkeys(TEXT_FIELDS, text)
    evidence = {f"{text}{number}": text for number in range(20)}
    yield alert(**everything, scope={f"{text}{number}": text for number in range(20)}, evidence=evidence)


def hostile_notices(text: str) -> Iterator[Notice]:
    """Every kind of notice about each such alert, alone and with others."""
    for one in hostile_alerts(text):
        for kind in KINDS:
            yield Notice(kind, (one,), maybe_repeated=True)
            yield Notice(kind, (one,) * 20, more=37)
        yield Notice("incident", (msgspec.structs.replace(one, state="resolved"),))


def strings(value: Any) -> Iterator[str]:
    """Every string within, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (one for item in value.items() for part in item for one in strings(part))
    elif isinstance(value, list):
        yield from (one for part in value for one in strings(part))


def unsafe(text: str) -> list[str]:
    """Characters that are not seen, or that move or stack on what is."""
    stacked = [
        text[at : at + 3]
        for at in range(len(text) - 2)
        if all(unicodedata.category(one) in ("Mn", "Me") for one in text[at : at + 3])
    ]
    return [one for one in text if not one.isprintable() or one in "\u3164\u2800"] + stacked


def text_objects(block: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The text objects of a block with the name of their limit."""
    if "text" in block:
        yield block["type"], block["text"]
    yield from (("field", one) for one in block.get("fields", ()))
    if block["type"] == "context":
        yield from (("context", one) for one in block["elements"])
    if block["type"] == "actions":
        yield from (("button", one["text"]) for one in block["elements"])


def check_slack(blocks: list[dict[str, Any]], text: str) -> None:
    """Slack takes the message, and shows everything foreign as it is."""
    assert 0 < len(blocks) <= 50
    assert len(text) + len(json.dumps(blocks, ensure_ascii=False)) < 8_000
    assert_literal(text)
    for block in blocks:
        assert len(block.get("fields", ())) <= 10
        assert len(block.get("elements", ())) <= 10
        for place, shown in text_objects(block):
            assert 0 < len(shown["text"]) <= LIMITS[place]
            if shown["type"] == "mrkdwn":
                assert shown["text"] in OUR_MARKDOWN or shown["text"].startswith("<https://")
            else:
                assert_literal(shown["text"])
                assert shown["emoji"] is False
    for button in (one for block in blocks if block["type"] == "actions" for one in block["elements"]):
        assert button["action_id"] in BUTTONS
        assert len(button["value"]) <= 2_000


def assert_literal(text: str) -> None:
    """No mention and no link can be read from it, and nothing is hidden in it."""
    assert "<" not in text
    assert ">" not in text
    assert all(part.startswith(("amp;", "lt;", "gt;")) for part in text.split("&")[1:])
    assert not unsafe(text.replace("\n", ""))


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_only_text_in_slack(hostile: str) -> None:
    """In whichever field it stands, it pings nobody, links nowhere, hides nothing and breaks no limit of Slack's."""
    for one in hostile_notices(hostile):
        for short in (False, True):
            message = slack_message(one, LINKS, short=short)
            check_slack(message.blocks, message.text)
        reply = thread_reply(one)
        check_slack(reply.blocks, reply.text)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_only_text_for_pagerduty(hostile: str) -> None:
    """Summary and key keep their limits, and nothing invisible is in any string of the event."""
    for one in hostile_notices(hostile):
        for event in events("d1", one, (), LINKS):
            assert 0 < len(event.dedup_key) <= MOST_OF_A_KEY
            assert not [text for text in strings(event.properties) if unsafe(text)]
            if event.action == "trigger":
                assert 0 < len(event.properties["payload"]["summary"]) <= MOST_OF_A_SUMMARY
                assert len(json.dumps(event.properties)) < 100_000


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_does_not_drive_a_terminal(hostile: str) -> None:
    """No control character is left, and no line can be forged: the lines are ours, and few."""
    for one in hostile_notices(hostile):
        lines = plain_text(one).split("\n")
        assert len(lines) <= 20
        assert not [line for line in lines if unsafe(line)]
        assert not [line for line in lines if line.startswith("INFO")]
        assert not unsafe(sentence(one))
        assert not unsafe(step(one))


def test_what_is_cut_is_seen_to_be_cut() -> None:
    """A long name says how long it was; a short one is left alone."""
    cut = clean("x" * 10_000, 50)
    assert len(cut) <= 50
    assert cut.endswith("… (10,000 characters)")
    assert clean("search team", 50) == "search team"
    assert clean("Zoë, 東京, مرحبا") == "Zoë, 東京, مرحبا"


def test_escaping_never_cuts_an_entity() -> None:
    """Whatever the room, what is left is whole characters and whole entities."""
    for most in range(1, 40):
        shown = escape("a<b>&c" * 10, most)
        assert len(shown) <= most
        assert_literal(shown)
    assert escape("a < b & c", 100) == "a &lt; b &amp; c"


@pytest.mark.parametrize(
    ("value", "limit", "baseline", "ratio", "unit", "words"),
    [
        (41_000_000_000, 50_000_000_000, None, None, "nanousd", "82 % — $41.00 of $50.00"),
        (60_000_000_000, 50_000_000_000, None, None, "nanousd", "120 % — $60.00 of $50.00"),
        (3, 4, None, None, "calls", "75 % — 3 calls of 4 calls"),
        (36_000_000_000, None, 12_000_000_000, 3.0, "nanousd", "$36.00, 3 x the usual $12.00"),
        (7, None, None, None, "calls", "7 calls"),
        (7, 0, None, None, "calls", "7 calls"),
        (float("nan"), 1, None, None, "", "beyond measure of 1"),
        (10**400, 1, 1, None, "nanousd", "beyond measure of"),
    ],
)
def test_the_value_stands_against_its_limit_or_baseline(
    value: float, limit: float | None, baseline: float | None, ratio: float | None, unit: str, words: str
) -> None:
    """The bar has the same width always, and the words are the numbers; absurd numbers do not break it."""
    shown = gauge(alert(value=value, limit=limit, baseline=baseline, ratio=ratio, unit=unit))
    assert words in shown
    assert sum(shown.count(cell) for cell in "█░") in (0, BAR_CELLS)


def test_a_bar_fills_with_its_share() -> None:
    """Empty at nothing, full at the limit and beyond, in between in proportion."""
    assert [bar(share).count("█") for share in (-1.0, 0.0, 0.5, 1.0, 7.0)] == [0, 0, BAR_CELLS // 2, *[BAR_CELLS] * 2]
    assert amount(12_345, "calls") == "12,345 calls"


def test_a_message_says_what_a_tired_person_needs() -> None:
    """Level, value against limit, owner, run, evidence and what to do are all in it, on Slack as in the terminal."""
    one = notice()
    shown = "\n".join(strings(slack_message(one, LINKS).blocks))
    for text in (shown, plain_text(one)):
        for needed in ("CRITICAL", "82 %", "$41.00 of $50.00", "alice", "run-7 $30.00", "What to do: Look at the top"):
            assert needed in text
    assert "<https://runs.example/acme/run-7|Run>" in shown


def test_buttons_carry_whom_they_are_about() -> None:
    """Each button names tenant and incident exactly; resuming names the run and asks again."""
    [actions] = [one for one in slack_message(notice(), {}).blocks if one["type"] == "actions"]
    assert {button["action_id"] for button in actions["elements"]} == BUTTONS
    for button in actions["elements"]:
        value = json.loads(button["value"])
        assert (value["tenant_id"], value["incident_id"]) == ("acme", "4f2d9c01aa")
        assert ("run_id" in value) == ("confirm" in button) == (button["action_id"] == kit.RESUME)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": "resolved"}, {kit.RESUME, kit.NOISE, kit.PLANNED}),
        ({"mode": "alert"}, BUTTONS - {kit.RESUME}),
        ({"run_id": None}, BUTTONS - {kit.RESUME}),
        ({"tenant_id": "x" * 10_000}, set()),
    ],
)
def test_buttons_are_those_that_can_work(changes: dict[str, Any], expected: set[str]) -> None:
    """None to acknowledge what is over, none to resume what was not stopped, none whose identifiers would be cut."""
    blocks = slack_message(notice(**changes), {}).blocks
    assert {one["action_id"] for block in blocks if block["type"] == "actions" for one in block["elements"]} == expected


def test_several_incidents_are_listed_and_the_rest_counted() -> None:
    """A message about many names some and says how many more there are."""
    many = Notice("digest", tuple(alert(summary=f"warning {number}") for number in range(12)), more=33)
    text = plain_text(many)
    assert "45 incidents for alice" in text
    assert "warning 7" in text
    assert "and 37 more" in text


def test_a_repetition_is_marked() -> None:
    """After a send of unknown outcome the message says so, on Slack and in the terminal."""
    one = notice(maybe_repeated=True)
    assert "may be a repetition" in plain_text(one)
    assert any("may be a repetition" in text for text in strings(slack_message(one, {}).blocks))
    assert "may be a repetition" not in plain_text(dataclasses.replace(one, maybe_repeated=False))


def test_links_keep_foreign_values_in_their_place() -> None:
    """A value cannot leave its part of the address, and a template without its value is left out."""
    [(_, address)] = links(alert(tenant_id="../x?y#z|>", rule=".."), {"a": "https://runs.example/{tenant_id}/{rule}"})
    assert address == "https://runs.example/..%2Fx%3Fy%23z%7C%3E/%2E%2E"
    assert not links(alert(run_id=None), {"Run": "https://runs.example/{run_id}"})
    assert not links(alert(), {"Run": "javascript:alert(1)"})


def test_a_key_is_the_incident_and_its_level() -> None:
    """Levels have keys of their own, states have not, and a long key stays unique."""
    assert dedup_key(alert(level=0.5)) != dedup_key(alert(level=0.8))
    assert dedup_key(alert(state="open")) == dedup_key(alert(state="reminder"))
    assert dedup_key(alert(incident_id="x" * 300)) != dedup_key(alert(incident_id="x" * 301))
