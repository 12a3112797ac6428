"""The dead man's switch in alerting: a beat reaches whoever asked for it, at once, or nobody at all."""

from typing import Any

import pytest

from alerting.delivery.throttle import BREAKS_AFTER
from alerting.routing.router import Router
from schemas.alert import WATCHDOG, Alert
from schemas.routing import parse_routing
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, World, alert, refused

OUTSIDE = {"outside": {"type": "webhook", "url": "https://monitor.example/beat", "fallback": "console"}}
BEATS = {"match": {"detector": WATCHDOG}, "receivers": ["outside"]}
POLICY = {"receivers": OUTSIDE, "route": [{"receivers": ["console"]}, BEATS]}


def beat(minute: int, *, lasts_ms: int = 2 * MINUTE_MS) -> Alert:
    """The sign of life of one minute."""
    at_ms = NOON_MS + minute * MINUTE_MS
    return alert(
        "partition-3", 0.0, detector=WATCHDOG, tenant_id="spendfuse", scope={"partition": "3"}, owner=None,
        at_ms=at_ms, window_end_ms=at_ms + lasts_ms,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("routes", "receivers"),
    [
        ([], ()),
        ([{"receivers": ["console"]}], ()),
        ([{"match": {"severity": "info"}, "receivers": ["console"]}], ()),
        ([BEATS], ("outside",)),
        ([{"receivers": ["console"]}, BEATS], ("outside",)),
        ([{"match": {"detector": ["budget", WATCHDOG]}, "receivers": ["outside"]}], ("outside",)),
        ([{"receivers": ["console"], "routes": [BEATS]}], ("outside",)),
        ([{"receivers": ["console"], "routes": [{"match": {"detector": WATCHDOG, "tenant_id": "acme"}}]}], ()),
        ([{"match": {"detector": WATCHDOG}, "routes": [{"receivers": ["outside"]}]}], ("outside",)),
        ([{**BEATS, "continue": True}, {"receivers": ["console"]}], ("outside",)),
        ([{**BEATS, "continue": True}, {**BEATS, "receivers": ["console"]}], ("outside", "console")),
    ],
)
def test_a_beat_goes_only_where_a_route_names_it(routes: list[Any], receivers: tuple[str, ...]) -> None:
    """Routes for everything pass it on, wherever they stand, and there is no default: nobody reads one a minute."""
    explanation = Router(parse_routing({"receivers": OUTSIDE, "route": routes})).explain(
        {"detector": WATCHDOG, "severity": "info", "tenant_id": "spendfuse"}
    )
    assert explanation.receivers == receivers
    assert explanation.steps


def test_every_beat_is_said_at_once_and_leaves_no_trace() -> None:
    """It is news each time, muted by nothing, gathered with nothing, and costs no entry in the log."""
    always = {"from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z", "why": "planned"}
    digest = {**BEATS, "digest_at": ["09:00"], "hold_seconds": 600, "group_wait_seconds": 600}
    world = World({"receivers": OUTSIDE, "route": [digest], "quiet": {"planned": [always]}})
    for minute in range(10):
        world.alert(beat(minute))
        assert not world.store
    world.after(HOUR_MS)
    assert [at_ms for at_ms, _ in world.arrived] == [NOON_MS + minute * MINUTE_MS for minute in range(10)]
    assert {send.notice.kind for send in world.messages("outside")} == {"watchdog"}


@pytest.mark.parametrize("late_ms", [2 * MINUTE_MS, HOUR_MS])
def test_a_late_beat_is_not_said(late_ms: int) -> None:
    """Whoever reads alerts minutes behind must not make the outside believe that all is well."""
    world = World(POLICY)
    world.until(NOON_MS + late_ms)
    world.alert(beat(0))
    assert not world.asked
    world.alert(beat(0, lasts_ms=late_ms + 1))
    assert len(world.arrived) == 1


def test_a_beat_that_fails_is_not_tried_again() -> None:
    """The next one takes its place: no retry, no fallback, nothing owed."""
    world = World(POLICY, lambda *_: refused("server_error"))
    for minute in range(10):
        world.alert(beat(minute))
    world.restart()
    world.after(HOUR_MS)
    assert [(at_ms, send.receiver) for at_ms, send in world.asked] == [
        (NOON_MS + minute * MINUTE_MS, "outside") for minute in range(10)
    ]
    assert not world.store


def test_beats_and_alerts_do_not_stand_in_each_others_way() -> None:
    """On a receiver that both go to, a lost beat opens no circuit, and an open circuit stops no beat."""
    failing = {"beats": True}
    policy = {"receivers": OUTSIDE, "route": [BEATS, {"receivers": ["outside"]}]}
    world = World(
        policy, lambda send, _: refused("network") if (send.notice.kind == "watchdog") == failing["beats"] else None
    )
    for minute in range(2 * BREAKS_AFTER):
        world.alert(beat(minute))
    world.alert(alert("fire", at_ms=world.now_ms))
    assert [send.notice.alert.incident_id for send in world.messages("outside")] == ["fire"]
    failing["beats"] = False
    for number in range(2 * BREAKS_AFTER):
        world.alert(alert(f"fire-{number}", at_ms=world.now_ms + SECOND_MS))
    world.alert(beat(2 * BREAKS_AFTER))
    assert world.messages("outside")[-1].notice.kind == "watchdog"


def test_when_the_engine_dies_the_outside_hears_nothing_more() -> None:
    """Row 59: after the last beat there is silence, so that a monitor that allows 90 s pages, even if its end was
    unreachable around that time and alerting itself was restarted.
    """
    died_ms = NOON_MS + 10 * MINUTE_MS
    unreachable = range(died_ms - 3 * MINUTE_MS, died_ms + 2 * MINUTE_MS)
    world = World(POLICY, lambda _, now_ms: refused("network") if now_ms in unreachable else None)
    for minute in range(10):
        world.alert(beat(minute))
    world.restart()
    world.after(24 * HOUR_MS)
    last_ms = max(at_ms for at_ms, _ in world.arrived)
    assert last_ms < unreachable.start
