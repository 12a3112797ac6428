"""What was missed comes once it can: what still pages first, what is over gathered; thousands cost little."""

from itertools import count
from typing import Any

import pytest

from alerting.muting.mutes import Mutes
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, World, alert, refused

RECEIVERS = {"team": {"type": "slack", "channel": "#c"}, "pager": {"type": "pagerduty", "key_env": "K"}}
BOTH = {"receivers": RECEIVERS, "route": [{"receivers": ["team", "pager"]}]}
BACK_MS = NOON_MS + 3 * HOUR_MS
PAST, PRESENT = 200, 5


def after_hours() -> World:
    """Slack and PagerDuty are away for three hours. Two hundred incidents came and went, the last five are open."""
    world = World(BOTH, lambda _, now_ms: refused("network") if now_ms < BACK_MS else None)
    for number in range(PAST):
        at_ms = NOON_MS + number * 30 * SECOND_MS
        world.alert(alert(f"past-{number}", at_ms=at_ms))
        world.alert(alert(f"past-{number}", state="resolved", at_ms=at_ms + SECOND_MS))
    for number in range(PRESENT):
        world.alert(alert(f"present-{number}", at_ms=BACK_MS - MINUTE_MS + number))
    world.until(BACK_MS + HOUR_MS)
    return world


def test_what_still_pages_comes_before_what_is_over() -> None:
    """Nobody waits for the open incidents behind hundreds that have ended."""
    for receiver in RECEIVERS:
        heard = [each.incident_id for send in after_hours().messages(receiver) for each in send.notice.alerts]
        assert set(heard[:PRESENT]) == {f"present-{number}" for number in range(PRESENT)}, receiver


def test_what_is_over_is_gathered() -> None:
    """Each is named, in a message that can be read: nothing can be done about one of them."""
    over = [send.notice for send in after_hours().messages("team") if send.notice.alert.state == "resolved"]
    assert sorted(each.incident_id for notice in over for each in notice.alerts) == sorted(
        f"past-{number}" for number in range(PAST)
    )
    assert len(over) <= PAST // 10 + 1


def test_a_storm_asks_about_each_page_when_it_is_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """PagerDuty is sent one incident at a time. Asking with each whether all others are muted cost minutes of a
    processor for a few thousand.
    """
    asked, muted = 0, Mutes.muted

    def counted(*question: Any) -> Any:
        nonlocal asked
        asked += 1
        return muted(*question)

    monkeypatch.setattr(Mutes, "muted", counted)
    world = World({"receivers": RECEIVERS, "route": [{"receivers": ["pager"]}]})
    for number in range(PAST):
        world.alert(alert(f"c{number}", at_ms=NOON_MS + number))
    world.after(HOUR_MS)
    assert len(world.messages("pager")) == PAST
    assert asked <= 3 * PAST


def test_a_receiver_that_takes_one_of_three_gets_every_page_soon() -> None:
    """Each refusal doubled a page's wait, whatever the receiver took meanwhile: of twenty pages two had not come after
    two and a half minutes.
    """
    requests = count(1)
    world = World(
        {"receivers": {"hook": {"type": "webhook", "url": "https://hook.example"}}, "route": [{"receivers": ["hook"]}]},
        lambda *_: None if next(requests) % 3 == 0 else refused("rate_limited"),
    )
    for number in range(20):
        world.alert(alert(f"i{number}"))
    world.after(90 * SECOND_MS)
    assert len(world.messages("hook")) == 20
    assert len(world.asked) <= 4 * 20, "nor is it asked more often for that"
