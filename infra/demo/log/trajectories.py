"""A run before it has a place in time: what was called, how large it was, how long after the call before."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from infra.demo.log.prices import UNIT_PRICES, cost_nanousd
from schemas.usage import CallStatus

OutcomeWord = Literal["accepted", "edited", "rejected", "escalated"]
RunEnd = Literal["completed", "failed"]


@dataclass(frozen=True)
class ToolUse:
    """A tool call that followed a model call: a name and hashes, no text."""

    tool: str
    args_hash: str | None
    result_hash: str | None
    status: CallStatus = "ok"
    latency_ms: int = 800


@dataclass(frozen=True)
class Step:
    """One model call and the tool calls it led to. `gap_ms` is the time since the step before."""

    gap_ms: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    tools: tuple[ToolUse, ...] = ()

    @property
    def latency_ms(self) -> int:
        """A plausible duration of the model call: 350 ms to the first token, then 8 ms a token."""
        return 350 + 8 * self.output_tokens


@dataclass(frozen=True)
class Trajectory:
    """One real run on one model."""

    source: str
    model: str
    steps: tuple[Step, ...]
    end: RunEnd = "completed"
    outcome: OutcomeWord | None = None

    @cached_property
    def cost_nanousd(self) -> int:
        """What all its model calls cost."""
        return sum(step_cost_nanousd(self.model, step) for step in self.steps)

    @property
    def duration_ms(self) -> int:
        """From the first call to the last."""
        return sum(step.gap_ms for step in self.steps[1:])

    def on(self, model: str) -> "Trajectory":
        """The same run on another model."""
        return replace(self, model=model)


def step_cost_nanousd(model: str, step: Step) -> int:
    """Cost of one step's model call in nano-dollars."""
    return cost_nanousd(model, step.input_tokens, step.cache_read_tokens, step.cache_write_tokens, step.output_tokens)


def with_resent_context_cached(model: str, steps: list[Step]) -> tuple[Step, ...]:
    """Mark what the call before had already sent as read from the provider's prompt cache.

    Anthropic charges for writing the rest into the cache; OpenAI caches whole blocks of 128 tokens from 1,024 on.
    """
    anthropic = UNIT_PRICES[model].provider == "anthropic"
    marked: list[Step] = []
    before = 0
    for step in steps:
        read = min(before, step.input_tokens)
        if not anthropic:
            read = read // 128 * 128 if read >= 1_024 else 0
        write = step.input_tokens - read if anthropic else 0
        marked.append(replace(step, cache_read_tokens=read, cache_write_tokens=write))
        before = step.input_tokens
    return tuple(marked)
