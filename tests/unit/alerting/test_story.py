"""Stories: alerts in, messages out, over time."""

from itertools import pairwise
from typing import Any

import pytest

from alerting.effects import Send, WaitUntil
from schemas.alert import AlertState
from schemas.operator import Acknowledge, Silence
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, SECOND_MS, Answer, World, alert, refused

SLACK = {"receivers": {"team": {"type": "slack", "channel": "#c"}}, "route": [{"receivers": ["team"]}]}


def silence(until_ms: int, **match: str) -> Silence:
    return Silence(
        message_id="s1", ts_ms=NOON_MS, tenant_id="acme", who="ana", why="migration", match=match, until_ms=until_ms
    )


def test_an_incident_is_one_message_with_updates() -> None:
    """50, 80, 100 and resolved are one message that is edited three times."""
    world = World(SLACK)
    steps: list[tuple[float, AlertState]] = [(0.5, "open"), (0.8, "escalated"), (1.0, "escalated"), (1.0, "resolved")]
    for minute, (level, state) in enumerate(steps):
        world.alert(alert(level=level, state=state, at_ms=NOON_MS + minute * MINUTE_MS))
    world.after(MINUTE_MS)
    assert world.told("team") == [
        ("incident", "open", 0.5), ("incident", "escalated", 0.8), ("incident", "escalated", 1.0),
        ("incident", "resolved", 1.0),
    ]  # fmt: skip
    places = [send.notice.first for send in world.messages("team")]
    assert places[0] is None
    assert [place.place for place in places[1:] if place] == [{"message": "1"}] * 3


def test_levels_passed_while_gathering_are_one_message() -> None:
    """What was overtaken before anybody heard of it is told once, at its highest, and critical is told at once."""
    world = World(SLACK)
    world.alert(alert(level=0.5))
    world.alert(alert(level=0.8, state="escalated", at_ms=NOON_MS + 1))
    world.alert(alert(level=1.0, state="escalated", at_ms=NOON_MS + 2))
    assert world.told("team") == [("incident", "escalated", 1.0)]
    world.after(HOUR_MS)
    assert len(world.messages("team")) == 1


@pytest.mark.parametrize(
    ("level", "messages"), [(0.8, []), (1.0, [("incident", "open", 1.0), ("incident", "resolved", 1.0)])]
)
def test_over_before_it_was_told(level: float, messages: list[tuple[str, str, float]]) -> None:
    """A warning that ends while it is held is nobody's business. What pages is told, and told to be over."""
    world = World(SLACK)
    world.alert(alert(level=level))
    world.alert(alert(level=level, state="resolved", at_ms=NOON_MS + 5 * SECOND_MS))
    world.after(HOUR_MS)
    assert world.told("team") == messages


def test_the_same_alert_twice_is_one() -> None:
    """A message read again from the log of alerts tells nobody again."""
    world = World(SLACK)
    for _ in range(3):
        world.alert(alert())
    assert len(world.messages("team")) == 1


def test_a_rule_on_trial_reaches_nobody() -> None:
    """Shadow mode sends nothing and keeps nothing, whatever the severity."""
    world = World(SLACK)
    world.alert(alert(mode="shadow"))
    world.alert(alert(mode="shadow", state="resolved", at_ms=NOON_MS + 1))
    world.after(HOUR_MS)
    assert world.asked == []
    assert world.store == {}


def test_a_flapping_scope_is_told_once() -> None:
    """Row 54. Coming and going is told as that, and then nothing until it has been quiet; then the truth, once."""
    world = World(SLACK)
    for minute in range(0, 40, 2):
        state: AlertState = "resolved" if minute % 4 else "open"
        world.alert(alert(level=0.8, state=state, at_ms=NOON_MS + minute * MINUTE_MS))
    kinds = [kind for kind, _, _ in world.told("team")]
    assert kinds.count("flapping") == 1
    before = len(kinds)
    world.after(20 * MINUTE_MS)
    assert len(world.messages("team")) == before <= 6
    world.after(20 * MINUTE_MS)
    assert world.told("team")[before:] == [("incident", "resolved", 0.8)]
    assert len({str(send.notice.first) for send in world.messages("team")}) == 2, "all but the first update one message"


