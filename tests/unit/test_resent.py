"""What sending a context again has cost: at what was charged, cached tokens for less."""

from typing import Any

import pytest

from models.detectors.base import Look
from models.detectors.run_shape.resent import Resent, resent_by
from models.prices.book import PriceBook
from models.state.units.context import Context
from schemas.policy import PolicyHeader
from tests.support.messages import MONDAY_MS, USD, llm_call

OWN = {"price": [{"model": "house", "input": 2, "cache_read": 0.5, "output": 10}]}


def resent(*, cost_usd: float, cached: int = 0, model: str = "house", header: Any = OWN) -> Resent:
    """Of ten calls that sent a million tokens each, all but the first million of it before, and got 50,000 each."""
    context = Context(None, model)
    context.calls, context.input_tokens, context.output_tokens = 10, 10_000_000, 500_000
    context.tokens, context.begun, context.fresh, context.cache_read_tokens = 1_000_000, 0, 0, cached
    context.cost_nanousd = round(cost_usd * USD)
    call = llm_call(MONDAY_MS, model=model)
    return resent_by(Look(context, call, 0, None, PriceBook(PolicyHeader.model_validate(header))))


def test_it_is_the_part_of_what_was_charged_that_the_price_list_gives_it() -> None:
    """Nine million tokens at 2 dollars are 18 of the 25 that the calls cost; at half the price half of that."""
    assert resent(cost_usd=25) == Resent(9_000_000, 9_000_000, 18 * USD)
    assert resent(cost_usd=12.5).nanousd == 9 * USD


def test_cached_tokens_cost_less() -> None:
    """Eight of the nine million for 0.50 a million, and one for 2."""
    found = resent(cost_usd=25 - 8 * 1.5, cached=8_000_000)
    assert found == Resent(9_000_000, 1_000_000, 6 * USD)
    assert found.full_price_share == pytest.approx(1 / 9)


def test_it_is_never_more_than_the_list_says() -> None:
    """Whatever else the calls were charged for."""
    assert resent(cost_usd=1000).nanousd == 18 * USD


def test_where_no_list_knows_the_model_usual_proportions_split_what_was_charged() -> None:
    """An output token weighs five input tokens, a cached one a tenth of one."""
    assert resent(cost_usd=12.5, model="secret", header={}).nanousd == 9 * USD
    found = resent(cost_usd=2 + 0.8 + 2.5, cached=8_000_000, model="secret", header={})
    assert found.nanousd == round(1.8 * USD)


def test_what_a_policy_prices_at_nothing_costs_nothing() -> None:
    """A model of one's own with a price of 0 is not one without a price: however much is sent again, that is free."""
    own = {"price": [{"model": "house", "input": 0, "output": 0}]}
    assert resent(cost_usd=0, header=own).nanousd == 0


def test_what_has_no_price_is_counted_in_tokens() -> None:
    """And says so."""
    found = resent(cost_usd=0, model="secret", header={})
    assert found.nanousd is None
    assert found.in_words(0) == "9,000,000 of the tokens paid for had been sent before"


@pytest.mark.parametrize(
    ("at_full_price", "words"),
    [(1000, "Cache it: all of it"), (600, "Cache it: 60% of it"), (100, "Compact it or start afresh")],
)
def test_the_advice_follows_the_price_that_was_paid(at_full_price: int, words: str) -> None:
    """Who pays full price is told of caches, who has one of compacting."""
    assert Resent(1000, at_full_price, 1).advice().startswith(words)
