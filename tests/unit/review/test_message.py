"""The message: what it says, how long it may get, and that every kind of receiver is told in its own way."""

import asyncio
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from alerting.receivers.console.sender import ConsoleSender
from alerting.receivers.pagerduty.sender import PagerDutySender
from alerting.receivers.slack.sender import SlackSender
from alerting.receivers.webhook.sender import WebhookSender, envelope
from alerting.review.attention import attention
from alerting.review.facts import Attention, PolicyException, Review, Terms
from alerting.review.message import MOST_OF_THE_MESSAGE, review_blocks, review_notice, review_text
from tests.support.hostile_review import hostile_review
from tests.support.messages import DAY_MS, HOUR_MS, USD
from tests.support.notices import HOSTILE
from tests.support.receivers import slack, webhook
from tests.support.reviews import (
    BEFORE_MS,
    WEEK,
    feedback,
    hour,
    incident,
    kill,
    limit_exception,
    reviewed,
    rollup,
    silence,
)

USUAL = [hour(day, 2) for day in (-7, -6, -5, -4)]
"""Two dollars a day in the week before."""


def a_week() -> Review:
    """With something of everything."""
    return reviewed(
        *USUAL,
        hour(0, 9, calls=10, runs_started=4, runs_finished=4, accepted=3, rejected=1),
        hour(1, 1, "globex", "chat", unpriced_calls=2, unpriced_tokens=50),
        alerts=[
            *incident("i1", "open", "resolved", rule="run-cost", evidence={"command_id": "k", "overshoot_nanousd": USD,
                                                                          "cause_to_stop_ms": 31}),
            *incident("i2", "open", severity="warning"),
        ],
        commands=[kill("k", incident_id="i1")],
        orders=[feedback("i1", "useful"), silence(WEEK.start_ms, WEEK.end_ms),
                limit_exception(WEEK.start_ms, WEEK.end_ms + DAY_MS)],
    )  # fmt: skip


def test_the_message_word_by_word() -> None:
    """What a FinOps lead reads on Monday."""
    assert review_text(a_week()) == (
        "Weekly review, 23 – 29 November 2026\n"
        "\n"
        "Spend     $10.00, +25 % on the week before ($8.00)\n"
        "Outcomes  3 accepted and 0 edited of 4 reported; $3.33 per accepted one\n"
        "Kills     1, $1.00 spent after the order, stopped within 31 ms (median)\n"
        "Alerts    2 incidents, 1 page; 100 % useful (1 of 1 judged)\n"
        "\n"
        "What to look at\n"
        "1. Some spend is in no figure. 2 calls (50 tokens) came without a price and count as $0, most of them from "
        "chat of globex. Have the source send the cost, or set unpriced_usd_per_million_tokens.\n"
        "2. docs of acme had a day at 4.5 x its usual. It cost $9.00 on Mon 23 Nov; the median of its days the week "
        "before was $2.00. See which runs made the difference.\n"
        "3. chat of globex is new. It cost $1.00, with nothing yet to compare with. See that a budget covers it.\n"
        "\n"
        "Tenants that cost most\n"
        "  acme                                            $9.00    +12 %\n"
        "  globex                                          $1.00      new\n"
        "\n"
        "Workflows that cost most\n"
        "  docs                                            $9.00    +12 %\n"
        "  chat                                            $1.00      new\n"
        "\n"
        "Rules, by what people said of them\n"
        "  run-cost: 1 page, 0 notices; 100 % useful, 1 of 1 judged\n"
        "\n"
        "Also: 1 silence, 1 exception that ends within 7 days, 2 calls without a price.\n"
        "The page: python -m streams report weekly --week 2026-W48 --html review.html"
    )


