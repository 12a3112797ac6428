"""Every figure of the review, from small weeks counted by hand."""

from typing import Any

import pytest
from msgspec.structs import replace

from alerting.review.compute import review_of
from alerting.review.data import as_data
from alerting.review.facts import Daily, Kill, Line, PolicyException, Ranking, Records, Scope, Terms, Totals, Verdicts
from alerting.review.message import review_text
from alerting.review.page.page import page
from alerting.review.week import week_named
from schemas.alert import WATCHDOG
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, USD
from tests.support.reviews import (
    BEFORE_MS,
    WEEK,
    feedback,
    hour,
    incident,
    kill,
    limit_exception,
    resume,
    reviewed,
    rollup,
    silence,
)
from tests.unit.review.test_page import Page

MONDAY_BEFORE = hour(-7, 0)
"""Puts the week before on record without any spend."""


def test_spend_is_what_lies_in_the_week() -> None:
    """The first and last hour count, the ones beside them do not; the week before is summed apart."""
    review = reviewed(
        rollup(WEEK.start_ms - HOUR_MS, cost_nanousd=1),
        rollup(WEEK.start_ms, cost_nanousd=20, calls=2),
        rollup(WEEK.end_ms - HOUR_MS, cost_nanousd=300, calls=3, retries=1),
        rollup(WEEK.end_ms, cost_nanousd=4_000),
        rollup(BEFORE_MS, cost_nanousd=50_000),
        rollup(BEFORE_MS - HOUR_MS, cost_nanousd=600_000),
    )
    assert review.totals == Totals(cost_nanousd=320, calls=5, retries=1)
    assert review.before == Totals(cost_nanousd=50_001)
    assert review.since_ms == BEFORE_MS - HOUR_MS
    assert review.is_over


def test_what_was_booked_for_an_hour_is_added_to_it() -> None:
    """An hour has totals of its own, and others of what came too late and was booked since, any number of times."""
    own = hour(1, 5, calls=2)
    booked = [replace(hour(1, usd, calls=1), booked_hour_ms=WEEK.end_ms + n * HOUR_MS) for n, usd in enumerate((3, 4))]
    assert reviewed(own, *booked).totals == Totals(cost_nanousd=12 * USD, calls=4)


def test_the_five_most_expensive_and_all_others_add_up() -> None:
    """Names are ranked by this week's spend, equal ones by name; the others are one line with what they were before."""
    names = ["a", "b", "c", "d", "e", "f", "g"]
    now = [hour(1, dollars, name) for name, dollars in zip(names, (5, 9, 5, 1, 7, 2, 3), strict=True)]
    before = [hour(-6, 1, name) for name in names] + [hour(-6, 11, "gone")]
    review = reviewed(MONDAY_BEFORE, *now, *before)
    assert review.tenants == Ranking(
        lines=tuple(Line(name, dollars * USD, USD) for name, dollars in zip("beacg", (9, 7, 5, 5, 3), strict=True)),
        others=2,
        others_nanousd=3 * USD,
        others_before_nanousd=2 * USD + 11 * USD,
    )
    # One workflow for all of them.
    assert review.workflows == Ranking((Line("docs", 32 * USD, 18 * USD),), 0, 0, 0)


def test_days_are_stacked_by_workflow() -> None:
    """Each ranked workflow has its seven days, all others one row together; the week before is a sum a day."""
    spend = {"a": 60, "b": 50, "c": 40, "d": 30, "e": 20, "f": 10, "g": 5}
    review = reviewed(
        hour(-7, 1), hour(-3, 2), hour(-3, 4, "globex", "chat"),
        *(hour(number, dollars, workflow=name) for number, (name, dollars) in enumerate(spend.items())),
    )  # fmt: skip
    assert review.days[0] == Daily("a", (60 * USD, 0, 0, 0, 0, 0, 0))
    assert [one.workflow for one in review.days] == ["a", "b", "c", "d", "e", None]
    assert review.days[-1].days_nanousd == (0, 0, 0, 0, 0, 10 * USD, 5 * USD)
    assert review.before_days_nanousd == (USD, 0, 0, 0, 6 * USD, 0, 0)


