"""When calls happen, and the pauses that end a row of them.

How long a pause ends a row is for each rule to say. So the pauses themselves are remembered, each with what had been
counted before it ended, and what came after it is the difference.
"""

from typing import Final

from schemas.duration import MINUTE_MS
from schemas.usage import LlmCall, ToolCall

LONGEST_PAUSE_MINUTES: Final = 60
"""After a longer pause than this a sequence starts anew: no rule may count across it."""
LONGEST_PAUSE_MS: Final = LONGEST_PAUSE_MINUTES * MINUTE_MS
LONGEST_CALL_MS: Final = 10 * MINUTE_MS
"""No call counts as under way for longer, whatever it says of its start."""
ANSWERED_MS: Final = 10_000
"""A harness goes on at once; whoever goes on later than this was answered by somebody."""
_MOST_PAUSES: Final = 4

Pause = tuple[int, ...]
"""Minutes that it lasted, rounded up, and what had been counted before its end."""


def minutes_since(ended_ms: int, started_ms: int) -> int:
    """Minutes from the end of one call to the start of the next, rounded up: 11 are more than ten."""
    return -(-(started_ms - ended_ms) // MINUTE_MS)


def span_ms(call: LlmCall | ToolCall) -> tuple[int, int]:
    """When the call began and ended; the same moment, if nobody says how long it took.

    It began before it was told of, and ends soon after: else a source could end every row by what it says of its start.
    """
    ts_ms, latency_ms = call.ts_ms, call.latency_ms or 0
    if call.started_ms is None:
        return (ts_ms - latency_ms if latency_ms < ts_ms else 0), ts_ms
    started_ms = min(call.started_ms, ts_ms)
    ended_ms = max(started_ms + latency_ms, ts_ms)
    return started_ms, min(ended_ms, ts_ms + LONGEST_CALL_MS)


def is_answer(call: LlmCall, since_ms: int) -> bool:
    """Whether somebody has answered the agent before this call: it began long after `since_ms`, when the agent was
    done. Where nobody says when a call began, it began at once.
    """
    known = call.started_ms is not None or call.latency_ms is not None
    return known and span_ms(call)[0] - since_ms > ANSWERED_MS


def with_pause(pauses: tuple[Pause, ...], pause: Pause) -> tuple[Pause, ...]:
    """The pauses with one more: the newest of each length, longest first, as only these can end a row.

    There are at most `_MOST_PAUSES`. Beyond that the newest one counts as long as the one before it, so that a row
    rather seems too short than too long.
    """
    longer = [known for known in pauses if known[0] > pause[0]]
    if len(longer) == _MOST_PAUSES:
        pause = (longer.pop()[0], *pause[1:])
    return (*longer, pause)


def counted_before(pauses: tuple[Pause, ...], within: int, counters: int) -> Pause:
    """What had been counted when the last pause of more than `within` minutes ended."""
    for pause in reversed(pauses):
        if pause[0] > within:
            return pause[1:]
    return (0,) * counters
