"""Each stage by itself, as tables."""

from datetime import UTC, datetime, time
from typing import Any

import pytest

from alerting.dedup import News, news
from alerting.lanes import BREAKS_AFTER, FIRST_BREAK_MS, Lane
from alerting.muting import muted, next_opening_ms
from alerting.orders import Orders
from alerting.retry import FIRST_MS, MOST_MS, retry_at_ms
from alerting.standing import Standing
from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.policy import epoch_ms
from schemas.routing import OfficeHours, Quiet, Receiver
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, World, alert

HALF, MOST, FULL = alert(level=0.5), alert(level=0.8), alert(level=1.0)
OVER, OVER_MOST = alert(state="resolved"), alert(level=0.8, state="resolved")
AGAIN = alert(state="reminder")


@pytest.mark.parametrize(
    ("said", "owed", "new", "expected"),
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
    ],
)
def test_what_is_news(said: Alert | None, owed: Alert | None, new: Alert, expected: News) -> None:
    """What was said and is owed against what is true now."""
    rest: dict[str, Any] = {
        "owed_binds": False,
        "owed_is_muted": False,
        "renotify_ms": HOUR_MS,
        "now_ms": NOON_MS + HOUR_MS,
    }
    assert news(new, said=said, said_ms=NOON_MS, owed=owed, **rest) == expected


def test_a_repeat_waits_for_its_time() -> None:
    """A reminder before `renotify_every_minutes` is no news; muted, what pages may be dropped when it is over."""
    early: dict[str, Any] = {"said_ms": NOON_MS, "renotify_ms": HOUR_MS, "now_ms": NOON_MS + HOUR_MS - 1}
    assert news(AGAIN, said=FULL, owed=None, owed_binds=False, owed_is_muted=False, **early) == "nothing"
    assert news(OVER, said=None, owed=FULL, owed_binds=False, owed_is_muted=True, **early) == "nothing"


@pytest.mark.parametrize(("owed", "new"), [(OVER, FULL), (FULL, OVER), (MOST, OVER_MOST)])
def test_what_may_have_arrived_is_answered(owed: Alert, new: Alert) -> None:
    """An end that may have arrived is not taken back in silence when the incident opens again, nor the other way."""
    rest: dict[str, Any] = {"said_ms": NOON_MS, "renotify_ms": HOUR_MS, "now_ms": NOON_MS, "owed_is_muted": False}
    assert news(new, said=None if new.state == "resolved" else FULL, owed=owed, owed_binds=True, **rest) == "joined"


TENANT = {"tenant_id": "acme"}
WORKFLOW = {"tenant_id": "acme", "workflow": "import"}


@pytest.mark.parametrize(
    ("other", "one", "covered"),
    [
        (alert("o", 1.0, scope=TENANT), alert("i", 0.8, scope=TENANT), True),
        (alert("o", 0.8, scope=TENANT), alert("i", 0.5, scope=TENANT), False),
        (alert("o", 1.0, scope=TENANT), alert("i", 1.0, scope=WORKFLOW), True),
        (alert("o", 1.0, scope=WORKFLOW), alert("i", 1.0, scope=TENANT), False),
        (alert("o", 0.8, scope=TENANT), alert("i", 0.8, scope=WORKFLOW), False),
        (alert("o", 1.0, scope=TENANT), alert("i", 1.0, scope=WORKFLOW, detector="cap", run_id="r"), False),
        (alert("o", 1.0, scope=TENANT), alert("i", 0.8, scope=TENANT, detector="spend_anomaly"), False),
        (alert("o", 1.0, scope=TENANT, tenant_id="b"), alert("i", 0.8, scope=TENANT), False),
        (alert("o", 1.0, run_id="r"), alert("i", 0.8, run_id="r"), True),
        (alert("o", 1.0, run_id="r"), alert("i", 1.0, run_id="r"), False),
        (alert("o", 1.0, run_id="r"), alert("i", 0.8, run_id="q"), False),
    ],
)
def test_what_covers_what(other: Alert, one: Alert, *, covered: bool) -> None:
    """A higher level of the same scope, a parent's breach, a page about the same run; for the same receiver only."""
    standing = Standing()
    standing.observe(other, "team")
    assert (standing.inhibitor(one, "team") is not None) == covered
    assert standing.inhibitor(one, "elsewhere") is None
    standing.observe(
        alert("o", state="resolved", scope=other.scope, run_id=other.run_id, tenant_id=other.tenant_id), "team"
    )
    assert standing.inhibitor(one, "team") is None


