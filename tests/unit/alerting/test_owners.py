"""Whose it is: from an alert's owners to the receivers of each."""

from typing import Any

import pytest

from alerting.routing.router import Router
from schemas.errors import PolicyError
from schemas.routing import parse_routing
from tests.support.telling import World, alert

RECEIVERS = {name: {"type": "slack", "channel": f"#{name}"} for name in ("pay", "search", "finops", "oncall")}
OWNERS: dict[str, Any] = {
    "*": "finops",
    "*@pay.example": "pay",
    "*.lead@pay.example": ["oncall", "pay"],
    "ana@search.example": "search",
}
POLICY = {"receivers": RECEIVERS, "owners": OWNERS}


@pytest.mark.parametrize(
    ("owner", "owners", "receivers"),
    [
        pytest.param("bob@pay.example", [], ["pay"], id="a pattern"),
        pytest.param("jo.lead@pay.example", [], ["oncall", "pay"], id="the most precise pattern"),
        pytest.param("ana@search.example", [], ["search"], id="a name"),
        pytest.param("bob@search.example", [], ["finops"], id="the rest"),
        pytest.param(None, [], ["finops"], id="nobody's"),
        pytest.param(None, ["bob@pay.example", "ana@search.example"], ["pay", "search"], id="shared"),
        pytest.param(None, ["bob@pay.example", "cy@pay.example"], ["pay"], id="shared by one team"),
        pytest.param("bob@pay.example", ["ana@search.example"], ["pay"], id="one who spent half or more"),
    ],
)
def test_an_alert_goes_to_its_owners(owner: str | None, owners: list[str], receivers: list[str]) -> None:
    """A name comes before patterns, a precise pattern before others; of a shared budget each owner is notified."""
    world = World(POLICY)
    world.alert(alert(owner=owner, owners=owners))
    assert sorted({send.receiver for _, send in world.arrived}) == receivers


def test_the_order_of_the_table_does_not_count() -> None:
    """A published policy is JSON with sorted keys: it must lead to the same receivers as the file."""
    turned = {**POLICY, "owners": dict(reversed(list(OWNERS.items())))}
    for owner in ("jo.lead@pay.example", "bob@pay.example", "x"):
        found = [Router(parse_routing(policy)).destinations(alert(owner=owner)) for policy in (POLICY, turned)]
        assert found[0] == found[1]


def test_routes_come_beside_owners() -> None:
    """What a route names is notified as it says, and the owner as well; a receiver that both name gets one message."""
    routes = [{"match": {"severity": "critical"}, "receivers": ["oncall", "pay"], "renotify_every_minutes": 60}]
    router = Router(parse_routing({**POLICY, "route": routes}))
    found = router.destinations(alert(owner="bob@pay.example"))
    assert [(to.receiver, to.renotify_ms) for to in found] == [("oncall", 3_600_000), ("pay", 3_600_000)]
    assert [to.receiver for to in router.destinations(alert(level=0.8, owner="x"))] == ["finops"]


def test_a_route_by_owner_takes_a_shared_budget() -> None:
    """A route that matches one of several owners takes the alert for that one."""
    routes = [{"match": {"owner": "ana"}, "receivers": ["search"]}, {"receivers": ["finops"]}]
    router = Router(parse_routing({"receivers": RECEIVERS, "route": routes}))
    assert [to.receiver for to in router.destinations(alert(owner=None, owners=["ana", "bob"]))] == ["search", "finops"]


def test_a_heartbeat_has_no_owner() -> None:
    """`*` is for alerts: an outside monitor is named by a route."""
    assert Router(parse_routing(POLICY)).destinations(alert(detector="watchdog", owner=None)) == ()


def test_why_is_explained() -> None:
    """`routes test` says which entry leads where."""
    steps = Router(parse_routing(POLICY)).explain({"owner": "bob@pay.example"}).steps
    assert "owners: 'bob@pay.example' matches '*@pay.example', which leads to pay" in steps


@pytest.mark.parametrize("table", [{"*": "nobody"}, {"*": []}, {"": "pay"}, {"*": 1}, ["pay"]])
def test_faults_are_named(table: Any) -> None:
    """An entry that leads nowhere is refused."""
    with pytest.raises(PolicyError, match="owners"):
        parse_routing({**POLICY, "owners": table})
