"""What a call costs by one price list, in exact integers: linear in the counts of the call, by date, size and tier."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from genai_prices.types import ModelPrice, TieredPrices

from schemas.money import NANOUSD_PER_USD
from schemas.usage import LlmCall

MAX_EVENT_NANOUSD: Final = 10**15
"""The most one call can be priced at, a million dollars, as on the wire (`schemas.usage.Nanousd`)."""

PARTS: Final[dict[str, tuple[str, str]]] = {
    "cache_write_1h_tokens": ("cache_write_1h_mtok", "one-hour cache writes"),
    "input_audio_tokens": ("input_audio_mtok", "audio input"),
    "output_audio_tokens": ("output_audio_mtok", "audio output"),
    "output_image_tokens": ("output_image_mtok", "image output"),
    "web_searches": ("web_searches_kcount", "web searches"),
}
"""Count of a call -> its key in a price list, and what it is called when the list has no price for it."""


ANY_SIZE: Final = 1 << 62
"""Tokens: more than any call has."""


class Counts(NamedTuple):
    """A call's totals, made to agree with their parts."""

    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    contradicting: bool
    has_parts: bool
    """Whether some count of `PARTS` is not 0."""


def counts_of(call: LlmCall) -> Counts:
    """The totals of `call`. One that is smaller than its parts was counted without them: it is the sum then."""
    has_parts = bool(
        call.input_audio_tokens
        or call.output_audio_tokens
        or call.output_image_tokens
        or call.web_searches
        or call.cache_write_1h_tokens
    )
    if (
        not has_parts
        and call.cache_read_tokens + call.cache_write_tokens <= call.input_tokens
        and call.reasoning_tokens <= call.output_tokens
    ):
        return Counts(call.input_tokens, call.output_tokens, call.cache_write_tokens, False, False)  # nearly every call
    input_tokens, output_tokens, written = call.input_tokens, call.output_tokens, call.cache_write_tokens
    if call.cache_write_1h_tokens > written:
        written += call.cache_write_1h_tokens
    cached = call.cache_read_tokens + written
    if cached > input_tokens:
        input_tokens += cached
    if call.input_audio_tokens > input_tokens:
        input_tokens += call.input_audio_tokens
    apart = call.reasoning_tokens + call.output_audio_tokens + call.output_image_tokens
    if apart > output_tokens:
        output_tokens += apart
    agrees = (
        input_tokens == call.input_tokens and output_tokens == call.output_tokens and written == call.cache_write_tokens
    )
    return Counts(input_tokens, output_tokens, written, not agrees, has_parts)


class Rates(NamedTuple):
    """A linear price: whole nano-dollars times `denominator`, per token, search and call.

    A cached, audio, image or reasoning token is also one of the input or output tokens, so that its rate is the
    difference; so is that of a one-hour cache write to that of any cache write.
    """

    denominator: int
    call: int
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    cache_write_1h: int
    input_audio: int
    output_audio: int
    output_image: int
    web_search: int


class Brackets(NamedTuple):
    """Rates by size of the call: `rates[i]` holds for input tokens above `starts[i - 1]`, up to `starts[i]`."""

    starts: tuple[int, ...]
    rates: tuple[Rates, ...]
    prices_input: bool
    unpriced_parts: tuple[str, ...]
    """Counts of `PARTS` for which the list has no price: their tokens cost what text costs, their searches nothing."""

    def cost_nanousd(self, call: LlmCall, counts: Counts) -> int | None:
        """The cost, rounded half up once and at most a million dollars; None if input tokens have no price."""
        if counts.input_tokens and not self.prices_input:
            return None
        rates = self.rates[bisect_left(self.starts, counts.input_tokens)] if self.starts else self.rates[0]
        scaled = rates.call + rates.input * counts.input_tokens + rates.output * counts.output_tokens
        if call.cache_read_tokens or counts.cache_write_tokens:
            scaled += rates.cache_read * call.cache_read_tokens + rates.cache_write * counts.cache_write_tokens
        if call.reasoning_tokens:
            scaled += rates.reasoning * call.reasoning_tokens
        if counts.has_parts:
            scaled += rates.cache_write_1h * call.cache_write_1h_tokens
            scaled += rates.input_audio * call.input_audio_tokens + rates.output_audio * call.output_audio_tokens
            scaled += rates.output_image * call.output_image_tokens + rates.web_search * call.web_searches
        rounded = (2 * scaled + rates.denominator) // (2 * rates.denominator)
        return rounded if 0 <= rounded <= MAX_EVENT_NANOUSD else min(max(rounded, 0), MAX_EVENT_NANOUSD)


InForce = Callable[[int], bool]
"""Whether a price holds at an epoch millisecond."""


class Variant(NamedTuple):
    """Prices of a service tier: what it names replaces the standard price."""

    tier: str
    in_force: InForce
    start_ms: int
    prices: ModelPrice


