"""Price tables: those packed with the installed version of `genai-prices`, and our own dated corrections of them.

Nothing is fetched. A look-up in the library takes up to 150 us, so that callers remember what they got.
"""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

import genai_prices
from genai_prices.data import providers
from genai_prices.data_snapshot import find_provider_by_id
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TimeOfDateConstraint,
)

from models.prices.names import FREE, HOSTS, Name, without_fast_mode
from models.prices.tariff import InForce, Tariff, Variant, by_key
from schemas.duration import DAY_MS

DATES: Final = {"0.2.3": "2026-11-09"}
"""Version of genai-prices -> day of the newest price in its tables."""
PRICE_SOURCE: Final = (
    f"computed:genai-prices/{genai_prices.__version__}@{DATES.get(genai_prices.__version__, 'date unknown')}"
)

_EPOCH_DAY: Final = date(1970, 1, 1)
MAKERS: Final = ("openai", "cohere", "perplexity")
"""Providers whose models are not all told by a pattern of their names: their lists are looked through as well."""
_TIERS: Final = {
    ("processing", "batch"): "batch",
    ("service_tier", "flex"): "flex",
    ("service_tier", "priority"): "priority",
}
"""What a variant of the tables is for -> our service tier."""
_FAST: Final = "-fast"
_FAST_AT: Final = "anthropic"
"""Who sells Claude models in fast mode; others pass it on at that price."""
_HALF: Final = Fraction(1, 2)
FACTORS: Final[dict[str, dict[str, Fraction]]] = {
    "anthropic": {"batch": _HALF},
    "aws": {"batch": _HALF},
    "azure": {"batch": _HALF},
    "fireworks": {"batch": _HALF},
    "google": {"batch": _HALF, "flex": _HALF},
    "groq": {"batch": _HALF},
    "mistral": {"batch": _HALF},
    "openai": {"batch": _HALF, "flex": _HALF},
    "together": {"batch": _HALF},
}
"""Provider -> what it charges a tier's tokens at by its own pages, as of November 2026, where tables have no price."""


class Correction(NamedTuple):
    """A price that the packed tables have wrong, from the day it holds, and where it is published."""

    provider: str
    models: tuple[str, ...]
    start: datetime
    prices: dict[str, str]
    published: str

    @property
    def start_ms(self) -> int:
        """Since when it holds, in epoch milliseconds."""
        return int(self.start.timestamp()) * 1000

    @property
    def source(self) -> str:
        """What a charge by it names as its source."""
        return f"computed:corrections@{self.start:%Y-%m-%d}"


CORRECTIONS: Final = (
    # The tables still have the night discount, which ended with this list.
    Correction(
        "deepseek", ("deepseek-chat", "deepseek-reasoner"), datetime(2025, 9, 5, 16, tzinfo=UTC),
        {"input_mtok": "0.56", "cache_read_mtok": "0.07", "output_mtok": "1.68"},
        "api-docs.deepseek.com/quick_start/pricing",
    ),
    Correction(
        "deepseek", ("deepseek-chat", "deepseek-reasoner"), datetime(2025, 9, 29, tzinfo=UTC),
        {"input_mtok": "0.28", "cache_read_mtok": "0.028", "output_mtok": "0.42"},
        "api-docs.deepseek.com/quick_start/pricing",
    ),
    # The alias moved from Large 2 to Large 3; the tables have the new price under the dated name only.
    Correction(
        "mistral", ("mistral-large-latest",), datetime(2025, 12, 2, tzinfo=UTC),
        {"input_mtok": "0.5", "cache_read_mtok": "0.05", "output_mtok": "1.5"},
        "mistral.ai/pricing",
    ),
)  # fmt: skip


_NOTHING: Final = Tariff(((None, ModelPrice()),))
"""What a model costs that its seller gives away, whether or not the tables know it."""


class Found(NamedTuple):
    """What the tables have about a name."""

    provider: str
    spelling: str
    tariff: Tariff | None
    """None: the tables know the model but not what its tokens cost."""