def test_a_critical_escalation_is_not_held_for_flapping() -> None:
    """Something that comes and goes at 80 % and then breaks the limit is told at once."""
    world = World(SLACK)
    for minute in range(0, 14, 2):
        state: AlertState = "resolved" if minute % 4 else "open"
        world.alert(alert(level=0.8, state=state, at_ms=NOON_MS + minute * MINUTE_MS))
    world.alert(alert(level=1.0, state="escalated", at_ms=NOON_MS + 14 * MINUTE_MS))
    assert world.told("team")[-1] == ("incident", "escalated", 1.0)
    assert world.arrived[-1][0] == NOON_MS + 14 * MINUTE_MS


def test_new_windows_are_no_flapping() -> None:
    """A budget that is exceeded hour after hour is a new incident each time."""
    world = World(SLACK)
    for hour in range(6):
        start_ms = NOON_MS + hour * HOUR_MS
        window: dict[str, Any] = {
            "window_start_ms": start_ms,
            "window_end_ms": start_ms + HOUR_MS,
            "scope": {"tenant_id": "acme"},
        }
        world.alert(alert(f"h{hour}", at_ms=start_ms + 50 * MINUTE_MS, **window))
        world.alert(alert(f"h{hour}", state="resolved", at_ms=start_ms + HOUR_MS, **window))
    assert [kind for kind, _, _ in world.told("team")] == ["incident"] * 12


@pytest.mark.parametrize("restarts", [False, True])
def test_a_silence_holds_until_its_end(*, restarts: bool) -> None:
    """Row 55. Nobody is told while it lasts, also after a restart; what is still true then is told then."""
    world = World(SLACK)
    world.operator(silence(NOON_MS + HOUR_MS, owner="ana"))
    if restarts:
        world.restart()
    world.alert(alert("stays", at_ms=NOON_MS + 1))
    world.alert(alert("ends", at_ms=NOON_MS + 2))
    world.alert(alert("ends", state="resolved", at_ms=NOON_MS + 3))
    world.alert(alert("other", at_ms=NOON_MS + 4, owner="bob"))
    if restarts:
        world.restart()
    world.until(NOON_MS + HOUR_MS - 1)
    assert [send.notice.alert.incident_id for send in world.messages("team")] == ["other"]
    world.after(MINUTE_MS)
    assert [send.notice.alert.incident_id for send in world.messages("team")] == ["other", "stays"]


def test_what_was_told_is_told_to_be_over_in_spite_of_silence() -> None:
    """A silence leaves no page open."""
    world = World(SLACK)
    world.alert(alert())
    world.operator(silence(NOON_MS + HOUR_MS))
    world.alert(alert(state="resolved", at_ms=NOON_MS + MINUTE_MS))
    assert world.told("team")[-1] == ("incident", "resolved", 1.0)


@pytest.mark.parametrize(
    ("route", "states"),
    [
        ({}, ["open", *["reminder"] * 9]),
        ({"renotify_every_minutes": 240}, ["open", "reminder", "reminder"]),
    ],
)
def test_reminders_are_the_engine_s_and_end_with_an_acknowledgement(route: dict[str, Any], states: list[str]) -> None:
    """Each reminder of the engine is sent, unless the route wants fewer; none once somebody acts on the incident."""
    world = World({**SLACK, "route": [{"receivers": ["team"], **route}]})
    world.alert(alert())
    for hour in range(1, 10):
        world.alert(alert(state="reminder", at_ms=NOON_MS + hour * HOUR_MS))
    assert [state for _, state, _ in world.told("team")] == states
    world.operator(
        Acknowledge(message_id="a", ts_ms=world.now_ms, tenant_id="acme", who="ana", why="on it", incident_id="i")
    )
    world.restart()
    for hour in range(10, 20):
        world.alert(alert(state="reminder", at_ms=NOON_MS + hour * HOUR_MS))
    assert [kind for kind, _, _ in world.told("team")[len(states) :]] == ["acknowledged"]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("was_sent", [False, True])
def test_an_ended_page_is_never_reminded_of(*, restarts: bool, was_sent: bool) -> None:
    """A reminder that comes after the end, or waits until the end of its window, is not sent; after the incident has
    opened again it is.
    """
    world = World(SLACK)
    level = 1.0 if was_sent else 0.8  # a warning that is over within its group's wait is never sent
    late: dict[str, Any] = {"window_end_ms": NOON_MS + 30 * HOUR_MS}
    world.alert(alert(level=level, **late))
    world.alert(alert(level=level, state="resolved", at_ms=NOON_MS + 1, **late))
    if restarts:
        world.restart()
    world.alert(alert(level=level, state="reminder", at_ms=NOON_MS + 2, **late))
    world.after(HOUR_MS)
    assert "reminder" not in [state for _, state, _ in world.told("team")]
    world.alert(alert(at_ms=world.now_ms, **late))
    world.alert(alert(state="reminder", at_ms=world.now_ms + HOUR_MS, **late))
    assert world.told("team")[-1] == ("incident", "reminder", 1.0)


