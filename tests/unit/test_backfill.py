"""What came more than a day late, sent again to be booked: once, in its own hour, and without a look at its run."""

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import Stimulus, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.control import Command
from schemas.rollup import Rollup
from schemas.usage import UsageMessage
from tests.support import messages
from tests.support.histories import Changelog, reborn
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, USD
from tests.support.replay import replay

NOW_MS = MONDAY_MS + 3 * DAY_MS + 9 * HOUR_MS
"""Thursday, the 26th of November, 9 o'clock."""
TUESDAY_MS = MONDAY_MS + DAY_MS + 14 * HOUR_MS
QUIET = '[[data_quality]]\nname = "data-quality"\nignore = ["backfilled", "too_late", "unattributed"]\n'
KILL = 'thresholds = [1.0]\nat_limit = "kill"\nmode = "enforce"\n'
BUDGET = '[[budget]]\nname = "{0}"\nperiod = "{0}"\nlimit_usd = 10\n' + KILL
RUN_CAP = '[[cap]]\nname = "run-cost"\nlimit_usd = 5\n' + KILL
HOURLY = '[[spend_anomaly]]\nname = "hourly"\nmin_active_hours = 3\nmin_history_hours = 3\nmultiplier = 2\n'


def past(usd: float, at_ms: int = TUESDAY_MS, **fields: Any) -> UsageMessage:
    """A call of an earlier day, sent again to be booked."""
    return messages.llm_call(at_ms, usd=usd, backfill=True, **fields)


def engine_of(*rules: str) -> Engine:
    """An engine with these rules and no other."""
    return Engine(read_policy_toml("include_defaults = false\n" + QUIET + "".join(rules)))


def at(append_ms: int, *usage: UsageMessage) -> list[Stimulus]:
    """These messages, appended then."""
    return [UsageSeen(message, append_ms) for message in usage]


def values(engine: Engine, stimuli: Iterable[Stimulus]) -> list[Any]:
    """What these lead to."""
    return [effect.value for effect in replay(engine, stimuli)]


def totals(found: Iterable[Any]) -> dict[int, int]:
    """Hour -> what it has cost, as a reader of the compacted topic adds it up."""
    standing = {one.key: one for one in found if isinstance(one, Rollup)}
    added: dict[int, int] = {}
    for one in standing.values():
        added[one.hour_start_ms] = added.get(one.hour_start_ms, 0) + one.cost_nanousd
    return {hour_ms: nanousd for hour_ms, nanousd in added.items() if nanousd}


def alerts(found: Iterable[Any]) -> list[tuple[str, str]]:
    """Rule and state of each alert."""
    return [(one.rule, one.state) for one in found if isinstance(one, Alert)]


def commands(found: Iterable[Any]) -> list[tuple[str, str]]:
    """Action and target of each command."""
    return [(one.action, f"{one.target.type}/{one.target.id}") for one in found if isinstance(one, Command)]


def test_it_counts_in_its_own_hour_beside_what_that_had() -> None:
    """The totals of an hour that nobody keeps any more are not written again with less: the two are added up, however
    often and whenever something is booked.
    """
    engine = engine_of(BUDGET.format("day"))
    found = values(engine, [
        *at(TUESDAY_MS, messages.llm_call(TUESDAY_MS, usd=3)),
        Ticked(NOW_MS),
        *at(NOW_MS, past(2), past(1)),
        Ticked(NOW_MS + 2 * HOUR_MS),
        *at(NOW_MS + 5 * HOUR_MS, past(4)),
        Ticked(NOW_MS + 3 * DAY_MS),
    ])  # fmt: skip
    assert totals(found) == {TUESDAY_MS: 10 * USD}
    assert (engine.counts.backfilled, engine.counts.too_late) == (3, 0)
    assert not engine._state.tenants["acme"].totals


def test_a_repeated_one_counts_once() -> None:
    """The copy's id follows from the event's, and is remembered like any other."""
    engine = engine_of(BUDGET.format("month"))
    once = past(4, event_id="copy-1")
    found = values(engine, [*at(NOW_MS, once, once), *at(NOW_MS + HOUR_MS, once), Ticked(NOW_MS + DAY_MS)])
    assert totals(found) == {TUESDAY_MS: 4 * USD}
    assert (engine.counts.backfilled, engine.counts.duplicates) == (1, 2)


def test_it_is_judged_by_what_still_runs() -> None:
    """A month that is exceeded by what is booked stops who spends now; the hour and the day that are not, nobody."""
    engine = engine_of(*map(BUDGET.format, ("hour", "day", "month")))
    before = values(engine, at(NOW_MS, messages.llm_call(NOW_MS, run_id="now", usd=6)))
    assert (alerts(before), commands(before)) == ([], [])
    found = values(engine, at(NOW_MS + MINUTE_MS, past(5, run_id="then")))
    assert alerts(found) == [("month", "open")]
    assert commands(found)[0] == ("kill", "run/now")
    assert not [target for _, target in commands(found) if target == "run/then"]


