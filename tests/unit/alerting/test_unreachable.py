"""A receiver that takes nothing: others are told why, and the monitor outside misses the sign of life."""

from typing import Any

import pytest

from alerting.delivery.throttle import BREAKS_AFTER, UNREACHABLE_MS, Gate
from alerting.effects import Failed
from schemas.alert import RECEIVER_UNREACHABLE, WATCHDOG, Alert
from schemas.duration import DAY_MS
from schemas.routing import Receiver
from streams.notifier.own_alerts import ReceiverWatch
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, World, alert, refused

OUTSIDE = {"type": "webhook", "url": "https://monitor.example/beat"}
BEATS = {"match": {"detector": WATCHDOG}, "receivers": ["outside"]}
EXPIRED = "no connection to slack: its certificate has expired"


def world_of(**pager: str) -> World:
    """PagerDuty is away from the beginning on."""
    pagerduty = {"type": "pagerduty", "key_env": "K", **pager}
    pages = {"match": {"severity": ["critical", "error"]}, "receivers": ["pager"]}
    policy = {
        "receivers": {"pager": pagerduty, "team": {"type": "slack", "channel": "#c"}, "outside": OUTSIDE},
        "route": [pages, {"receivers": ["team"]}, BEATS],
    }
    return World(policy, lambda send, _: refused("network") if send.receiver == "pager" else None)


def beats(world: World, minutes: int) -> list[int]:
    """Minutes, from now on, in which the monitor outside heard that all is well."""
    begun_ms = world.now_ms
    for minute in range(minutes):
        at_ms = begun_ms + minute * MINUTE_MS
        end_ms = at_ms + 2 * MINUTE_MS
        world.alert(alert("p", 0.0, detector=WATCHDOG, scope={"partition": "0"}, at_ms=at_ms, window_end_ms=end_ms))
    return [(at_ms - begun_ms) // MINUTE_MS for at_ms, send in world.arrived if send.receiver == "outside"]


def test_a_page_that_reaches_nobody_silences_the_beat() -> None:
    """Somebody has to hear that nobody can be paged. After five minutes, and not because of what wakes nobody."""
    world = world_of()
    world.alert(alert("quiet", 0.8))
    world.alert(alert("fire"))
    heard = beats(world, 30)
    assert heard[:5] == [0, 1, 2, 3, 4]
    assert heard[-1] < 20
    world.script = lambda *_: None
    world.after(HOUR_MS)
    world.arrived.clear()
    assert beats(world, 3) == [0, 1, 2], "it has arrived"


@pytest.mark.parametrize("end", [False, True])
def test_a_page_that_somebody_has_silences_nothing(*, end: bool) -> None:
    """The fallback was sent it, or it is over: nobody has to be called for it."""
    world = world_of() if end else world_of(fallback="team")
    world.alert(alert("fire"))
    if end:
        world.alert(alert("fire", state="resolved", at_ms=NOON_MS + SECOND_MS))
    assert beats(world, 30) == list(range(30))


def failing(gate: Gate, from_ms: int, minutes: int) -> None:
    """Every attempt of so many minutes fails."""
    for minute in range(minutes):
        failed = Failed("d", "network", retryable=True, ambiguous=False, retry_after_ms=None,
                        at_ms=from_ms + minute * MINUTE_MS, detail=EXPIRED)  # fmt: skip
        gate.failed(failed)


def news(watch: ReceiverWatch, gate: Gate, now_ms: int, *, pages_wait: bool = False) -> Alert | None:
    return watch.news("team", gate, 1, int(pages_wait), partition=0, now_ms=now_ms, policy_version="1")


def slack_gate() -> Gate:
    return Gate(Receiver(type="slack", channel="#c"))


def test_it_is_said_in_words_once_a_day_and_that_it_is_over() -> None:
    """Not of a hiccup; once after five minutes, also by whoever takes over; an error once pages wait; and its end."""
    gate, watch = slack_gate(), ReceiverWatch()
    failing(gate, NOON_MS, BREAKS_AFTER - 1)
    assert news(watch, gate, NOON_MS + UNREACHABLE_MS) is None
    failing(gate, NOON_MS + BREAKS_AFTER * MINUTE_MS, 1)
    said = news(watch, gate, NOON_MS + UNREACHABLE_MS)
    assert said is not None
    assert (said.severity, EXPIRED in said.summary) == ("warning", True)
    assert news(watch, gate, NOON_MS + HOUR_MS) is None
    assert ReceiverWatch().news("team", gate, 0, 0, partition=0, now_ms=NOON_MS + HOUR_MS, policy_version="1") is None
    other = news(ReceiverWatch(), gate, NOON_MS + HOUR_MS)
    assert other is not None
    assert other.alert_id == said.alert_id, "the log of deliveries knows that it was sent"
    worse = news(watch, gate, NOON_MS + HOUR_MS, pages_wait=True)
    assert worse is not None
    assert (worse.severity, worse.incident_id) == ("error", said.incident_id)
    assert news(watch, gate, NOON_MS + DAY_MS, pages_wait=True) is not None
    assert news(watch, slack_gate(), NOON_MS + DAY_MS) is None, "another routing is no proof that it can be reached"
    gate.succeeded()
    over = news(watch, gate, NOON_MS + DAY_MS + HOUR_MS)
    assert over is not None
    assert over.state == "resolved"
    assert news(watch, gate, NOON_MS + DAY_MS + HOUR_MS) is None


@pytest.mark.parametrize(
    ("routes", "fallback", "told"),
    [
        (["team", "pager"], {}, {"pager"}),
        (["team"], {"fallback": "pager"}, {"pager"}),
        (["team"], {}, {"console"}),
    ],
)
def test_it_is_said_to_others(routes: list[str], fallback: dict[str, Any], told: set[str]) -> None:
    """To whom the routes name besides, else to its fallback, else to the console; never to the receiver itself."""
    receivers = {"team": {"type": "slack", "channel": "#c", **fallback}, "pager": {"type": "pagerduty", "key_env": "K"}}
    world = World({"receivers": receivers, "route": [{"receivers": routes}]})
    evidence = {"receiver": "team"}
    world.alert(alert(detector=RECEIVER_UNREACHABLE, rule=RECEIVER_UNREACHABLE, evidence=evidence))
    world.alert(alert(state="resolved", detector=RECEIVER_UNREACHABLE, rule=RECEIVER_UNREACHABLE, evidence=evidence))
    world.after(MINUTE_MS)
    assert {send.receiver for _, send in world.arrived} == told
    assert [send.notice.alert.state for _, send in world.arrived] == ["open", "resolved"]
