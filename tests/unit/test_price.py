"""Computed prices against the library whose tables they come from."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import genai_prices
import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TimeOfDateConstraint,
)

from models.prices import book as price
from models.prices import tables
from models.prices.book import MAX_EVENT_NANOUSD, PRICE_SOURCE, PriceBook
from schemas.usage import END_MS, LlmCall

DAY_MS = 86_400_000
CONTEXTS = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
"""Service tier -> how the library is asked for it."""
NOW_MS = int(datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()) * 1000


def _computed(book: PriceBook, call: LlmCall) -> int | None:
    """What a call costs whose source gave no cost, None if nobody knows."""
    charge = book.charge(call)
    assert (charge.computed_nanousd is None) == ("unpriced" in charge.problems)
    return charge.computed_nanousd


def _call(model: str, provider: str | None = None, ts_ms: int = NOW_MS, **counts: Any) -> LlmCall:
    return LlmCall(event_id="e", ts_ms=ts_ms, tenant_id="acme", run_id="r", model=model, provider=provider, **counts)


def _counts(rng: random.Random) -> dict[str, int]:
    """Token counts of a call, consistent, on both sides of every tier."""
    size = rng.choice([100, 30_000, 150_000, 1_000_000])
    read, write, fresh = (rng.choice([0, rng.randrange(size)]) for _ in range(3))
    output = rng.choice([1, 1 + rng.randrange(size)])  # without any token the library counts no call
    return {
        "input_tokens": read + write + fresh,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_1h_tokens": rng.choice([0, rng.randint(0, write)]),
        "output_tokens": output,
        "reasoning_tokens": rng.choice([0, rng.randint(0, output)]),
    }


def _library_nanousd(call: LlmCall, provider: str) -> int:
    usage = Usage(
        input_tokens=call.input_tokens,
        cache_read_tokens=call.cache_read_tokens,
        cache_write_tokens=call.cache_write_tokens,
        cache_write_1h_tokens=call.cache_write_1h_tokens,
        web_searches=call.web_searches,
        output_tokens=call.output_tokens,
        output_reasoning_tokens=call.reasoning_tokens,
    )
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=call.ts_ms)
    context = CONTEXTS.get(call.service_tier or "standard")
    total = genai_prices.calc_price(
        usage, call.model, provider_id=provider, genai_request_timestamp=at, price_context=context
    ).total_price
    return int((total * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _packaged() -> Iterator[tuple[Provider, ModelInfo]]:
    """Every packaged model that a look-up by its own id finds."""
    for provider in providers:
        for model in provider.models:
            if provider.find_model(model.id, all_providers=providers) is model:
                yield provider, model


def _has_price(model: ModelInfo, key: str) -> bool:
    prices = [model.prices] if isinstance(model.prices, ModelPrice) else [each.prices for each in model.prices]
    return all(getattr(price, key) is not None for price in prices)


def _edges_ms(constraint: StartDateConstraint | TimeOfDateConstraint | None) -> list[int]:
    """The milliseconds on both sides of each moment at which a price begins or ends."""
    if constraint is None:
        return [NOW_MS]
    if isinstance(constraint, StartDateConstraint):
        start = constraint.start_date
        edges = [int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1000]
    else:
        midnight_ms = NOW_MS - NOW_MS % DAY_MS
        times = (constraint.start_time, constraint.end_time)
        edges = [midnight_ms + (at.hour * 3600 + at.minute * 60 + at.second) * 1000 for at in times]
    return [edge - before for edge in edges for before in (1, 0)]


def test_every_packaged_model_costs_what_the_library_says() -> None:
    """For each model with a price for tokens, calls of many sizes and dates cost what the library computes."""
    seed = 21
    rng = random.Random(seed)
    book = PriceBook()
    compared = 0
    for provider, model in _packaged():
        for _ in range(4):
            ts_ms = NOW_MS - rng.randrange(3 * 365 * DAY_MS)
            counts = _counts(rng)
            if not _has_price(model, "cache_write_1h_mtok"):
                counts["cache_write_1h_tokens"] = 0  # here we differ, on purpose
            call = _call(model.id, provider.id, ts_ms, **counts)
            charge = book.charge(call)
            if charge.computed_nanousd is not None and charge.source == PRICE_SOURCE and not charge.missing:
                assert charge.cost_nanousd == _library_nanousd(call, provider.id), (seed, call)
                compared += 1
    assert compared > 5000


@pytest.mark.parametrize("tier", CONTEXTS)
def test_every_service_tier_that_the_tables_price_costs_what_the_library_says(tier: str) -> None:
    """Batch, flex and priority prices are the tables' own where these have them, web searches included."""
    seed = 23
    rng = random.Random(seed)
    book = PriceBook()
    when = CONTEXTS[tier]
    compared = 0
    for provider, model in _packaged():
        starts = [
            _edges_ms(variant.constraint)[-1]
            for variant in model.price_variants or ()
            if variant.when.items() == when.items()
        ]
        if not starts or not all(_has_price(model, key) for key in ("web_searches_kcount", "input_mtok")):
            continue
        counts = _counts(rng) | {"web_searches": 3, "cache_write_1h_tokens": 0}
        call = _call(model.id, provider.id, max(starts), service_tier=tier, **counts)
        charge = book.charge(call)
        assert charge.cost_nanousd == _library_nanousd(call, provider.id), (seed, call)
        assert charge.problems == ()
        compared += 1
    assert compared > 3


