"""The process dies before any effect, and goes on from its log."""

import random
from collections import Counter
from functools import partial

import pytest

from schemas.alert import Alert
from schemas.routing import parse_routing
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, Answer, CrashError, World, alert, refused

POLICY = {
    "receivers": {
        "pager": {"type": "pagerduty", "key_env": "K", "fallback": "team"},
        "team": {"type": "slack", "channel": "#c"},
    },
    "route": [
        {"match": {"severity": ["critical"]}, "receivers": ["pager"], "continue": True},
        {"receivers": ["team"]},
    ],
}
STORY = [
    alert("a", 0.5),
    alert("b", 0.8, at_ms=NOON_MS + 5_000),
    alert("c", 0.8, at_ms=NOON_MS + 6_000),
    alert("a", 0.8, state="escalated", at_ms=NOON_MS + 40_000),
    alert("a", 1.0, state="escalated", at_ms=NOON_MS + 50_000),
    alert("d", 1.0, at_ms=NOON_MS + 50_000),
    alert("b", 0.8, state="resolved", at_ms=NOON_MS + 60_000),
    alert("a", 1.0, state="resolved", at_ms=NOON_MS + 90_000),
    alert("d", 1.0, state="reminder", at_ms=NOON_MS + 5 * HOUR_MS),
]


def play(world: World, story: list[Alert]) -> int:
    """Hand in a story; what was not acknowledged when the process died is handed in again. Gives the crashes."""
    crashes = 0
    end_ms = max(world.now_ms, story[-1].ts_ms) + 2 * HOUR_MS
    steps = [*(partial(world.alert, each) for each in story), partial(world.until, end_ms)]
    for step in steps:
        done = False
        while not done:
            try:
                step()
                done = True
            except CrashError:
                crashes += 1
                world.restart()
    return crashes


def told(world: World, receiver: str) -> Counter[str]:
    """How often each alert was said without the mark that it may be a repetition."""
    return Counter(
        each.alert_id
        for send in world.messages(receiver)
        if not send.notice.maybe_repeated
        for each in send.notice.alerts
    )


def last_state(world: World, receiver: str) -> dict[str, str]:
    """What a receiver last heard of each incident."""
    return {each.incident_id: each.state for send in world.messages(receiver) for each in send.notice.alerts}


def fails_at_times(seed: int) -> World:
    """A world whose receivers refuse and time out by chance, from a seed."""
    chance = random.Random(seed)
    ways: list[Answer] = [
        None,
        None,
        refused("server_error"),
        refused("timeout", ambiguous=True, arrived=True),
        refused("timeout", ambiguous=True),
        refused("rate_limited", retry_after_ms=7_000),
    ]
    return World(POLICY, lambda *_: chance.choice(ways))


def check(world: World, what: str) -> None:
    """Nothing is lost, nothing is repeated unmarked, nothing is left owed."""
    for receiver in ("pager", "team"):
        repeated = {name: times for name, times in told(world, receiver).items() if times > 1}
        assert not repeated, f"{what}: {receiver} was told twice of {repeated}"
    assert {"a": "resolved", "d": "reminder"}.items() <= last_state(world, "pager").items(), what
    assert {"a": "resolved", "c": "open", "d": "reminder"}.items() <= last_state(world, "team").items(), what
    owed = [key for key, value in world.store.items() if b'"status":"pending"' in value]
    assert not owed, f"{what}: still owed {owed}"
    assert len(world.store) >= len(STORY), what


def test_the_story_without_a_crash() -> None:
    """What the other tests compare with: every message once, none marked."""
    world = World(POLICY)
    assert play(world, STORY) == 0
    check(world, "no crash")
    assert not any(send.notice.maybe_repeated for _, send in world.arrived)


def test_a_crash_before_any_effect_neither_loses_nor_repeats() -> None:
    """Rows 51 and 55. One crash at every point of the story, each time with nothing but the log left."""
    point = 0
    while True:
        world = World(POLICY)
        world.crash_at = point
        if play(world, STORY) == 0:
            break
        check(world, f"crash before effect {point}")
        marked = sum(send.notice.maybe_repeated for _, send in world.arrived)
        assert marked <= 1, f"crash before effect {point}: {marked} messages are marked"
        point += 1
    assert point > 30


