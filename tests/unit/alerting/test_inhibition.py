"""Inhibition: what the policy says that covers what, and what must be true before anything is kept from a receiver."""

from typing import Any

import pytest

from alerting.muting.inhibition import HEARD_WITHIN_MS, Inhibition
from schemas.alert import Alert
from schemas.errors import PolicyError
from schemas.operator import Silence
from schemas.routing import Inhibit, parse_routing
from tests.support.telling import HOUR_MS, MINUTE_MS, NOON_MS, World, alert, refused

TENANT = {"tenant_id": "acme"}
WORKFLOW = {"tenant_id": "acme", "workflow": "import"}
HOUR: dict[str, Any] = {"window_start_ms": NOON_MS, "window_end_ms": NOON_MS + HOUR_MS}
MONTH: dict[str, Any] = {"window_start_ms": NOON_MS - 500 * HOUR_MS, "window_end_ms": NOON_MS + 200 * HOUR_MS}
NO_WINDOW: dict[str, Any] = {"window_start_ms": None, "window_end_ms": None}
ALERTS_ONLY = {"at_limit": "alert"}
TREE = [{"source": {"rule": "tenant"}, "target": {"rule": ["workflow", "run"]}, "equal": ["parent", "period"]}]
OF_TENANT = {"source": {"rule": "tenant"}, "target": {"rule": "run"}, "equal": []}


def rules(tables: Any = None) -> list[Inhibit]:
    return parse_routing({} if tables is None else {"inhibit": tables}).inhibit


def full(incident: str, **more: Any) -> Alert:
    """An alert at its limit by a rule that only alerts."""
    return alert(incident, 1.0, **{"mode": "alert", **more})


def warns(incident: str, **more: Any) -> Alert:
    return alert(incident, 0.8, **{"mode": "alert", **more})


@pytest.mark.parametrize(
    ("tables", "source", "target", "covered"),
    [
        pytest.param(None, full("o", scope=TENANT), warns("i", scope=TENANT), True, id="a lower level of the same"),
        pytest.param(None, warns("o", scope=TENANT), full("i", scope=TENANT), False, id="never a higher one"),
        pytest.param(None, full("o", scope=TENANT), full("i", scope=TENANT), False, id="nor the same"),
        pytest.param(None, full("o", scope=TENANT, rule="a"), warns("i", scope=TENANT, rule="b"), False, id="rule"),
        pytest.param(None, full("o", scope=TENANT, **HOUR), warns("i", scope=TENANT, **MONTH), False, id="period"),
        pytest.param(None, full("o", scope=TENANT), warns("i", scope=WORKFLOW), False, id="a child, unless asked for"),
        pytest.param(None, full("o", run_id="r"), warns("i", run_id="r", scope={"project": "o"}), False, id="scope"),
        pytest.param(None, full("o", scope=TENANT, run_id="r"), warns("i", scope=TENANT, run_id="r"), True, id="run"),
        pytest.param(None, full("o", scope=TENANT, run_id="r"), warns("i", scope=TENANT, run_id="q"), False, id="runs"),
        pytest.param([], full("o", scope=TENANT), warns("i", scope=TENANT), False, id="nothing, if nothing is written"),
        pytest.param(
            TREE, full("o", scope=TENANT, rule="tenant"), full("i", scope=WORKFLOW, rule="workflow"), True, id="a child"
        ),
        pytest.param(
            TREE, full("o", scope=WORKFLOW, rule="tenant"), full("i", scope=TENANT, rule="workflow"), False,
            id="no parent",
        ),
        pytest.param(
            TREE, full("o", scope=TENANT, rule="tenant", **HOUR), full("i", scope=WORKFLOW, rule="workflow", **MONTH),
            False, id="a child of another period",
        ),
        pytest.param(
            TREE, full("o", scope=WORKFLOW, rule="tenant"),
            full("i", scope={}, attribution={"workflow": "import"}, run_id="r", rule="run"), True, id="a run in it",
        ),
        pytest.param(
            TREE, full("o", scope=WORKFLOW, rule="tenant"),
            full("i", scope={}, attribution={"workflow": "docs"}, run_id="r", rule="run"), False, id="a run elsewhere",
        ),
        pytest.param(
            TREE, warns("o", scope=TENANT, rule="tenant"), full("i", scope=WORKFLOW, rule="workflow"), False,
            id="what is worse is sent",
        ),
        pytest.param(
            [OF_TENANT], full("o", tenant_id="b", rule="tenant"), warns("i", rule="run"), False, id="never over tenants"
        ),
    ],
)  # fmt: skip
def test_what_covers_what(tables: Any, source: Alert, target: Alert, *, covered: bool) -> None:
    """As the policy's tables say; without any, a higher level of the same rule, scope and period. For one receiver."""
    inhibition = Inhibition(rules(tables))
    inhibition.sent(source, "team")
    assert (inhibition.inhibitor(target, "team", NOON_MS) is not None) == covered
    assert inhibition.inhibitor(target, "elsewhere", NOON_MS) is None
    inhibition.observe(alert(source.incident_id, state="resolved", at_ms=NOON_MS + 1))
    assert inhibition.inhibitor(target, "team", NOON_MS) is None


