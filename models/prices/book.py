"""What a model call costs: one function, `PriceBook.charge`, for every call.

The first that knows decides: an answer from a cache (0), the cost that the source reported, the policy's `[[price]]`,
our corrections of the packed tables, the packed tables, the policy's pessimistic price. `docs/prices.md` explains it.
"""

import re
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
from genai_prices.types import ModelPrice

from models.prices.names import plain_names, plain_pattern, provider_id, resolve
from models.prices.tables import PRICE_SOURCE, Tables, corrections
from models.prices.tariff import MAX_EVENT_NANOUSD, PARTS, Counts, Rates, Tariff, counts_of
from schemas.policy import PolicyHeader, Price
from schemas.usage import LlmCall

__all__ = ["MAX_EVENT_NANOUSD", "PRICE_SOURCE", "Charge", "PriceBook", "Problem"]

CACHED_MODELS: Final = 10_000
"""Bound of each of the two caches, priced and unpriced: names come from outside."""

Problem = Literal["unpriced", "price_mismatch", "contradicting_tokens", "not_fully_priced", "uncounted"]
"""What may be wrong with a call's cost."""

_TIMED_OUT: Final = re.compile(r"^(?!.*(?:connect|pool)).*(?:time[d_ -]*out|deadline|\b504\b)")
"""Of an `error_type` in lower case: the answer did not come in time, though the call went out."""

_KINDS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
    "web_searches_per_thousand": "web_searches_kcount",
    "calls_per_thousand": "requests_kcount",
}
"""Kind of a policy's price -> the price tables' key for it."""


class Charge(NamedTuple):
    """What a call is charged, by whom it was priced, and what is wrong with that."""

    cost_nanousd: int
    source: str
    """`reported` (and by whom), `computed:...` (table, version and date), `policy:...`, `pessimistic`, `unpriced`."""
    problems: tuple[Problem, ...] = ()
    computed_nanousd: int | None = None
    """What the call would cost by `[[price]]` and tables; None if they do not know."""
    missing: tuple[str, ...] = ()
    """What has no price and is not, or not fully, in the computed cost."""
    input_tokens: int = 0
    output_tokens: int = 0
    """The totals, made to agree with their parts."""

    @property
    def note(self) -> str:
        """What is left out of the cost, for people; empty if nothing is."""
        return f"not fully priced: {', '.join(self.missing)}" if self.missing else ""


CACHE_HIT: Final = Charge(0, "cache_hit", computed_nanousd=0)


class Computed(NamedTuple):
    """A cost by `[[price]]` or a table, where its prices come from, and what they leave out."""

    cost_nanousd: int
    source: str
    missing: tuple[str, ...]


V = TypeVar("V")

Layer = tuple[int, Tariff, str]
"""Since when (epoch milliseconds) these prices hold, the prices, and their source."""


class _Flat(NamedTuple):
    """A price without dates and tiers, up to a size: whole nano-dollars times `denominator`, as in `tariff.Rates`."""

    most_input: int
    denominator: int
    call: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int


