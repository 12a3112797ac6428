"""The tallies of wrong data and the rules about them: floors, bounds, restarts, policies."""

from typing import Any

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.state.data_quality import KINDS, MOST, MOST_EXAMPLES, DataQuality, Tally
from models.stimuli import PolicyChanged, UsageSeen
from schemas.alert import Alert
from schemas.errors import PolicyError
from schemas.usage import LlmCall
from tests.support import messages
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS, SECOND_MS

NINE_MS = MONDAY_MS + 9 * HOUR_MS


def alerts(engine: Engine, calls: list[LlmCall]) -> list[Alert]:
    """What these calls, each appended at its own time, lead to."""
    for call in calls:
        engine.handle(UsageSeen(call, call.ts_ms))
    return [effect.value for effect in engine.drain_effects() if isinstance(effect.value, Alert)]


def restarted(engine: Engine, policy: str) -> Engine:
    """Another engine, made of all that this one has written."""
    other = Engine(read_policy_toml(policy))
    other.restore({key: value for key, value in engine.drain_rows() if value is not None})
    return other


def unpriced(number: int, **fields: Any) -> LlmCall:
    """A call that nobody can price."""
    return messages.llm_call(
        NINE_MS + number * SECOND_MS, model="house-model", cost_nanousd=None, workflow="docs", **fields
    )


def reported_free(number: int) -> LlmCall:
    """A call that costs $0.226 by the tables, reported to cost nothing."""
    at_ms = NINE_MS + number * SECOND_MS
    return messages.llm_call(
        at_ms, model="gpt-4o", input_tokens=90_000, workflow="docs", prompt_hash=f"{number}", cost_nanousd=0
    )


def test_a_tally_survives_its_row_and_keeps_few_examples() -> None:
    """Plain values in, the same tally out; examples are distinct, the first ones, and bounded."""
    quality = DataQuality()
    for kind in KINDS:
        for number in range(100):
            tally = quality.tally(kind, NINE_MS)
            tally.add(cost_nanousd=2, computed_nanousd=5, tokens=7, model=f"m{number % 9}", run_id=f"r{number}")
    again = DataQuality.read(quality.fields())
    assert again.fields() == quality.fields()
    tally = again.tally("price_mismatch", NINE_MS)
    assert (tally.records, tally.cost_nanousd, tally.computed_nanousd, tally.off_nanousd) == (100, 200, 500, 300)
    assert tally.runs == [f"r{number}" for number in range(MOST_EXAMPLES)]
    assert tally.models == [f"m{number}" for number in range(MOST_EXAMPLES)]


def test_a_tally_saturates() -> None:
    """Absurd amounts are counted up to a bound that a row can hold."""
    tally = Tally(0)
    for _ in range(3):
        tally.add(cost_nanousd=MOST - 1, tokens=MOST - 1)
    assert (tally.cost_nanousd, tally.off_nanousd, tally.tokens, tally.records) == (MOST, MOST, MOST, 3)


def test_a_later_day_starts_anew_and_an_earlier_one_is_over() -> None:
    """What comes late counts in the day that runs, so that no day is told twice."""
    quality = DataQuality()
    quality.tally("unpriced", MONDAY_MS + DAY_MS).add()
    quality.tally("unpriced", MONDAY_MS).add()
    assert quality.tally("unpriced", MONDAY_MS + DAY_MS + 5).records == 2
    assert quality.tally("unpriced", MONDAY_MS + 2 * DAY_MS).records == 0


def test_half_a_tally_is_continued_after_a_restart() -> None:
    """Five calls before and five after are ten, and what was told before a restart is not told again."""
    policy = '[[unpriced]]\nname = "unpriced"'
    engine = Engine(read_policy_toml(policy))
    assert not alerts(engine, [unpriced(number) for number in range(5)])
    engine = restarted(engine, policy)
    (alert,) = alerts(engine, [unpriced(number) for number in range(5, 10)])
    assert (alert.rule, alert.evidence["calls"]) == ("unpriced", 10)


