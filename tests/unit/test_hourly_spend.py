"""`hourly_spend` over one scope: what is told, once, and what is no news."""

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from models.baselines.episodes import GAP_MS
from models.baselines.hourly_history import PLANNED
from schemas.duration import HOUR_MS
from tests.support.hourly import MONDAY_MS, USD, HourlyDriver, rule_of, scope_of

DAY = 24
WEEK = 7 * DAY


def driver(zone: str = "UTC", **settings: Any) -> HourlyDriver:
    rule = rule_of(**settings)
    return HourlyDriver(rule, scope_of(rule, zone))


def flat(hours: int, usd: float = 1.0) -> list[float]:
    return [usd] * hours


def with_hours(series: list[float], spikes: dict[int, float]) -> list[float]:
    """The series with some hours replaced."""
    return [spikes.get(hour, usd) for hour, usd in enumerate(series)]


def nightly(days: int, usd: Callable[[int], dict[int, float]]) -> list[float]:
    """A dollar an hour, and on each day what `usd` says of some of its hours."""
    return [usd(hour // DAY).get(hour % DAY, 1.0) for hour in range(days * DAY)]


class Case(NamedTuple):
    """A series of dollars by the hour from Monday on, and the hours in which something is told."""

    why: str
    usd: list[float]
    breach: list[int] = []
    new_normal: list[int] = []
    without_history: list[int] = []
    settings: dict[str, Any] = {}


DAYS = 4 * DAY
CASES = [
    Case("a steady scope", flat(2 * WEEK)),
    Case("five times is not more than five times", with_hours(flat(DAYS), {90: 5.0})),
    Case("more is", with_hours(flat(DAYS), {90: 5.01}), breach=[90]),
    Case("below the floor", with_hours(flat(DAYS, 0.1), {90: 0.99})),
    Case("at the floor", with_hours(flat(DAYS, 0.1), {90: 1.0}), breach=[90]),
    Case("in a row is once", with_hours(flat(DAYS), dict.fromkeys(range(80, 90), 9.0)), breach=[80]),
    Case("two calm hours between belong to it", with_hours(flat(DAYS), {80: 9.0, 83: 9.0, 86: 9.0}), breach=[80]),
    Case("three do not", with_hours(flat(DAYS), {80: 9.0, 84: 9.0}), breach=[80, 84]),
    Case("idle hours are calm ones", with_hours(flat(DAYS), {80: 9.0, 81: 0, 82: 0, 83: 9.0}), breach=[80]),
    Case("half a day is no history", with_hours(flat(47), {46: 50.0})),
    Case("two days are", with_hours(flat(49), {48: 50.0}), breach=[48]),
    Case("two days with eleven active hours are not", [1.0, *([0] * 38), *flat(10), 50.0]),
    Case("with twelve they are", [1.0, *([0] * 37), *flat(11), 50.0], breach=[49]),
    Case("nothing known, little spent", [0.5, 0.5, *flat(5, 99.99)]),
    Case("nothing known, much spent: once a day", flat(40, 100.0), without_history=[0, 24]),
    Case("a policy's own amount", flat(10, 20.0), without_history=[0], settings={"without_history_usd": 20}),
    Case("the floor is above it", flat(10, 20.0), settings={"without_history_usd": 20, "min_usd": 30}),
    Case("what is always dear is known after two days", flat(4 * DAY, 400.0), without_history=[0, 24]),
    Case(
        "once a week for ten hours: nothing is known of it",
        [*([0] * 9), *flat(10, 2.0), *([0] * (WEEK - 10)), *flat(10, 200.0)],
        without_history=[WEEK + 9],
    ),
    Case("a step up", [*flat(WEEK), *flat(3 * DAY, 6.0)], breach=[WEEK], new_normal=[WEEK + DAY]),
    Case(
        "a step up with calm hours in it",
        [*flat(WEEK), *([6.0, 6.0, 1.0] * 24)],
        breach=[WEEK],
        new_normal=[WEEK + 35],
    ),
    Case(
        "one more step up after the first, from the new level",
        [*flat(WEEK), *flat(60, 6.0), *flat(40, 40.0)],
        breach=[WEEK, WEEK + 60],
        new_normal=[WEEK + 24, WEEK + 84],
    ),
    Case("back to the old level is no news", [*flat(WEEK), *flat(30, 6.0), *flat(DAY)], [WEEK], [WEEK + 24]),
    Case(
        "a step up in office hours is known on the third day",
        nightly(14, lambda day: dict.fromkeys(range(9, 18), 8.0 if day >= 7 else 1.5)),
        breach=[WEEK + 9, WEEK + DAY + 9],
    ),
    Case("a nightly batch from the first day", nightly(14, lambda _: {2: 9.6})),
    Case("a new nightly batch: two nights", nightly(14, lambda d: {2: 9.6} if d >= 5 else {}), breach=[122, 146]),
    Case("a batch that is over for days is forgotten", nightly(18, lambda d: {2: 9.6} if d in (3, 4, 16) else {}),
         breach=[74, 98, 386]),
    Case("a weekly batch cannot be known",
         nightly(22, lambda d: {2: 9.6} if d % 7 == 6 else {}), breach=[146, 314, 482]),
    Case("on weekdays, Mondays too", nightly(21, lambda d: {2: 9.6} if d % 7 < 5 else {})),
    Case("the batch of a night is three times as dear",
         nightly(14, lambda d: {2: 30.0 if d == 10 else 9.6}), breach=[242]),
    Case("late by an hour", nightly(14, lambda d: {3: 9.6} if d == 10 else {2: 9.6})),
    Case("split over the hour's edge", nightly(14, lambda d: {2: 5.0, 3: 6.0} if d % 2 else {2: 10.0})),
    Case("early by an hour", nightly(14, lambda d: {1: 9.6} if d == 10 else {2: 9.6})),
    Case("ran as ever, and then something else",
         nightly(14, lambda d: {2: 9.6, 3: 11.0 if d == 10 else 1.0}), breach=[243]),
    Case("something else, and then as ever: told while it lasts, not later than two hours",
         nightly(14, lambda d: {1: 9.6, 2: 19.2, 3: 10.6, 4: 10.6} if d == 10 else {2: 9.6}), breach=[243]),
    Case("a runaway at another hour", nightly(14, lambda d: {2: 9.6, 14: 9.6 if d == 10 else 1.0}), breach=[254]),
    Case("a runaway by day is no news of the night",
         nightly(14, lambda d: {2: 9.6, 14: 9.6 if d in (8, 9) else 1.0}), breach=[8 * DAY + 14, 9 * DAY + 14]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_what_is_told(case: Case) -> None:
    """Exactly these hours open an incident, and none is opened again after it was over."""
    run = driver(**case.settings).hours(case.usd)
    assert run.said() == case.breach
    assert run.said("new-normal") == case.new_normal
    assert run.said("without-history") == case.without_history
    assert not run.reopened


def test_it_is_told_as_soon_as_it_is_true() -> None:
    """The charge that passes the limit tells, in the middle of the hour, and not the hour's end."""
    run = driver().hours(flat(60))
    for minute, usd in enumerate([2.0, 2.0, 0.999999999, 0.000000001, 0.000000001, 5.0]):
        assert run.told == []
        run.spend(MONDAY_MS + 60 * HOUR_MS + minute * 60_000, usd)
        if run.told:
            break
    (told,) = run.told
    assert (minute, told.finding.value) == (4, 5 * USD + 1)
    assert (told.finding.limit, told.finding.baseline, told.finding.ratio) == (5 * USD, USD, 5.0)


def test_an_episode_in_figures() -> None:
    """Each finding of an incident has the same start and says what its hours have cost; it ends three hours later."""
    run = driver().hours(with_hours(flat(DAYS), {80: 9.0, 82: 21.0, 84: 6.0}))
    first, second, third = run.notes
    start_ms = MONDAY_MS + 80 * HOUR_MS
    for finding, hour in ((first, 80), (second, 82), (third, 84)):
        end_ms = MONDAY_MS + (hour + 1) * HOUR_MS
        assert (finding.window, finding.ends_ms) == ((start_ms, end_ms), end_ms + 3 * HOUR_MS)
        assert finding.evidence["hour_start_ms"] == end_ms - HOUR_MS
    assert [finding.evidence["breaching_hours"] for finding in run.notes] == [1, 2, 3]
    assert [finding.evidence["above_usual_nanousd"] for finding in run.notes] == [8 * USD, 28 * USD, 33 * USD]
    assert third.evidence["dearest_hour_start_ms"] == MONDAY_MS + 82 * HOUR_MS
    assert third.evidence["dearest_hour_nanousd"] == 21 * USD
    assert first.summary == "acme has spent $9.00 this hour, 9 times the usual $1.00"
    assert third.summary == (
        "acme has spent $6.00 this hour, 6 times the usual $1.00; 3 such hours have cost $33.00 more than usual"
    )


def test_figures_are_looked_at_again_when_they_have_doubled() -> None:
    """A breaching hour goes on: its finding is renewed at each doubling, and not at every charge."""
    run = driver().hours(flat(60))
    before = run.judged
    for second in range(1000):
        run.spend(MONDAY_MS + 60 * HOUR_MS + second * 1000, 1.0)
    assert [finding.value // USD for finding in run.notes] == [6, 12, 24, 48, 96, 192, 384, 768]
    assert len(run.told) == 1
    assert run.judged - before <= len(run.notes) + 1


def test_the_new_normal_in_figures() -> None:
    """It says from when on, how many hours and which level; the incident before it is not gone on with."""
    run = driver().hours([*flat(WEEK), *flat(DAY, 6.0), *flat(30, 8.0), 41.0])
    _, new, last = run.told
    assert (new.finding.severity, new.finding.hour, new.finding.value) == ("info", "new_normal", 6 * USD)
    assert new.finding.window is not None
    assert new.finding.window.start_ms == MONDAY_MS + WEEK * HOUR_MS
    assert new.finding.window.end_ms > new.at_ms
    assert last.finding.window == (MONDAY_MS + (WEEK + 54) * HOUR_MS, MONDAY_MS + (WEEK + 55) * HOUR_MS)
    assert last.finding.baseline == 8 * USD


def test_a_scope_with_few_hours_a_week_gets_its_new_normal_too() -> None:
    """Two active hours a day at drifting times: after seven days of breaches nothing normal is left to compare with."""
    hours = [0.0] * (4 * WEEK)
    for day in range(4 * 7):
        for part in (0, 12):
            hours[day * DAY + (day * 7 + part) % DAY] = 1.0 if day < 14 else 9.0
    run = driver().hours(hours)
    assert len(run.said()) >= 2
    assert len(run.said("new-normal")) == 1
    (since,) = run.said("new-normal")
    assert max(run.said()) < since


def test_planned_hours_are_told_of_no_more_and_make_no_season() -> None:
    """Somebody meant it: the hour is not judged again, is no part of what is usual, and its like is told as ever."""
    run = driver().hours(with_hours(flat(3 * DAY), {50: 9.0}))
    assert run.scope.history is not None
    run.scope.history.hours.mark(MONDAY_MS + 50 * HOUR_MS, PLANNED)
    run.spend(MONDAY_MS + 50 * HOUR_MS + 1, 9.0)
    assert len(run.notes) == 1
    run.hours(with_hours(flat(DAY), {2: 9.0}), MONDAY_MS + 3 * DAY * HOUR_MS)
    run.hours(with_hours(flat(2), {1: 9.0}), MONDAY_MS + (4 * DAY + 1) * HOUR_MS)
    assert run.said() == [50, 74, 98]
    run.scope.plan((MONDAY_MS + 98 * HOUR_MS, MONDAY_MS + 98 * HOUR_MS))
    run.spend(MONDAY_MS + 98 * HOUR_MS + HOUR_MS - 1, 100.0)
    assert run.said() == [50, 74, 98]
    assert len(run.notes) == 3


LATE = [
    # hours that breach in time, hours that get 9 dollars late afterwards, hours whose incidents are told
    ([], [70], [70]),
    ([], [70, 70], [70]),
    ([], [70, 71], [70]),
    ([70], [72], [70]),
    ([70], [68], [70]),
    ([70], [66], [70, 66]),
    ([70, 74], [68], [70, 74, 68]),
]


@pytest.mark.parametrize(("in_time", "late", "told"), LATE)
def test_late_spend_is_judged_by_the_week_before_its_hour(in_time: list[int], late: list[int], told: list[int]) -> None:
    """A closed hour that was too dear is told, once, or belongs to the episode it lies in or next to."""
    run = driver().hours(with_hours(flat(76), dict.fromkeys(in_time, 9.0)))
    for hour in late:
        run.spend(MONDAY_MS + hour * HOUR_MS + 5, 9.0)
    starts = [one.finding.window.start_ms for one in run.told if one.finding.window]
    assert starts == [MONDAY_MS + hour * HOUR_MS for hour in told]
    assert run.scope.history is not None
    breaching = run.scope.history.hours.breaches(MONDAY_MS, MONDAY_MS + 76 * HOUR_MS, besides_ms=0).hours
    assert breaching == len({*in_time, *late})


def test_late_spend_of_the_first_two_days_is_not_compared() -> None:
    """What is known today was not known then: the hour is judged by what lay before it."""
    run = driver().hours(flat(70))
    run.spend(MONDAY_MS + 47 * HOUR_MS, 50.0)
    assert run.notes == []
    run.spend(MONDAY_MS + 47 * HOUR_MS, 50.0)
    assert run.said("without-history") == [69]
    assert run.said() == []


CHANGES = [
    # zone, the first day; a job at that hour by local or universal time; the clocks change on the eighth day
    ("Europe/Berlin", "2026-03-22", 4, "local"),
    ("Europe/Berlin", "2026-03-22", 4, "UTC"),
    ("Europe/Berlin", "2026-10-18", 4, "local"),
    ("Europe/Berlin", "2026-10-18", 4, "UTC"),
    ("America/New_York", "2026-10-25", 23, "UTC"),
    ("America/New_York", "2026-03-01", 23, "local"),
    ("Asia/Kolkata", "2026-03-01", 4, "local"),
]


@pytest.mark.parametrize(("zone", "first", "hour", "clock"), CHANGES)
def test_a_change_of_the_clocks_makes_no_news_of_a_nightly_job(zone: str, first: str, hour: int, clock: str) -> None:
    """Whether the job keeps to local or to universal time, and whichever of the two the policy does."""
    job_zone = ZoneInfo(zone if clock == "local" else "UTC")
    start = datetime.fromisoformat(first).replace(tzinfo=ZoneInfo(zone))
    start_ms = int(start.timestamp()) * 1000
    for policy_zone in (zone, "UTC"):
        run = driver(policy_zone)
        for past in range(14 * DAY):
            at_ms = start_ms + past * HOUR_MS + HOUR_MS // 4
            job = datetime.fromtimestamp(at_ms / 1000, job_zone).hour == hour
            run.spend(at_ms, 9.6 if job else 1.0)
        assert run.said() == [], policy_zone


def test_no_history_is_told_by_the_policys_day() -> None:
    """A day is the policy's own: one burning for thirty hours is told at its start and at each local midnight."""
    run = driver("America/New_York").hours(flat(30, 500.0))
    assert run.said("without-history") == [0, 5, 29]
    assert [told.finding.severity for told in run.told] == ["error"] * 3
    windows = [told.finding.window for told in run.told if told.finding.window]
    assert all(earlier.end_ms == later.start_ms for earlier, later in pairwise(windows))
    assert driver(severity="warning").hours([500.0]).told[0].finding.severity == "warning"


class Family(NamedTuple):
    """A tenant with a past of a week, ten dollars an hour, and a workflow of it."""

    parent: HourlyDriver
    child: HourlyDriver

    def spend(self, at_ms: int, usd: float) -> None:
        self.parent.spend(at_ms, usd)
        self.child.spend(at_ms, usd)


def family(child_hours: int, child_usd: float = 2.0) -> Family:
    """The workflow has spent in the latest `child_hours` of the week."""
    rule = rule_of(group_by=["tenant_id", "workflow"])
    parent = HourlyDriver(rule, scope_of(rule))
    both = Family(parent, HourlyDriver(rule, scope_of(rule, values=("acme", "docs")), parent))
    for hour in range(WEEK):
        parent.spend(MONDAY_MS + hour * HOUR_MS, 10.0)
        if hour >= WEEK - child_hours:
            both.child.spend(MONDAY_MS + hour * HOUR_MS, child_usd)
    return both


def test_a_young_scope_is_measured_by_its_parent() -> None:
    """After three hours its share of the parent is known: five times the share of the parent's median is too much."""
    calm, dear = family(3), family(3)
    calm.spend(MONDAY_MS + WEEK * HOUR_MS, 10.0)
    assert calm.child.told == []
    dear.spend(MONDAY_MS + WEEK * HOUR_MS, 10.01)
    (told,) = dear.child.told
    assert (told.finding.baseline, told.finding.evidence["baseline_of"]) == (2 * USD, "parent")


def test_a_scope_in_its_first_hours_is_no_outlier() -> None:
    """Its share of the parent is not known yet: a new workflow is told when it is dear, and not when it is new."""
    new = family(2)
    new.spend(MONDAY_MS + WEEK * HOUR_MS, 60.0)
    assert new.child.told == []
    new.spend(MONDAY_MS + WEEK * HOUR_MS, 40.0)
    assert [told.what for told in new.child.told] == ["without-history"]


def test_the_limit_holds_for_the_whole_hour() -> None:
    """One look at the history an hour: a scope measured by its parent is not judged at every charge either."""
    both = family(3)
    before = both.child.judged
    for second in range(500):
        both.spend(MONDAY_MS + WEEK * HOUR_MS + second * 1000, 0.015)
    assert both.child.judged - before == 1


@pytest.mark.parametrize("seed", range(5))
def test_judging_changes_nothing(seed: int) -> None:
    """Asked again and again, at any time, the rule says the same, and the scope is what it was."""
    random = Random(seed)
    asked, plain = driver(), driver()
    for hour in range(5 * DAY):
        for _ in range(random.randrange(3)):
            at_ms = MONDAY_MS + hour * HOUR_MS + random.randrange(HOUR_MS) - random.choice([0, 0, 5]) * HOUR_MS
            usd = random.lognormvariate(0, 1.2)
            for run in (asked, plain):
                run.spend(max(MONDAY_MS, at_ms), usd)
            first, second = (list(asked.rule.judge(asked.scope)) for _ in range(2))
            assert first == second
            asked.rule.next_trip(asked.scope)
            list(asked.rule.judge_hour(asked.scope))
    assert asked.notes == plain.notes
    assert asked.scope.fields() == plain.scope.fields()


def test_settings_that_cannot_be_met_are_refused() -> None:
    """With a sentence that says what to write; and how many hours are looked at follows from how many are wanted."""
    with pytest.raises(ValidationError, match="write new_normal_of = 30 or more"):
        rule_of(new_normal_hours=30, new_normal_of=29)
    with pytest.raises(ValidationError, match="without_history_usd"):
        rule_of(without_history_usd=0)
    assert (rule_of().new_normal_of, rule_of(new_normal_hours=4).new_normal_of) == (36, 6)


def test_an_episode_is_open_until_its_third_calm_hour_has_ended() -> None:
    """The last moment that still belongs to it comes before its end, and the first that does not comes after."""
    for ahead_ms, known in ((GAP_MS + HOUR_MS - 1, True), (GAP_MS + HOUR_MS, False)):
        run = driver().hours(with_hours(flat(80), {79: 9.0}))
        run.spend(MONDAY_MS + 79 * HOUR_MS + ahead_ms, 20.0)
        assert (len(run.told) == 1) == known
        assert not run.reopened
