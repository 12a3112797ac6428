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


TEAMS, TEAM_WEEKS = 20, 6


def team(random: Random, hours: int) -> list[float]:
    """Few people with agents: in one of three office hours somebody works, at a dollar or at twenty."""
    return [
        random.lognormvariate(0.4, 1.1)
        if hour // 24 % 7 < 5 and 9 <= hour % 24 < 19 and random.random() < 0.35
        else 0.0
        for hour in range(hours)
    ]


def test_busy_hours_of_a_team_are_no_news() -> None:
    """Twenty teams for six weeks: one page in five hundred active hours at most, and one message of any kind in a
    hundred; by the plain multiple it would be one in twenty.
    """
    random = Random(23)
    told = pages = plain = active = 0
    for _ in range(TEAMS):
        usd = team(random, TEAM_WEEKS * WEEK)
        run = drive(usd)
        told += len(run.told)
        pages += sum(one.finding.level >= 1 for one in run.told)
        plain += len(pages_of_the_plain_rule((hour, spent) for hour, spent in enumerate(usd) if spent))
        active += sum(spent > 0 for spent in usd)
    assert pages * 500 <= active, (pages, active)
    assert told * 100 <= active, (told, active)
    assert plain * 20 >= active, (plain, active)


def test_agents_of_a_team_that_run_away_at_night_are_told() -> None:
    """What is told of a scope without a past, a hundred dollars an hour, is told of an hour in which nobody works."""
    random = Random(24)
    for _ in range(50):
        usd = team(random, 2 * WEEK)
        hour = WEEK + 24 * random.randrange(5) + random.randrange(6)
        usd[hour] = 101.0
        assert hour in [one.hour for one in drive(usd).told], hour