def test_a_reminder_that_waits_is_over_with_its_window() -> None:
    """What a silence held back until after the end of its window would remind of nothing."""
    world = World(SLACK)
    world.alert(alert())
    world.operator(silence(until_ms=NOON_MS + 13 * HOUR_MS))
    world.alert(alert(state="reminder", at_ms=NOON_MS + HOUR_MS))
    world.after(14 * HOUR_MS)
    assert [state for _, state, _ in world.told("team")] == ["open"]


def test_a_thousand_warnings_are_a_handful_of_messages() -> None:
    """A thousand warnings in a minute for one owner are readable, and a critical among them is not delayed."""
    world = World(SLACK)
    for number in range(1000):
        at_ms = NOON_MS + number * 60
        if number == 555:
            world.alert(alert("fire", at_ms=at_ms))
            fire_ms = world.now_ms
        world.alert(alert(f"w{number}", 0.8, at_ms=at_ms))
    world.after(MINUTE_MS)
    sends = world.messages("team")
    assert len(sends) <= 6
    counted = sum(len(send.notice.alerts) + send.notice.more for send in sends)
    assert counted == 1001
    assert all(len(send.notice.alerts) <= 10 for send in sends)
    fire = [at_ms for at_ms, send in world.arrived if send.notice.alert.incident_id == "fire"]
    assert fire == [fire_ms]


def test_a_storm_of_criticals_loses_none() -> None:
    """More criticals than a channel can take share messages; each of them is listed."""
    world = World(SLACK)
    for number in range(200):
        world.alert(alert(f"c{number}", at_ms=NOON_MS + number))
    world.after(10 * MINUTE_MS)
    listed = [each.incident_id for send in world.messages("team") for each in send.notice.alerts]
    assert sorted(listed) == sorted(f"c{number}" for number in range(200))
    assert len(world.messages("team")) < 100


def test_retry_after_is_honoured() -> None:
    """Row 47. One request per Retry-After, then everything arrives, the critical ones each by itself."""
    until_ms = NOON_MS + 90 * SECOND_MS
    limited = refused("rate_limited", retry_after_ms=30 * SECOND_MS)
    world = World(SLACK, lambda _, now_ms: limited if now_ms < until_ms else None)
    for number in range(30):
        world.alert(alert(f"c{number}", at_ms=NOON_MS + number))
        world.alert(alert(f"w{number}", 0.8, at_ms=NOON_MS + number))
    world.after(10 * MINUTE_MS)
    asked = [at_ms for at_ms, _ in world.asked if at_ms < until_ms]
    assert all(later - earlier >= 30 * SECOND_MS for earlier, later in pairwise(asked))
    said = [each.incident_id for send in world.messages("team") for each in send.notice.alerts if each.level >= 1]
    assert sorted(said) == sorted({f"c{number}" for number in range(30)})
    assert sum(len(send.notice.alerts) + send.notice.more for send in world.messages("team")) == 60


def test_an_hour_of_silence_from_both_receivers_loses_nothing() -> None:
    """Row 52. Both receivers are down for an hour; afterwards every critical incident has been told to both."""
    policy = {
        "receivers": {
            "pager": {"type": "pagerduty", "key_env": "K", "fallback": "team"},
            "team": {"type": "slack", "channel": "#c", "fallback": "console"},
        },
        "route": [{"receivers": ["pager", "team"]}],
    }
    down = refused("server_error")
    dead = ("pager", "team")
    world = World(policy, lambda s, now_ms: down if s.receiver in dead and now_ms < NOON_MS + HOUR_MS else None)
    for number in range(60):
        world.alert(alert(f"c{number}", at_ms=NOON_MS + number * MINUTE_MS))
        world.alert(alert(f"w{number}", 0.8, at_ms=NOON_MS + number * MINUTE_MS))
    world.after(2 * HOUR_MS)
    expected = sorted(f"c{number}" for number in range(60))
    for receiver in dead:
        told = [each.incident_id for send in world.messages(receiver) for each in send.notice.alerts if each.level >= 1]
        assert sorted(told) == expected
    quiet = [send.notice for send in world.messages("team") if send.notice.alert.level < 1]
    assert sum(len(notice.alerts) + notice.more for notice in quiet) == 60
    assert len(quiet) <= 3, "what gathered meanwhile is one message"
    assert len(world.messages("console")) >= 50, "the fallback of the fallback was told meanwhile"
    assert len(world.asked) < 500


