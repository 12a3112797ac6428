"""What a model call costs when its source does not say: the `genai-prices` tables, in exact integers.

The tables are those packed with the installed version; nothing is fetched. One look-up there takes up to 150 us, so
each (provider, model) is resolved once and kept as a linear formula over token counts.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, time
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import genai_prices
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from schemas.money import NANOUSD_PER_USD
from schemas.usage import LlmCall

PRICE_SOURCE = f"computed:genai-prices/{genai_prices.__version__}"
MAX_EVENT_NANOUSD = 10**15
"""The most one call can be priced at, a million dollars, as on the wire (`schemas.usage.Nanousd`)."""
CACHED_MODELS = 10_000
"""Bound of each of the two caches, priced and unpriced: names come from outside."""

_DAY_MS = 86_400_000
_EPOCH_DAY = date(1970, 1, 1)
_LITELLM = "litellm"
_FREE = ":free"


class Priced(NamedTuple):
    """A computed cost and where its prices come from."""

    cost_nanousd: int
    price_source: str


class PriceBook:
    """Prices calls by model, provider, tokens and the event's own time; the same call costs the same always."""

    def __init__(self) -> None:
        self._tariffs: dict[tuple[str | None, str], Tariff] = {}
        self._unpriced: dict[tuple[str | None, str], None] = {}
        self._by_model: dict[int, Tariff | None] = {}

    def cost(self, call: LlmCall) -> Priced | None:
        """The computed cost of `call`, whether or not its source gave one; None if that is not known.

        An answer from a semantic cache costs 0. Images, audio, searches and whatever else the message does not count
        are left out. Counts that contradict each other (more cached tokens than tokens) are read as the larger.
        """
        if call.cache_hit:
            return Priced(0, PRICE_SOURCE)
        key = (call.provider, call.model)
        tariff = self._tariffs.get(key) or self._look_up(key)
        if tariff is None:
            return None
        cost_nanousd = tariff.cost_nanousd(call)
        return None if cost_nanousd is None else Priced(min(cost_nanousd, MAX_EVENT_NANOUSD), PRICE_SOURCE)

    def __len__(self) -> int:
        """How many (provider, model) pairs are remembered, unpriced ones included."""
        return len(self._tariffs) + len(self._unpriced)

    def _look_up(self, key: tuple[str | None, str]) -> "Tariff | None":
        if key in self._unpriced:
            return None
        tariff = self._resolve(*key)
        if tariff is None:
            _remember(self._unpriced, key, None)
        else:
            _remember(self._tariffs, key, tariff)
        return tariff

    def _resolve(self, provider: str | None, model: str) -> "Tariff | None":
        if not provider and "/" in model:
            provider = _LITELLM  # "openai/gpt-4o" without a provider is how LiteLLM writes names
        # A snapshot remembers every name it is asked for, without bound, so each look-up gets its own.
        snapshot = DataSnapshot(providers=providers, from_auto_update=False)
        try:
            _, found = snapshot.find_provider_model(model, None, provider or None, None)
        except LookupError:
            return None
        if id(found) not in self._by_model:
            self._by_model[id(found)] = _tariff(found)
        return self._by_model[id(found)]


class Rates(NamedTuple):
    """A linear price: whole nano-dollars times `denominator`, per token and per call.

    A cached or reasoning token is also one of the input or output tokens, so its rate is the difference.
    """

    denominator: int
    call: int
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Brackets:
    """Rates by size of the call: `rates[i]` holds for input tokens above `starts[i - 1]`, up to `starts[i]`."""

    starts: tuple[int, ...]
    rates: tuple[Rates, ...]
    prices_input: bool


@dataclass(frozen=True, slots=True)
class Tariff:
    """A model's prices over time: the last of `conditional` in force, else `standard`."""

    standard: Brackets
    conditional: tuple[tuple[Callable[[int], bool], Brackets], ...]

    def cost_nanousd(self, call: LlmCall) -> int | None:
        """The cost of `call`, rounded half up once, or None if it has input tokens and they have no price."""
        brackets = self._at(call.ts_ms) if self.conditional else self.standard
        cached = call.cache_read_tokens + call.cache_write_tokens
        input_tokens = max(call.input_tokens, cached)
        output_tokens = max(call.output_tokens, call.reasoning_tokens)
        if input_tokens and not brackets.prices_input:
            return None
        rates = brackets.rates[bisect_left(brackets.starts, input_tokens)]
        scaled = rates.call + rates.input * input_tokens + rates.output * output_tokens
        if cached:
            scaled += rates.cache_read * call.cache_read_tokens + rates.cache_write * call.cache_write_tokens
        if call.reasoning_tokens:
            scaled += rates.reasoning * call.reasoning_tokens
        return (2 * scaled + rates.denominator) // (2 * rates.denominator)

    def _at(self, ts_ms: int) -> Brackets:
        for in_force, brackets in self.conditional:
            if in_force(ts_ms):
                return brackets
        return self.standard


