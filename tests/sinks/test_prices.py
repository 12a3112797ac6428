"""By which policy's prices a call is charged: the one in force when it was appended."""

from collections.abc import Sequence

from models.rules.policy import read_policy
from models.stimuli import PolicyChanged
from schemas.usage import LlmCall
from streams.settings import Settings
from streams.sinks.prices import PolicyPrices, contract_rows
from tests.support.messages import DAY_MS, MONDAY_MS, USD, llm_call, run_started


class Published:
    """What policy.v1 holds."""

    def __init__(self, changes: Sequence[PolicyChanged], oldest_offset: int | None) -> None:
        self.oldest_offset = oldest_offset
        self._changes = list(changes)

    def until_now(self) -> list[PolicyChanged]:
        """All of it, at the first call."""
        found, self._changes = self._changes, []
        return found


def priced(usd: float, at_ms: int) -> PolicyChanged:
    """A policy with a price for a million tokens of house-model, in force since then."""
    price = {"model": "house-model", "input": usd, "output": 0.0}
    return PolicyChanged(read_policy({"version": f"at-{usd}", "price": [price]}), at_ms)


def prices_of(*changes: PolicyChanged, oldest_offset: int | None = 0) -> PolicyPrices:
    """Prices under the defaults, and then these policies."""
    found = PolicyPrices(Settings(), Published(changes, oldest_offset))  # type: ignore[arg-type]  # a stand-in
    found.refresh()
    return found


CALL: LlmCall = llm_call(
    MONDAY_MS, model="house-model", cost_nanousd=None, input_tokens=1_000_000, output_tokens=0, event_id="e"
)


def dollars(prices: PolicyPrices, append_ms: int) -> float:
    """What the call is charged when it is appended then."""
    return prices.charge(CALL, append_ms).cost_nanousd / USD


def test_a_call_is_charged_under_the_policy_in_force_at_its_append() -> None:
    """Nothing before the first policy where the topic is whole; then each until the next."""
    prices = prices_of(priced(2, MONDAY_MS + 100), priced(5, MONDAY_MS + 200))
    charged = [dollars(prices, MONDAY_MS + ms) for ms in (99, 100, 199, 200, 10_000)]
    assert charged == [0, 2, 2, 5, 5]
    assert [since_ms for since_ms, _ in prices.take_news()] == [0, MONDAY_MS + 100, MONDAY_MS + 200]
    assert prices.take_news() == []


def test_where_compaction_took_policies_the_oldest_that_is_left_counts_for_what_was_before() -> None:
    """And the later ones from their own time on."""
    prices = prices_of(priced(2, MONDAY_MS + 100), priced(5, MONDAY_MS + 200), oldest_offset=7)
    assert [dollars(prices, MONDAY_MS + ms) for ms in (0, 150, 200)] == [2, 2, 5]


def test_what_came_too_late_costs_nothing_unless_it_was_sent_to_be_booked() -> None:
    """As the engine has it; and what happened in the future happened now."""
    prices = prices_of()
    late = llm_call(MONDAY_MS, usd=1)
    assert prices.charge(late, MONDAY_MS + DAY_MS).cost_nanousd == USD
    assert prices.charge(late, MONDAY_MS + DAY_MS + 1).cost_nanousd == 0
    booked = llm_call(MONDAY_MS, usd=1, backfill=True)
    assert prices.charge(booked, MONDAY_MS + 9 * DAY_MS).cost_nanousd == USD
    assert prices.charge(run_started(MONDAY_MS), MONDAY_MS).cost_nanousd == 0


def test_a_contract_ends_where_the_tenants_next_one_starts() -> None:
    """A year's is held against by the month, a twelfth of it."""
    policy = read_policy(
        {"version": "v", "contract": [
            {"tenant": "acme", "value_usd": 1200, "period": "year"},
            {"tenant": "acme", "value_usd": 300, "starts": "2026-11-01"},
        ]}
    )  # fmt: skip
    assert contract_rows(5, policy.header) == [
        (5, "v", "acme", "2026-11-01", "9999-12-31", "month", 300 * USD),
        (5, "v", "acme", "1970-01-01", "2026-11-01", "month", 100 * USD),
    ]