def test_prices_that_change_with_date_hour_or_size_follow_the_library_to_the_edge() -> None:
    """Conditional and tiered prices switch at the same millisecond and at the same token as the library's."""
    seed = 22
    rng = random.Random(seed)
    book = PriceBook()
    edges_of_size = [n + d for n in (32_000, 128_000, 199_999, 200_000, 272_000, 512_000) for d in (0, 1)]
    for provider, model in _packaged():
        if not isinstance(model.prices, list):
            continue
        for conditional in model.prices:
            for ts_ms in _edges_ms(conditional.constraint):
                call = _call(model.id, provider.id, ts_ms, input_tokens=rng.choice(edges_of_size), output_tokens=77)
                charge = book.charge(call)
                if charge.computed_nanousd is not None and charge.source == PRICE_SOURCE:
                    assert charge.cost_nanousd == _library_nanousd(call, provider.id), (seed, call)


def test_a_time_of_day_may_run_over_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price from evening to morning holds on both sides of midnight, from its first to before its last moment."""
    night = TimeOfDateConstraint(time(22, 30, tzinfo=UTC), time(1, 15, tzinfo=UTC))
    prices = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(3))),
        ConditionalPrice(night, prices=ModelPrice(input_mtok=Decimal(1))),
    ]
    model = ModelInfo("owl", ClauseEquals("owl"), prices=prices)
    monkeypatch.setattr(tables, "providers", [Provider("zoo", "Zoo", "zoo", models=[model])])
    book = PriceBook()
    for ts_ms in (*_edges_ms(night), NOW_MS - NOW_MS % DAY_MS):
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ts_ms)
        cost_nanousd = _computed(book, _call("owl", "zoo", ts_ms, input_tokens=1))
        assert cost_nanousd == (1000 if night.active(at) else 3000), at


def test_a_price_by_hand() -> None:
    """The input count includes the cached tokens: they are charged at their own price, and not twice."""
    rates = (
        DataSnapshot(providers, from_auto_update=False).find_provider_model("gpt-4o", None, "openai", None)[1].prices
    )
    per_input, per_read, per_output = (
        Fraction(getattr(rates, name)) * 1000 for name in ("input_mtok", "cache_read_mtok", "output_mtok")
    )
    charge = PriceBook().charge(_call("gpt-4o", input_tokens=1000, cache_read_tokens=400, output_tokens=10))
    assert charge.cost_nanousd == 600 * per_input + 400 * per_read + 10 * per_output
    assert charge.problems == ()
    assert charge.source == PRICE_SOURCE


def test_the_source_of_a_computed_price_has_the_tables_version_and_date() -> None:
    """Whoever doubts a price sees which table had it, and how old that is: a new version's date has to be noted."""
    noted = tables.DATES.get(genai_prices.__version__)
    assert f"computed:genai-prices/{genai_prices.__version__}@{noted}" == PRICE_SOURCE
    dated = {
        conditional.constraint.start_date.isoformat()
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        for conditional in model.prices
        if isinstance(conditional.constraint, StartDateConstraint)
    }
    assert noted in dated


def test_the_provider_may_be_left_out_or_stand_in_the_name() -> None:
    """A well-known model is found by its name alone, and by the provider/model names that LiteLLM writes."""
    book = PriceBook()
    tokens = {"input_tokens": 1000, "output_tokens": 10}
    expected = book.charge(_call("gpt-4o", "openai", **tokens))
    assert expected.cost_nanousd > 0
    for provider, model in ((None, "gpt-4o"), (None, "openai/gpt-4o"), ("", "gpt-4o"), ("litellm", "openai/gpt-4o")):
        assert book.charge(_call(model, provider, **tokens)) == expected
    for nobody in ("_OTHER", "unknown", "None", "n/a"):
        assert book.charge(_call("gpt-4o", nobody, **tokens)) == expected


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "text-embedding-3-small"), ("openai", "text-embedding-ada-002"), ("cohere", "embed-v4.0"),
     ("perplexity", "sonar-pro")],
)  # fmt: skip
def test_a_maker_is_found_by_what_it_sells(provider: str, model: str) -> None:
    """Embeddings and others whose names follow no pattern of their maker's need no provider beside them either."""
    book = PriceBook()
    expected = book.charge(_call(model, provider, input_tokens=1_000_000))
    assert expected.cost_nanousd > 0
    assert book.charge(_call(model, input_tokens=1_000_000)) == expected


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        (None, "no-such-model"),
        ("openai", "no-such-model"),
        ("no-such-provider", "gpt-4o"),
        (None, ""),
        ("github-copilot", "gpt-4o"),
        ("groq", "whisper-large-v3"),
    ],
)
def test_what_has_no_known_price_is_not_free(provider: str | None, model: str) -> None:
    """Unknown names, and models in the tables without a price for tokens, are unpriced; asked again too."""
    book = PriceBook()
    for _ in range(2):
        charge = book.charge(_call(model, provider, input_tokens=1000, output_tokens=10))
        assert (charge.cost_nanousd, charge.source, charge.problems) == (0, "unpriced", ("unpriced",))


