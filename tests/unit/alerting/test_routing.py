"""Who is told: the tables, their faults, and the tree."""

import tomllib
from typing import Any

import pytest

from alerting.routing.router import Router
from schemas.errors import PolicyError
from schemas.routing import parse_routing
from tests.support.telling import alert

POLICY = """
[receivers.oncall]
type = "pagerduty"
key_env = "PAGERDUTY_KEY"
fallback = "team"
[receivers.team]
type = "slack"
channel = "#spend"
[receivers.bob]
type = "webhook"
url = "https://example.org/hook"
key_env = "HOOK_SECRET"

[[route]]
match = { severity = ["critical", "error"] }
receivers = ["oncall"]
continue = true

[[route]]
match = { tenant_id = "acme" }
receivers = ["team"]
group_wait_seconds = 5
  [[route.routes]]
  match = { owner = "bob" }
  receivers = ["bob"]
  renotify_every_minutes = 30

[quiet.office_hours]
weekdays = ["mon", "tue"]
from = 08:00:00
to = 18:00:00
timezone = "Europe/Berlin"
[[quiet.planned]]
from = 2026-12-01T00:00:00Z
until = 2026-12-02T00:00:00Z
match = { workflow = "import" }
why = "migration"
"""


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"severity": "critical", "tenant_id": "acme"}, ("oncall", "team")),
        ({"severity": "critical", "tenant_id": "other"}, ("oncall",)),
        ({"severity": "warning", "tenant_id": "acme"}, ("team",)),
        ({"severity": "error", "tenant_id": "acme", "owner": "bob"}, ("oncall", "bob")),
        ({"severity": "info", "tenant_id": "other"}, ("console",)),
        ({}, ("console",)),
    ],
)
def test_where_labels_lead(labels: dict[str, str], receivers: tuple[str, ...]) -> None:
    """The first route that matches takes it, its children before itself; `continue` goes on; else the console."""
    explanation = Router(parse_routing(tomllib.loads(POLICY))).explain(labels)
    assert explanation.receivers == receivers
    assert explanation.steps


def test_children_inherit() -> None:
    """What a route leaves out it has from its parent."""
    router = Router(parse_routing(tomllib.loads(POLICY)))
    (destination,) = router.destinations(alert(level=0.8, owner="bob"))
    assert (destination.receiver, destination.group_wait_ms, destination.renotify_ms) == ("bob", 5_000, 1_800_000)


def test_the_explanation_gives_reasons() -> None:
    """Every route that was looked at is there, with why it did or did not take the alert."""
    steps = Router(parse_routing(tomllib.loads(POLICY))).explain({"severity": "info", "tenant_id": "acme"}).steps
    assert steps == (
        "route[0]: no, severity is 'info'",
        "route[1]: yes, because tenant_id is 'acme'",
        "route[1].routes[0]: no, it has no owner",
        "route[1]: takes it to team",
    )


def test_nothing_written_is_the_console() -> None:
    """Without a policy everything is printed; the other tables of a policy are none of routing's business."""
    assert Router(parse_routing({"budget": [{"name": "b"}]})).explain({"severity": "critical"}).receivers == (
        "console",
    )


def test_all_faults_are_reported_together() -> None:
    """Each with the name of its place, the receivers that do not exist among them."""
    raw: dict[str, Any] = {
        "receivers": {
            "team": {"type": "slack"},
            "pager": {"type": "pagerduty", "key_env": "K", "fallback": "nobody"},
            "loop": {"type": "console", "fallback": "loop"},
        },
        "route": [
            {"match": {"colour": "red"}, "receivers": ["ghost"]},
            {"recievers": ["team"], "routes": [{"receivers": ["phantom"]}]},
        ],
        "quiet": {"office_hours": {"from": "18:00", "to": "08:00"}},
    }
    with pytest.raises(PolicyError) as caught:
        parse_routing(raw)
    text = "\n".join(caught.value.faults)
    for part in (
        "receivers.team: a slack receiver needs `channel`",
        "receivers.pager.fallback: there is no receiver 'nobody'",
        "receivers.loop.fallback: a receiver cannot stand in for itself",
        "route[0].match.colour",
        "route[0].receivers: there is no receiver 'ghost'",
        "route[1].recievers: there is no such setting",
        "route[1].routes[0].receivers: there is no receiver 'phantom'",
        "quiet.office_hours: `from` must be before `to`",
    ):
        assert part in text