@pytest.mark.parametrize(
    ("answer", "within_ms"),
    [
        pytest.param(refused("rate_limited", retry_after_ms=HOUR_MS), 0, id="asks for an hour"),
        pytest.param(refused("timeout", ambiguous=True), MINUTE_MS, id="hangs"),
        pytest.param(refused("server_error"), MINUTE_MS, id="is broken"),
    ],
)
@pytest.mark.parametrize("kind", ["pagerduty", "slack"])
def test_a_page_waits_a_minute_for_its_own_receiver(kind: str, answer: Answer, within_ms: int) -> None:
    """Whatever a receiver's own pace of trying again, or what it asks for: what pages is with the fallback within a
    minute, once. So is a page that comes while the receiver waits; a warning stays where it belongs.
    """
    place = {"channel": "#c"} if kind == "slack" else {"key_env": "K"}
    policy = {
        "receivers": {"own": {"type": kind, **place, "fallback": "console"}},
        "route": [{"receivers": ["own"], "group_wait_seconds": 0}],
    }
    world = World(policy, lambda send, _: answer if send.receiver == "own" else None)
    world.alert(alert("first"))
    world.after(within_ms)
    assert world.told() == [("incident", "open", 1.0)]
    assert world.pipeline.pending(world.now_ms)["own"].overdue_pages == 1, "whoever watches sees it"
    world.alert(alert("second", at_ms=world.now_ms))
    world.alert(alert("quiet", 0.8, at_ms=world.now_ms))
    world.after(within_ms)
    assert [send.notice.alert.incident_id for send in world.messages()] == ["first", "second"]
    world.after(3 * HOUR_MS)
    assert len(world.messages()) == 2


def test_a_level_whose_outcome_nobody_knows_is_not_forgotten() -> None:
    """The next level's message says at which other one a page may be open, until it has been sent itself."""
    policy = {"receivers": {"pager": {"type": "pagerduty", "key_env": "K"}}, "route": [{"receivers": ["pager"]}]}
    answers = [refused("timeout", ambiguous=True), refused("network")]
    world = World(policy, lambda *_: answers.pop(0) if answers else None)
    world.alert(alert(level=0.8, severity="critical"))
    world.alert(alert(level=1.0, state="escalated", at_ms=NOON_MS + SECOND_MS))
    world.restart()
    world.after(10 * MINUTE_MS)
    world.alert(alert(level=1.0, state="resolved", at_ms=world.now_ms))
    assert [(send.notice.alert.level, send.notice.maybe_levels) for _, send in world.asked] == [
        (0.8, ()), (1.0, (0.8,)), (1.0, (0.8,)), (1.0, ()),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["bad_credentials", "no_such_place", "bad_request"])
def test_a_final_failure_goes_to_the_fallback(reason: str) -> None:
    """Row 48. What a receiver will never say is said by its fallback, also when it is over."""
    policy = {
        "receivers": {"team": {"type": "slack", "channel": "#c", "fallback": "console"}},
        "route": [{"receivers": ["team"]}],
    }
    world = World(policy, lambda s, _: refused(reason, retryable=False) if s.receiver == "team" else None)
    world.alert(alert())
    world.alert(alert(state="resolved", at_ms=NOON_MS + MINUTE_MS))
    assert [state for _, state, _ in world.told()] == ["open", "resolved"]


def test_what_may_have_been_said_is_marked() -> None:
    """Row 49. After an ambiguous failure the message comes at most twice, the second time marked."""
    answers = [refused("timeout", ambiguous=True, arrived=True), None]
    world = World(SLACK, lambda *_: answers.pop(0) if answers else None)
    world.alert(alert())
    world.after(HOUR_MS)
    assert [send.notice.maybe_repeated for send in world.messages("team")] == [False, True]


def test_an_outcome_that_never_comes_is_a_failure() -> None:
    """A sender that died with the message does not block its incident for ever."""
    pipeline = World(SLACK).pipeline
    (wait,) = [each for each in pipeline.alert(alert(), NOON_MS) if isinstance(each, WaitUntil)]
    assert wait.at_ms == NOON_MS + 10 * MINUTE_MS
    (again,) = [each for each in pipeline.tick(wait.at_ms) if isinstance(each, WaitUntil)]
    (send,) = [each for each in pipeline.tick(again.at_ms) if isinstance(each, Send)]
    assert send.notice.maybe_repeated
    assert send.attempt == 2
