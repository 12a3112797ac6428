"""From what is known to what is shown: every view, hostile names included."""

import re
from typing import Any

import msgspec
import pytest

from alerting.review.week import week_before, week_named
from models.prices.book import PriceBook
from models.rules.policy import read_policy_toml
from schemas.codec import encode
from schemas.duration import DAY_MS, HOUR_MS
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import Acknowledge
from streams.clock import wall_ms
from streams.console.call_tree import CallTree
from streams.console.live import _changed
from streams.console.pages.weeks import chosen_week, name_of
from streams.console.run_known import RunKnown, run_known
from streams.console.state.book import Book
from streams.console.views import incident as incident_view
from streams.console.views import now as now_view
from streams.console.views import policy as policy_view
from streams.console.views import run as run_view
from streams.console.views.curve import Curve, curve
from streams.console.views.pieces import advice
from streams.kafka.order_reader import OrderReader
from streams.tools.inspection.run_facts import RunKey
from streams.tools.orders.audit import OrderRecord
from tests.support.console_world import USD, alert_of, calls_of, kill_of, rollup_of, run_record
from tests.unit.test_documented_policies import EXAMPLES

EVIL = '<script>alert(1)</script>"onload="x" \u202eevil\u200b' + "x" * 5_000
NOBODY = OrderReader(())
POLICY = """
version = "v1"
timezone = "Europe/Berlin"
[[budget]]
name = "hourly"
period = "hour"
limit_usd = 25.0
overrides = { acme = 100.0, "42" = 5 }
[[cap]]
name = "run-cost"
limit_usd = 5.25
thresholds = [0.5, 1.0]
match = { tenant_id = "42" }
[receivers.team]
type = "console"
[[route]]
receivers = ["team"]
[owners]
"*" = "team"
"""