@pytest.mark.parametrize(
    ("before", "days", "found"),
    [
        # Median of 2, 2, 4 is 2: over 6 is out of the ordinary, 6 is not.
        ([2, 2, 4], [6, 0, 0], None),
        ([2, 2, 4], [6.01, 0, 0], (6.01, 2, 3.0, 1, 4.01)),
        ([2, 2, 4], [7, 9, 5], (9, 2, 4.5, 2, 12)),
        # Days without spend are no days: otherwise the median of these would be 0.
        ([2, 0, 2, 0, 0, 0, 2], [7], (7, 2, 3.5, 1, 5)),
        # Of an even number, half way between the middle two.
        ([1, 1, 3, 3], [6.5], (6.5, 2, 3.25, 1, 4.5)),
        # Two days say nothing of what is usual.
        ([2, 2], [100], None),
        # Cents are always out of the ordinary.
        ([0.01, 0.01, 0.01], [0.99], None),
        ([0.01, 0.01, 0.01], [1], (1, 0.01, 100.0, 1, 0.99)),
    ],
)
def test_a_day_is_out_of_the_ordinary_above_three_times_the_median(
    before: list[float], days: list[float], found: tuple[Any, ...] | None
) -> None:
    """A scope's day against the median of its own days with spend in the week before; its worst day is named."""
    review = reviewed(
        MONDAY_BEFORE,
        *(hour(number - 7, usd) for number, usd in enumerate(before)),
        *(hour(number, usd) for number, usd in enumerate(days)),
    )
    if found is None:
        assert review.spikes == ()
        return
    (spike,) = review.spikes
    cost, usual, ratio, over, excess = found
    assert (spike.cost_nanousd, spike.usual_nanousd) == (round(cost * USD), round(usual * USD))
    assert (spike.ratio, spike.days, spike.excess_nanousd) == (ratio, over, round(excess * USD))
    assert spike.day_ms == WEEK.days_ms[days.index(cost)]


