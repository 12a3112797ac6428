"""What runs come to: which days are looked at, what is silent, and what the books hold at most."""

from collections.abc import Iterable
from typing import Any

import pytest

from models.detectors.results.cost_per_accepted import CostPerAccepted, CostPerAcceptedSettings
from models.engine import Engine
from models.rules.finding import Finding
from models.rules.policy import Policy, read_policy_toml
from models.state.spend.escalations import MOST_REASONS, OTHER_REASONS
from models.state.spend.results import DAYS_KEPT, ResultBook
from models.stimuli import Ticked, UsageSeen
from schemas.alert import Alert
from schemas.errors import PolicyError
from tests.support import messages
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS, USD

TODAY_MS = MONDAY_MS + 60 * DAY_MS
NOON_MS = TODAY_MS + 12 * HOUR_MS


def rule(**settings: Any) -> CostPerAccepted:
    return CostPerAccepted(CostPerAcceptedSettings.model_validate({"name": "accepted", **settings}))


def a_book(*days: tuple[int, int, int]) -> ResultBook:
    """Days ago, runs of a dollar, and how many of them were accepted; the others were rejected. All ended at nine."""
    book = ResultBook("acme", "x", "docs", "")
    for ago, runs, accepted in days:
        hour_ms = TODAY_MS - ago * DAY_MS + 9 * HOUR_MS
        for number in range(runs):
            said = "accepted" if number < accepted else "rejected"
            book.add(hour_ms, said, USD, 0, dear=False, sign=1)
    return book


def judged(book: ResultBook, **settings: Any) -> list[Finding]:
    return list(rule(**settings).judge(book, NOON_MS))


def test_as_few_days_are_looked_at_as_have_enough_runs() -> None:
    """A busy workflow is judged on today; a small one on as many days as it takes, at most a week."""
    past = [(ago, 40, 20) for ago in range(10, 13)]
    (busy,) = judged(a_book((0, 60, 6), *past))
    assert (busy.value, busy.baseline, busy.evidence["days"]) == (10 * USD, 2 * USD, 1)
    (small,) = judged(a_book((0, 20, 2), (3, 20, 2), (5, 20, 2), (6, 20, 20), *past))
    assert (small.evidence["days"], small.evidence["accepted_runs"]) == (6, 6)
    assert judged(a_book((0, 20, 2), (7, 40, 2), *past)) == []


@pytest.mark.parametrize(
    "book",
    [
        pytest.param(a_book((0, 60, 0)), id="nothing was ever accepted, and nobody has set a limit"),
        pytest.param(a_book((0, 60, 6), (10, 40, 19)), id="too few were accepted before"),
        pytest.param(a_book((0, 60, 6), (40, 40, 20)), id="what was before is too long ago"),
        pytest.param(a_book((0, 60, 10), (10, 40, 20)), id="three times as much is not more"),
        pytest.param(a_book((0, 49, 1), (10, 40, 20)), id="too few runs"),
    ],
)
def test_what_says_nothing(book: ResultBook) -> None:
    """No figure, no alarm."""
    assert judged(book) == []


def test_nothing_accepted_is_told_from_one_that_was_due() -> None:
    """It is never 0: the value is what was spent, and the words say so."""
    (found,) = judged(a_book((0, 50, 0), (10, 40, 20)))
    assert (found.value, found.limit, found.ratio) == (50 * USD, 6 * USD, None)
    assert found.summary.startswith("Nothing was accepted for $50.00")


def test_an_open_cohort_does_not_count() -> None:
    """While one run of the hour has not said what became of it, none of them counts; when its grace is over, all do."""
    book = a_book((0, 60, 6), (10, 40, 20))
    book.add(TODAY_MS + 9 * HOUR_MS, "unknown", USD, 0, dear=False, sign=1)
    assert judged(book) == []
    (found,) = judged(book, grace_hours=2)
    assert found.evidence["unreported_runs"] == 1


def engine_with(text: str) -> Engine:
    return Engine(read_policy_toml(text))


def alerts_of(engine: Engine) -> list[Alert]:
    return [effect.value for effect in engine.drain_effects() if isinstance(effect.value, Alert)]


def finish(engine: Engine, at_ms: int, names: Iterable[dict[str, Any]], outcome: str = "accepted") -> None:
    """Runs of a dollar that end at once and are judged."""
    for name in names:
        engine.handle(UsageSeen(messages.llm_call(at_ms, usd=1, **name), at_ms))
        engine.handle(UsageSeen(messages.run_finished(at_ms, run_id=name["run_id"]), at_ms))
        engine.handle(UsageSeen(messages.outcome(at_ms, run_id=name["run_id"], outcome=outcome), at_ms))


