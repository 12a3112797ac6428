"""Langfuse's `usageDetails`: counts by kind, under the names that whoever sent them uses.

Langfuse's own names count each token once: `input` leaves out what stands in `input_cached_tokens` beside it. What
providers say passes through as it is: `prompt_tokens` is a total, Anthropic's `input_tokens` leaves out what is cached.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Counts = Mapping[str, Any]
CACHED_APART: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Anthropic's: never a part of what stands beside them."""
_NO_PARTS: Final = frozenset(
    f"{side}_{what}" for side in ("input", "output") for what in ("tokens", "tokens_details", "priority")
)
"""Totals; and at what rate the others were served."""


def tokens_of(details: Counts) -> dict[str, int]:
    """Totals and their parts under our names, without zeros."""
    given, made = _nested(details, "prompt", "input"), _nested(details, "completion", "output")
    reasoning = _sum(details, lambda name: name.startswith("output_reasoning")) or _count(made, "reasoning_tokens")
    written_1h = _count(details, "input_ephemeral_1h_input_tokens", "cache_creation_ephemeral_1h_input_tokens")
    tokens = {
        "input_tokens": _input(details),
        "cache_read_tokens": _count(
            details, "input_cached_tokens", "input_cache_read", "input_cache_read_input_tokens", CACHED_APART[0]
        )
        or _count(given, "cached_tokens"),
        "cache_write_tokens": _count(details, "input_cache_creation", "input_cache_creation_tokens", CACHED_APART[1])
        or _sum(details, lambda name: name.startswith("input_ephemeral_")),
        "cache_write_1h_tokens": written_1h,
        "input_audio_tokens": _count(details, "input_audio_tokens", "input_audio") or _count(given, "audio_tokens"),
        "output_tokens": max(_output(details), reasoning),
        "reasoning_tokens": reasoning,
    }
    return {name: count for name, count in tokens.items() if count}


def _input(details: Counts) -> int:
    """All of the input, cached tokens included."""
    total, apart = _count(details, "total", "total_tokens"), _sum(details, lambda name: name in CACHED_APART)
    if prompt := _count(details, "prompt_tokens"):
        # Gateways that write Anthropic's counts in OpenAI's words leave out what was cached, and the total shows it.
        return prompt + apart if total == prompt + apart + _output(details) else prompt
    own = _count(details, "input", "input_tokens")
    if "input" in details:
        apart += _sum(details, lambda name: _is_part(name, "input_") and not _is_again(name, details))
    return own if total == own + _output(details) else own + apart


def _output(details: Counts) -> int:
    """All of the output, what was thought included."""
    if total := _count(details, "completion_tokens", "output_tokens"):
        return total
    return _count(details, "output") + _sum(details, lambda name: _is_part(name, "output_"))


def _is_part(name: str, side: str) -> bool:
    return name.startswith(side) and name not in _NO_PARTS


def _is_again(name: str, details: Counts) -> bool:
    """Whether a part is of another part: writes to the cache by how long they last."""
    return name.startswith("input_ephemeral_") and bool(_count(details, "input_cache_creation"))


def _nested(details: Counts, *sides: str) -> Counts:
    """`prompt_tokens_details` and its siblings, as OpenAI's client has them."""
    found = (details.get(f"{side}_tokens_details") for side in sides)
    return next((one for one in found if isinstance(one, Mapping)), {})


def _sum(details: Counts, is_meant: Callable[[str], bool]) -> int:
    return sum(_count(details, name) for name in details if is_meant(name))


def _count(details: Counts, *names: str) -> int:
    """The first of these counts that is there."""
    for name in names:
        value = details.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**12:
            return int(value)
    return 0
