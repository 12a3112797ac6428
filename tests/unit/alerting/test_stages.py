"""Each stage by itself, as tables."""

from datetime import UTC, datetime, time
from typing import Any

import pytest

from alerting.dedup import News, news
from alerting.delivery.retry import retry_at_ms
from alerting.delivery.throttle import BREAKS_AFTER, FIRST_BREAK_MS, Gate
from alerting.effects import Failed
from alerting.muting.hours import next_opening_ms
from alerting.muting.mutes import Mutes
from alerting.receivers.registry import KINDS
from schemas.alert import Alert
from schemas.control import Target
from schemas.operator import Acknowledge, Feedback, Resume, Verdict
from schemas.policy import epoch_ms
from schemas.routing import OfficeHours, Quiet, Receiver, Routing
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, World, alert

HALF, MOST, FULL = alert(level=0.5), alert(level=0.8), alert(level=1.0)
OVER, OVER_MOST = alert(state="resolved"), alert(level=0.8, state="resolved")
AGAIN = alert(state="reminder")
NOTE_AGAIN = alert(level=0.5, state="reminder")


@pytest.mark.parametrize(
    ("sent", "pending", "new", "expected"),
    [
        (None, None, HALF, "first"),
        (None, None, AGAIN, "first"),
        (None, None, OVER, "nothing"),
        (None, HALF, MOST, "joined"),
        (None, MOST, HALF, "nothing"),
        (None, FULL, OVER, "joined"),
        (None, MOST, OVER_MOST, "nothing"),
        (HALF, None, MOST, "escalated"),
        (HALF, MOST, FULL, "joined"),
        (FULL, HALF, MOST, "joined"),
        (MOST, None, MOST, "nothing"),
        (MOST, None, HALF, "nothing"),
        (FULL, None, AGAIN, "repeat"),
        (FULL, None, OVER, "resolved"),
        (OVER, None, OVER, "nothing"),
        (OVER, None, FULL, "first"),
        (OVER, None, AGAIN, "nothing"),
        (HALF, None, NOTE_AGAIN, "nothing"),
    ],
)
def test_what_is_news(sent: Alert | None, pending: Alert | None, new: Alert, expected: News) -> None:
    """What was sent and is pending against what is true now."""
    rest: dict[str, Any] = {
        "pending_binds": False,
        "pending_is_muted": False,
        "renotify_ms": HOUR_MS,
        "now_ms": NOON_MS + HOUR_MS,
    }
    assert news(new, sent=sent, sent_ms=NOON_MS, pending=pending, **rest) == expected


def test_a_repeat_waits_for_its_time() -> None:
    """A reminder before `renotify_every_minutes` is no news; muted, what pages may be dropped when it is over."""
    early: dict[str, Any] = {"sent_ms": NOON_MS, "renotify_ms": HOUR_MS, "now_ms": NOON_MS + HOUR_MS - 1}
    assert news(AGAIN, sent=FULL, pending=None, pending_binds=False, pending_is_muted=False, **early) == "nothing"
    assert news(OVER, sent=None, pending=FULL, pending_binds=False, pending_is_muted=True, **early) == "nothing"


@pytest.mark.parametrize(("pending", "new"), [(OVER, FULL), (FULL, OVER), (MOST, OVER_MOST)])
def test_what_may_have_arrived_is_answered(pending: Alert, new: Alert) -> None:
    """An end that may have arrived is not taken back in silence when the incident opens again, nor the other way."""
    rest: dict[str, Any] = {"sent_ms": NOON_MS, "renotify_ms": HOUR_MS, "now_ms": NOON_MS, "pending_is_muted": False}
    assert (
        news(new, sent=None if new.state == "resolved" else FULL, pending=pending, pending_binds=True, **rest)
        == "joined"
    )


RUN = {"tenant_id": "acme", "workflow": "docs"}


def of_run(incident: str, level: float, at_ms: int, *, killed: bool = False, **more: Any) -> Alert:
    """An alert of run `r`, as the engine sends it while a kill stands on the run, or none."""
    return alert(incident, level, at_ms=at_ms, run_id="r", scope=RUN, command="kill" if killed else None, **more)


def resume(at_ms: int, target: Target) -> Resume:
    return Resume(message_id="o", ts_ms=at_ms, tenant_id="acme", who="ana", why="wanted", target=target)