class Tables:
    """The packed tables, with each model's formulas made once."""

    def __init__(self) -> None:
        self._tariffs: dict[tuple[str, int], Tariff | None] = {}

    def find(self, name: Name) -> Found | None:
        """The model that one of the name's spellings stands for; None if there is none."""
        for spelling in name.spellings:
            provider = _provider(name.provider, spelling)
            model = None if provider is None else provider.find_model(spelling, all_providers=providers)
            standard = without_fast_mode(spelling)
            if standard is not None and (model is None or not model.id.endswith(_FAST)):
                sells = name.provider is None or name.provider == _FAST_AT or name.provider in HOSTS
                return Found(name.provider or _FAST_AT, spelling, _in_fast_mode(standard)) if sells else None
            if provider is not None and model is not None:
                key = (provider.id, id(model))
                if key not in self._tariffs:
                    self._tariffs[key] = tariff_of(model, provider)
                return Found(provider.id, spelling, self._tariffs[key])
        if name.provider == "openrouter" and name.spellings[0].endswith(FREE):
            return Found(name.provider, name.spellings[0], _NOTHING)
        return None


def corrections(provider: str, spelling: str) -> list[tuple[int, Tariff, str]]:
    """(since when, prices, source) of our own corrections for a model, the newest first."""
    found = [
        (one.start_ms, Tariff(((None, _price(one)),), (), FACTORS.get(provider)), one.source)
        for one in CORRECTIONS
        if one.provider == provider and spelling in one.models
    ]
    return sorted(found, key=lambda entry: -entry[0])


def _price(correction: Correction) -> ModelPrice:
    return ModelPrice(**{key: Decimal(value) for key, value in correction.prices.items()})


def _provider(given: str | None, spelling: str) -> Provider | None:
    if given is not None:
        return find_provider_by_id(providers, given)
    known_by = (one for one in providers if one.model_match is not None and one.model_match.is_match(spelling))
    sold_by = (one for one in providers if one.id in MAKERS and any(model.id == spelling for model in one.models))
    return next(known_by, None) or next(sold_by, None)


def tariff_of(model: ModelInfo, provider: Provider) -> Tariff | None:
    """The model's prices at a provider as formulas; None if the tables know it but not what its tokens cost.

    One that the provider sells for another maker has the maker's prices, but not the maker's service tiers.
    The tables write a free model and one of unknown price alike, without prices; only a name that says so is free.
    """
    free = model.id.endswith(FREE)
    entries = [ConditionalPrice(prices=model.prices)] if isinstance(model.prices, ModelPrice) else model.prices
    if not entries or (not free and not all(_prices_tokens(entry.prices) for entry in entries)):
        return None
    return Tariff(
        tuple((None if entry.constraint is None else _in_force(entry.constraint), entry.prices) for entry in entries),
        tuple(_variants(model)) if any(model is own for own in provider.models) else (),
        FACTORS.get(provider.id),
        long_writes_at_twice="claude" in model.id,
    )


def _in_fast_mode(standard: str) -> Tariff | None:
    """The prices of a Claude model in fast mode; None where the tables have none, which are not those of the model."""
    maker = find_provider_by_id(providers, _FAST_AT)
    model = None if maker is None else maker.find_model(standard)
    if model is None or not isinstance(model.prices, ModelPrice):
        return None
    fast = next((one.prices for one in model.price_variants or () if one.when == {"speed": "fast"}), None)
    return None if fast is None else Tariff(((None, ModelPrice(**(by_key(model.prices) | by_key(fast)))),))


def _variants(model: ModelInfo) -> list[Variant]:
    found = []
    for variant in model.price_variants or ():
        tier = _TIERS.get(next(iter(variant.when.items()))) if len(variant.when) == 1 else None
        if tier is not None:
            found.append(Variant(tier, _in_force(variant.constraint), _start_ms(variant.constraint), variant.prices))
    return found


def _prices_tokens(price: ModelPrice) -> bool:
    return price.input_mtok is not None or price.output_mtok is not None


def _start_ms(constraint: Any) -> int:
    if isinstance(constraint, StartDateConstraint):
        return (constraint.start_date - _EPOCH_DAY).days * DAY_MS
    return 0


def _in_force(constraint: StartDateConstraint | TimeOfDateConstraint | None) -> InForce:
    """Whether a price holds at an epoch millisecond, in integers: any time an event can carry has an answer."""
    if constraint is None:
        return lambda _: True
    if isinstance(constraint, StartDateConstraint):
        start_ms = _start_ms(constraint)
        return lambda ts_ms: ts_ms >= start_ms
    from_ms, to_ms = _time_of_day_ms(constraint.start_time), _time_of_day_ms(constraint.end_time)
    if to_ms < from_ms:
        return lambda ts_ms: not to_ms <= ts_ms % DAY_MS < from_ms
    return lambda ts_ms: from_ms <= ts_ms % DAY_MS < to_ms


def _time_of_day_ms(at: time) -> int:
    if at.tzinfo not in (None, UTC):
        raise ValueError(f"a price table with a time of day that is not in UTC: {at}")
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000