@pytest.mark.parametrize(
    ("review", "sentence"),
    [
        (reviewed(), "Spend     $0.00 (no change is given, because nothing is on record)"),
        (
            reviewed(rollup(BEFORE_MS + DAY_MS), hour(0, 1)),
            "Spend     $1.00 (no change is given, because counting began on Tue 17 Nov)",
        ),
        (reviewed(), "Outcomes  none reported, so that nobody knows what the spend bought"),
        (reviewed(hour(0, 1, rejected=2)), "2 reported; a cost per accepted one does not exist"),
        (reviewed(), "Kills     none"),
        (reviewed(), "Alerts    none"),
        (reviewed(alerts=incident("a", "open")), "Alerts    1 incident, 1 page; no verdicts yet"),
        (reviewed(), "Nothing stands out."),
        (
            reviewed(*USUAL, hour(0, 3), now_ms=WEEK.start_ms + 30 * HOUR_MS),
            "Weekly review, 23 – 29 November 2026, until Tue 24 Nov, 06:00",
        ),
        (
            reviewed(hour(-7, 2), hour(0, 3), now_ms=WEEK.start_ms + 30 * HOUR_MS),
            "$3.00, +50 % on the same stretch of the week before ($2.00)",
        ),
    ],
)
def test_what_is_not_known_is_said_so(review: Review, sentence: str) -> None:
    """No figure is invented, and a week that is not over is called so."""
    assert sentence in review_text(review)


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_harmless_and_short(name: str) -> None:
    """In Slack as in the terminal: nothing that pings, links, hides or goes on for ever."""
    notice = review_notice(hostile_review(name))
    assert notice.ready is not None
    text, blocks = notice.ready.text, json.dumps(notice.ready.blocks)
    assert len(text) < MOST_OF_THE_MESSAGE
    shown = sum(len(one) for one in _texts(list(notice.ready.blocks)))
    assert shown + len(notice.ready.slack_text) < MOST_OF_THE_MESSAGE
    assert all(character.isprintable() or character == "\n" for character in text)
    for written in (blocks, notice.ready.slack_text):
        assert "<!channel>" not in written
        assert "<@U123>" not in written
        assert "<https" not in written


def _texts(value: Any) -> list[str]:
    """Every text of a structure of blocks."""
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [one for part in value.values() for one in _texts(part)]
    return [one for part in value for one in _texts(part)] if isinstance(value, list) else []


def test_mrkdwn_is_for_our_own_words() -> None:
    """Whatever a name is, Slack interprets none of it: foreign text stands in plain_text."""

    def mrkdwn(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["text"]] if value.get("type") == "mrkdwn" else []
            return own + [one for part in value.values() for one in mrkdwn(part)]
        return [one for part in value for one in mrkdwn(part)] if isinstance(value, list) else []

    assert mrkdwn(review_blocks(hostile_review("*x* <!here>"))) == [
        "*Spend*", "*Outcomes*", "*Kills*", "*Alerts*", "*What to look at*",
        "*Rules, by what people said of them*",
    ]  # fmt: skip


# What to look at


