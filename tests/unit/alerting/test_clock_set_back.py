"""The brokers' clock is set back: it was an hour or a day ahead, and what was to wait for seconds is not to wait for
that.
"""

import pytest

from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, World, alert, refused

DAY_MS = 24 * HOUR_MS
AHEAD = [HOUR_MS, DAY_MS]


def world_of(kind: str = "slack", **more: object) -> World:
    team = {"slack": {"channel": "#c"}, "pagerduty": {"key_env": "K"}}[kind]
    return World({"receivers": {"team": {"type": kind, **team}}, "route": [{"receivers": ["team"], **more}]})


def set_back(world: World, by_ms: int, *, restart: bool = False) -> None:
    """A broker tells an earlier time than before; to a process that runs, or to one that starts just then."""
    world.now_ms -= by_ms
    if restart:
        world.restart()
    else:
        world.perform(world.pipeline.tick(world.now_ms))


@pytest.mark.parametrize("kind", ["slack", "pagerduty"])
@pytest.mark.parametrize("ahead_ms", AHEAD)
def test_the_next_page_goes_at_once(kind: str, ahead_ms: int) -> None:
    """A receiver's pace said that it takes the next message in a second, by the time of before: in a day."""
    world = world_of(kind)
    world.alert(alert("before"))
    set_back(world, ahead_ms)
    page = alert("page", at_ms=world.now_ms)
    world.alert(page)
    world.after(2 * SECOND_MS)
    assert [send.notice.alert.incident_id for send in world.messages("team")] == ["before", "page"]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("ahead_ms", AHEAD)
def test_what_failed_is_tried_again_as_soon_as_it_would_have_been(*, ahead_ms: int, restart: bool) -> None:
    """An entry says when it came to be and when it is due; the time between is what it waits, for a new process too."""
    world = world_of()
    world.script = lambda *_: refused("network")
    world.alert(alert("page"))
    set_back(world, ahead_ms, restart=restart)
    world.script = lambda *_: None
    world.after(MINUTE_MS)
    assert [send.notice.alert.incident_id for send in world.messages("team")] == ["page"]


@pytest.mark.parametrize("ahead_ms", AHEAD)
def test_a_circuit_is_open_for_as_long_as_it_would_have_been(ahead_ms: int) -> None:
    """Nor is a receiver taken for one that has failed since tomorrow."""
    world = world_of("pagerduty")
    world.script = lambda *_: refused("bad_credentials")
    world.alert(alert("page"))
    set_back(world, ahead_ms)
    world.script = lambda *_: None
    world.after(11 * MINUTE_MS)
    assert [send.notice.alert.incident_id for send in world.messages("team")] == ["page"]


@pytest.mark.parametrize("ahead_ms", AHEAD)
def test_what_was_last_said_is_what_was_said_last(ahead_ms: int) -> None:
    """The receiver heard of half, then of all of it: a reminder is no news before its time, and all of it is no news
    once more.
    """
    world = world_of(renotify_every_minutes=120)
    world.alert(alert("budget", 0.8))
    world.after(MINUTE_MS)
    set_back(world, ahead_ms)
    world.alert(alert("budget", 1.0, at_ms=NOON_MS - ahead_ms + 2 * MINUTE_MS))
    world.restart()
    world.alert(alert("budget", 1.0, state="reminder", at_ms=NOON_MS - ahead_ms + HOUR_MS))
    world.alert(alert("budget", 1.0, state="resolved", at_ms=NOON_MS - ahead_ms + 90 * MINUTE_MS))
    world.after(10 * MINUTE_MS)
    told = [(send.notice.alert.state, send.notice.alert.level) for send in world.messages("team")]
    assert told == [("open", 0.8), ("open", 1.0), ("resolved", 1.0)]


def test_a_reminder_is_not_held_for_a_day() -> None:
    """What was said tomorrow was said some time ago."""
    world = world_of()
    world.alert(alert("budget"))
    set_back(world, DAY_MS)
    for hours in (1, 2):
        world.alert(alert("budget", state="reminder", at_ms=NOON_MS - DAY_MS + hours * HOUR_MS))
    world.after(MINUTE_MS)
    assert len(world.messages("team")) >= 2


def test_answers_that_come_out_of_order_shift_nothing() -> None:
    """Each has a time of its own, some seconds before the one that was looked at last."""
    world = world_of()
    world.script = lambda *_: refused("network", retry_after_ms=HOUR_MS)
    world.alert(alert("page"))
    asked = len(world.asked)
    world.now_ms -= 5 * SECOND_MS
    world.perform(world.pipeline.tick(world.now_ms))
    world.after(HOUR_MS - MINUTE_MS)
    assert len(world.asked) == asked
