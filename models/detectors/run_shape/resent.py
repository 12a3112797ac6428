"""What it has cost to send a context again and again."""

from typing import NamedTuple

from models.detectors.base import Look
from schemas.money import format_usd
from schemas.usage import LlmCall

OUTPUT_WEIGHT = 5
CACHE_DIVISOR = 10
"""An output token costs about five input tokens, a cached one a tenth of one: where no price list knows the model, what
was charged is split by these.
"""


class Resent(NamedTuple):
    """Input of a context's calls that had been sent before."""

    tokens: int
    at_full_price: int
    """Those that were not read from a cache."""
    nanousd: int | None
    """What they have cost, None where the calls have no price."""

    @property
    def full_price_share(self) -> float:
        """How much of it was not read from a cache."""
        return self.at_full_price / self.tokens if self.tokens else 0.0

    def in_words(self, cost_nanousd: int) -> str:
        """What it came to, as the end of a sentence; `cost_nanousd` is what all the calls have cost."""
        if self.nanousd is None:
            return f"{thousands(self.tokens)} of the tokens paid for had been sent before"
        return f"sending it again has cost {format_usd(self.nanousd)} of {format_usd(cost_nanousd)}"

    def advice(self) -> str:
        """What to do about it."""
        if self.full_price_share >= 0.5:
            part = "all of it" if self.full_price_share > 0.99 else f"{self.full_price_share:.0%} of it"
            return f"Cache it: {part} was sent again at full price. Or compact it, or cap the run."
        return "Compact it or start afresh; cap the run if it need not be this long."


def resent_by(look: Look) -> Resent:
    """What of a context's input was sent before, at what it was charged.

    Priced as an average call of the context is: what cached and other tokens cost in it, as a share of what its calls
    were charged, and never more than the price list says.
    """
    context = look.context
    tokens = context.resent_tokens()
    cached = min(tokens, context.cache_read_tokens)
    if not context.cost_nanousd:
        is_free = _priced(look, tokens, cached, 0) == 0  # not merely unknown: a model of one's own
        return Resent(tokens, tokens - cached, 0 if is_free else None)
    calls = max(1, context.calls)
    part = _priced(look, tokens // calls, cached // calls, 0)
    whole = _priced(
        look, context.input_tokens // calls, context.cache_read_tokens // calls, context.output_tokens // calls
    )
    if part is None or not whole:
        part = tokens - cached + cached // CACHE_DIVISOR
        read = min(context.cache_read_tokens, context.input_tokens)
        whole = context.input_tokens - read + read // CACHE_DIVISOR + OUTPUT_WEIGHT * context.output_tokens
        return Resent(tokens, tokens - cached, context.cost_nanousd * part // max(1, whole))
    return Resent(tokens, tokens - cached, min(part * calls, context.cost_nanousd * part // whole))


def thousands(tokens: int) -> str:
    """A number of tokens as people say it."""
    return f"{round(tokens, -3):,}" if tokens >= 10_000 else f"{tokens:,}"


def _priced(look: Look, input_tokens: int, cache_read_tokens: int, output_tokens: int) -> int | None:
    """What one such call costs by the price list in force, None where that does not know."""
    call = look.call
    plain = LlmCall(
        event_id=call.event_id,
        ts_ms=call.ts_ms,
        tenant_id=call.tenant_id,
        run_id=call.run_id,
        model=call.model,
        provider=call.provider,
        service_tier=call.service_tier,
        input_tokens=input_tokens,
        cache_read_tokens=cache_read_tokens,
        output_tokens=output_tokens,
    )
    return look.prices.charge(plain).computed_nanousd