class Tariff:
    """A model's prices over time and by service tier, as one price list has them."""

    __slots__ = ("_brackets", "_dated", "_factors", "_long_writes_at_twice", "_plain", "_variants")

    def __init__(
        self,
        dated: tuple[tuple[InForce | None, ModelPrice], ...],
        variants: tuple[Variant, ...] = (),
        factors: Mapping[str, Fraction] | None = None,
        *,
        long_writes_at_twice: bool = False,
    ) -> None:
        """`dated`: the last in force counts, the first one if none is. `factors`: of tiers without prices of their own.

        `long_writes_at_twice`: a one-hour cache write without a price costs twice the input, as Anthropic has it.
        """
        self._dated = dated
        self._variants = variants
        self._factors = factors or {}
        self._long_writes_at_twice = long_writes_at_twice
        self._brackets: dict[tuple[object, ...], Brackets] = {}
        self._plain = self._made(0, (), None) if len(dated) == 1 else None

    @property
    def flat(self) -> tuple[Rates, int] | None:
        """Rates that hold at any time, and the most input tokens that they hold for; None where there are no such."""
        if self._plain is None or not self._plain.prices_input:
            return None
        return self._plain.rates[0], self._plain.starts[0] if self._plain.starts else ANY_SIZE

    def at(self, ts_ms: int, tier: str | None) -> tuple[Brackets, bool]:
        """The prices at that time, and whether those of the tier are among them."""
        if self._plain is not None and tier is None:
            return self._plain, True
        standard = self._standard(ts_ms)
        if tier is None or tier == "standard":
            return self._made(standard, (), None), True
        chosen = self._chosen(ts_ms, tier)
        factor = None if chosen else self._factors.get(tier)
        return self._made(standard, chosen, factor), bool(chosen or factor)

    def _standard(self, ts_ms: int) -> int:
        for index in range(len(self._dated) - 1, -1, -1):
            in_force = self._dated[index][0]
            if in_force is None or in_force(ts_ms):
                return index
        return 0

    def _chosen(self, ts_ms: int, tier: str) -> tuple[int, ...]:
        """The tier's variants in force; before the first, dated by when it was looked up, that one."""
        mine = [index for index, variant in enumerate(self._variants) if variant.tier == tier]
        in_force = [index for index in mine if self._variants[index].in_force(ts_ms)]
        if mine and not in_force and tier not in self._factors:
            first_ms = min(self._variants[index].start_ms for index in mine)
            in_force = [index for index in mine if self._variants[index].start_ms == first_ms]
        return tuple(in_force)

    def _made(self, standard: int, chosen: tuple[int, ...], factor: Fraction | None) -> Brackets:
        key = (standard, chosen, factor)
        made = self._brackets.get(key)
        if made is None:
            named = by_key(self._dated[standard][1])
            for index in reversed(chosen):  # the first variant that names a price has it
                named |= by_key(self._variants[index].prices)
            if len(self._brackets) > 100:
                self._brackets.clear()
            made = self._brackets[key] = brackets_of(named, factor or Fraction(1), self._long_writes_at_twice)
        return made


Named = dict[str, Decimal | TieredPrices]


def by_key(price: ModelPrice) -> Named:
    """What a price list says, without what it leaves out."""
    return {name: value for name, value in vars(price).items() if value is not None}


def brackets_of(named: Named, factor: Fraction, long_writes_at_twice: bool) -> Brackets:
    """Prices by their keys (`input_mtok` and so on) as rates; tokens are charged at `factor` of them."""
    tiered = [value for value in named.values() if isinstance(value, TieredPrices)]
    starts = sorted({tier.start for value in tiered for tier in value.tiers})
    # A tier begins one token above its start, so each start itself still belongs to the bracket below.
    sizes = [*starts, math.inf]
    known = set(named) | ({"cache_write_1h_mtok"} if long_writes_at_twice else set())
    return Brackets(
        tuple(starts),
        tuple(_rates(named, size, factor, long_writes_at_twice) for size in sizes),
        "input_mtok" in named or not named,
        tuple(count for count, (key, _) in PARTS.items() if key not in known and named),
    )


def _rates(named: Named, input_tokens: float, factor: Fraction, long_writes_at_twice: bool) -> Rates:
    def nanousd(name: str, instead: Fraction, per: int = 1_000_000) -> Fraction:
        value = named.get(name)
        if isinstance(value, TieredPrices):
            value = next((tier.price for tier in reversed(value.tiers) if input_tokens > tier.start), value.base)
        return instead if value is None else Fraction(value) * NANOUSD_PER_USD / per

    per_input = nanousd("input_mtok", Fraction(0))
    per_output = nanousd("output_mtok", Fraction(0))
    per_write = nanousd("cache_write_mtok", per_input)
    tokens = (
        per_input,
        nanousd("cache_read_mtok", per_input) - per_input,
        per_write - per_input,
        per_output,
        nanousd("output_reasoning_mtok", per_output) - per_output,
        nanousd("cache_write_1h_mtok", 2 * per_input if long_writes_at_twice else per_write) - per_write,
        nanousd("input_audio_mtok", per_input) - per_input,
        nanousd("output_audio_mtok", per_output) - per_output,
        nanousd("output_image_mtok", per_output) - per_output,
    )
    exact = (
        nanousd("requests_kcount", Fraction(0), per=1000),
        *(rate * factor for rate in tokens),
        nanousd("web_searches_kcount", Fraction(0), per=1000),
    )
    denominator = math.lcm(*(rate.denominator for rate in exact))
    return Rates(denominator, *(int(rate * denominator) for rate in exact))