def test_spikes_are_told_apart_by_tenant_and_ranked_by_their_excess() -> None:
    """What is usual for one tenant's workflow says nothing of another's of the same name."""
    usual = [hour(day, dollars, tenant) for day in (-7, -6, -5) for tenant, dollars in (("acme", 1), ("globex", 50))]
    review = reviewed(*usual, hour(0, 40, "acme"), hour(1, 200, "globex"), hour(2, 120, "globex", "chat"))
    assert [(one.tenant_id, one.excess_nanousd // USD) for one in review.spikes] == [("globex", 150), ("acme", 39)]


def test_what_came_and_went() -> None:
    """A dollar or more in one week and nothing in the other; the dearest first."""
    review = reviewed(
        MONDAY_BEFORE,
        hour(0, 3, "acme", "new"), hour(0, 5, "globex", "newer"), hour(0, 0.99, "acme", "cheap"),
        hour(-1, 4, "acme", "old"), hour(0, 0, "acme", "old"), hour(-1, 0.5, "acme", "cheap once"),
        hour(-1, 2, "acme", "both"), hour(1, 2, "acme", "both"),
    )  # fmt: skip
    assert review.new == (Scope("globex", "newer", 5 * USD), Scope("acme", "new", 3 * USD))
    assert review.silent == (Scope("acme", "old", 4 * USD),)


def test_cost_per_accepted_outcome() -> None:
    """All spend of a workflow, over its tenants, by its accepted outcomes; by accepted and edited ones beside it."""
    review = reviewed(
        hour(0, 6, runs_started=6, runs_finished=8, accepted=2, edited=1, rejected=1),
        hour(2, 6, "globex", runs_started=4, runs_finished=8, accepted=1, escalated=3),
    )
    (docs,) = review.outcomes
    assert (docs.name, docs.tenants, docs.totals.outcomes) == ("docs", 2, 8)
    assert docs.nanousd_per_accepted == 4 * USD
    assert docs.nanousd_per_accepted_or_edited == 3 * USD
    assert docs.acceptance == 0.5
    assert docs.reported == 0.5
    assert docs.nanousd_per_run == 1_200_000_000


def test_outcomes_without_their_runs_cost_nothing_that_is_known() -> None:
    """Outcomes of runs that nobody knows are booked to `unattributed`, where nothing was spent: no cost of zero."""
    (row,) = reviewed(hour(0, 0, accepted=3, workflow="unattributed")).outcomes
    assert (row.nanousd_per_accepted, row.nanousd_per_accepted_or_edited) == (None, None)


def test_where_nothing_was_accepted_no_cost_is_made_up() -> None:
    """Not zero and not infinite: there is no such figure."""
    (docs,) = reviewed(hour(0, 6, rejected=3)).outcomes
    assert docs.nanousd_per_accepted is None
    assert docs.nanousd_per_accepted_or_edited is None
    assert docs.acceptance == 0.0
    assert docs.reported is None
    assert docs.nanousd_per_run is None


@pytest.mark.parametrize(
    ("accepted", "edited", "rejected", "is_low"),
    [(4, 0, 6, True), (0, 4, 6, True), (5, 0, 5, False), (2, 0, 7, False), (0, 0, 10, True)],
)
def test_low_acceptance_is_below_half_of_ten_outcomes(accepted: int, edited: int, rejected: int, is_low: bool) -> None:
    """Fewer outcomes than ten say nothing."""
    review = reviewed(hour(0, 6, accepted=accepted, edited=edited, rejected=rejected))
    assert bool(review.low_acceptance) is is_low


@pytest.mark.parametrize(
    ("calls", "retries", "is_high"), [(50, 5, True), (50, 4, False), (49, 49, False), (1000, 100, True)]
)
def test_high_retries_are_a_tenth_of_fifty_calls(calls: int, retries: int, is_high: bool) -> None:
    """Few calls say nothing."""
    review = reviewed(hour(0, 1, calls=calls, retries=retries))
    assert bool(review.high_retries) is is_high


def test_retries_are_ranked_by_their_share() -> None:
    """The worst first, whatever it costs."""
    review = reviewed(hour(0, 9, workflow="a", calls=100, retries=20), hour(0, 1, workflow="b", calls=100, retries=30))
    assert [(one.name, one.retry_share) for one in review.high_retries] == [("b", 0.3), ("a", 0.2)]


def test_most_expensive_runs_and_hours() -> None:
    """Five workflows at most, by cost per run and by the 99th percentile of their hours with spend."""
    rollups = [hour(0, number, workflow=f"w{number}", runs_started=number * number) for number in range(1, 8)]
    review = reviewed(*rollups)
    assert [one.name for one in review.expensive_runs] == ["w1", "w2", "w3", "w4", "w5"]
    assert [one.nanousd_per_run for one in review.expensive_runs[:2]] == [USD, USD // 2]
    assert [one.name for one in review.expensive_hours] == ["w7", "w6", "w5", "w4", "w3"]


@pytest.mark.parametrize(
    ("hours", "p99", "median"),
    [([5], 5, 5), ([1, 9], 9, 5), (range(1, 101), 99, 50.5), (range(1, 151), 149, 75.5), ([0, 0, 4], 4, 4)],
)
def test_the_p99_hour_is_by_nearest_rank(hours: Any, p99: int, median: float) -> None:
    """The smallest hour that 99 % of the hours with spend do not exceed; hours without spend do not count."""
    rollups = [rollup(WEEK.start_ms + n * HOUR_MS, cost_nanousd=usd * USD) for n, usd in enumerate(hours)]
    (docs,) = reviewed(*rollups).expensive_hours
    assert (docs.p99_hour_nanousd, docs.median_hour_nanousd) == (p99 * USD, int(median * USD))
    assert docs.hours == sum(usd > 0 for usd in hours)


def test_an_hour_of_a_workflow_is_that_of_all_its_tenants() -> None:
    """Two tenants in the same hour are one hour of the workflow."""
    (docs,) = reviewed(hour(0, 2, "acme"), hour(0, 3, "globex")).expensive_hours
    assert (docs.hours, docs.p99_hour_nanousd) == (1, 5 * USD)


def test_hours_of_the_week() -> None:
    """By day and by the hour that the clocks show, over everything."""
    review = reviewed(hour(0, 1, at=0), hour(0, 2, "globex", at=0), hour(6, 4, at=23))
    assert len(review.hours_nanousd) == 7
    assert {len(day) for day in review.hours_nanousd} == {24}
    assert (review.hours_nanousd[0][0], review.hours_nanousd[6][23]) == (3 * USD, 4 * USD)
    assert sum(nanousd or 0 for day in review.hours_nanousd for nanousd in day) == 7 * USD


@pytest.mark.parametrize(
    ("label", "day", "missing", "cell"),
    [
        # The hour from 2 to 3 does not exist on the Sunday on which the clocks go forward.
        ("2026-W13", 6, [2], None),
        # It comes twice on the Sunday on which they go back.
        ("2026-W43", 6, [], 2),
    ],
)
def test_hours_where_the_clocks_change(label: str, day: int, missing: list[int], cell: int | None) -> None:
    """A skipped hour is None and no zero; a repeated one holds both."""
    week = week_named(label, "Europe/Berlin")
    rollups = [rollup(start, cost_nanousd=1) for start in range(week.start_ms, week.end_ms, HOUR_MS)]
    review = reviewed(*rollups, week=week)
    hours = review.hours_nanousd[day]
    assert [number for number, nanousd in enumerate(hours) if nanousd is None] == missing
    assert sum(nanousd or 0 for row in review.hours_nanousd for nanousd in row) == len(rollups)
    if cell is not None:
        assert hours[2] == cell


def test_a_day_is_that_of_the_policys_zone() -> None:
    """An hour late on Monday in New York is Tuesday in UTC, and counts for Monday."""
    week = week_named("2026-W48", "America/New_York")
    review = reviewed(rollup(week.start_ms + 23 * HOUR_MS, cost_nanousd=USD), week=week)
    assert review.days[0].days_nanousd == (USD, 0, 0, 0, 0, 0, 0)
    assert review.hours_nanousd[0][23] == USD


def test_calls_without_a_price() -> None:
    """By tenant and workflow, most tokens first, with the models that alerts about them name."""
    review = reviewed(
        hour(0, 1, unpriced_calls=3, unpriced_tokens=10),
        hour(1, 1, "globex", "chat", unpriced_calls=1, unpriced_tokens=500),
        hour(2, 1, "hooli", "quiet"),
        alerts=incident("i1", "open", detector="unpriced", evidence={"models": ["house-model"]}),
        terms=Terms(charges_unpriced=True),
    )
    assert [(one.tenant_id, one.calls, one.tokens) for one in review.unpriced] == [("globex", 1, 500), ("acme", 3, 10)]
    assert review.unpriced_models == ("house-model",)
    assert review.charges_unpriced


# Incidents


def test_an_incident_counts_once_with_its_worst_severity() -> None:
    """However many messages it took; a resolution at a lower severity does not make it harmless."""
    alerts = [
        *incident("i1", "open", severity="info"),
        *incident("i1", "escalated", "reminder", "reminder", "resolved", ts_ms=WEEK.start_ms + HOUR_MS),
        *incident("i2", "open", "resolved", severity="warning"),
        *incident("i3", "open", severity="error", rule="run-cost"),
    ]
    review = reviewed(alerts=alerts)
    assert [(one.rule, one.severities, one.open) for one in review.incidents] == [
        ("daily-budget", {"critical": 1, "warning": 1}, 0),
        ("run-cost", {"error": 1}, 1),
    ]
    assert review.pages == 2


@pytest.mark.parametrize(
    ("opened_ms", "counts"),
    [(WEEK.start_ms - 1, False), (WEEK.start_ms, True), (WEEK.end_ms - 1, True), (WEEK.end_ms, False)],
)
def test_an_incident_counts_in_the_week_it_opened(opened_ms: int, counts: bool) -> None:
    """What follows later belongs to it; what opened before belongs to the week before."""
    alerts = [*incident("i1", "open", ts_ms=opened_ms), *incident("i1", "resolved", ts_ms=opened_ms + 3 * DAY_MS)]
    assert sum(one.total for one in reviewed(alerts=alerts).incidents) == counts


def test_an_incident_that_is_over_when_the_review_is_made_is_not_open() -> None:
    """It opened on Sunday and ended on Monday."""
    alerts = [*incident("i1", "open", ts_ms=WEEK.end_ms - 1), *incident("i1", "resolved", ts_ms=WEEK.end_ms + HOUR_MS)]
    (found,) = reviewed(alerts=alerts, now_ms=WEEK.end_ms + DAY_MS).incidents
    assert (found.total, found.open) == (1, 0)


def test_signs_of_life_are_no_incidents() -> None:
    """They stand on the same topic once a minute."""
    assert reviewed(alerts=incident("beat", "open", detector=WATCHDOG)).incidents == ()


def test_rules_on_trial_are_apart() -> None:
    """Nobody was told of them, so that they are no part of the precision."""
    alerts = [*incident("i1", "open", mode="shadow", rule="trial"), *incident("i2", "open")]
    review = reviewed(alerts=alerts, orders=[feedback("i1", "noise")])
    assert [one.rule for one in review.incidents] == ["daily-budget"]
    assert [(one.rule, one.verdicts.noise) for one in review.on_trial] == [("trial", 1)]
    assert review.verdicts == Verdicts(unjudged=1)


def test_precision_is_of_the_judged_incidents() -> None:
    """Useful by useful and noise; planned and unjudged ones are apart; the last word counts."""
    alerts = [one for name in ("a", "b", "c", "d", "e", "f") for one in incident(name, "open")]
    orders = [
        feedback("a", "useful"), feedback("b", "useful"), feedback("c", "noise"), feedback("d", "planned"),
        feedback("e", "noise"), feedback("e", "useful", WEEK.end_ms + HOUR_MS), feedback("from another week", "noise"),
    ]  # fmt: skip
    review = reviewed(alerts=alerts, orders=reversed(orders))
    assert review.verdicts == Verdicts(useful=3, noise=1, planned=1, unjudged=1)
    assert review.verdicts.precision == 0.75
    assert as_data(review)["incidents"][0]["verdicts"]["noise_rate"] == 0.25


def test_each_rule_has_its_precision() -> None:
    """Pages and notices, what was said of them, and on how many of all that rests: the rules with the most incidents
    first. One that people mostly call noise is named with the settings of its own that decide how much it tells.
    """
    severities = {"a": "critical", "b": "error", "c": "warning", "d": "info", "e": "warning"}
    loud = [one for name, severity in severities.items() for one in incident(name, "open", severity=severity)]
    calm = incident("f", "open", rule="calm", severity="warning")
    orders = [feedback("a", "useful"), *(feedback(name, "noise") for name in "bcd"), feedback("f", "useful")]
    settings = {"daily-budget": ("limit_usd = 5",), "calm": ("multiplier = 3",), "silent": ("share = 1",)}
    review = reviewed(alerts=[*loud, *calm], orders=orders, terms=Terms(thresholds=settings))
    noisy, good = review.incidents
    assert (noisy.rule, noisy.pages, noisy.notices, noisy.total) == ("daily-budget", 2, 3, 5)
    assert (noisy.verdicts.precision, noisy.verdicts.judged, noisy.is_noisy) == (0.25, 4, True)
    assert noisy.thresholds == ("limit_usd = 5",)
    assert (good.verdicts.precision, good.is_noisy) == (1.0, False)
    data = as_data(review)["incidents"][0]
    assert (data["pages"], data["notices"], data["judged"], data["total"]) == (2, 3, 4, 5)
    text = Page(page(review)).text
    assert "daily-budget is mostly noise. Look at limit_usd = 5, or put it in shadow mode." in text
    assert "4 of 5" in text
    assert "calm is mostly noise" not in text
    assert "  daily-budget: 2 pages, 3 notices; 25 % useful, 4 of 5 judged" in review_text(review)


def test_few_verdicts_make_no_rule_noisy() -> None:
    """Three are no judgement."""
    alerts = [one for name in "abc" for one in incident(name, "open")]
    review = reviewed(alerts=alerts, orders=[feedback(name, "noise") for name in "abc"])
    assert not review.incidents[0].is_noisy


def test_without_verdicts_there_is_no_precision() -> None:
    """None, neither zero nor one."""
    review = reviewed(alerts=incident("a", "open"), orders=[feedback("a", "planned")])
    assert review.verdicts.precision is None
    assert review.verdicts.noise_rate is None
    assert as_data(review)["verdicts"]["precision"] is None


# Kills


def of_command(command_id: str, detector: str = "cap", **evidence: Any) -> list[Any]:
    """The alert that says what became of a command."""
    evidence = {"command_id": command_id, **evidence}
    return incident(f"about {command_id}", "resolved", detector=detector, evidence=evidence)


@pytest.mark.parametrize(
    ("alerts", "orders", "fate", "overshoot", "to_stop"),
    [
        ([], [], "not known", None, None),
        (of_command("k", overshoot_nanousd=7, cause_to_stop_ms=31), [], "stopped", 7, 31),
        (of_command("k", overshoot_nanousd=7), [], "ended", 7, None),
        (
            [*of_command("k", "spending_after_kill", overshoot_nanousd=9), *of_command("k", overshoot_nanousd=12)],
            [], "went on", 12, None,
        ),
        (
            of_command("k", "spending_after_kill", overshoot_nanousd=9, cause_to_stop_ms=90_000),
            [], "went on", 9, 90_000,
        ),
        (of_command("k", overshoot_nanousd=7), [resume("run-1", WEEK.start_ms + 1)], "lifted", 7, None),
        # An order for another run, another tenant, or from before the kill, lifts nothing.
        ([], [resume("run-2", WEEK.start_ms + 1)], "not known", None, None),
        ([], [resume("run-1", WEEK.start_ms + 1, tenant_id="globex")], "not known", None, None),
        ([], [resume("run-1", WEEK.start_ms - 1)], "not known", None, None),
        (of_command("another", overshoot_nanousd=7, cause_to_stop_ms=31), [], "not known", None, None),
    ],
)  # fmt: skip
def test_what_became_of_a_kill(
    alerts: list[Any], orders: list[Any], fate: str, overshoot: int | None, to_stop: int | None
) -> None:
    """From the evidence of the alerts that name its command, and from operators' orders."""
    (found,) = reviewed(alerts=alerts, commands=[kill("k")], orders=orders).kills
    assert (found.fate, found.overshoot_nanousd, found.cause_to_stop_ms) == (fate, overshoot, to_stop)


def test_a_kill_with_what_people_said() -> None:
    """The verdict on its incident; the remark of who lifted it goes before that of who judged it."""
    judged = feedback("incident-1", "noise", who="ben", why="it was waiting")
    (found,) = reviewed(commands=[kill("k")], orders=[judged]).kills
    assert found == Kill(
        tenant_id="acme", target_type="run", target_id="run-1", rule="run-cost", incident_id="incident-1",
        issued_ms=WEEK.start_ms, fate="not known", overshoot_nanousd=None, cause_to_stop_ms=None, verdict="noise",
        remark="it was waiting", who="ben",
    )  # fmt: skip
    lifted = resume("run-1", WEEK.start_ms + 5, who="mia", why="needed")
    (found,) = reviewed(commands=[kill("k")], orders=[judged, lifted]).kills
    assert (found.fate, found.verdict, found.who, found.remark) == ("lifted", "noise", "mia", "needed")


def test_kills_of_the_week() -> None:
    """Each command once, in order; what was ordered outside of the week or was no kill is not among them."""
    commands = [
        kill("b", WEEK.end_ms - 1, "run-2"), kill("a"), kill("a"), kill("before", WEEK.start_ms - 1),
        kill("after", WEEK.end_ms), kill("p", action="pause"), kill("q", action="pause"),
    ]  # fmt: skip
    review = reviewed(
        commands=commands,
        alerts=[*of_command("a", overshoot_nanousd=5), *of_command("before", overshoot_nanousd=1000)],
    )
    assert [one.target_id for one in review.kills] == ["run-1", "run-2"]
    assert review.commands == {"kill": 2, "pause": 2}
    assert review.overshoot_nanousd == 5
    assert reviewed(commands=[kill("a")]).overshoot_nanousd is None


# Silences and exceptions


def test_silences_given_in_the_week() -> None:
    """In the order of their time, each once, those of other weeks left out."""
    orders = [
        silence(WEEK.start_ms + 2, WEEK.end_ms), silence(WEEK.start_ms + 1, 2**62), silence(WEEK.start_ms + 1, 2**62),
        silence(WEEK.start_ms - 1, WEEK.end_ms), silence(WEEK.end_ms, 2**62),
    ]  # fmt: skip
    given = reviewed(orders=orders).silences
    assert [(one.given_ms - WEEK.start_ms, one.match) for one in given] == [
        (1, {"rule": "run-cost"}),
        (2, {"rule": "run-cost"}),
    ]


@pytest.mark.parametrize(
    ("ends_ms", "is_soon"),
    [(0, False), (1, True), (7 * DAY_MS, True), (7 * DAY_MS + 1, False)],
)
def test_exceptions_that_end_within_seven_days(ends_ms: int, is_soon: bool) -> None:
    """Of the policy and of operators alike, counted from the end of the week."""
    until_ms = WEEK.end_ms + ends_ms
    written = PolicyException("daily", "globex", 5 * USD, until_ms, "launch week", "ana")
    review = reviewed(orders=[limit_exception(WEEK.start_ms - DAY_MS, until_ms)], terms=Terms(exceptions=(written,)))
    ordered = PolicyException("tenant-hourly", "acme", 300 * USD, until_ms, "a reason", "ana")
    assert review.exceptions_expiring == ((written, ordered) if is_soon else ())


def test_a_renewed_exception_does_not_end() -> None:
    """An operator's newest order for a budget and scope stands; what was given in the week is told all the same."""
    soon, later = WEEK.end_ms + DAY_MS, WEEK.end_ms + 30 * DAY_MS
    orders = [limit_exception(WEEK.start_ms + 1, soon), limit_exception(WEEK.start_ms + 2, later)]
    review = reviewed(orders=reversed(orders))
    assert review.exceptions_expiring == ()
    assert [one.until_ms for one in review.exceptions_given] == [soon, later]


# Weeks that are not like the others


def test_an_empty_week() -> None:
    """Nothing at all is a review, too."""
    review = reviewed()
    assert review.totals == Totals()
    assert (review.before, review.since_ms, review.comparable, review.attention) == (None, None, False, ())
    assert review.days == ()
    assert {nanousd for day in review.hours_nanousd for nanousd in day} == {0}


def test_a_one_week_old_install_compares_with_nothing() -> None:
    """No change is invented where the week before is not on record from its first day."""
    first_hour_of_tuesday = BEFORE_MS + DAY_MS
    rollups = [rollup(first_hour_of_tuesday, cost_nanousd=USD), hour(0, 4)]
    review = reviewed(*rollups)
    assert not review.comparable
    assert (review.before, review.before_days_nanousd, review.new, review.silent) == (None, None, (), ())
    assert review.tenants.lines == (Line("acme", 4 * USD, None),)
    assert reviewed(rollup(first_hour_of_tuesday - HOUR_MS, cost_nanousd=USD), hour(0, 4)).comparable


def test_a_week_that_is_not_over_compares_with_the_same_stretch() -> None:
    """Until Tuesday at 12: against Monday and half of Tuesday of the week before, whose days still are whole."""
    now_ms = WEEK.start_ms + DAY_MS + 12 * HOUR_MS
    review = reviewed(
        hour(0, 8), hour(1, 1, at=11), hour(1, 1, at=12), hour(-7, 1), hour(-6, 2, at=11), hour(-6, 4, at=12),
        now_ms=now_ms,
    )  # fmt: skip
    assert not review.is_over
    assert review.totals.cost_nanousd == 9 * USD
    assert review.before is not None
    assert review.before.cost_nanousd == 3 * USD
    assert review.before_days_nanousd == (USD, 6 * USD, 0, 0, 0, 0, 0)
    assert review.hours_nanousd[1][11] == USD
    assert review.hours_nanousd[1][12] is None


def test_a_week_that_has_not_begun_is_refused() -> None:
    """There is nothing to say of it yet."""
    with pytest.raises(ValueError, match="2026-W48 has not begun"):
        review_of(WEEK, Records(), Terms(), WEEK.start_ms)


def test_the_order_of_records_does_not_matter() -> None:
    """Topics are read partition by partition: the same records in another order give the same review."""
    rollups = [hour(day, day + 1, tenant, accepted=1) for day in range(7) for tenant in ("acme", "globex")]
    alerts = [
        *incident("i1", "open", "escalated", "resolved"),
        *incident("i2", "open", ts_ms=WEEK.start_ms + MINUTE_MS),
    ]
    commands = [kill("a"), kill("b", run_id="run-2")]
    orders = [feedback("i1", "useful"), silence(WEEK.start_ms, WEEK.end_ms), resume("run-2", WEEK.start_ms + 9)]
    there = reviewed(*rollups, alerts=alerts, commands=commands, orders=orders)
    back = reviewed(*rollups[::-1], alerts=alerts[::-1], commands=commands[::-1], orders=orders[::-1])
    assert there == back