def test_what_was_told_is_not_told_again_after_a_restart_or_by_another_policy() -> None:
    """One fact, one page: the day's incident stays the same one."""
    policy = '[[unpriced]]\nname = "unpriced"'
    engine = Engine(read_policy_toml(policy))
    assert len(alerts(engine, [unpriced(number) for number in range(10)])) == 1
    engine = restarted(engine, policy)
    assert not alerts(engine, [unpriced(number) for number in range(10, 20)])
    engine.handle(PolicyChanged(read_policy_toml(policy + "\nmin_calls = 5"), 0))
    assert not alerts(engine, [unpriced(number) for number in range(20, 30)])


def test_a_price_that_comes_with_another_policy_counts_from_then_on() -> None:
    """Whoever adds `[[price]]` after the alert is charged right from the next call."""
    engine = Engine(read_policy_toml(""))
    alerts(engine, [unpriced(0)])
    budget = '[[budget]]\nname = "b"\nperiod = "day"\nlimit_usd = 0.001\nthresholds = [1.0]'
    engine.handle(PolicyChanged(read_policy_toml(budget + '\n[[price]]\nmodel = "house-*"\ninput = 1\noutput = 1'), 0))
    (alert,) = alerts(engine, [unpriced(1)])
    assert (alert.rule, alert.value) == ("b", 1_100_000)


@pytest.mark.parametrize(
    ("quality", "modes"),
    [
        ("", {"alert"}),
        ('ignore = ["price_mismatch"]', set()),
        ("mismatch_usd = 5", set()),
        ('mode = "shadow"', {"shadow"}),
    ],
)
def test_a_kind_can_be_ignored_raised_or_shadowed(quality: str, modes: set[str]) -> None:
    """A source that is known to report 0 does not have to be told of every day."""
    engine = Engine(read_policy_toml(f'[[data_quality]]\nname = "q"\n{quality}'))
    calls = [reported_free(number) for number in range(10)]
    assert {alert.mode for alert in alerts(engine, calls) if alert.rule == "q"} == modes


def test_a_kind_that_does_not_exist_is_refused() -> None:
    """A misspelt kind would ignore nothing."""
    with pytest.raises(PolicyError, match="ignore"):
        read_policy_toml('[[data_quality]]\nname = "q"\nignore = ["mismatch"]')


def test_the_computed_price_counts_where_the_policy_prefers_it() -> None:
    """A cap in money bites on a source that reports 0, and the mismatch is told with what was reported."""
    cap = '[[cap]]\nname = "c"\nlimit_usd = 1\nthresholds = [1.0]\nat_limit = "kill"\nmode = "enforce"\n'
    engine = Engine(read_policy_toml("prefer_computed_price = true\n" + cap))
    calls = [reported_free(number) for number in range(5)]
    found = {alert.rule: alert for alert in alerts(engine, calls)}
    assert found["c"].value == 5 * (90_000 * 2500 + 100 * 10_000)
    assert found["data-quality"].evidence["computed_nanousd"] == found["c"].value
    assert "reported_nanousd" in found["data-quality"].evidence


def test_calls_that_count_as_nothing_are_told() -> None:
    """Ten calls of a known model without tokens and cost; those that failed or came from a cache rightly have none."""
    engine = Engine(read_policy_toml('version = "1"'))
    no_faults: list[dict[str, Any]] = [{"status": "error"}, {"cache_hit": True}]
    calls = [
        messages.llm_call(
            NINE_MS + number * SECOND_MS, model="gpt-4o", cost_nanousd=None, input_tokens=0, output_tokens=0, **fields
        )
        for number, fields in enumerate([*no_faults * 4, *[{}] * 10])
    ]
    assert alerts(engine, calls[:-1]) == []
    [alert] = alerts(engine, calls[-1:])
    assert (alert.rule, alert.value, alert.unit) == ("data-quality", 10, "calls")
    assert "10 calls to gpt-4o today came without tokens and without a cost" in alert.summary
