"""What one agent of a run sends one model, call after call: how large it is, how it has grown, what was sent before.

Agents of one run that say who they are (`agent`) have contexts of their own, and so has each model that one talks to: a
sub-agent with a small context, or a small model asked for a title, is no compaction of the large one.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

from schemas.usage import LlmCall

LARGE: Final = 20_000
"""Tokens. What happens to a smaller context costs too little to be followed."""
NEAR: Final = 20
"""Calls. What is full again within so many has been soon full again."""
STILL_LOOKS: Final = 5
"""Every so many calls that a large context does not grow with, rules look."""


class Rebuilds:
    """How often a large context was thrown away and filled again, or sent again without growing."""

    __slots__ = (
        "anchor", "before", "compactions", "in_a_row", "last", "most_in_a_row", "most_still", "reloads", "still",
        "tool_calls", "tools_between",
    )  # fmt: skip

    def __init__(self) -> None:
        self.compactions = 0
        """Falls to half or less."""
        self.reloads = 0
        """Calls that say that the context was sent again without a cache."""
        self.before = 0
        """How large it was before the last compaction, 0 once it is full again."""
        self.in_a_row = 0
        """Rebuilds, each within `NEAR` calls of the run after the one before."""
        self.most_in_a_row = 0
        self.last = 0
        """Number of the run's call that rebuilt it last."""
        self.still = 0
        """Calls at full price in a row that it did not grow with. Those with which it grew a little are not counted."""
        self.most_still = 0
        self.anchor = 0
        """How large it was at the first of them; a tenth more or less is the same."""
        self.tool_calls = 0
        """The run's tool calls at the first of them, and since."""
        self.tools_between = 0

    def rebuilt(self, calls: int) -> bool:
        """It was filled anew at the run's call number `calls`. Returns whether that was soon."""
        near = self.in_a_row > 0 and calls - self.last <= NEAR
        self.in_a_row = self.in_a_row + 1 if near else 1
        self.last = calls
        self.most_in_a_row = max(self.most_in_a_row, self.in_a_row)
        return near

    def stayed(self, tokens: int, tool_calls: int) -> bool:
        """A call at full price did not make it larger. Returns whether to look."""
        if 10 * abs(tokens - self.anchor) <= self.anchor:
            self.still += 1
            self.most_still = max(self.most_still, self.still)
            self.tools_between = tool_calls - self.tool_calls
            return self.still % STILL_LOOKS == 0
        self.still, self.anchor, self.tool_calls, self.tools_between = 1, tokens, tool_calls, 0
        return False

    def to_row(self) -> tuple[int, ...]:
        """The state as plain values; `from_row` makes the same of it."""
        return (
            self.compactions, self.reloads, self.before, self.in_a_row, self.most_in_a_row, self.last, self.still,
            self.most_still, self.anchor, self.tool_calls, self.tools_between,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[int]) -> "Rebuilds":
        """What `to_row` described."""
        rebuilds = cls()
        (
            rebuilds.compactions, rebuilds.reloads, rebuilds.before, rebuilds.in_a_row, rebuilds.most_in_a_row,
            rebuilds.last, rebuilds.still, rebuilds.most_still, rebuilds.anchor, rebuilds.tool_calls,
            rebuilds.tools_between,
        ) = row  # fmt: skip
        return rebuilds