def heard(world: World) -> list[str]:
    """Incidents that somebody was told of, in order."""
    return [send.notice.alert.incident_id for send in world.messages()]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_killed_run_does_not_warn(*, restarts: bool) -> None:
    """Once any alert says that a kill stands, its run's warnings are muted, those still owed too, over restarts. The
    kill itself is told whatever its severity, and so is what pages. Other runs, and sessions, warn on.
    """
    world = World({})

    def happens(one: Alert) -> None:
        world.alert(one)
        if restarts:
            world.restart()

    happens(of_run("before", 0.8, NOON_MS))
    happens(of_run("kill", 1.0, NOON_MS + 10_000, killed=True, severity="warning"))
    happens(of_run("after", 0.8, NOON_MS + 20_000, killed=True))
    happens(of_run("before", 0.8, NOON_MS + 25_000, killed=True, state="reminder"))
    happens(alert("session", 0.8, at_ms=NOON_MS + 40_000, command="kill"))
    happens(alert("other", 0.8, at_ms=NOON_MS + 40_000, run_id="q"))
    world.after(HOUR_MS)
    happens(of_run("page", 0.5, NOON_MS + 2 * HOUR_MS, killed=True, severity="error"))
    world.after(HOUR_MS)
    told = {each.incident_id for send in world.messages() for each in send.notice.alerts}
    assert told == {"kill", "session", "other", "page"}


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("lifts", "told"),
    [
        (of_run("else", 0.8, NOON_MS + 2_000, state="resolved"), ["owed"]),
        (of_run("else", 0.8, NOON_MS + 2_000, killed=True, state="resolved"), []),
        (of_run("else", 0.8, NOON_MS - 1, state="resolved"), []),
        (resume(NOON_MS + 2_000, Target("run", "r")), ["owed"]),
        (resume(NOON_MS - 1, Target("run", "r")), []),
        (resume(NOON_MS + 2_000, Target("run", "q")), []),
        (resume(NOON_MS + 2_000, Target("session", "r")), []),
    ],
)
def test_what_lifts_the_mute_of_a_killed_run(lifts: Alert | Resume, told: list[str], *, restarts: bool) -> None:
    """A later alert of the run without the kill, or an operator's resume of the run ordered after it; nothing older,
    and nothing about another. So it is after a restart as well, when all that is known comes from the log.
    """
    world = World({})
    world.alert(of_run("seen", 0.8, NOON_MS, killed=True, state="resolved"))
    if isinstance(lifts, Resume):
        world.operator(lifts)
    else:
        world.alert(lifts)
    world.alert(of_run("owed", 0.8, NOON_MS - HOUR_MS))
    if restarts:
        world.restart()
    world.after(HOUR_MS)
    assert heard(world) == told


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("verdict", "told"),
    [("useful", ["open", "reminder", "resolved"]), ("noise", ["open", "resolved"]), ("planned", ["open", "resolved"])],
)
def test_feedback_ends_reminders(verdict: Verdict, told: list[str], *, restarts: bool) -> None:
    """Nobody is reminded of what was called noise or planned, also after a restart; the end is told all the same."""
    world = World({})
    world.alert(alert())
    world.operator(
        Feedback(
            message_id="f", ts_ms=world.now_ms, tenant_id="acme", who="ana", why="w", incident_id="i", verdict=verdict
        )
    )
    if restarts:
        world.restart()
    world.alert(alert(state="reminder", at_ms=NOON_MS + 5 * HOUR_MS))
    world.alert(alert(state="resolved", at_ms=NOON_MS + 6 * HOUR_MS))
    assert [state for kind, state, _ in world.told() if kind == "incident"] == told


def test_an_acknowledgement_outlasts_the_log_of_what_was_said() -> None:
    """A month's budget that somebody acts on is not reminded of weeks later, however often the process restarts."""
    world = World({})
    world.alert(alert())
    order = Acknowledge(message_id="a", ts_ms=NOON_MS, tenant_id="acme", who="ana", why="on it", incident_id="i")
    world.operator(order)
    for day in range(1, 30):
        world.alert(alert("tick", 0.5, at_ms=NOON_MS + day * 24 * HOUR_MS))
        world.restart()
    world.alert(alert(state="reminder", at_ms=world.now_ms))
    world.after(HOUR_MS)
    assert "reminder" not in [state for _, state, _ in world.told()]
    world.alert(alert("tick", 0.5, at_ms=NOON_MS + 60 * 24 * HOUR_MS))
    assert not [key for key in world.store if key.startswith("operator/")], "in the end the log forgets orders"


HOURS = OfficeHours.model_validate({"from": time(8), "to": time(18), "timezone": "Europe/Berlin"})


def ms(text: str) -> int:
    return epoch_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-11-20T10:00", "2026-11-20T10:00"),
        ("2026-11-20T06:59", "2026-11-20T07:00"),
        ("2026-11-20T17:00", "2026-11-23T07:00"),
        ("2026-11-22T12:00", "2026-11-23T07:00"),
        ("2026-03-28T12:00", "2026-03-30T06:00"),
    ],
)
def test_when_the_office_opens(now: str, opens: str) -> None:
    """In the office's own zone, over week-ends and changes of the clock."""
    assert next_opening_ms(HOURS, ms(now)) == ms(opens)