@pytest.mark.parametrize(
    ("review", "kind", "words"),
    [
        (
            reviewed(
                commands=[kill("k")],
                alerts=incident("i", "open", detector="spending_after_kill",
                                evidence={"command_id": "k", "overshoot_nanousd": 5 * USD}),
            ),
            "kill not obeyed", "run-1 of acme spent $5.00 after run-cost had ordered it to stop",
        ),
        (
            reviewed(commands=[kill("k", incident_id="i")], orders=[feedback("i", "noise", why="it was waiting")]),
            "wrong kill", "ana on run-1 of acme: “it was waiting”. Loosen run-cost",
        ),
        (reviewed(hour(0, 1, unpriced_calls=1, unpriced_tokens=9)), "unpriced", "1 call (9 tokens) came without"),
        (reviewed(*USUAL, hour(0, 9)), "spike", "on Mon 23 Nov; the median of its days the week before was $2.00"),
        (reviewed(*USUAL, *(hour(day, 4) for day in range(4))), "growth", "$16.00, $8.00 more. Ask its owner"),
        (reviewed(hour(-7, 9, "globex"), hour(0, 2)), "new", "It cost $2.00, with nothing yet to compare with"),
        (
            reviewed(hour(0, 40, accepted=2, edited=2, rejected=12)), "low acceptance",
            "25 % of 16 reported outcomes were accepted or edited; the rest cost about $30.00",
        ),
        (reviewed(hour(0, 10, calls=100, retries=20)), "retries", "20 of 100 were second attempts or later"),
        (reviewed(hour(-7, 9)), "silent", "It spent $9.00 in the week before and nothing in this one"),
        (
            reviewed(
                alerts=[one for name in "abcd" for one in incident(name, "open")],
                orders=[feedback("a", "useful"), *(feedback(name, "noise") for name in "bcd")],
            ),
            "noise", "3 of 4 judged incidents were noise. Raise its limits, or put it in shadow mode.",
        ),
        (
            reviewed(
                alerts=[one for name in "abcd" for one in incident(name, "open")],
                orders=[feedback("a", "useful"), *(feedback(name, "noise") for name in "bcd")],
                terms=Terms(thresholds={"daily-budget": ("limit_usd = 5", "min_usd = 1")}),
            ),
            "noise", "Look at limit_usd = 5 and min_usd = 1, or put it in shadow mode.",
        ),
        (
            reviewed(terms=Terms(exceptions=(
                PolicyException("daily", "acme", 9 * USD, WEEK.end_ms + 36 * HOUR_MS, "launch", "ana"),
            ))),
            "expiring", "acme has $9.00 on daily until Tue 1 Dec, 12:00 (launch)",
        ),
        (
            reviewed(alerts=[one for name in "abcd" for one in incident(name, "open")]),
            "unjudged", "Of 4 incidents none was called useful or noise",
        ),
    ],
)  # fmt: skip
def test_each_thing_to_look_at(review: Review, kind: str, words: str) -> None:
    """What it is, how much, and what to do about it."""
    found = {one.kind: one for one in review.attention}
    assert kind in found
    assert words in found[kind].text


@pytest.mark.parametrize(
    ("review", "kind"),
    [
        # A fifth more is no growth worth a word, and a dollar in a thousand no day worth one.
        (reviewed(hour(-7, 100), hour(0, 120)), "growth"),
        (reviewed(*USUAL, hour(0, 7), hour(0, 1000, "globex")), "spike"),
        (reviewed(hour(0, 1, unpriced_calls=1, unpriced_tokens=9), terms=Terms(charges_unpriced=True)), "unpriced"),
        (reviewed(alerts=[*incident("a", "open"), *incident("b", "open")], orders=[feedback("a", "noise")]), "noise"),
        # One verdict is a verdict.
        (
            reviewed(
                alerts=[one for name in "abcdef" for one in incident(name, "open")], orders=[feedback("a", "useful")]
            ),
            "unjudged",
        ),
    ],
)
def test_what_is_not_worth_a_word(review: Review, kind: str) -> None:
    """Small, or dealt with, or not enough to tell."""
    assert kind not in {one.kind for one in review.attention}


def test_a_backtest_says_what_kills_would_have_saved() -> None:
    """No agent of a log could obey: nobody is blamed for it."""
    alerts = incident("i", "open", detector="spending_after_kill",
                      evidence={"command_id": "k", "overshoot_nanousd": 5 * USD})  # fmt: skip
    review = reviewed(commands=[kill("k")], alerts=alerts, terms=Terms(rehearsed=True))
    (first, *_) = review.attention
    assert (first.kind, first.lead) == ("would have saved", "1 kill would have saved up to $5.00.")
    assert "Kills     1, $5.00 spent after the order, since nobody obeys in a backtest" in review_text(review)
    assert "kill not obeyed" not in {one.kind for one in review.attention}


