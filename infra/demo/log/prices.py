"""What the demo's models cost. A table of its own, so that building the log does not follow a price list's updates."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UnitPrice:
    """Nano-dollars per token; one nano-dollar per token is 0.001 USD per million tokens."""

    provider: str
    input_nanousd: int
    cache_read_nanousd: int
    cache_write_nanousd: int
    output_nanousd: int


UNIT_PRICES = {
    "claude-haiku-4-5": UnitPrice("anthropic", 1_000, 100, 1_250, 5_000),
    "claude-opus-4-8": UnitPrice("anthropic", 5_000, 500, 6_250, 25_000),
    "claude-sonnet-4-5": UnitPrice("anthropic", 3_000, 300, 3_750, 15_000),
    "gpt-4.1": UnitPrice("openai", 2_000, 500, 2_000, 8_000),
    "gpt-4.1-mini": UnitPrice("openai", 400, 100, 400, 1_600),
    "gpt-4o": UnitPrice("openai", 2_500, 1_250, 2_500, 10_000),
    "gpt-4o-mini": UnitPrice("openai", 150, 75, 150, 600),
    "gpt-5.4": UnitPrice("openai", 2_500, 250, 2_500, 15_000),
}
"""List prices as in genai-prices 0.2.3 for November 2026, for prompts of at most 200,000 tokens."""

PROMPT_CEILING = 200_000
"""Above this many input tokens some of these models cost more per token; no call of the log is that long."""


def cost_nanousd(model: str, input_tokens: int, cache_read: int, cache_write: int, output_tokens: int) -> int:
    """Cost of one call in nano-dollars. `input_tokens` is the total, cached tokens included."""
    price = UNIT_PRICES[model]
    fresh = input_tokens - cache_read - cache_write
    if fresh < 0 or input_tokens > PROMPT_CEILING:
        raise ValueError(f"not a call this table can price: {input_tokens=} {cache_read=} {cache_write=}")
    return (
        fresh * price.input_nanousd
        + cache_read * price.cache_read_nanousd
        + cache_write * price.cache_write_nanousd
        + output_tokens * price.output_nanousd
    )