def test_of_what_is_over_nobody_is_told() -> None:
    """A day that is over its limit by what is booked, an hour far above the usual, a run above its cap: no alert, no
    command, then or later. The run goes on with what it had.
    """
    engine = engine_of(BUDGET.format("hour"), BUDGET.format("day"), RUN_CAP, HOURLY)
    live = messages.llm_call(NOW_MS, run_id="r", usd=1)
    found = values(engine, [
        *at(NOW_MS, live, past(100, run_id="r"), past(100, TUESDAY_MS + HOUR_MS, run_id="other")),
        *at(NOW_MS + MINUTE_MS, messages.llm_call(NOW_MS + MINUTE_MS, run_id="r", usd=1)),
        Ticked(NOW_MS + 2 * DAY_MS),
    ])  # fmt: skip
    assert (alerts(found), commands(found)) == ([], [])
    assert totals(found)[TUESDAY_MS] == 100 * USD


def test_what_is_not_late_counts_like_any_other() -> None:
    """Nobody escapes a cap or an hourly budget by marking what is new."""
    engine = engine_of(RUN_CAP)
    found = values(engine, at(NOW_MS, past(6, NOW_MS - HOUR_MS, run_id="r")))
    assert (alerts(found), commands(found)) == ([("run-cost", "open")], [("kill", "run/r")])
    assert engine.counts.backfilled == 0


def test_that_something_was_booked_is_told_once_a_day() -> None:
    """Whoever gives old times to what is new is seen, with how much it was."""
    engine = Engine(read_policy_toml("include_defaults = true"))
    found = values(engine, at(NOW_MS, past(3, owner="a", workflow="w"), past(4, owner="a", workflow="w")))
    [told] = [one for one in found if isinstance(one, Alert)]
    assert (told.rule, told.severity) == ("data-quality", "warning")
    assert "1 record of earlier days were booked today ($3.00), by backfill" in told.summary


@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "asleep"])
def test_it_belongs_to_whom_its_run_says(asleep: bool) -> None:
    """A run that is known, awake or asleep, says whose its late calls are, and stays as it is; what a call says of
    itself comes first.
    """
    day_before_ms = NOW_MS - 30 * HOUR_MS
    engine = engine_of(BUDGET.format("month"))
    started = messages.run_started(day_before_ms, run_id="r", workflow="triage", owner="ana")
    later_ms = NOW_MS if asleep else day_before_ms + MINUTE_MS
    found = values(engine, [
        *at(day_before_ms, started, messages.llm_call(day_before_ms, run_id="r", usd=1)),
        Ticked(later_ms),
        *at(later_ms, past(2, later_ms - 2 * DAY_MS, run_id="r")),
        *at(later_ms, past(3, later_ms - 2 * DAY_MS, run_id="r", workflow="other")),
        Ticked(later_ms + DAY_MS),
    ])  # fmt: skip
    booked = {one.workflow: one.cost_nanousd for one in found if isinstance(one, Rollup) and one.booked_hour_ms}
    assert booked == {"triage": 2 * USD, "other": 3 * USD}


def test_outcomes_and_tools_count_too_and_starts_do_not() -> None:
    """What became of runs is in the totals of its hour; a start or an end says nothing of spend: it is set aside."""
    engine = engine_of()
    found = values(engine, [
        *at(NOW_MS, messages.outcome(TUESDAY_MS, backfill=True),
            messages.tool_call(TUESDAY_MS, backfill=True, cost_nanousd=USD, status="error"),
            messages.run_started(TUESDAY_MS, backfill=True)),
        Ticked(NOW_MS + HOUR_MS),
    ])  # fmt: skip
    [rollup] = [one for one in found if isinstance(one, Rollup)]
    assert (rollup.accepted, rollup.tool_calls, rollup.errors, rollup.cost_nanousd) == (1, 1, 1, USD)
    assert (engine.counts.backfilled, engine.counts.too_late) == (2, 1)


@pytest.mark.parametrize("seed", range(5))
def test_restarts_book_nothing_twice_and_lose_nothing(seed: int) -> None:
    """Whenever a worker is replaced while it books, the totals are the same: those of every hour, and the month's."""
    draw = Random(seed)
    month = BUDGET.format("month").replace("10", "100000")
    policy = read_policy_toml("include_defaults = false\n" + QUIET + month)
    engine, changelog = Engine(policy), Changelog()
    found: list[Any] = []
    expected: dict[int, int] = {}
    append_ms = NOW_MS
    for number in range(300):
        append_ms += draw.randrange(5 * MINUTE_MS)
        at_ms = NOW_MS - DAY_MS - draw.randrange(12 * HOUR_MS)
        booked = past(draw.randrange(1, 9), at_ms, run_id=f"r{number % 7}", event_id=f"e{number}")
        expected[at_ms - at_ms % HOUR_MS] = expected.get(at_ms - at_ms % HOUR_MS, 0) + (booked.cost_nanousd or 0)  # type: ignore[union-attr]
        found += values(engine, at(append_ms, booked, *([booked] if draw.random() < 0.2 else [])))
        if draw.random() < 0.1:
            engine = reborn(engine, changelog, policy, draw)
    found += values(engine, [Ticked(append_ms + 2 * DAY_MS)])
    assert totals(found) == expected, f"seed {seed}"
    [scope] = engine._state.tenants["acme"].scopes.values()
    assert scope.spend("month") == sum(expected.values()), f"seed {seed}"