def test_free_models_and_cached_answers_cost_nothing() -> None:
    """A model named free costs 0, whoever sells it otherwise and whether or not the tables have it; and so does an
    answer from a semantic cache, of an unknown model too.
    """
    book = PriceBook()
    free = book.charge(_call("openai/gpt-oss-20b:free", "openrouter", input_tokens=1000))
    dear = book.charge(_call("deepseek/deepseek-r1:free", input_tokens=1000))
    newest = book.charge(_call("openrouter/acme/next:free", input_tokens=1000, output_tokens=10))
    cached = book.charge(_call("no-such-model", input_tokens=1000, cache_hit=True))
    reported = book.charge(_call("gpt-4o", input_tokens=1000, cache_hit=True, cost_nanousd=5_000_000))
    for charge in (free, dear, newest, cached, reported):
        assert (charge.cost_nanousd, charge.problems) == (0, ())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"input_tokens": 10, "cache_read_tokens": 500}, {"input_tokens": 510, "cache_read_tokens": 500}),
        (
            {"input_tokens": 100, "cache_read_tokens": 80, "cache_write_tokens": 40},
            {"input_tokens": 220, "cache_read_tokens": 80, "cache_write_tokens": 40},
        ),
        (
            {"input_tokens": 100, "cache_write_1h_tokens": 60},
            {"input_tokens": 100, "cache_write_tokens": 60, "cache_write_1h_tokens": 60},
        ),
        ({"output_tokens": 10, "reasoning_tokens": 50}, {"output_tokens": 60, "reasoning_tokens": 50}),
        ({"output_tokens": 0, "output_audio_tokens": 9}, {"output_tokens": 9, "output_audio_tokens": 9}),
        ({"input_tokens": 0, "input_audio_tokens": 9}, {"input_tokens": 9, "input_audio_tokens": 9}),
    ],
)
def test_a_total_smaller_than_its_parts_is_taken_for_the_rest(given: dict[str, Any], meant: dict[str, Any]) -> None:
    """It was counted without them: the call is priced on the sum, and the contradiction is told."""
    book = PriceBook()
    odd, even = (book.charge(_call("claude-sonnet-4-5", **counts)) for counts in (given, meant))
    assert odd.cost_nanousd == even.cost_nanousd > 0
    assert "contradicting_tokens" in odd.problems
    assert "contradicting_tokens" not in even.problems
    assert (odd.input_tokens, odd.output_tokens) == (even.input_tokens, even.output_tokens)


def test_an_absurd_call_is_priced_at_the_bound() -> None:
    """A trillion tokens cost what one event may cost at most, and times at the end of the wire's range are answered."""
    latest = _computed(PriceBook(), _call("deepseek-chat", "deepseek", ts_ms=END_MS - 1, output_tokens=10**12))
    assert latest is not None
    assert 0 < latest <= MAX_EVENT_NANOUSD
    assert _computed(PriceBook(), _call("gpt-4o", input_tokens=10**12, output_tokens=10**12)) == MAX_EVENT_NANOUSD


def test_made_up_names_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names come, known by pattern or not, few are remembered, and known models keep their price."""
    monkeypatch.setattr(price, "CACHED_MODELS", 50)
    book = PriceBook()
    expected = book.charge(_call("gpt-4o", input_tokens=1000))
    for number in range(150):
        assert _computed(book, _call(f"made-up-{number}", input_tokens=1)) is None
        assert _computed(book, _call(f"gpt-4o-{number}", f"nobody-{number}", input_tokens=1)) is None
        book.charge(_call(f"claude-sonnet-4-5-{number}", "anthropic", input_tokens=1))
        assert len(book) <= 100
    assert book.charge(_call("gpt-4o", input_tokens=1000)) == expected


def test_the_librarys_own_memory_does_not_grow() -> None:
    """Asking for unknown names leaves nothing behind in the library's process-wide tables."""
    shared = genai_prices.data_snapshot.get_snapshot()
    before = len(shared._provider_misses), len(shared._provider_cache), len(shared._lookup_cache)
    book = PriceBook()
    for number in range(20):
        book.charge(_call(f"unheard-of-{number}", input_tokens=1))
    assert (len(shared._provider_misses), len(shared._provider_cache), len(shared._lookup_cache)) == before


def test_prices_do_not_follow_an_update_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer tables that something else in the process has fetched change nothing: a replay costs the same."""
    expected = PriceBook().charge(_call("gpt-4o", input_tokens=1000))
    monkeypatch.setattr(genai_prices.data_snapshot, "_custom_snapshot", DataSnapshot([], from_auto_update=True))
    assert PriceBook().charge(_call("gpt-4o", input_tokens=1000)) == expected