def test_who_is_left_alone_outside_of_office_hours() -> None:
    """What pages is told at any time; what does not waits for Monday."""
    mutes = Mutes(Routing(quiet=Quiet(office_hours=HOURS)))
    assert mutes.muted(FULL, "team", NOON_MS) is None
    mute = mutes.muted(MOST, "team", NOON_MS)
    assert mute is not None
    assert (mute.reason, mute.until_ms) == ("office_hours", ms("2026-11-23T07:00"))


def test_planned_activity_is_not_told() -> None:
    """A window of the policy mutes what it matches while it lasts."""
    window = {"from": "2026-11-22T11:00:00Z", "until": "2026-11-22T14:00:00Z", "match": {"owner": "ana"}, "why": "load"}
    world = World({"quiet": {"planned": [window]}})
    world.alert(alert())
    world.alert(alert("other", owner="bob", at_ms=NOON_MS + 1))
    assert [send.notice.alert.incident_id for send in world.messages()] == ["other"]
    world.after(2 * HOUR_MS)
    assert len(world.messages()) == 2


@pytest.mark.parametrize("attempt", range(1, 20))
def test_the_wait_grows_to_its_bound(attempt: int) -> None:
    """It doubles, is spread by a quarter, is the same for the same delivery, and never undercuts Retry-After."""
    slack = KINDS["slack"].limits
    schedule: dict[str, Any] = {"attempt": attempt, "failed_ms": NOON_MS}
    wait = retry_at_ms(slack, "d", retry_after_ms=None, **schedule) - NOON_MS
    plain = min(slack.first_retry_ms * 2 ** (attempt - 1), slack.most_retry_ms)
    assert 0.75 * plain - 1 <= wait <= 1.25 * plain + 1
    assert wait == retry_at_ms(slack, "d", retry_after_ms=None, **schedule) - NOON_MS
    assert wait != retry_at_ms(slack, "e", retry_after_ms=None, **schedule) - NOON_MS
    assert retry_at_ms(slack, "d", retry_after_ms=HOUR_MS, **schedule) == NOON_MS + HOUR_MS


def _failed(reason: str, at_ms: int) -> Failed:
    return Failed("d", reason, retryable=True, ambiguous=False, retry_after_ms=None, at_ms=at_ms)


def test_the_circuit_breaker() -> None:
    """It opens after failures in a row, lets one message through to see, and closes with the first success."""
    gate = Gate(Receiver(type="webhook", url="https://example.org"))
    for _ in range(BREAKS_AFTER):
        assert gate.opens_ms(NOON_MS) == NOON_MS
        gate.started(NOON_MS)
        gate.failed(_failed("server_error", NOON_MS))
    assert gate.opens_ms(NOON_MS) == NOON_MS + FIRST_BREAK_MS
    later_ms = NOON_MS + FIRST_BREAK_MS
    gate.started(later_ms)
    assert gate.opens_ms(later_ms) > later_ms, "only one is tried"
    gate.succeeded()
    assert gate.opens_ms(later_ms) == later_ms
    for _ in range(BREAKS_AFTER + 1):
        gate.failed(_failed("bad_request", later_ms))
    assert not gate.is_broken, "the message was at fault"
    gate.failed(_failed("bad_credentials", later_ms))
    assert gate.is_broken


def test_a_route_can_hold_and_gather() -> None:
    """`hold_seconds` lets short things pass; a long `group_wait_seconds` is a digest; neither delays `critical`."""
    world = World({"route": [{"receivers": ["console"], "hold_seconds": 120, "group_wait_seconds": 3600}]})
    world.alert(alert("short", 0.8))
    world.alert(alert("fire", at_ms=NOON_MS + 1))
    assert world.told() == [("incident", "open", 1.0)]
    world.alert(alert("short", 0.8, state="resolved", at_ms=NOON_MS + MINUTE_MS))
    for minute in range(2, 50):
        world.alert(alert(f"w{minute}", 0.8, at_ms=NOON_MS + minute * MINUTE_MS))
    world.after(2 * HOUR_MS)
    assert [(kind, level) for kind, _, level in world.told()] == [("incident", 1.0), ("digest", 0.8)]
    digest = world.messages()[-1].notice
    assert (len(digest.alerts), digest.more) == (10, 38)


def test_pages_do_not_share_messages() -> None:
    """A page that is acknowledged stands for one incident, so each is sent by itself."""
    policy = {"receivers": {"pager": {"type": "pagerduty", "key_env": "K"}}, "route": [{"receivers": ["pager"]}]}
    world = World(policy)
    for number in range(60):
        world.alert(alert(f"e{number}", 0.8, severity="error", at_ms=NOON_MS + number))
    world.after(HOUR_MS)
    assert [len(send.notice.alerts) + send.notice.more for send in world.messages("pager")] == [1] * 60
