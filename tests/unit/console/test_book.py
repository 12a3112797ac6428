"""What the page keeps of the topics: bounded, whole, and apart by tenant."""

from dataclasses import replace

import msgspec

from alerting.delivery.log import Delivery
from models.calendar import Window
from models.rules.policy import default_policy
from schemas.codec import encode
from schemas.duration import DAY_MS, HOUR_MS
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import LimitException
from streams.console.state import commands as commands_module
from streams.console.state import incidents as incidents_module
from streams.console.state import runs as runs_module
from streams.console.state.book import Book
from streams.console.state.spend import SWEEP_EVERY, SpendHours
from streams.tools.orders.audit import OrderRecord
from tests.support.console_world import USD, alert_of, kill_of, ordered, rollup_of, run_record

HOUR_0 = 1_795_276_800_000


def test_an_hour_is_what_its_totals_say_last() -> None:
    """A total replaces the one before it under its key; what was booked late is added; workflows add up."""
    hours = SpendHours()
    for cost in (1, 5, 9):
        hours.take(rollup_of("acme", cost, HOUR_0, ts_ms=HOUR_0 + cost))
    hours.take(rollup_of("acme", 2, HOUR_0, workflow="other", ts_ms=HOUR_0))
    hours.take(rollup_of("acme", 3, HOUR_0, booked_hour_ms=HOUR_0 + 30 * HOUR_MS, ts_ms=HOUR_0))
    hours.take(rollup_of("acme", 40, HOUR_0 - HOUR_MS, ts_ms=HOUR_0))
    assert hours.spent(Window(HOUR_0, HOUR_0 + HOUR_MS)) == 14
    assert hours.spent(Window(HOUR_0 - HOUR_MS, HOUR_0 + HOUR_MS)) == 54
    assert hours.by_workflow(Window(HOUR_0, HOUR_0 + HOUR_MS)) == {"support-triage": 12, "other": 2}
    assert hours.hourly(HOUR_0 + HOUR_MS, 3) == [0, 40, 14]


def test_old_hours_are_sums_and_older_ones_are_gone() -> None:
    """A year of hours keeps the last forty days, and of totals those that may still be written again."""
    hours = SpendHours()
    count = 2 * SWEEP_EVERY
    for number in range(count):
        start_ms = HOUR_0 + number * HOUR_MS
        hours.take(rollup_of("acme", 1, start_ms, ts_ms=start_ms + HOUR_MS))
    end_ms = HOUR_0 + count * HOUR_MS
    assert hours.spent(Window(end_ms - 30 * DAY_MS, end_ms)) == 30 * 24
    assert hours.spent(Window(0, end_ms)) <= 41 * 24
    assert len(hours._totals) <= 3 * 24


def test_runs_are_bounded_and_the_silent_leave_first(monkeypatch: object) -> None:
    """Beyond the bound the run that was silent longest leaves, counted; a run that ends is live no more."""
    del monkeypatch
    runs = runs_module.Runs()
    for number in range(runs_module.MOST_LIVE + 5):
        runs.take(run_record(f"r{number}"))
    assert len(runs.live) == runs_module.MOST_LIVE
    assert runs.left_out == 5
    assert runs.get("r0") is None
    runs.take(run_record("r10", state="finished", status="completed"))
    assert "r10" not in runs.live
    found = runs.get("r10")
    assert found is not None
    assert found.status == "completed"
    for number in range(runs_module.MOST_FINISHED + 5):
        runs.take(run_record(f"f{number}", state="finished"))
    assert runs.get("r10") is None