class PriceBook:
    """Prices calls by model, provider, counts and the event's own time; the same call costs the same always."""

    def __init__(self, header: PolicyHeader | None = None) -> None:
        header = header or PolicyHeader()
        self._own = [_Own(price, f"policy:{header.version}") for price in header.price]
        self._prefers_computed = header.prefer_computed_price
        self._pessimistic = header.unpriced_usd_per_million_tokens
        self._tables = Tables()
        self._layers: dict[tuple[str | None, str], tuple[tuple[Layer, ...], bool]] = {}
        self._unpriced: dict[tuple[str | None, str], None] = {}
        self._flat: dict[tuple[str | None, str], _Flat] = {}

    def undisputed(self, call: LlmCall) -> int | None:
        """The reported cost of a plain call that agrees with a plain price, as `charge` has it: nearly every call.

        None says only that `charge` is to be asked.
        """
        reported_nanousd = call.cost_nanousd
        if (
            not reported_nanousd
            or call.cache_hit
            or call.input_audio_tokens
            or call.output_audio_tokens
            or call.output_image_tokens
            or call.web_searches
            or call.cache_write_1h_tokens
            or call.service_tier is not None
        ):
            return None
        flat = self._flat.get((call.provider, call.model))
        if flat is None:
            return None
        most_input, denominator, scaled, per_input, per_output, per_read, per_write, per_reasoning = flat
        if call.input_tokens > most_input:
            return None
        scaled += per_input * call.input_tokens + per_output * call.output_tokens
        if call.cache_read_tokens or call.cache_write_tokens or call.reasoning_tokens:
            cached = call.cache_read_tokens + call.cache_write_tokens
            if cached > call.input_tokens or call.reasoning_tokens > call.output_tokens:
                return None
            scaled += per_read * call.cache_read_tokens + per_write * call.cache_write_tokens
            scaled += per_reasoning * call.reasoning_tokens
        computed_nanousd = (2 * scaled + denominator) // (2 * denominator)
        agrees = 2 * abs(reported_nanousd - computed_nanousd) <= computed_nanousd <= MAX_EVENT_NANOUSD
        return reported_nanousd if agrees else None

    def charge(self, call: LlmCall) -> Charge:
        """What `call` is charged.

        An answer from a semantic cache costs 0 whatever was reported. A cost that nobody knows is 0 or the policy's
        pessimistic one, and `unpriced`.
        """
        if call.cache_hit:
            return CACHE_HIT
        counts = counts_of(call)
        computed = self._computed(call, counts)
        if call.cost_nanousd is None:
            return self._unreported(call, counts, computed)
        return self._reported(call, call.cost_nanousd, counts, computed)

    def __len__(self) -> int:
        """How many (provider, model) pairs are remembered, unpriced ones included."""
        return len(self._layers) + len(self._unpriced)

    def _unreported(self, call: LlmCall, counts: Counts, computed: Computed | None) -> Charge:
        contradicting: tuple[Problem, ...] = ("contradicting_tokens",) if counts.contradicting else ()
        if computed is not None:
            problems: tuple[Problem, ...] = ("not_fully_priced", *contradicting) if computed.missing else contradicting
            is_charged = call.status == "ok" or _was_given_up(call)
            if not computed.cost_nanousd and not computed.missing and is_charged and _counts_nothing(call, counts):
                problems = ("uncounted",)
            return Charge(
                computed.cost_nanousd, computed.source, problems, computed.cost_nanousd, computed.missing,
                counts.input_tokens, counts.output_tokens,
            )  # fmt: skip
        cost_nanousd, source = 0, "unpriced"
        if self._pessimistic is not None:
            tokens = counts.input_tokens + counts.output_tokens
            cost_nanousd, source = min(int(self._pessimistic * tokens * 1000), MAX_EVENT_NANOUSD), "pessimistic"
        return Charge(
            cost_nanousd, source, ("unpriced", *contradicting), None, (), counts.input_tokens, counts.output_tokens
        )

    def _reported(self, call: LlmCall, cost_nanousd: int, counts: Counts, computed: Computed | None) -> Charge:
        source = "reported" if call.price_source is None else f"reported:{call.price_source}"
        problems: tuple[Problem, ...] = ("contradicting_tokens",) if counts.contradicting else ()
        if not cost_nanousd and _was_given_up(call) and _counts_nothing(call, counts):
            problems = ("uncounted",)
        if computed is None:
            return Charge(cost_nanousd, source, problems, None, (), counts.input_tokens, counts.output_tokens)
        if self._mismatches(call, cost_nanousd, computed):
            problems = ("price_mismatch", *problems)
        if self._prefers_computed and not computed.missing:
            cost_nanousd, source = computed.cost_nanousd, computed.source
        return Charge(
            cost_nanousd, source, problems, computed.cost_nanousd, (), counts.input_tokens, counts.output_tokens
        )

    def _mismatches(self, call: LlmCall, reported_nanousd: int, computed: Computed) -> bool:
        """Whether the reported cost is off by more than half of the computed one, and nothing harmless explains it."""
        off = reported_nanousd - computed.cost_nanousd
        if 2 * abs(off) <= computed.cost_nanousd:
            return False
        if not call.input_tokens and not call.output_tokens:
            return False  # a source that counts no tokens: there is nothing to compute from
        if off < 0:
            if reported_nanousd > 0 or call.status != "error":
                return True
            return _was_given_up(call)  # other failed calls are not billed by everybody
        if computed.missing:
            return False
        if call.cache_write_tokens and not call.cache_write_1h_tokens:
            # A source that does not say how long it caches may have paid for the hour.
            longest = _with_long_writes(call)
            dearest = self._computed(longest, counts_of(longest))
            return dearest is None or 2 * (reported_nanousd - dearest.cost_nanousd) > dearest.cost_nanousd
        return True

    def _computed(self, call: LlmCall, counts: Counts) -> Computed | None:
        key = (call.provider, call.model)
        found = self._layers.get(key) or self._look_up(key)
        if found is None:
            return None
        layers, regional = found
        start_ms, tariff, source = layers[0]
        if start_ms > call.ts_ms:
            layer = next((one for one in layers if one[0] <= call.ts_ms), None)
            if layer is None:
                return None
            _, tariff, source = layer
        brackets, has_tier = tariff.at(call.ts_ms, call.service_tier)
        cost_nanousd = brackets.cost_nanousd(call, counts)
        if cost_nanousd is None:
            return None
        missing: tuple[str, ...] = ()
        if counts.has_parts and brackets.unpriced_parts:
            missing = tuple(PARTS[part][1] for part in brackets.unpriced_parts if getattr(call, part))
        if not has_tier:
            missing = (*missing, f"{call.service_tier} tier")
        if call.images and not counts.input_tokens:
            missing = (*missing, "images")
        if regional:
            missing = (*missing, "regional surcharge")
        return Computed(cost_nanousd, source, missing)

    def _look_up(self, key: tuple[str | None, str]) -> tuple[tuple[Layer, ...], bool] | None:
        if key in self._unpriced:
            return None
        layers, regional = self._resolved(*key)
        if not layers:
            _remember(self._unpriced, key, None)
            return None
        _remember(self._layers, key, (layers, regional))
        start_ms, tariff, _ = layers[0]
        if start_ms == 0 and tariff.flat is not None and not self._prefers_computed:
            _remember(self._flat, key, _flat(*tariff.flat))
        return layers, regional

    def _resolved(self, provider: str | None, model: str) -> tuple[tuple[Layer, ...], bool]:
        """Every price of the model, the one that comes first first."""
        layers: list[Layer] = [own.layer for own in self._own if own.is_for(provider, model)]
        layers.sort(key=lambda layer: -layer[0])
        name = resolve(provider, model)
        found = None if name is None else self._tables.find(name)
        if found is not None:
            layers += corrections(found.provider, found.spelling)
            if found.tariff is not None:
                layers.append((0, found.tariff, PRICE_SOURCE))
        return tuple(layers), name is not None and name.regional


