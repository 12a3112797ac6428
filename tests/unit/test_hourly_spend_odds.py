"""How often `hourly_spend` is wrong, over made-up scopes whose hours are log-normal around a daily course."""

from random import Random

import pytest

from schemas.duration import HOUR_MS
from tests.support.hourly import MONDAY_MS, HourlyDriver, rule_of, scope_of
from tests.support.spend_series import made_up, pages_of_the_plain_rule, usual_at

WEEK = 168
SCOPES, HOURS = 15, 4 * WEEK
TRIALS = 200


def drive(usd: list[float]) -> HourlyDriver:
    rule = rule_of()
    return HourlyDriver(rule, scope_of(rule)).hours(usd)


ODDS = [
    # times as much in the morning, spread of the logarithm; pages allowed in 10,000 scope-hours, and not enough of
    # them by the plain multiple of the median
    (1, 0.5, 20, 0),
    (4, 0.3, 20, 100),
    (8, 0.3, 20, 500),
    (8, 0.5, 60, 500),
]


@pytest.mark.parametrize(("peak", "spread", "most", "plain_least"), ODDS)
def test_healthy_scopes_are_seldom_paged(peak: float, spread: float, most: int, plain_least: int) -> None:
    """In 10,080 scope-hours with nothing wrong. The plain rule is counted beside it: the course must be a hard one."""
    random = Random(21)
    pages = plain = 0
    for _ in range(SCOPES):
        usd = made_up(random, HOURS, peak=peak, spread=spread)
        pages += len(drive(usd).told)
        plain += len(pages_of_the_plain_rule(enumerate(usd)))
    assert pages * 10_000 <= most * SCOPES * HOURS, pages
    assert plain * 10_000 >= plain_least * SCOPES * HOURS, plain


@pytest.mark.parametrize(("peak", "spread"), [(1, 0.5), (4, 0.5), (8, 0.3), (8, 0.5)])
def test_a_runaway_is_told_within_its_hour(peak: float, spread: float) -> None:
    """Ten times what the hour usually costs, on top, at any hour of a day after a week: nineteen of twenty are told."""
    random = Random(22)
    found = 0
    for _ in range(TRIALS):
        hour = WEEK + random.randrange(24)
        usd = made_up(random, hour + 1, peak=peak, spread=spread)
        usd[hour] += 10 * usual_at(hour, peak)
        episode = drive(usd).scope.episodes.get("hourly-5x")
        found += episode is not None and episode[1] == MONDAY_MS + hour * HOUR_MS
    assert found >= 0.95 * TRIALS, found