def test_a_spike_and_the_growth_that_is_its_own_are_told_once() -> None:
    """The tenant grew because of that day; another tenant's growth is told beside it."""
    own = reviewed(*USUAL, hour(0, 40))
    assert [one.kind for one in own.attention] == ["spike"]
    other = reviewed(*USUAL, hour(0, 20), hour(-7, 10, "globex"), hour(0, 30, "globex"))
    assert {one.kind for one in other.attention} == {"spike", "growth"}


def test_there_are_three_at_most_promises_first_then_money() -> None:
    """A kill that was not obeyed comes before a thousand dollars, and those before housekeeping."""
    review = hostile_review("acme")
    assert [one.kind for one in review.attention] == ["kill not obeyed", "wrong kill", "unpriced"]
    without = replace(review, kills=(), unpriced=(), totals=replace(review.totals, unpriced_calls=0))
    kinds = [(one.kind, one.nanousd) for one in attention(without)]
    assert len(kinds) == 3
    assert [kind for kind, _ in kinds] == ["low acceptance", "retries", "spike"] or kinds == sorted(
        kinds, key=lambda one: -one[1]
    )
    assert "expiring" not in dict(kinds)


# Receivers


def test_the_console_prints_it_as_it_is() -> None:
    """The same text as the command line's."""
    out = io.StringIO()
    asyncio.run(ConsoleSender(out).send("review/2026-W48/console", review_notice(a_week())))
    assert out.getvalue() == review_text(a_week()) + "\n"


def test_slack_is_sent_the_blocks() -> None:
    """As a message of its own, with a notification's text."""

    async def scenario() -> dict[str, Any]:
        async with slack() as receiver:
            sender = SlackSender("xoxb-test", "#finops", base_url=f"{receiver.url}/api/")
            receipt = await sender.send("review/2026-W48/finops", review_notice(a_week()))
            await sender.aclose()
            assert receipt.place["channel"] == "C0CHANNEL"
            assert receiver.paths == ["/api/chat.postMessage"]
            body: dict[str, Any] = receiver.received[0].json
            return body

    body = asyncio.run(scenario())
    assert body["text"].startswith("Weekly review, 23 – 29 November 2026: $10.00, +25 %")
    assert body["blocks"] == review_blocks(a_week())
    assert body["blocks"][0]["text"]["text"] == "Weekly review, 23 – 29 November 2026"


def test_a_webhook_is_sent_text_and_data() -> None:
    """A CloudEvent of a type of its own, about the week."""

    async def scenario() -> dict[str, Any]:
        async with webhook() as receiver:
            sender = WebhookSender(f"{receiver.url}/hook", "secret")
            await sender.send("review/2026-W48/hook", review_notice(a_week()))
            await sender.aclose()
            body: dict[str, Any] = receiver.received[0].json
            return body

    body = asyncio.run(scenario())
    assert (body["type"], body["subject"]) == ("spendfuse.review.v1", "2026-W48")
    assert body["time"] == "2026-11-30T00:00:00.000+00:00"
    assert body["data"]["text"] == review_text(a_week())
    review = body["data"]["review"]
    assert (review["format"], review["totals"]["cost_nanousd"]) == ("spendfuse.review.v1", 10 * USD)
    assert review["verdicts"]["precision"] == 1.0
    assert envelope("d", review_notice(a_week()))["data"]["maybe_repeated"] is False


def test_pagerduty_is_never_sent_a_review() -> None:
    """Nobody is woken for it: nothing is called, and nothing stays owed."""

    async def scenario() -> None:
        sender = PagerDutySender("key", url="https://127.0.0.1:1", timeout_s=0.1)
        receipt = await sender.send("review/2026-W48/oncall", review_notice(a_week()))
        assert receipt.place == {}
        await sender.aclose()

    asyncio.run(scenario())


def test_attention_is_part_of_the_data() -> None:
    """So that another tool can show the same three things."""
    notice = review_notice(a_week())
    assert notice.ready is not None
    first = notice.ready.data["attention"][0]
    assert Attention(**first) == a_week().attention[0]
