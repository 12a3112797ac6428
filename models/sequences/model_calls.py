"""The model calls of one run, in order: how often the last one has been sent, and how many in a row have failed."""

from collections.abc import Sequence
from typing import Any

import xxhash

from models.sequences.pauses import (
    LONGEST_PAUSE_MS,
    Pause,
    counted_before,
    is_answer,
    minutes_since,
    span_ms,
    with_pause,
)
from schemas.duration import MINUTE_MS
from schemas.usage import LlmCall

ModelCallsRow = tuple[
    int, int, int, int, bool, int, int, int, tuple[Pause, ...], int, int, int, int, int, int
]  # fmt: skip


class ModelCalls:
    """Counts over the recent model calls of one run, brought up to date by `add` at each call.

    The attributes count over pauses of up to an hour: enough to see that nothing is wrong with one compare.

    failed          calls in a row that failed; cancelled ones neither count nor break a row
    resends         how often the last call has been sent in a row
    sure_resends    those of them that are surely not parallel samples or different prompts of one length
    """

    __slots__ = (
        "_check", "_cost_nanousd", "_ended_ms", "_failed_from_nanousd", "_failures", "_key", "_last_failed", "_last_ms",
        "_pauses", "_row_cost_nanousd", "_sends", "_sure_sends", "failed", "resends", "sure_resends",
    )  # fmt: skip

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start anew: nothing of before is part of a new row."""
        self._key = 0
        self._check = 0
        self._ended_ms = 0
        self._last_ms = -1
        self._last_failed = False
        self._sends = 0
        self._sure_sends = 0
        self._failures = 0
        self._pauses: tuple[Pause, ...] = ()
        self._cost_nanousd = self._row_cost_nanousd = self._failed_from_nanousd = 0
        self.failed = 0
        self.resends = 0
        self.sure_resends = 0

    def add(self, call: LlmCall, tool_since: bool, cost_nanousd: int) -> bool:
        """Add a model call that was sent; an answer from a semantic cache was not. Returns whether it was sent before
        or failed. `tool_since` says whether a tool was called since the last one, `cost_nanousd` what the run has cost
        by now.

        A call is a re-send when its prompt hash is that of the last call and their input tokens, where both are known,
        agree: a hash of a template stays the same while the prompt grows. The model that a call falls back to counts
        tokens in its own way: there the hash alone decides, and what follows is compared with what was sent first.
        Without a prompt hash, model and input tokens stand in for it. That key is weak: a tool call in between, or two
        answers of different length, show that these were different prompts, and only re-sends around a failure or a
        higher `attempt` are sure.
        A call that began before the last one ended is a parallel sample, unless it failed or is a later attempt. One
        that began long after the last had worked, with no tool called in between, is the first of a new row of sure
        ones: somebody lets an answer be made anew.
        After so long a pause that nothing of before can matter, everything starts anew.
        """
        if call.ts_ms - self._last_ms > MINUTE_MS:
            self._note_pause(call)
        self._last_ms = call.ts_ms
        failed = call.status != "ok"
        if not failed:
            self.failed = 0
        elif call.status == "error":
            if not self.failed:
                self._failed_from_nanousd = cost_nanousd
            before, self.failed = self.failed, max(self.failed + 1, call.attempt)
            self._failures += self.failed - before
        key, check = _key_of(call)
        again = key == self._key and key != 0 and self._agrees(call, check, failed, tool_since)
        if again:
            self._count_again(call, failed=failed, tool_since=tool_since)
        else:
            self.resends = self.sure_resends = call.attempt
            self._sends += call.attempt
            self._sure_sends += call.attempt
            self._ended_ms = 0
            self._row_cost_nanousd = cost_nanousd
        self._key = key
        if not again or (check and call.fallback_from is None):
            self._check = check
        if call.ts_ms > self._ended_ms:
            self._ended_ms = call.ts_ms
        self._last_failed = failed
        self._cost_nanousd = cost_nanousd
        return again or failed or call.attempt > 1

    @property
    def last_ms(self) -> int:
        """When the last one ended, negative where there is none."""
        return self._last_ms

    @property
    def spent_in_row(self) -> int:
        """What the run has spent, in nano-dollars, since the last call was first sent."""
        return self._cost_nanousd - self._row_cost_nanousd

    @property
    def spent_failing(self) -> int:
        """What the run has spent, in nano-dollars, since the first of the calls in a row that failed."""
        return max(0, self._cost_nanousd - self._failed_from_nanousd)

    def failed_calls(self, within: int) -> int:
        """Model calls in a row that failed."""
        *_, before = counted_before(self._pauses, within, 3)
        return min(self.failed, self._failures - before)

    def sendings(self, within: int) -> tuple[int, int]:
        """How often the last model call has been sent in a row, and how often surely."""
        sends, sure_sends, _ = counted_before(self._pauses, within, 3)
        return min(self.resends, self._sends - sends), min(self.sure_resends, self._sure_sends - sure_sends)

    def name(self) -> str:
        """A short name for the last call; calls without tokens and prompt hash have none."""
        return f"{self._key:016x}"[:10] if self._key else ""

    def to_row(self) -> ModelCallsRow:
        """The state as plain values; `from_row` makes the same of it."""
        return (
            self._key, self._check, self._ended_ms, self._last_ms, self._last_failed, self._sends, self._sure_sends,
            self._failures, self._pauses, self.failed, self.resends, self.sure_resends, self._cost_nanousd,
            self._row_cost_nanousd, self._failed_from_nanousd,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "ModelCalls":
        """What `to_row` described; written down and read again its tuples are lists."""
        calls = cls()
        (
            calls._key, calls._check, calls._ended_ms, calls._last_ms, calls._last_failed, calls._sends,
            calls._sure_sends, calls._failures, pauses, calls.failed, calls.resends, calls.sure_resends,
            calls._cost_nanousd, calls._row_cost_nanousd, calls._failed_from_nanousd,
        ) = row  # fmt: skip
        calls._pauses = tuple(tuple(pause) for pause in pauses)
        return calls

    def _note_pause(self, call: LlmCall) -> None:
        started_ms = span_ms(call)[0]
        if min(started_ms, call.ts_ms) - self._last_ms > LONGEST_PAUSE_MS:
            self.restart()
        minutes = minutes_since(self._last_ms, started_ms)
        if minutes > 1 and self._sends:
            self._pauses = with_pause(self._pauses, (minutes, self._sends, self._sure_sends, self._failures))

    def _count_again(self, call: LlmCall, *, failed: bool, tool_since: bool) -> None:
        """Count how often one model call was sent; totals rise by as much, so that a part of the row can be told."""
        resends, sure_resends = self.resends, self.sure_resends
        retried = failed or call.attempt > 1
        if retried or span_ms(call)[0] >= self._ended_ms:
            self.resends = max(self.resends + 1, call.attempt)
            if not (retried or self._last_failed or tool_since) and is_answer(call, self._ended_ms):
                self.sure_resends, sure_resends = 1, 0
            elif retried or self._last_failed or call.prompt_hash is not None:
                self.sure_resends = max(self.sure_resends + 1, call.attempt)
        self._sends += self.resends - resends
        self._sure_sends += self.sure_resends - sure_resends

    def _agrees(self, call: LlmCall, check: int, failed: bool, tool_since: bool) -> bool:
        """Whether nothing contradicts that a model call with the last one's key is the last one sent again."""
        if call.prompt_hash is not None:
            return not check or not self._check or check == self._check or call.fallback_from is not None
        return not tool_since and (failed or self._last_failed or check == self._check)


def _key_of(call: LlmCall) -> tuple[int, int]:
    """What the call is known by, 0 for unknown, and the token count that two calls of one key must share."""
    if call.prompt_hash is not None:
        return xxhash.xxh3_64_intdigest(f"prompt\0{call.prompt_hash}".encode()), call.input_tokens
    if call.input_tokens:
        return xxhash.xxh3_64_intdigest(f"size\0{call.model}\0{call.input_tokens}".encode()), call.output_tokens
    return 0, 0