@pytest.mark.parametrize(
    ("target", "covered"),
    [
        (alert("i", 0.8, mode="alert", scope=TENANT, command="kill"), False),
        (alert("i", 1.0, severity="warning", scope=TENANT), False),
        (alert("i", 1.0, severity="warning", scope=TENANT, evidence={"at_limit": "pause"}), False),
        (alert("i", 1.0, severity="warning", scope=TENANT, evidence=ALERTS_ONLY), True),
        (alert("i", 0.8, scope=TENANT), True),
    ],
)
def test_what_stops_something_is_never_inhibited(target: Alert, *, covered: bool) -> None:
    """A command that stands, or that the rule gives at its limit, is news by itself."""
    inhibition = Inhibition(rules())
    inhibition.sent(alert("o", 1.5, scope=TENANT), "team")
    assert (inhibition.inhibitor(target, "team", NOON_MS) is not None) == covered


@pytest.mark.parametrize(
    ("source", "ends_ms"),
    [
        pytest.param(full("o", scope=TENANT, **HOUR), NOON_MS + HOUR_MS, id="with its window"),
        pytest.param(
            full("o", scope=TENANT, window_start_ms=None, window_end_ms=None),
            NOON_MS + HEARD_WITHIN_MS[True],
            id="pages",
        ),
    ],
)
def test_an_inhibitor_that_nobody_hears_of_is_forgotten(source: Alert, ends_ms: int) -> None:
    """A lost end does not mute for ever: it is over with its window, or after the longest time between reminders."""
    inhibition = Inhibition(rules())
    inhibition.sent(source, "team")
    target = warns("i", scope=TENANT, window_start_ms=source.window_start_ms, window_end_ms=source.window_end_ms)
    assert inhibition.inhibitor(target, "team", ends_ms - 1) is not None
    assert inhibition.inhibitor(target, "team", ends_ms) is None
    inhibition.forget(ends_ms)
    assert inhibition.inhibitor(target, "team", NOON_MS) is None


def test_a_reminder_makes_it_count_longer() -> None:
    """As long as the engine reminds of an incident it is open, whether the reminder was sent or not."""
    inhibition = Inhibition(rules())
    inhibition.sent(full("o", scope=TENANT, **NO_WINDOW), "team")
    inhibition.observe(full("o", state="reminder", at_ms=NOON_MS + 6 * HOUR_MS, scope=TENANT, **NO_WINDOW))
    later_ms = NOON_MS + 6 * HOUR_MS + HEARD_WITHIN_MS[True]
    assert inhibition.inhibitor(warns("i", scope=TENANT, **NO_WINDOW), "team", later_ms - 1) is not None
    assert inhibition.inhibitor(warns("i", scope=TENANT, **NO_WINDOW), "team", later_ms) is None


def heard(world: World) -> list[str]:
    """Incidents that somebody was notified of, in order."""
    return [each.incident_id for send in world.messages() for each in send.notice.alerts]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_was_covered_is_sent_when_the_cover_is_gone(*, restarts: bool) -> None:
    """Inhibition puts off: a child that is still in breach when its parent is not any more is sent then."""
    world = World({"inhibit": TREE})
    world.alert(full("parent", scope=TENANT, rule="tenant"))
    world.alert(full("child", scope=WORKFLOW, rule="workflow", at_ms=NOON_MS + 1))
    if restarts:
        world.restart()
    world.after(30 * MINUTE_MS)
    assert heard(world) == ["parent"]
    world.alert(full("parent", scope=TENANT, rule="tenant", state="resolved", at_ms=world.now_ms))
    world.after(30 * MINUTE_MS)
    assert heard(world) == ["parent", "parent", "child"]


@pytest.mark.parametrize("restarts", [False, True])
def test_only_what_was_sent_inhibits(*, restarts: bool) -> None:
    """A parent that is silenced, so that nobody knows of it, keeps nothing from anybody."""
    world = World({"inhibit": TREE})
    world.operator(
        Silence(
            message_id="s", ts_ms=NOON_MS, tenant_id="acme", who="ana", why="w", match={"rule": "tenant"},
            until_ms=NOON_MS + HOUR_MS,
        )
    )  # fmt: skip
    world.alert(full("parent", scope=TENANT, rule="tenant"))
    if restarts:
        world.restart()
    world.alert(full("child", scope=WORKFLOW, rule="workflow", at_ms=NOON_MS + 1))
    assert heard(world) == ["child"]


def test_what_did_not_arrive_does_not_inhibit() -> None:
    """A receiver that refused the parent has no message that covers the child."""
    world = World({"inhibit": TREE}, lambda send, _: None if send.notice.alert.rule != "tenant" else refused("network"))
    world.alert(full("parent", scope=TENANT, rule="tenant"))
    world.alert(full("child", scope=WORKFLOW, rule="workflow", at_ms=NOON_MS + 1))
    assert heard(world) == ["child"]


def test_the_kill_of_an_hour_swallows_no_page_of_a_month() -> None:
    """An hourly budget's kill and a monthly budget's page are two facts, although both come from budgets."""
    world = World({})
    world.alert(alert("hourly", scope=TENANT, rule="tenant-hourly", command="kill", **HOUR))
    world.alert(
        alert("monthly", 0.8, severity="error", scope=TENANT, rule="tenant-monthly", at_ms=NOON_MS + 1, **MONTH)
    )
    world.after(MINUTE_MS)
    assert heard(world) == ["hourly", "monthly"]


@pytest.mark.parametrize(
    "table", [{"source": {"rul": "x"}}, {"equal": ["parents"]}, {"equal": "scope"}, {"from": {"rule": "x"}}]
)
def test_faults_are_named(table: dict[str, Any]) -> None:
    """A misspelt label, relation or key is refused with its place."""
    with pytest.raises(PolicyError, match=r"inhibit\[0\]"):
        parse_routing({"inhibit": [table]})