def test_further_workflows_share_a_book() -> None:
    """Names come from outside; what is booked under the shared one can be taken out again."""
    engine = engine_with('max_workflows_per_tenant = 3\n[[cost_per_accepted]]\nname = "a"')
    names = [{"run_id": f"r{number}", "workflow": f"w{number}"} for number in range(9)]
    finish(engine, MONDAY_MS, names)
    books = engine._state.tenants["acme"].results
    assert len(books) == 4
    (shared,) = [book for book in books.values() if book.workflow == "overflow"]
    assert shared.day(MONDAY_MS).runs("accepted") == 6
    engine.handle(UsageSeen(messages.outcome(MONDAY_MS + 1, run_id="r8", outcome="rejected"), MONDAY_MS + 1))
    assert (shared.day(MONDAY_MS).runs("accepted"), shared.day(MONDAY_MS).runs("rejected")) == (5, 1)


def test_books_are_forgotten_with_their_last_day() -> None:
    """A workflow that does not run any more costs nothing in the end."""
    engine = engine_with('[[cost_per_accepted]]\nname = "a"')
    finish(engine, MONDAY_MS, [{"run_id": "r", "workflow": "docs"}])
    engine.handle(Ticked(MONDAY_MS + DAYS_KEPT * DAY_MS - 1))
    assert engine._state.tenants["acme"].results
    engine.handle(Ticked(MONDAY_MS + DAYS_KEPT * DAY_MS))
    assert not engine._state.tenants["acme"].results


def test_books_are_looked_at_one_after_another() -> None:
    """The turn of an hour holds up nobody: a partition's books have seconds of their own, and always the same."""
    moments = [ResultBook(f"tenant-{number}", "x", "docs", "").next_hour_ms(MONDAY_MS) for number in range(1_000)]
    assert min(moments) > MONDAY_MS
    assert max(moments) <= MONDAY_MS + HOUR_MS
    assert max(moments.count(moment) for moment in moments) < 10
    assert len({moment % HOUR_MS for moment in moments}) > 400
    assert all(moment % HOUR_MS < 600_000 for moment in moments)
    assert ResultBook("tenant-7", "x", "docs", "").next_hour_ms(MONDAY_MS) == moments[7]


def test_rules_that_match_others_have_books_of_their_own() -> None:
    """What runs of one environment come to is no part of the other's figure."""
    table = '[[cost_per_accepted]]\nname = "{0}"\nmatch = {{ environment = "{0}" }}\n'
    engine = engine_with(table.format("prod") + table.format("dev"))
    finish(engine, MONDAY_MS, [{"run_id": "p", "workflow": "docs", "environment": "prod"}])
    finish(engine, MONDAY_MS, [{"run_id": "d", "workflow": "docs", "environment": "dev"}], "rejected")
    found = [book.day(MONDAY_MS) for book in engine._state.tenants["acme"].results.values()]
    assert sorted((day.runs("accepted"), day.runs("rejected")) for day in found) == [(0, 1), (1, 0)]


def test_reasons_are_counted_within_bounds() -> None:
    """A reason is a text from outside: so many are told apart, further ones are others."""
    engine = engine_with('premium_models = ["big"]\n[[premium_escalation]]\nname = "why"')
    for number in range(MOST_REASONS + 5):
        for model in ("small", "big"):
            call = messages.llm_call(
                MONDAY_MS,
                usd=1,
                run_id=f"r{number}",
                workflow="support",
                model=model,
                escalation_reason=f"why {number}",
            )
            engine.handle(UsageSeen(call, MONDAY_MS))
    reasons = engine._state.tenants["acme"].escalations["support"].reasons
    assert len(reasons) == MOST_REASONS + 1
    assert reasons[OTHER_REASONS] == (5, 5 * USD)
    assert not [alert for alert in alerts_of(engine) if alert.rule == "why"]


def contracts(*tables: str) -> Policy:
    return read_policy_toml("".join(f"[[contract]]\n{table}\n" for table in tables))


def test_a_contract_brings_its_rule() -> None:
    """Whoever writes what a tenant pays wants to hear of it, whichever other rules the file names."""
    budget = '[[budget]]\nname = "b"\nperiod = "day"\nlimit_usd = 1\n'
    with_contract = read_policy_toml(budget + '[[contract]]\ntenant = "acme"\nvalue_usd = 1\n')
    assert "margin" in with_contract.rules
    assert "margin" not in read_policy_toml(budget).rules


def test_contracts_of_one_tenant_are_told_apart() -> None:
    """Which of two holds must be known."""
    with pytest.raises(PolicyError, match="two of acme hold without a date; give the later one a date in `starts`"):
        contracts('tenant = "acme"\nvalue_usd = 1', 'tenant = "acme"\nvalue_usd = 2')
    assert contracts('tenant = "acme"\nvalue_usd = 1', 'tenant = "acme"\nvalue_usd = 2\nstarts = 2026-11-24')


def test_a_quarter_is_watched_by_the_month() -> None:
    """A third of its value each."""
    engine = Engine(contracts('tenant = "acme"\nvalue_usd = 300\nperiod = "quarter"'))
    engine.handle(UsageSeen(messages.llm_call(MONDAY_MS, usd=30, workflow="docs", owner="ana"), MONDAY_MS))
    (alert,) = [alert for alert in alerts_of(engine) if alert.rule == "margin"]
    assert (alert.level, alert.limit, alert.evidence["contract_nanousd"]) == (1.0, 30 * USD, 100 * USD)