class Context:
    """What one agent's calls of one model send and get. In the ordinary case a call is a little larger than the last:
    then `tokens` follows, and everything else is worked out when `add` is asked. Sums follow when the run settles them
    (`Run.settle`).
    """

    __slots__ = (
        "agent", "begun", "cache_read_tokens", "calls", "cost_nanousd", "first", "fresh", "input_tokens", "input_trip",
        "largest", "model", "output_tokens", "output_trip", "rebuilds", "tokens", "tokens_before",
    )  # fmt: skip

    def __init__(self, agent: str | None, model: str) -> None:
        self.agent = agent and sys.intern(agent)  # names are few and runs many
        self.model = sys.intern(model)
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cache_read_tokens = 0
        self.cost_nanousd = 0
        self.tokens = 0
        """Input of the last call."""
        self.tokens_before = 0
        """Input of the call before the last that was looked at."""
        self.first = 0
        """Input of the first one: its own start."""
        self.largest = 0
        """Most input of a call before the last fall."""
        self.begun = 0
        """Input at the last fall, from which it has grown since."""
        self.fresh = 0
        """Tokens that were new when they were sent, as of the last fall."""
        self.rebuilds: Rebuilds | None = None
        self.clear_trips()

    @classmethod
    def of(cls, call: LlmCall, floors: tuple[int, int]) -> "Context":
        """The context that begins with this call. `floors` are input and output of a call below which no rule has
        anything to say, whatever was before: until one is reached nobody looks.
        """
        context = cls(call.agent, call.model)
        if call.input_tokens and not call.cache_hit:
            context.first = call.input_tokens
            context.input_trip, context.output_trip = floors
        return context

    def clear_trips(self) -> None:
        """Rules have to say anew at what size of a call they want to look: the next call is looked at."""
        self.input_trip = 0
        self.output_trip = 0

    def set_trips(self, input_tokens: int, output_tokens: int) -> None:
        """Look at calls of so many tokens; and, after a compaction, once the context is full again."""
        before = 0 if self.rebuilds is None else self.rebuilds.before
        self.input_trip = min(input_tokens, _full(before)) if before else input_tokens
        self.output_trip = output_tokens

    def is_cut_by(self, call: LlmCall) -> bool:
        """Whether half or more of a large context is gone with this call, which is not taken in yet."""
        return LARGE <= self.tokens >= 2 * call.input_tokens > 0 and not call.cache_hit

    def is_last(self, call: LlmCall) -> bool:
        """Whether the call is the last one of this context once more, as far as its input shows."""
        return 0 < call.input_tokens == self.tokens and call.model == self.model

    def add(self, call: LlmCall, calls: int, tool_calls: int) -> bool:
        """Take in a call that is not simply a little larger than the last one. `calls` and `tool_calls` are the run's.
        Returns whether rules should look.
        """
        tokens = call.input_tokens
        if not tokens or call.cache_hit:
            return False  # nothing was sent
        last = self.tokens
        if tokens > last:
            cuts = self.rebuilds
            look = tokens >= self.input_trip
            if cuts is not None and cuts.before and tokens >= _full(cuts.before):
                look = self._refilled(call, calls, tool_calls) or look
            self.first = self.first or tokens
        else:
            if last > self.largest:
                self.largest = last
            self.fresh += last - self.begun
            self.begun = tokens
            look = last >= LARGE and self._not_larger(call, last, tool_calls)
        if call.context_reload and tokens >= LARGE:
            cuts = self._rebuilds()
            cuts.reloads += 1
            look = cuts.rebuilt(calls) or look
        self.tokens_before = last
        self.tokens = tokens
        return look or call.output_tokens >= self.output_trip

    def most_tokens(self) -> int:
        """The largest input so far."""
        return max(self.largest, self.tokens)

    def resent_tokens(self) -> int:
        """How much of its input had been sent before: all that it has not grown by."""
        return max(0, self.input_tokens - self.fresh - (self.tokens - self.begun))

    def answers(self) -> int:
        """Output tokens per million input tokens."""
        return 1_000_000 * self.output_tokens // self.input_tokens if self.input_tokens else 0

    def to_row(self) -> tuple[Any, ...]:
        """The state as plain values; `from_row` makes the same of it."""
        known = (
            self.agent, self.model, self.first, self.tokens, self.cache_read_tokens, self.input_trip, self.output_trip
        )  # fmt: skip
        if not (self.calls or self.tokens_before or self.largest or self.rebuilds):
            return known  # most contexts: one of its run alone that has only grown
        return (
            *known, self.calls, self.input_tokens, self.output_tokens, self.cost_nanousd, self.tokens_before,
            self.largest, self.begun, self.fresh, 0 if self.rebuilds is None else self.rebuilds.to_row(),
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Context":
        """What `to_row` described; written down and read again its tuples are lists."""
        agent, model, *known = row
        context = cls(agent, model)
        (
            context.first, context.tokens, context.cache_read_tokens, context.input_trip, context.output_trip
        ) = known[:5]  # fmt: skip
        if len(known) > 5:
            (
                context.calls, context.input_tokens, context.output_tokens, context.cost_nanousd,
                context.tokens_before, context.largest, context.begun, context.fresh, rebuilds,
            ) = known[5:]  # fmt: skip
            context.rebuilds = Rebuilds.from_row(rebuilds) if rebuilds else None
        return context

    def _rebuilds(self) -> Rebuilds:
        if self.rebuilds is None:
            self.rebuilds = Rebuilds()
        return self.rebuilds

    def _not_larger(self, call: LlmCall, last: int, tool_calls: int) -> bool:
        tokens, cuts = call.input_tokens, self._rebuilds()
        if 2 * tokens <= last:
            cuts.compactions += 1
            cuts.before = last
            self.input_trip = min(self.input_trip, _full(last))
            return False
        if call.status != "ok" or call.attempt > 1:
            return False  # sent once more, not once again: that is for `retry_storm`
        return not _is_cached(call) and cuts.stayed(tokens, tool_calls)

    def _refilled(self, call: LlmCall, calls: int, tool_calls: int) -> bool:
        """It is full again after a fall. Where it is so with one call, most of it from a cache, it was never gone:
        somebody who does not say who it is has called in between. Where nothing is ever read from a cache that cannot
        be told, and is assumed.
        """
        cuts = self._rebuilds()
        before, cuts.before = cuts.before, 0
        from_cache = _is_cached(call) or not self.cache_read_tokens
        if 2 * (call.input_tokens - self.tokens) > before and from_cache:
            cuts.compactions -= 1
            self.begun += before - self.tokens
            has_not_grown = call.input_tokens <= before and not _is_cached(call)
            return has_not_grown and cuts.stayed(call.input_tokens, tool_calls)
        if not cuts.rebuilt(calls):
            return False
        self.begun = min(call.input_tokens, before)  # filled with the same again, no new work
        return True


def _is_cached(call: LlmCall) -> bool:
    """Whether most of what a call sent was read from a cache."""
    return 2 * call.cache_read_tokens >= call.input_tokens


def _full(before: int) -> int:
    """From how many tokens on a context is full again that had `before` of them."""
    return max(1, 3 * before // 4)