def _tariff(model: ModelInfo) -> Tariff | None:
    """The model's prices as formulas; None if the tables know the model but not what its tokens cost.

    The tables write a free model and one of unknown price alike, without prices; only a name that says so is free.
    """
    free = model.id.endswith(_FREE)
    prices = model.prices
    if isinstance(prices, ModelPrice):
        return Tariff(_brackets(prices, free), ()) if free or _prices_tokens(prices) else None
    if not free and not all(_prices_tokens(entry.prices) for entry in prices):
        return None
    # As in the tables: the last entry in force counts, and the first one if none is.
    newest_first = tuple((_in_force(entry.constraint), _brackets(entry.prices, free)) for entry in reversed(prices))
    return Tariff(newest_first[-1][1], newest_first)


def _prices_tokens(price: ModelPrice) -> bool:
    return price.input_mtok is not None or price.output_mtok is not None


def _brackets(price: ModelPrice, free: bool) -> Brackets:
    named = {name: value for name, value in vars(price).items() if value is not None}
    tiered = [value for value in named.values() if isinstance(value, TieredPrices)]
    starts = sorted({tier.start for value in tiered for tier in value.tiers})
    # A tier begins one token above its start, so each start itself still belongs to the bracket below.
    sizes = [*starts, math.inf]
    return Brackets(tuple(starts), tuple(_rates(named, size) for size in sizes), free or "input_mtok" in named)


def _rates(named: Mapping[str, Decimal | TieredPrices], input_tokens: float) -> Rates:
    def nanousd(name: str, instead: Fraction, per: int = 1_000_000) -> Fraction:
        value = named.get(name)
        if isinstance(value, TieredPrices):
            value = next((tier.price for tier in reversed(value.tiers) if input_tokens > tier.start), value.base)
        return instead if value is None else Fraction(value) * NANOUSD_PER_USD / per

    per_input = nanousd("input_mtok", Fraction(0))
    per_output = nanousd("output_mtok", Fraction(0))
    exact = (
        nanousd("requests_kcount", Fraction(0), per=1000),
        per_input,
        nanousd("cache_read_mtok", per_input) - per_input,
        nanousd("cache_write_mtok", per_input) - per_input,
        per_output,
        nanousd("output_reasoning_mtok", per_output) - per_output,
    )
    denominator = math.lcm(*(rate.denominator for rate in exact))
    return Rates(denominator, *(int(rate * denominator) for rate in exact))


def _in_force(constraint: StartDateConstraint | TimeOfDateConstraint | None) -> Callable[[int], bool]:
    """Whether a price holds at an epoch millisecond, in integers: any time an event can carry has an answer."""
    if constraint is None:
        return lambda _: True
    if isinstance(constraint, StartDateConstraint):
        start_ms = (constraint.start_date - _EPOCH_DAY).days * _DAY_MS
        return lambda ts_ms: ts_ms >= start_ms
    from_ms, to_ms = _time_of_day_ms(constraint.start_time), _time_of_day_ms(constraint.end_time)
    if to_ms < from_ms:
        return lambda ts_ms: not to_ms <= ts_ms % _DAY_MS < from_ms
    return lambda ts_ms: from_ms <= ts_ms % _DAY_MS < to_ms


def _time_of_day_ms(at: time) -> int:
    if at.tzinfo not in (None, UTC):
        raise ValueError(f"a price table with a time of day that is not in UTC: {at}")
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000


def _remember(cache: dict[tuple[str | None, str], Any], key: tuple[str | None, str], value: object) -> None:
    """Keeps `value`, at the cost of the oldest entry when the cache is full."""
    if len(cache) >= CACHED_MODELS:
        del cache[next(iter(cache))]
    cache[key] = value