@pytest.mark.parametrize("seed", range(30))
def test_crashes_and_failing_receivers(seed: int) -> None:
    """Twenty crashes by chance among receivers that fail by chance: everything arrives, repeats are marked."""
    chance = random.Random(-seed)
    world = fails_at_times(seed)
    story = [*STORY, *(alert(f"n{number}", at_ms=NOON_MS + 6 * HOUR_MS + number * MINUTE_MS) for number in range(20))]
    for each in story:
        if chance.random() < 0.7:
            world.crash_at = chance.randrange(12)
        play(world, [each])
    world.crash_at = None
    world.after(24 * HOUR_MS)
    what = f"seed {seed}"
    assert {f"n{number}" for number in range(20)} <= last_state(world, "pager").keys(), what
    assert {f"n{number}" for number in range(20)} <= last_state(world, "team").keys(), what
    for receiver in ("pager", "team"):
        assert all(times == 1 for times in told(world, receiver).values()), what
    assert not [key for key, value in world.store.items() if b'"status":"pending"' in value], what


def test_a_restart_of_a_quiet_process_says_nothing() -> None:
    """After everything was told, a restart tells nobody anything, however often."""
    world = World(POLICY)
    play(world, STORY)
    before = len(world.asked)
    for _ in range(3):
        world.restart()
        world.after(HOUR_MS)
    assert len(world.asked) == before


def test_the_log_forgets_in_the_end() -> None:
    """The log of incidents that are over does not grow for ever."""
    world = World({})
    for day in range(10):
        for number in range(20):
            at_ms = NOON_MS + day * 24 * HOUR_MS + number * MINUTE_MS
            world.alert(alert(f"{day}/{number}", at_ms=at_ms))
            world.alert(alert(f"{day}/{number}", state="resolved", at_ms=at_ms + MINUTE_MS // 2))
    assert len(world.store) <= 4 * 40


def test_what_is_owed_to_a_receiver_that_is_no_more_is_told_elsewhere() -> None:
    """A policy that drops a receiver while something is owed to it loses nothing."""
    world = World(POLICY, lambda *_: refused("server_error"))
    world.alert(alert("d"))
    world.routing = World({}).routing
    world.script = lambda *_: None
    world.restart()
    world.after(HOUR_MS)
    assert [send.notice.alert.incident_id for send in world.messages()] == ["d"]
    assert not [key for key, value in world.store.items() if b'"status":"pending"' in value]


def test_a_crash_on_the_way_to_the_fallback_loses_nothing() -> None:
    """What a receiver refuses for good is owed to the fallback before it is given up, wherever the process dies."""
    no = refused("bad_request", retryable=False)
    for point in range(12):
        world = World(POLICY, lambda send, _: no if send.receiver == "pager" else None)
        world.routing = parse_routing({**POLICY, "route": [{"receivers": ["pager"]}]})
        world.restart()
        world.crash_at = point
        play(world, [alert("d")])
        told = {send.notice.alert.incident_id for send in world.messages("team")}
        assert told == {"d"}, f"crash before effect {point}"


def test_records_of_earlier_versions_are_read() -> None:
    """What was pending is sent, what was sent is known, under the words that earlier versions wrote."""
    world = World({"receivers": POLICY["receivers"], "route": [{"receivers": ["team"], "hold_seconds": 60}]})
    world.alert(alert("sent"))
    world.alert(alert("pending", 0.8, at_ms=NOON_MS + 1))
    for now, before in ((b'"status":"pending"', b'"status":"owed"'), (b'"status":"sent"', b'"status":"said"')):
        assert any(now in value for value in world.store.values())
        world.store = {key: value.replace(now, before) for key, value in world.store.items()}
    world.restart()
    world.alert(alert("sent", state="resolved", at_ms=NOON_MS + 2))
    world.after(HOUR_MS)
    told = [(send.notice.alert.incident_id, send.notice.alert.state) for send in world.messages("team")]
    assert told == [("sent", "open"), ("sent", "resolved"), ("pending", "open")]
