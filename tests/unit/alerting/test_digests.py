"""Digests at fixed times: what pages nobody is told together at the hours that people chose, in their own zone."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from alerting.muting.hours import next_time_ms
from schemas.errors import PolicyError
from schemas.policy import epoch_ms
from schemas.routing import parse_routing
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, World, alert

TWICE = (time(9), time(16))


def ms(text: str) -> int:
    return epoch_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


def clock(at_ms: int) -> str:
    """Day and time of day in UTC."""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms):%d %H:%M}"


@pytest.mark.parametrize(
    ("times", "zone", "now", "expected"),
    [
        (TWICE, "UTC", "2026-11-20T08:59:59", "2026-11-20T09:00"),
        (TWICE, "UTC", "2026-11-20T09:00:00", "2026-11-20T09:00"),
        (TWICE, "UTC", "2026-11-20T09:00:01", "2026-11-20T16:00"),
        (TWICE, "UTC", "2026-11-20T16:00:01", "2026-11-21T09:00"),
        (TWICE, "Europe/Berlin", "2026-11-20T08:30:00", "2026-11-20T15:00"),
        (TWICE, "America/New_York", "2026-11-20T01:00:00", "2026-11-20T14:00"),
        (TWICE, "Pacific/Kiritimati", "2026-11-20T12:00:00", "2026-11-20T19:00"),
        # Clocks go forward at 02:00: 09:00 comes an hour earlier in UTC, and 02:30 an hour late by the clock.
        ((time(9),), "Europe/Berlin", "2026-03-28T09:00:00", "2026-03-29T07:00"),
        ((time(2, 30),), "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:30"),
        ((time(2, 30), time(3, 15)), "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:15"),
        # Clocks go back at 03:00: 02:30 comes twice and counts once.
        ((time(9),), "Europe/Berlin", "2026-10-24T08:00:00", "2026-10-25T08:00"),
        ((time(2, 30),), "Europe/Berlin", "2026-10-25T00:00:00", "2026-10-25T00:30"),
        ((time(2, 30),), "Europe/Berlin", "2026-10-25T01:00:00", "2026-10-26T01:30"),
    ],
)
def test_when_the_next_digest_is(times: tuple[time, ...], zone: str, now: str, expected: str) -> None:
    """In the readers' own zone, each time once a day, over changes of the clock."""
    assert next_time_ms(times, zone, ms(now)) == ms(expected)


def policy(**route: Any) -> dict[str, Any]:
    """A route with a digest at nine and four in Berlin, which is 08:00 and 15:00 UTC in November."""
    digest = {"digest_at": ["09:00", "16:00"], "digest_timezone": "Europe/Berlin"}
    return {"route": [{"receivers": ["console"], **digest, **route}]}


def told(world: World) -> list[tuple[str, list[str]]]:
    """When each message was said, and of which incidents."""
    return [(clock(at_ms), [one.incident_id for one in send.notice.alerts]) for at_ms, send in world.arrived]


def test_warnings_wait_for_the_digest_and_pages_do_not() -> None:
    """Each owner is told once, at the next of the times; `critical` and `error` are told as ever."""
    world = World(policy())
    for number in range(3):
        world.alert(alert(f"w{number}", 0.8, owner="ana", at_ms=NOON_MS + number * HOUR_MS))
    world.alert(alert("b", 0.5, owner="bob", at_ms=NOON_MS + 2 * HOUR_MS + 1))
    world.alert(alert("fire", 1.0, at_ms=NOON_MS + 2 * HOUR_MS + 2))
    world.alert(alert("e", 0.8, severity="error", at_ms=NOON_MS + 2 * HOUR_MS + 3))
    world.alert(alert("late", 0.8, at_ms=NOON_MS + 3 * HOUR_MS + 1))
    world.after(48 * HOUR_MS)
    assert told(world) == [
        ("22 14:00", ["fire"]),
        ("22 14:00", ["e"]),
        ("22 15:00", ["w0", "w1", "w2"]),
        ("22 15:00", ["b"]),
        ("23 08:00", ["late"]),
    ]


def test_a_digest_tells_what_is_true_then() -> None:
    """What was over before anybody heard of it is left out, what got worse is told once, at its highest."""
    world = World(policy())
    world.alert(alert("gone", 0.8))
    world.alert(alert("worse", 0.5, at_ms=NOON_MS + 1))
    world.alert(alert("gone", 0.8, state="resolved", at_ms=NOON_MS + HOUR_MS))
    world.alert(alert("worse", 0.8, state="escalated", at_ms=NOON_MS + HOUR_MS + 1))
    world.after(24 * HOUR_MS)
    assert [(clock(at_ms), send.notice.alert.level) for at_ms, send in world.arrived] == [("22 15:00", 0.8)]
    world.alert(alert("worse", 0.8, state="resolved", at_ms=world.now_ms + HOUR_MS))
    world.after(24 * HOUR_MS)
    assert [clock(at_ms) for at_ms, _ in world.arrived] == ["22 15:00", "23 15:00"], "and its end in a digest as well"


def test_a_digest_survives_a_restart() -> None:
    """What is gathered stands in the log, with its time: a restart neither sends it early nor forgets it."""
    world = World(policy())
    for number in range(4):
        world.alert(alert(f"w{number}", 0.8, at_ms=NOON_MS + number * MINUTE_MS))
        world.restart()
    world.after(24 * HOUR_MS)
    assert told(world) == [("22 15:00", ["w0", "w1", "w2", "w3"])]


def test_what_must_last_first_may_miss_a_digest() -> None:
    """`hold_seconds` counts before: a warning from a minute ago is not in the digest of a route that holds for two."""
    world = World(policy(hold_seconds=120))
    world.alert(alert("old", 0.8, at_ms=NOON_MS + 3 * HOUR_MS - 3 * MINUTE_MS))
    world.alert(alert("new", 0.8, at_ms=NOON_MS + 3 * HOUR_MS - MINUTE_MS))
    world.after(24 * HOUR_MS)
    assert told(world) == [("22 15:00", ["old"]), ("23 08:00", ["new"])]


def test_children_inherit_a_digest_and_may_refuse_it() -> None:
    """A route without times has its parent's; an empty list is no digest."""
    urgent = {"match": {"owner": "ana"}, "digest_at": []}
    other_times = {"match": {"owner": "bob"}, "digest_at": ["18:00"]}
    world = World(policy(routes=[urgent, other_times]))
    for owner in ("ana", "bob", "cy"):
        world.alert(alert(owner, 0.8, owner=owner))
    world.after(24 * HOUR_MS)
    assert told(world) == [("22 12:00", ["ana"]), ("22 15:00", ["cy"]), ("22 17:00", ["bob"])]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"digest_at": ["9:00"]}, "route[0].digest_at[0]: '9:00' is no time of day; write it as \"08:30\""),
        ({"digest_at": ["24:00"]}, "route[0].digest_at[0]: '24:00' is no time of day; write it as \"08:30\""),
        ({"digest_at": "09:00"}, "route[0].digest_at: Input should be a valid list"),
        ({"digest_timezone": "Berlin"}, "there is no time zone 'Berlin'"),
    ],
)
def test_faults_are_told(fault: dict[str, Any], said: str) -> None:
    """What is no time and no zone is refused, with its place."""
    with pytest.raises(PolicyError) as refused:
        parse_routing(policy(**fault))
    assert said in str(refused.value)