def test_what_was_covered_is_told_when_the_cover_is_gone() -> None:
    """Inhibition puts off: a child that is still in breach when its parent is not any more is told then."""
    world = World({})
    world.alert(alert("parent", scope=TENANT))
    world.alert(alert("child", scope=WORKFLOW, at_ms=NOON_MS + 1))
    world.restart()
    world.after(30 * MINUTE_MS)
    assert [send.notice.alert.incident_id for send in world.messages()] == ["parent"]
    world.alert(alert("parent", scope=TENANT, state="resolved", at_ms=world.now_ms))
    world.after(30 * MINUTE_MS)
    assert [send.notice.alert.incident_id for send in world.messages()] == ["parent", "parent", "child"]


def command(action: Any, run_id: str) -> Command:
    return Command(
        command_id="c", action=action, tenant_id="acme", target=Target("run", run_id), reason="", rule="",
        incident_id="", issued_ms=NOON_MS, expires_ms=0, seq=1, cause_event_id=None, cause_ts_ms=NOON_MS,
    )  # fmt: skip


def test_a_killed_run_does_not_warn() -> None:
    """Its warnings are muted, also after a restart; its pages are not; a resumed run warns again."""
    world = World({})
    world.command(command("kill", "r"))
    world.restart()
    world.alert(alert("w", 0.8, run_id="r"))
    world.alert(alert("p", 1.0, run_id="r", state="open", at_ms=NOON_MS + MINUTE_MS))
    world.after(HOUR_MS)
    assert [send.notice.alert.incident_id for send in world.messages()] == ["p"]
    world.command(command("resume", "r"))
    world.alert(alert("p", 1.0, run_id="r", state="resolved", at_ms=world.now_ms))
    world.alert(alert("v", 0.8, run_id="r", at_ms=world.now_ms))
    world.after(HOUR_MS)
    assert world.messages()[-1].notice.alert.incident_id == "v"


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
    quiet = Quiet(office_hours=HOURS)
    rest: dict[str, Any] = {"orders": Orders(), "standing": Standing(), "quiet": quiet, "now_ms": NOON_MS}
    assert muted(FULL, "team", **rest) is None
    mute = muted(MOST, "team", **rest)
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


def test_the_watchdog_always_speaks() -> None:
    """The dead-man's switch goes through the whole pipe and is never muted or gathered."""
    world = World(
        {"quiet": {"planned": [{"from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z", "why": "x"}]}}
    )
    for minute in range(10):
        world.alert(alert(f"beat{minute}", 0.5, detector="watchdog", at_ms=NOON_MS + minute * MINUTE_MS))
    assert world.told() == [("watchdog", "open", 0.5)] * 10


@pytest.mark.parametrize("attempt", range(1, 20))
def test_the_wait_grows_to_its_bound(attempt: int) -> None:
    """It doubles, is spread by a quarter, is the same for the same delivery, and never undercuts Retry-After."""
    schedule: dict[str, Any] = {"attempt": attempt, "failed_ms": NOON_MS}
    wait = retry_at_ms("slack", "d", retry_after_ms=None, **schedule) - NOON_MS
    plain = min(FIRST_MS["slack"] * 2 ** (attempt - 1), MOST_MS["slack"])
    assert 0.75 * plain - 1 <= wait <= 1.25 * plain + 1
    assert wait == retry_at_ms("slack", "d", retry_after_ms=None, **schedule) - NOON_MS
    assert wait != retry_at_ms("slack", "e", retry_after_ms=None, **schedule) - NOON_MS
    assert retry_at_ms("slack", "d", retry_after_ms=HOUR_MS, **schedule) == NOON_MS + HOUR_MS


def test_the_circuit_breaker() -> None:
    """It opens after failures in a row, lets one message through to see, and closes with the first success."""
    lane = Lane(Receiver(type="webhook", url="https://example.org"))
    for _ in range(BREAKS_AFTER):
        assert lane.opens_ms(NOON_MS) == NOON_MS
        lane.started(NOON_MS)
        lane.failed("server_error", None, NOON_MS)
    assert lane.opens_ms(NOON_MS) == NOON_MS + FIRST_BREAK_MS
    later_ms = NOON_MS + FIRST_BREAK_MS
    lane.started(later_ms)
    assert lane.opens_ms(later_ms) > later_ms, "only one is tried"
    lane.succeeded()
    assert lane.opens_ms(later_ms) == later_ms
    for _ in range(BREAKS_AFTER + 1):
        lane.failed("bad_request", None, later_ms)
    assert not lane.is_broken, "the message was at fault"
    lane.failed("bad_credentials", None, later_ms)
    assert lane.is_broken


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