def test_an_incident_keeps_its_first_and_its_last_alerts() -> None:
    """Reminders in the middle are left out and counted; it moves from the open ones to the ended."""
    incidents = incidents_module.Incidents()
    for number in range(500):
        incidents.take(alert_of("r1", alert_id=f"a{number}", state="open" if not number else "reminder"))
    incident = incidents.open["inc-r1"]
    assert len(incident.alerts) <= incidents_module.MOST_ALERTS
    assert (incident.alerts[0].alert_id, incident.newest.alert_id) == ("a0", "a499")
    assert incident.left_out + len(incident.alerts) == 500
    incidents.take(alert_of("r1", alert_id="end", state="resolved"))
    assert not incidents.open
    assert list(incidents.ended) == ["inc-r1"]
    for number in range(incidents_module.MOST_ENDED + 3):
        incidents.take(alert_of(f"e{number}", state="resolved"))
    assert "inc-r1" not in incidents.ended


def test_a_delivery_may_come_before_its_alert() -> None:
    """It holds the alert: the incident is known by it, once."""
    incidents = incidents_module.Incidents()
    alert = alert_of("r1")
    delivery = Delivery(alert=alert, receiver="oncall", status="sent", news="first", group=(), due_ms=0, at_ms=5)
    incidents.take_delivery(delivery)
    incidents.take(alert)
    incident = incidents.open["inc-r1"]
    assert len(incident.alerts) == 1
    assert [one.receiver for one in incident.deliveries.values()] == ["oncall"]


def test_what_became_of_a_command_is_what_its_incident_says_or_its_run() -> None:
    """The incident knows the time from the cause and the overshoot; until it speaks, the run's own record does."""
    book = commands_module.Commands()
    run, kill = run_record("r1"), kill_of("r1")
    book.take(kill)
    book.take(kill)
    assert len(book.given) == 1
    assert book.outcome(kill, run) is None
    spent_more = msgspec.structs.replace(ordered(run, kill, kill.issued_ms + 70), cost_nanousd=run.cost_nanousd + 5)
    assert book.outcome(kill, spent_more) == ("stopped", 70, 5)
    evidence = {"command_id": kill.command_id, "cause_to_stop_ms": 91, "overshoot_nanousd": 7}
    book.take_alert(alert_of("r1", state="resolved", evidence=evidence))
    assert book.outcome(kill, spent_more) == ("stopped", 91, 7)
    assert book.run_command("acme", "r1") == kill
    book.take(kill_of("r1", command_id="c2", action="resume"))
    assert book.run_command("acme", "r1") is None


def test_a_tenants_reader_sees_that_tenant_alone() -> None:
    """Each thing is kept under its own tenant; a reader of all tenants sees all; versions rise for those who see it."""
    book = Book(default_policy())
    for tenant_id in ("acme", "globex"):
        book.take_run(run_record("same-name", tenant_id))
        book.take_alert(alert_of("same-name", tenant_id))
    assert [one.tenant_id for one in book.visible("acme")] == ["acme"]
    assert {one.tenant_id for one in book.visible(ALL_TENANTS)} == {"acme", "globex"}
    before = {name: book.version(name) for name in ("acme", "globex", ALL_TENANTS)}
    book.take_command(kill_of("same-name", "globex"))
    changed = {name for name, version in before.items() if book.version(name) != version}
    assert changed == {"globex", ALL_TENANTS}
    assert not list(book.visible("nobody"))


def test_only_signed_exceptions_raise_a_limit() -> None:
    """An order that nobody's key has signed is kept to be shown as refused, and raises nothing."""
    book = Book(default_policy())
    order = LimitException(
        message_id="m", ts_ms=1, tenant_id="acme", who="ana", why="launch", rule="b", scope="acme",
        limit_nanousd=USD, until_ms=2,
    )  # fmt: skip
    record = OrderRecord(0, 0, 1, encode(order), [])
    book.take_order(order, record, is_genuine=False)
    assert not book.tenant("acme").raised
    book.take_order(order, replace(record, offset=1), is_genuine=True)
    assert book.tenant("acme").raised == {("b", "acme"): order}
    assert len(book.tenant("acme").orders_naming("launch")) == 2
    assert not book.tenant("acme").orders_naming("lunch")