def furnished(tenant_id: str = "acme") -> Book:
    """A book with something of everything."""
    book = Book(read_policy_toml(POLICY))
    book.take_rollup(rollup_of(tenant_id, 7 * USD, wall_ms() // HOUR_MS * HOUR_MS))
    book.take_run(run_record("r1", tenant_id))
    book.take_command(kill_of("r1", tenant_id))
    book.take_alert(alert_of("r1", tenant_id))
    return book


def test_now_shows_spend_incidents_stops_and_runs() -> None:
    """Each with its figures; the live run with the distance to its limit, and the kill on it."""
    book = furnished()
    parts = now_view.fragments(book, "acme", wall_ms())
    assert "$7.00" in parts["spend"]
    assert "of $100.00" in parts["spend"]
    assert "The run has cost $5.03 of its $5.00 cap" in parts["incidents"]
    assert "not confirmed" in parts["stops"]
    [(key, run, command)] = now_view.runs_rows(book, "acme")
    row = now_view.row(run, command)
    assert key == "acme/r1"
    assert row[1:3] + row[5:6] + row[7:10] == ["r1", "acme", "$2.00", 0.4, "$2.00 of $5.00, run-cost", "kill"]
    assert set(now_view.news(book, "acme").values()) == {
        "Kill sent to run r1", "critical: The run has cost $5.03 of its $5.00 cap",
    }  # fmt: skip


def test_a_day_without_spend_shows_the_last_one_that_had_some() -> None:
    """Somebody who looks shortly after midnight, or at a recorded log, sees what was spent, and on which side of it."""
    book = Book(read_policy_toml(POLICY))
    book.take_rollup(rollup_of("acme", 7 * USD, wall_ms() // HOUR_MS * HOUR_MS - 40 * HOUR_MS))
    figures = now_view.fragments(book, "acme", wall_ms())["figures"]
    assert "Spent on the last day" in figures
    assert "$7.00" in figures
    book.take_rollup(rollup_of("acme", 2 * USD, wall_ms() // HOUR_MS * HOUR_MS))
    figures = now_view.fragments(book, "acme", wall_ms())["figures"]
    assert "Spent today" in figures
    assert "$2.00" in figures


def test_rules_on_trial_alarm_nobody() -> None:
    """Their incidents are not among the open ones, and nobody is told aloud."""
    book = Book(read_policy_toml(POLICY))
    book.take_alert(alert_of("r1", mode="shadow"))
    assert "No incident is open." in now_view.fragments(book, "acme", wall_ms())["incidents"]
    assert not now_view.news(book, "acme")


@pytest.mark.parametrize("tenant_id", ["acme", EVIL[:128]])
def test_hostile_names_are_harmless_wherever_they_stand(tenant_id: str) -> None:
    """No markup, nothing invisible, nothing that turns the line, and nothing long comes through any view."""
    book = Book(read_policy_toml(POLICY))
    book.take_rollup(rollup_of(tenant_id, USD, wall_ms() // HOUR_MS * HOUR_MS, workflow=EVIL))
    names: dict[str, Any] = dict.fromkeys(
        ("workflow", "owner", "project", "agent", "model", "feature", "session_id", "outcome", "status"), EVIL
    )
    book.take_run(run_record(EVIL, tenant_id, **names))
    kill = kill_of(EVIL, tenant_id, reason=EVIL, rule=EVIL, incident_id="i")
    book.take_command(kill)
    alert = alert_of(
        EVIL, tenant_id, incident_id="i", rule=EVIL, summary=EVIL, owner=EVIL, next_action=EVIL, policy_version=EVIL,
        evidence={"tool": EVIL, EVIL[:50]: EVIL}, attribution={"workflow": EVIL}, unit=EVIL,
    )  # fmt: skip
    book.take_alert(alert)
    tree = CallTree(EVIL[:100], PriceBook())
    for call in calls_of(EVIL[:100], 4, tenant_id[:100], agent=EVIL[:200]):
        tree.take(call)
    known = run_known(book, NOBODY, RunKey(tenant_id, EVIL), wall_ms())
    incident = book.tenant(tenant_id).incidents.get("i")
    assert incident is not None
    shown = {
        **now_view.fragments(book, tenant_id, wall_ms()),
        **run_view.fragments(known, tree, "", {}, may_operate=True),
        **incident_view.fragments(incident, [], may_operate=True),
    }
    for place, text in shown.items():
        for wrong in ("<script", 'onload="x"', "\u202e", "\u200b", "x" * 700):
            assert wrong not in re.sub(r'href="[^"]*"', "", text), place
    for _, run, command in now_view.runs_rows(book, tenant_id):
        assert all(len(text) < 200 for text in now_view.row(run, command)[1:5])


def test_a_run_is_explained_and_drawn() -> None:
    """Why it was stopped, its calls in chunks, the third of a kind marked; a key that may not order has no button."""
    book = furnished()
    tree = CallTree("r1", PriceBook())
    for call in calls_of("r1", 100):
        tree.take(call)
    known = run_known(book, NOBODY, RunKey("acme", "r1"), wall_ms())._replace(is_caught_up=True)
    parts = run_view.fragments(known, tree, "", {}, may_operate=True)
    assert "This run is killed." in parts["why"]
    assert "3× the same" in parts["calls-0"]
    assert {"calls-0", "calls-1", "calls-2", "calls-3"} <= parts.keys()
    assert "limit $5.00" in parts["curves"]
    assert "/order/resume?" in parts["actions"]
    assert not run_view.fragments(known, tree, "", {}, may_operate=False)["actions"]
    unknown = run_known(book, NOBODY, RunKey("acme", "nobody"), wall_ms())._replace(is_caught_up=True)
    assert "Nobody has heard of this run" in run_view.fragments(unknown, None, "", {}, may_operate=True)["why"]


def test_only_what_changed_is_sent() -> None:
    """A part that is as it was is not sent again."""
    book, sent = furnished(), dict[str, bytes]()
    now_ms = wall_ms()
    assert len(_changed(now_view.fragments(book, "acme", now_ms), sent)) == 5
    assert not _changed(now_view.fragments(book, "acme", now_ms), sent)
    book.take_alert(alert_of("r2"))
    assert set(_changed(now_view.fragments(book, "acme", now_ms), sent)) == {"incidents", "figures"}


def test_a_policy_is_shown_to_a_tenant_without_the_others() -> None:
    """Limits are its own; what stands there of others, and who is notified, is for those who see all tenants."""
    policy = read_policy_toml(POLICY)
    own = policy_view.in_force(policy, None, "42", sees_all=False)
    assert "limit_usd 5" in own
    assert "acme" not in own
    assert "100" not in own
    assert "limit_usd 25" in policy_view.in_force(policy, None, ALL_TENANTS, sees_all=True)


@pytest.mark.parametrize("text", [POLICY, *(path.read_text(encoding="utf-8") for path in EXAMPLES)])
def test_a_policy_written_anew_is_the_same_policy(text: str) -> None:
    """What the form starts with reads as what is in force, names that are numbers included."""
    policy = read_policy_toml(text)
    again = read_policy_toml(policy_view.toml_of(policy))
    assert again.stamp == policy.stamp
    assert again.source == policy.source or again.to_json() == policy.to_json()


def test_a_curve_of_any_length_is_a_few_points() -> None:
    """Thousands of calls are drawn as some hundreds of points, their highest kept; one call is no curve."""
    drawn = curve(Curve("Cost", list(range(5_000)), ["first", "last"], 9_000, "limit $9.00", stops=True))
    assert drawn.count(",") < 1_500
    assert "; limit $9.00" in drawn
    assert 'class="cap"></line>' in drawn
    pressed = curve(Curve("Cost", [1, 2, 3], ["first", "last"], 9_000, "limit $9.00"))
    assert "limit $9.00, far above" in pressed
    assert 'class="cap"></line>' not in pressed
    assert not curve(Curve("Cost", [1], ["one"]))


def test_a_context_is_shown_against_what_context_growth_goes_by() -> None:
    """From where on the rule looks, at the earliest; where it has told of the run, the limit that it told of."""
    rule = '[[context_growth]]\nname = "growth"\n'
    tree = CallTree("r1", PriceBook())
    for number, call in enumerate(calls_of("r1", 6)):
        tree.take(msgspec.structs.replace(call, input_tokens=20_000 + 9_000 * number) if number % 2 == 0 else call)

    def curves(book: Book) -> str:
        return run_view.fragments(known_of(book), tree, "", {}, may_operate=False)["curves"]

    book = Book(read_policy_toml(POLICY + rule))
    book.take_run(run_record("r1"))
    assert "growth looks from 60.0k" in curves(book), "three times its beginning"
    told: dict[str, Any] = {"detector": "context_growth", "rule": "growth", "limit": 48_001, "unit": "tokens"}
    book.take_alert(alert_of("r1", alert_id="g", incident_id="g", **told))
    assert "growth told from 48.0k" in curves(book)
    book = Book(read_policy_toml(POLICY + rule + 'mode = "shadow"\n'))
    book.take_run(run_record("r1"))
    assert "growth" not in curves(book)


def known_of(book: Book) -> RunKnown:
    """What is known of the run r1 of acme, all of it read."""
    return run_known(book, NOBODY, RunKey("acme", "r1"), wall_ms())._replace(is_caught_up=True)


def test_who_has_an_incident_in_hand_is_seen_wherever_it_stands() -> None:
    """In the list, on its page and before somebody else takes it: two may be at it in the same night. What nobody's key
    has signed takes nothing in hand.
    """
    book = furnished()
    taken = Acknowledge(message_id="m", ts_ms=1, tenant_id="acme", who="ana", why="I look at it", incident_id="inc-r1")
    record = OrderRecord(0, 0, wall_ms(), encode(taken), [])
    book.take_order(taken, record, is_genuine=False)
    assert "in hand" not in now_view.fragments(book, "acme", wall_ms())["incidents"]
    book.take_order(taken, record, is_genuine=True)
    assert "in hand" in now_view.fragments(book, "acme", wall_ms())["incidents"]
    tenant = book.tenant("acme")
    incident = tenant.incidents.get("inc-r1")
    assert incident is not None
    shown = incident_view.fragments(incident, [], may_operate=True, in_hand=tenant.in_hand["inc-r1"])
    assert "ana: I look at it" in shown["head"]
    assert "Take over…" in shown["actions"]


def test_what_ended_lately_is_found_without_its_address() -> None:
    """Somebody who comes in the morning sees what was wrong in the night, and the way to it."""
    book = furnished()
    book.take_alert(alert_of("r1", alert_id="over", state="resolved"))
    parts = now_view.fragments(book, "acme", wall_ms())
    assert "No incident is open." in parts["incidents"]
    assert "/incident?tenant=acme&amp;incident=inc-r1" in parts["ended"]
    assert not now_view.fragments(book, "acme", wall_ms() + 3 * DAY_MS)["ended"]


def test_a_run_says_that_it_is_over_and_leads_to_its_incidents() -> None:
    """Of one that finished, the end and not that it is not stopped; of each incident about it, the way there."""
    book = Book(read_policy_toml(POLICY))
    book.take_run(run_record("r1", state="finished", status="completed"))
    assert "This run is over: completed." in run_view.fragments(known_of(book), None, "", {}, may_operate=True)["why"]
    book.take_alert(alert_of("r1", command=None))
    why = run_view.fragments(known_of(book), None, "", {}, may_operate=True)["why"]
    assert "/incident?tenant=acme&amp;incident=inc-r1" in why


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("list it under `pollers`.", "list it under <code>pollers</code>."),
        ("a ` alone", "a ` alone"),
        ("`<b>`", "<code>&lt;b&gt;</code>"),
    ],
)
def test_names_in_advice_are_set_apart(text: str, shown: str) -> None:
    """Names of settings and files; what has no end is none, and nothing in it is markup."""
    assert advice(text) == f"<bdi>{shown}</bdi>"


def test_on_a_monday_the_week_is_the_last_one() -> None:
    """Nothing is in the running one then; from Tuesday on it is the running one, and always the one asked for."""
    week = week_named("2026-W48", "Europe/Berlin")
    weeks = [week, week_before(week)]
    assert chosen_week(weeks, None, week.start_ms + HOUR_MS) == weeks[1]
    assert chosen_week(weeks, None, week.start_ms + DAY_MS) == week
    assert chosen_week(weeks, "2026-W48", week.start_ms) == week
    assert chosen_week(weeks, "nonsense", week.start_ms + DAY_MS) == week
    assert name_of(3, week) == "23 – 29 Nov"
    assert name_of(4, week_named("2026-W44", "Europe/Berlin")) == "26 Oct – 1 Nov"
