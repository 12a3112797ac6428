"""Somebody takes an incident in hand: whoever was told of it hears so, once, and PagerDuty stops escalating."""

from typing import Any

import pytest

from alerting.effects import Send
from schemas.operator import Acknowledge, Feedback, Silence
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, Answer, World, alert, refused

POLICY = {
    "receivers": {
        "pager": {"type": "pagerduty", "key_env": "K", "fallback": "console"},
        "team": {"type": "slack", "channel": "#c"},
    },
    "route": [{"receivers": ["pager", "team"]}],
}


def order(kind: type[Any], **fields: Any) -> Any:
    common = {"message_id": "order-1", "ts_ms": NOON_MS + MINUTE_MS, "tenant_id": "acme", "who": "ana", "why": "on it"}
    return kind(**common, **fields)


ACKNOWLEDGED = order(Acknowledge, incident_id="i")
SNOOZED = order(Silence, match={"incident_id": "i"}, until_ms=NOON_MS + HOUR_MS)


def notes(world: World, receiver: str) -> list[str]:
    return [send.notice.note for send in world.messages(receiver) if send.notice.kind == "acknowledged"]


@pytest.mark.parametrize(
    ("message", "note"),
    [
        pytest.param(ACKNOWLEDGED, "Acknowledged by ana: on it", id="acknowledge"),
        pytest.param(order(Feedback, incident_id="i", verdict="noise"), "Marked as noise by ana: on it", id="noise"),
        pytest.param(order(Feedback, incident_id="i", verdict="planned"), "Marked as planned by ana: on it", id="plan"),
        pytest.param(SNOOZED, "Snoozed until Sun 22 Nov 2026, 13:00:00 UTC by ana: on it", id="snooze"),
    ],
)
def test_whoever_was_told_hears_of_it(message: Any, note: str) -> None:
    """Each receiver that was told of the incident is told who has it, at the place of its message, and only once."""
    world = World(POLICY)
    world.alert(alert("i", at_ms=NOON_MS))
    world.until(NOON_MS + MINUTE_MS)
    world.operator(message)
    world.operator(message)
    world.restart()
    world.operator(message)
    world.after(MINUTE_MS)
    assert notes(world, "pager") == notes(world, "team") == [note]
    assert all(send.notice.first is not None for send in world.messages("team")[1:])


@pytest.mark.parametrize(
    "message",
    [
        order(Feedback, incident_id="i", verdict="useful"),
        order(Acknowledge, incident_id="another"),
        order(Silence, match={"rule": "daily"}, until_ms=NOON_MS + HOUR_MS),
        Acknowledge(message_id="o", ts_ms=NOON_MS, tenant_id="globex", who="eve", why="mine", incident_id="i"),
    ],
)
def test_what_takes_nothing_in_hand_is_not_passed_on(message: Any) -> None:
    """Praise, an order about something else, a silence of many, an order of another tenant."""
    world = World(POLICY)
    world.alert(alert("i", at_ms=NOON_MS))
    world.operator(message)
    world.after(MINUTE_MS)
    assert notes(world, "pager") == notes(world, "team") == []


def test_an_incident_that_is_over_or_was_never_told_needs_nobody() -> None:
    """Nothing is said of what has ended, or of what only stood in a message of many."""
    world = World(POLICY)
    world.alert(alert("i", at_ms=NOON_MS))
    world.alert(alert("i", state="resolved", at_ms=NOON_MS + SECOND_MS))
    world.operator(ACKNOWLEDGED)
    world.operator(order(Acknowledge, incident_id="never"))
    world.after(MINUTE_MS)
    assert notes(world, "pager") == notes(world, "team") == []


def test_a_receiver_that_is_away_hears_of_it_later_and_nobody_is_paged_for_it() -> None:
    """The page is told by the fallback while PagerDuty is away; that somebody has it waits for PagerDuty alone."""
    away = False

    def script(send: Send, _now_ms: int) -> Answer:
        return refused("server_error") if away and send.receiver == "pager" else None

    world = World(POLICY, script)
    world.alert(alert("i", at_ms=NOON_MS))
    away = True
    world.operator(ACKNOWLEDGED)
    world.after(HOUR_MS)
    assert notes(world, "pager") == []
    assert world.messages("console") == []
    away = False
    world.after(HOUR_MS)
    assert notes(world, "pager") == ["Acknowledged by ana: on it"]


def test_a_reminder_does_not_take_its_place() -> None:
    """What PagerDuty has not heard yet is not lost to a reminder, which is not told any more."""
    away = True

    def script(send: Send, _now_ms: int) -> Answer:
        taken = send.notice.kind == "acknowledged"
        return refused("server_error") if away and taken and send.receiver == "pager" else None

    world = World(POLICY, script)
    world.alert(alert("i", at_ms=NOON_MS))
    world.operator(ACKNOWLEDGED)
    world.alert(alert("i", state="reminder", at_ms=NOON_MS + 5 * HOUR_MS))
    away = False
    world.after(HOUR_MS)
    assert notes(world, "pager") == ["Acknowledged by ana: on it"]
    assert [state for _, state, _ in world.told("pager")].count("reminder") == 0


def test_what_gets_worse_is_told_although_somebody_has_it() -> None:
    """A higher level is a page of its own; the incident's end is told, too."""
    world = World(POLICY)
    world.alert(alert("i", 0.8, at_ms=NOON_MS))
    world.after(MINUTE_MS)
    world.operator(ACKNOWLEDGED)
    world.alert(alert("i", 1.0, state="escalated", at_ms=world.now_ms))
    world.alert(alert("i", 1.0, state="resolved", at_ms=world.now_ms + SECOND_MS))
    world.after(MINUTE_MS)
    told = [(kind, state, level) for kind, state, level in world.told("pager")]
    assert told == [
        ("incident", "open", 0.8),
        ("acknowledged", "open", 0.8),
        ("incident", "escalated", 1.0),
        ("incident", "resolved", 1.0),
    ]