class _Own:
    """A price of the policy at work."""

    def __init__(self, price: Price, source: str) -> None:
        self._pattern = price.model
        self._plain_pattern = plain_pattern(price.model)
        self._provider = None if price.provider is None else _spelled(price.provider)
        prices = {key: getattr(price, kind) for kind, key in _KINDS.items() if getattr(price, kind) is not None}
        claude = any(name.startswith("claude") for name in plain_names(price.model))
        tariff = Tariff(((None, ModelPrice(**prices)),), long_writes_at_twice=claude)
        self.layer: Layer = (price.from_ms, tariff, source)

    def is_for(self, provider: str | None, model: str) -> bool:
        """Whether it prices that model of that provider."""
        if self._provider is not None:
            name = resolve(provider, model)
            given = _spelled(provider) if provider else None
            if self._provider not in (given, None if name is None else name.provider):
                return False
        return fnmatchcase(model, self._pattern) or any(
            fnmatchcase(name, self._plain_pattern) for name in plain_names(model)
        )


def _counts_nothing(call: LlmCall, counts: Counts) -> bool:
    """Whether a call has neither tokens nor anything else that it could be priced by."""
    return not (counts.input_tokens or counts.output_tokens or call.images or call.web_searches)


def _was_given_up(call: LlmCall) -> bool:
    """Whether nobody waited for the answer of a call that was made: the provider may have written it all the same.

    What failed otherwise, as a refused connection or a limit of rates, has no answer to be charged.
    """
    if call.status != "error":
        return call.status == "cancelled"
    return call.error_type is not None and _TIMED_OUT.search(call.error_type.lower()) is not None


def _flat(rates: Rates, most_input: int) -> _Flat:
    return _Flat(
        most_input, rates.denominator, rates.call, rates.input, rates.output, rates.cache_read, rates.cache_write,
        rates.reasoning,
    )  # fmt: skip


def _spelled(provider: str) -> str:
    return provider_id(provider) or provider.strip().lower()


def _with_long_writes(call: LlmCall) -> LlmCall:
    return msgspec.structs.replace(call, cache_write_1h_tokens=call.cache_write_tokens)


def _remember(cache: dict[tuple[str | None, str], V], key: tuple[str | None, str], value: V) -> None:
    """Keeps `value`, at the cost of the oldest entry when the cache is full."""
    if len(cache) >= CACHED_MODELS:
        del cache[next(iter(cache))]
    cache[key] = value
