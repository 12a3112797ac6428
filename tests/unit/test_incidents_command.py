"""`incidents`: what is open, how bad, since when, what about, whose; found again by the ids it shows."""

import json

import msgspec
import pytest

from infra.kafka.embedded import EmbeddedBroker
from schemas.codec import encode
from schemas.duration import HOUR_MS
from schemas.operator import Acknowledge
from schemas.signing import OperatorKey
from streams.__main__ import main
from streams.clock import wall_ms
from streams.tools.inspection.incident_facts import incidents_of
from streams.tools.inspection.incidents import incident_lines
from tests.support.facts import NOW_MS, alert, put
from tests.support.kafka import Record, produce

OPERATOR = "the root key of operators, in tests"


@pytest.fixture
def broker(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> str:
    """A broker with topics, for the commands."""
    embedded.create_topics("", 2)
    for name, value in (("KAFKA_BOOTSTRAP", embedded.bootstrap), ("OPERATOR_KEY", OPERATOR), ("OPERATOR_NAME", "ana")):
        monkeypatch.setenv(f"SPENDFUSE_{name}", value)
    return embedded.bootstrap


def test_an_incident_in_lines_of_a_terminal() -> None:
    """The worst first, with a short id, how long it lasts, what it is about, and whose it is."""
    alerts = [
        alert("warned" * 4, severity="warning", ts_ms=NOW_MS - HOUR_MS),
        alert("stopped" * 4, ts_ms=NOW_MS - HOUR_MS, owner="eli"),
        alert("stopped" * 4, ts_ms=NOW_MS, owner="eli", state="escalated"),
        alert("beat", detector="watchdog"),
    ]
    first, second = incidents_of(alerts)
    assert incident_lines(first, NOW_MS) == [
        "CRITICAL  stoppeds  since Sun 22 Nov 2026, 23:00:00 UTC, for 1 h",
        "          Run r1 has spent $5.01.",
        "          acme · owner eli · rule run-cost · run r1",
    ]
    assert second.newest.severity == "warning"


def test_an_incident_that_opens_again_counts_from_there() -> None:
    """Since when it is open is not when the same fact was told first, long ago."""
    told = (("open", 1), ("resolved", 2), ("open", 7), ("reminder", 9))
    alerts = [alert(state=state, ts_ms=NOW_MS + hour * HOUR_MS) for state, hour in told]
    assert [one.since_ms for one in incidents_of(alerts)] == [NOW_MS + 7 * HOUR_MS]


def test_lines_hold_whatever_others_call_their_things() -> None:
    """Names and texts of any length and kind: nothing is wider than a terminal, and nothing drives it."""
    long = "\x1b[31m" + "x" * 256
    one = alert(long, tenant_id=long, owner=long, run_id=long, rule=long, summary="word " * 400)
    lines = incident_lines(incidents_of([one])[0], NOW_MS)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "\n".join(lines)


def test_what_is_listed_can_be_acknowledged(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Over a broker: open ones alone unless all are asked for, each by an id that `ack` takes; who has it in hand; as
    data as well.
    """
    opened, ended, trial = "aaaaaaaa11", "aaaaaaaa22", "bbbbbbbb33"
    put(broker, "alerts.v1", alert(opened), alert(ended), alert(ended, state="resolved"), alert(trial, mode="shadow"))
    put(broker, "alerts.v1", alert("cccccccc44", tenant_id="globex"))
    assert main(["incidents", "--tenant", "acme"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("1 open incident\n\nCRITICAL  aaaaaaaa1  since ")
    order = Acknowledge(message_id="m", ts_ms=wall_ms(), tenant_id="acme", who="ana", why="w", incident_id=opened)
    headers = tuple(OperatorKey(OPERATOR.encode()).order_headers("acme", encode(order)))
    produce(broker, "operator.v1", [Record(encode(order), b"acme", headers, order.ts_ms, 0)])
    assert main(["ack", "aaaaaaaa1", "--tenant", "acme", "--why", "mine"]) == 0
    capsys.readouterr()
    assert main(["incidents", "--all"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("3 open incidents, 1 ended\n")
    assert "in hand: ana" in listed
    assert "on trial" in listed
    assert main(["incidents", "--all", "--json"]) == 0
    found = {one["alert"]["incident_id"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {key: one["open"] for key, one in found.items()} == {
        opened: True, ended: False, trial: True, "cccccccc44": True,
    }  # fmt: skip
    assert found[opened]["acknowledged_by"] == "ana"
    assert msgspec.convert(found[opened]["alert"], type(alert())) == alert(opened)


def test_nothing_open_is_said(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Silence would leave one wondering whether it had looked."""
    assert main(["incidents"]) == 0
    assert capsys.readouterr().out == "no incident is open\n"
