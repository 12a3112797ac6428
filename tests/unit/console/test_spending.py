"""Spend against limits, and where it leads."""

import msgspec
import pytest

from models.rules.policy import Policy, read_policy_toml
from schemas.duration import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.operator import LimitException
from streams.console.state.spend import SpendHours
from streams.console.views.spending import spending
from tests.support.console_world import USD, rollup_of

HOUR_0 = 1_795_276_800_000
NOW = HOUR_0 + 30 * MINUTE_MS


def policy(more: str = "") -> Policy:
    """An hourly and a monthly budget, and some that are about other things."""
    return read_policy_toml(f"""
version = "p"
[[budget]]
name = "hourly"
period = "hour"
limit_usd = 25
overrides = {{ globex = 100 }}
[[budget]]
name = "tighter"
period = "hour"
limit_usd = 20
mode = "shadow"
[[budget]]
name = "monthly"
period = "month"
limit_usd = 1000
[[budget]]
name = "per-workflow"
period = "day"
limit_usd = 1
group_by = ["tenant_id", "workflow"]
[[budget]]
name = "prod"
period = "day"
limit_usd = 1
match = {{ environment = "prod" }}
{more}
""")


def hours(*costs: int) -> SpendHours:
    """Spend of the hours up to now, the running one last."""
    found = SpendHours()
    for back, cost in enumerate(reversed(costs)):
        start_ms = HOUR_0 - back * HOUR_MS
        found.take(rollup_of("acme", cost, start_ms, ts_ms=min(NOW, start_ms + HOUR_MS)))
    return found


def test_the_running_hour_leads_where_it_has_led_so_far() -> None:
    """$10 in half an hour leads to $20; a limit of $25 is not reached within it, one of $15 in a quarter of an hour."""
    found = spending(hours(10 * USD), policy(), "acme", {}, NOW)
    hour, day, month = found.periods
    assert found.is_running
    assert (hour.spent, hour.limit, hour.rule) == (10 * USD, 25 * USD, "hourly")
    assert hour.share == pytest.approx(0.4)
    assert hour.leads_to == 20 * USD
    assert hour.reached_ms is None
    assert day.limit is None, "budgets of workflows, and of a part of the spend, are no tenant's limit"
    assert month.limit == 1000 * USD
    raised = LimitException(
        message_id="m", ts_ms=1, tenant_id="acme", who="ana", why="w", rule="hourly", scope="acme",
        limit_nanousd=15 * USD, until_ms=NOW + DAY_MS,
    )  # fmt: skip
    lowered = spending(hours(10 * USD), policy(), "acme", {("hourly", "acme"): raised}, NOW).periods[0]
    assert (lowered.limit, lowered.reached_ms) == (15 * USD, NOW + 15 * MINUTE_MS)
    ended = {("hourly", "acme"): msgspec.structs.replace(raised, until_ms=NOW)}
    assert spending(hours(10 * USD), policy(), "acme", ended, NOW).periods[0].limit == 25 * USD
    assert spending(hours(10 * USD), policy(), "globex", {}, NOW).periods[0].limit == 100 * USD


def test_a_day_leads_where_the_last_day_led() -> None:
    """24 hours of $2 lead to $2 for each hour that is left."""
    found = spending(hours(*([2 * USD] * 24)), policy(), "acme", {}, NOW)
    day = found.periods[1]
    left_hours = (day.window.end_ms - NOW) / HOUR_MS
    assert day.leads_to == pytest.approx(day.spent + left_hours * 2 * USD, rel=0.03)


def test_a_silent_tenant_is_shown_as_of_its_last_hour() -> None:
    """What it spent then, with no forecast; an hour that has just begun has none either."""
    found = spending(hours(10 * USD), policy(), "acme", {}, NOW + 5 * HOUR_MS)
    assert not found.is_running
    assert found.periods[0].window.start_ms == HOUR_0
    assert [one.leads_to for one in found.periods] == [None, None, None]
    fresh = SpendHours()
    fresh.take(rollup_of("acme", USD, HOUR_0, ts_ms=HOUR_0 + MINUTE_MS))
    assert spending(fresh, policy(), "acme", {}, HOUR_0 + MINUTE_MS).periods[0].leads_to is None
