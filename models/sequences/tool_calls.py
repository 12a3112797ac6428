"""The tool calls of one run, in order: how often the last ones repeat what came before.

Two calls of a tool are the same when tool and arguments are. Their results then say one of three things: equal, so the
second call learned nothing; different, so there was progress; or unknown, when they cannot be compared. Counts come in
two strengths for that reason: `alike` goes on while no difference is known, `verified` only while results are equal.

Calls in parallel, begun before any of them had an answer, are one round: the same call twice in it counts once. The
failures of those that one answer of the model asked for are one, though they were made one after another. Calls at one
and the same moment are in parallel, too, unless the model has answered in between: then their source gives a whole
batch one time, and their order is all that tells.

A call that was made before with the same result told nothing new. What changes the world starts that anew, unless it is
itself what was done before, with the same result.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import xxhash

from models.sequences.pace import are_paced, backs_off
from models.sequences.pauses import (
    LONGEST_PAUSE_MINUTES,
    LONGEST_PAUSE_MS,
    Pause,
    counted_before,
    minutes_since,
    span_ms,
    with_pause,
)
from models.sequences.tool_results import HASH_BYTES, NO_RESULT, RESULT_BYTES, result_hashes, same_result
from schemas.duration import MINUTE_MS
from schemas.usage import CallStatus, ToolCall

STEPS: Final = 16
"""Tool calls remembered."""
LONGEST_PERIOD: Final = 8
"""Calls in the longest cycle that is looked for."""
MOST_MATCHES: Final = 255
"""Where counts of matches stop rising."""
LEAST_MATCHES: Final = 4
"""Calls that must equal the one a period before, however short the period is."""
IN_A_ROW: Final = 3
"""So many times the same call is a row of its own."""
NO_NEWS: Final = 30
"""So many calls in a row without a new result are worth asking the rules about, whatever they were."""

_SIGNATURE: Final = 5
_DISTANCE: Final = 2
_SPENT: Final = 3
_STEP: Final = _SIGNATURE + RESULT_BYTES + _DISTANCE + _SPENT
"""Bytes of a step: 40 bits of the hash of tool and arguments, 24 each of the hash of the result and of its shape, of
these 3 for the version of the shape, the distance in tenths of a second from the start of the step before, and what the
run has spent since that step. Steps are compared within one run only, and only with the last few: two different calls
look the same once in 10^12 comparisons, two different results of the same call once in 10^7, two different shapes once
in 2 * 10^6."""
_SPENT_NANOUSD: Final = 10_000
"""What one unit of a step's spend is worth; at most $167 of it are remembered of one step."""
_MOST_SPENT: Final = 0xFFFFFF
_WINDOW: Final = (1 << STEPS) - 1
_KEPT: Final = (STEPS - 1) * _STEP
"""What stays of the steps when another comes."""
_FARTHEST_MS: Final = 100 * 0xFFFF
_NO_SIGNATURE: Final = bytes(_SIGNATURE)
_NO_MATCHES: Final = bytes(2 * LONGEST_PERIOD)
"""Matches in a row with the step 1, 2 … 8 calls before: first those not known to differ, then those known not to."""

LONGEST_ROUND_MS: Final = MINUTE_MS
"""How long after a round's first answer another may come: who says that all its calls began at once is in a row all the
same."""
LONGEST_MEMORY_MINUTES: Final = 10
"""After a longer pause than this a call may tell something new, though it tells the same."""
LEAST_BETWEEN_CUTS: Final = 8
"""Tool calls since what was told began to count. A loop among three calls is sure within as many."""
SLOW_MS: Final = 3_000
"""A call that works and takes so long is made to take its time, such as a look at a build or a run of tests: what it is
about may change by itself. Calls that cost nothing but the model's time to ask for them are faster."""
MOST_OF_A_STEP: Final = 8
"""Calls that one answer of the model may have asked for; where more come without another, nobody reports its calls."""


ToolCallsRow = tuple[
    bytes, bytes | None, int, int, int, int, CallStatus, int, int, tuple[Pause, ...], int, int, int, int, int,
    tuple[str, ...] | None, int, int, int, int, int, int, int, bytes, int,
]  # fmt: skip


class SameCalls(NamedTuple):
    """Tool calls in a row with the same tool and arguments, parallel ones once.

    alike      of which no result is known to differ from the one before
    verified   of which every result is known to equal the one before
    failing    that failed, whatever their results say
    """

    alike: int
    verified: int
    failing: int


class Known(NamedTuple):
    """Of the last tool calls, those that told nothing new.

    alike     made before with the same arguments, and no result that is known to differ from all of those
    verified  made before with the same arguments and the same result
    """

    alike: int
    verified: int


class Among(NamedTuple):
    """Of the last tool calls, those that are the newest one made before: in tool, arguments and result.

    alike     of which the result is not known to differ, the newest included
    verified  of which it is known to equal
    first     how many calls the earliest of the verified ones lies back, or of the others where none is
    apart     tenths of a second between those, newest first
    """

    alike: int
    verified: int
    first: int
    apart: list[int]


class ToolCalls:
    """Counts over the recent tool calls of one run, brought up to date by `add` at each call.

    The attributes count over pauses of up to an hour: enough to see that nothing is wrong with one compare.

    same_call    calls in a row with the same tool and arguments, whatever came out
    alike        the same, counted from the last one known to have given a different result
    verified     calls in a row with the same tool, arguments and result
    failing      calls in a row with the same tool and arguments that failed
    failed       rounds in a row in which no call worked and one failed; cancelled calls neither count nor break a row
    loop_tools   tools of the last calls while something recurs within `LONGEST_PERIOD` steps, newest last
    no_news      calls in a row, whatever they were, whose result one of the `STEPS` before had had, no write between
    """

    __slots__ = (
        "_alike_before", "_answered_ms", "_calls", "_cost_nanousd", "_ended_ms", "_failed_from_nanousd", "_failure",
        "_failures", "_pauses", "_periods", "_round_status", "_round_steps", "_row_cost_nanousd", "_same_failures",
        "_started_ms", "_steps", "_verified_before", "_written_at", "alike", "failed", "failing", "loop_tools",
        "no_news", "same_call", "verified",
    )  # fmt: skip

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start anew: nothing of before is part of a new row."""
        self._steps = b""
        self._periods: bytes | None = None
        self._started_ms = self._answered_ms = self._ended_ms = -1
        self._round_steps = 0
        self._round_status: CallStatus = "cancelled"
        self._calls = 0
        self._failures = self._same_failures = 0
        self._failure = NO_RESULT
        self._pauses: tuple[Pause, ...] = ()
        self._cost_nanousd = self._row_cost_nanousd = self._failed_from_nanousd = 0
        self._written_at = 0
        self._alike_before = self._verified_before = 0
        self.no_news = 0
        self.same_call = 0
        self.alike = 0
        self.verified = 0
        self.failing = 0
        self.failed = 0
        self.loop_tools: tuple[str, ...] | None = None

    def add(
        self, call: ToolCall, failed: bool, same_step: bool, cost_nanousd: int, writes: bool, answered_ms: int = -1
    ) -> bool:
        """Add a tool call; returns whether it recurs, failed, or is one of many without news. Without `args_hash`
        nobody knows what it did: it is like no other, and breaks a row.

        `failed` is for whoever knows which errors are none; `same_step` says that the model's last answer asked for it
        and for the call before; `cost_nanousd` is what the run has cost by now; `writes` says that it changes
        something; `answered_ms` is when the model answered, where that was since the last tool call. After so long a
        pause that nothing of before can matter, everything starts anew.
        """
        started_ms, ended_ms = span_ms(call)
        if started_ms - self._ended_ms > MINUTE_MS:
            self._pause(started_ms, call.ts_ms)
        since_ms = started_ms - self._started_ms
        if (
            (since_ms and (started_ms >= self._answered_ms or ended_ms <= self._started_ms))
            or ended_ms - self._answered_ms > LONGEST_ROUND_MS
            or started_ms == ended_ms == answered_ms
        ):
            self._started_ms, self._answered_ms, self._ended_ms = started_ms, ended_ms, ended_ms
            self._round_steps = 0
            if not same_step:
                self._round_status = "cancelled"
        else:
            self._join_round(started_ms, ended_ms)
        if failed:
            if self._round_status == "cancelled":
                self._count_failed_round(call, cost_nanousd)
        elif call.status != "cancelled":
            self.failed = 0
            self._round_status = "ok"
        before = self._steps
        signature, known = _NO_SIGNATURE, False
        if call.args_hash is not None:
            signature = xxhash.xxh3_64_digest(f"{call.tool}\0{call.args_hash}".encode())[:_SIGNATURE]
            known = before.find(signature) >= 0
            if known and self._round_steps and _is_step(before[: self._round_steps * _STEP], signature):
                return True
        distance = since_ms // 100 if 0 <= since_ms < _FARTHEST_MS else 0 if since_ms < 0 else 0xFFFF
        result = NO_RESULT
        if call.result_hash is not None or call.result_shape_hash is not None:
            result = result_hashes(call.result_hash, call.result_shape_hash)
            # The shape says too little where arguments differ: the price of each article has the same one.
            if call.result_hash is None or before.find(result[:HASH_BYTES]) < 0:
                self.no_news = 0
            else:
                self.no_news += 1
        spent = (cost_nanousd - self._cost_nanousd) // _SPENT_NANOUSD
        if not 0 <= spent <= _MOST_SPENT:
            spent = _MOST_SPENT if spent > 0 else 0
        self._cost_nanousd = cost_nanousd
        step = signature + result + (distance << 24 | spent).to_bytes(_DISTANCE + _SPENT, "big")
        self._steps = step + before[:_KEPT]
        if self._round_steps < STEPS:
            self._round_steps += 1
        self._calls += 1
        if known:
            self._recurred(signature, result, before, call, failed, same_step, writes)
        else:
            self.same_call = self.alike = self.verified = 1
            self.failing = int(failed)
            self._periods = self.loop_tools = None
            if writes or self._alike_before:
                self._remember_told(writes and call.status == "ok", alike=False, verified=False)
        return known or failed or self.no_news >= NO_NEWS

    def context_cut(self) -> None:
        """The agent's context was thrown away, and with it what it was told: that may be asked for once more. Not again
        within a few calls: who calls with a small context in between, and does not say who it is, looks the same.
        """
        if self._calls - self._written_at >= LEAST_BETWEEN_CUTS:
            self._start_anew()

    def answered(self) -> None:
        """A person has come back to what the agent said: what follows is no part of a row, as after a long pause."""
        if self._calls:
            self._start_anew()
            self._pauses = with_pause(self._pauses, (LONGEST_MEMORY_MINUTES + 1, self._calls, self._failures))

    def same_calls(self, within: int) -> SameCalls:
        """The row of same tool calls at the end, without a pause of more than `within` minutes in it."""
        before, _ = counted_before(self._pauses, within, 2)
        since = self._calls - before
        return SameCalls(min(self.alike, since), min(self.verified, since), min(self.failing, since))

    def matches(self, period: int, within: int = LONGEST_PAUSE_MINUTES) -> tuple[int, int]:
        """How many tool calls in a row equal the one `period` calls before, as (alike, verified); at most 255."""
        if self._periods is None:
            return 0, 0
        before, _ = counted_before(self._pauses, within, 2)
        most = max(0, self._calls - before - period)
        return min(self._periods[period - 1], most), min(self._periods[period - 1 + LONGEST_PERIOD], most)

    def failed_rounds(self, within: int) -> int:
        """Rounds of tool calls in a row that failed."""
        _, before = counted_before(self._pauses, within, 2)
        return min(self.failed, self._failures - before)

    def is_paced(self, period: int, calls: int) -> bool:
        """Whether the last `calls` tool calls, which repeat every `period`, wait for something.

        That is so when the longest distance in each round is always at the same place, at least twice as long as the
        others of a circle, and `are_paced` says so of these. A model that thinks in between is seldom so even, and
        thinks before every call of a circle.
        """
        distances = self._distances(min(calls, STEPS) - 1)
        longest = max(range(period), key=distances.__getitem__)
        pauses = distances[longest::period]
        others = [distance for place, distance in enumerate(distances) if place % period != longest]
        return min(pauses) >= 2 * max(others, default=0) and are_paced(pauses)

    def backs_off(self, calls: int) -> bool:
        """Whether the last `calls` tool calls, which are the same, are those of somebody who waits longer each time."""
        return backs_off(self._distances(min(calls, STEPS) - 1))

    @property
    def count(self) -> int:
        """Tool calls so far, parallel ones once."""
        return self._calls

    @property
    def written_at(self) -> int:
        """How many of them there were when something was last changed, or after a long pause."""
        return self._written_at

    @property
    def newest(self) -> bytes:
        """A short name for the last of them, of tool and arguments."""
        return self._steps[:_SIGNATURE]

    @property
    def ended_ms(self) -> int:
        """When the last of them ended, negative where there is none."""
        return self._ended_ms

    def spent_since(self, calls: int) -> int:
        """What the run has spent, in nano-dollars, since the tool call so many steps back; of the last `STEPS` only."""
        ends = range(_STEP, min(calls * _STEP, len(self._steps)) + 1, _STEP)
        return _SPENT_NANOUSD * sum(int.from_bytes(self._steps[end - _SPENT : end], "big") for end in ends)

    @property
    def spent_in_row(self) -> int:
        """What the run has spent, in nano-dollars, since the first call of the row or circle that still goes on."""
        return self._cost_nanousd - self._row_cost_nanousd

    @property
    def spent_failing(self) -> int:
        """What the run has spent, in nano-dollars, since the first of the rounds in a row that failed."""
        return max(0, self._cost_nanousd - self._failed_from_nanousd)

    def told_before(self, calls: int, within: int) -> Known:
        """How many of the last tool calls told nothing new since the last write; none, if the newest did."""
        if not self._alike_before & 1:
            return Known(0, 0)
        before, _ = counted_before(self._pauses, within, 2)
        last = (1 << min(calls, self._calls - before)) - 1
        return Known((self._alike_before & last).bit_count(), (self._verified_before & last).bit_count())

    def among(self, calls: int, within: int) -> Among:
        """The newest tool call among the last ones since a write, whatever stands between."""
        before, _ = counted_before(self._pauses, within, 2)
        since = self._calls - max(before, self._written_at)
        alike, verified = [0], [0]
        signature, result = self._steps[:_SIGNATURE], self._steps[_SIGNATURE : _SIGNATURE + RESULT_BYTES]
        for back in range(1, min(calls, since, len(self._steps) // _STEP)):
            at = back * _STEP
            if self._steps[at : at + _SIGNATURE] == signature != _NO_SIGNATURE:
                same = same_result(result, self._steps[at + _SIGNATURE : at + _SIGNATURE + RESULT_BYTES])
                if same is not False:
                    alike.append(back)
                if same:
                    verified.append(back)
        found = verified if len(verified) > 1 else alike
        distances = self._distances(found[-1])
        apart = [sum(distances[later:earlier]) for later, earlier in pairwise(found)]
        return Among(len(alike), len(verified), found[-1], apart)

    def same_failures(self, within: int) -> int:
        """Rounds in a row that failed with the same result, in full or in shape, whatever the arguments were."""
        return min(self._same_failures, self.failed_rounds(within))

    def is_in_circle(self) -> bool:
        """Whether the last few calls go round a circle, or are one and the same: what rules of their own look for."""
        if self.same_call >= IN_A_ROW:
            return self.alike >= IN_A_ROW
        return self._periods is not None and max(self._periods[1:LONGEST_PERIOD]) >= LEAST_MATCHES

    def repeated(self, period: int) -> str:
        """A short name for what the last `period` tool calls are, wherever in the circle they begin."""
        signatures = [self._steps[at : at + _SIGNATURE] for at in range(0, period * _STEP, _STEP)]
        circle = min(b"".join(signatures[at:] + signatures[:at]) for at in range(period))
        return xxhash.xxh3_64_hexdigest(circle)[:10]

    def distinct(self, steps: int) -> int:
        """How many different signatures the last `steps` tool calls have, at most `STEPS` of them."""
        recent = self._steps[: steps * _STEP]
        return len({recent[at : at + _SIGNATURE] for at in range(0, len(recent), _STEP)})

    def to_row(self) -> ToolCallsRow:
        """The state as plain values; `from_row` makes the same of it."""
        return (
            self._steps, self._periods, self._started_ms, self._answered_ms, self._ended_ms, self._round_steps,
            self._round_status, self._calls, self._failures, self._pauses, self.same_call, self.alike, self.verified,
            self.failing, self.failed, self.loop_tools, self._cost_nanousd, self._row_cost_nanousd, self._written_at,
            self._alike_before, self._verified_before, self.no_news, self._same_failures, self._failure,
            self._failed_from_nanousd,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "ToolCalls":
        """What `to_row` described; written down and read again its tuples are lists."""
        calls = cls()
        (
            calls._steps, calls._periods, calls._started_ms, calls._answered_ms, calls._ended_ms, calls._round_steps,
            calls._round_status, calls._calls, calls._failures, pauses, calls.same_call, calls.alike, calls.verified,
            calls.failing, calls.failed, loop_tools, calls._cost_nanousd, calls._row_cost_nanousd, calls._written_at,
            calls._alike_before, calls._verified_before, calls.no_news, calls._same_failures, calls._failure,
            calls._failed_from_nanousd,
        ) = row  # fmt: skip
        calls._failure = calls._failure.ljust(RESULT_BYTES, b"\0")  # it had no shape once
        calls._pauses = tuple(tuple(pause) for pause in pauses)
        calls.loop_tools = None if loop_tools is None else tuple(loop_tools)
        return calls

    def _join_round(self, started_ms: int, ended_ms: int) -> None:
        """A tool call is in parallel with the round before it: begun before any of it had an answer.

        Agents whose calls overlap all day are in many rounds, not in one.
        """
        self._started_ms = min(self._started_ms, started_ms)
        self._answered_ms = min(self._answered_ms, ended_ms)
        self._ended_ms = max(self._ended_ms, ended_ms)

    def _pause(self, started_ms: int, ts_ms: int) -> None:
        """Note the pause before a round, or start anew after it. A call that arrives late ends no pause."""
        if started_ms - self._ended_ms > LONGEST_PAUSE_MS and ts_ms - self._ended_ms > LONGEST_PAUSE_MS:
            self.restart()
        elif self._calls:
            minutes = minutes_since(self._ended_ms, started_ms)
            if minutes > LONGEST_MEMORY_MINUTES:
                self._start_anew()
            self._pauses = with_pause(self._pauses, (minutes, self._calls, self._failures))

    def _count_failed_round(self, call: ToolCall, cost_nanousd: int) -> None:
        """The first failed call of a round in which none has worked: until one does, it is a round that failed."""
        if not self.failed:
            self._failed_from_nanousd = cost_nanousd
        self.failed += 1
        self._failures += 1
        self._round_status = "error"
        failure = result_hashes(call.result_hash, call.result_shape_hash)
        self._same_failures = self._same_failures + 1 if same_result(failure, self._failure) else 1
        self._failure = failure

    def _start_anew(self) -> None:
        """What was told so far may be different by now."""
        self._written_at = self._calls
        self._alike_before = self._verified_before = self.no_news = 0

    def _remember_told(self, wrote: bool, *, alike: bool, verified: bool) -> None:
        """Note whether a call told what was known. What changes something starts anew, unless it was done before."""
        if wrote and not verified:
            self._start_anew()
            self._written_at -= 1  # itself is the first of what comes
        elif alike or self._alike_before:
            self._alike_before = (self._alike_before << 1 | alike) & _WINDOW
            self._verified_before = (self._verified_before << 1 | verified) & _WINDOW

    def _recurred(
        self,
        signature: bytes,
        result: bytes,
        before: bytes,
        call: ToolCall,
        failed: bool,
        same_step: bool,
        writes: bool,
    ) -> None:
        """Count on: the call's signature is known from one of the last steps."""
        old = self._periods or _NO_MATCHES
        new = bytearray(2 * LONGEST_PERIOD)
        same_call = alike = verified = 1
        failing = int(failed)
        alike_before = verified_before = False
        reach = self._calls - 1 - self._written_at
        farthest = 0
        at = before.find(signature)
        while at >= 0:
            loose, misaligned = divmod(at, _STEP)
            if not misaligned:
                same = same_result(result, before[at + _SIGNATURE : at + _SIGNATURE + RESULT_BYTES])
                if loose < reach:
                    alike_before |= same is not False
                    verified_before |= same is True
                if loose < LONGEST_PERIOD:
                    farthest = loose + 1
                    if same is not False:
                        new[loose] = min(old[loose] + 1, MOST_MATCHES)
                    if same:
                        new[loose + LONGEST_PERIOD] = min(old[loose + LONGEST_PERIOD] + 1, MOST_MATCHES)
                if not loose:
                    same_call = self.same_call + 1
                    alike = self.alike + 1 if new[0] else 1
                    verified = self.verified + 1 if new[LONGEST_PERIOD] else 1
                    failing = self.failing + (not same_step or not self.failing) if failed else 0
            at = before.find(signature, at + 1)
        if self.same_call == 1 and self.loop_tools is None:
            self._row_cost_nanousd = self._cost_nanousd - self.spent_since(farthest)
        self.same_call, self.alike, self.verified, self.failing = same_call, alike, verified, failing
        matched = any(new)
        self._periods = bytes(new) if matched else None
        self.loop_tools = (*(self.loop_tools or ()), call.tool)[-LONGEST_PERIOD:] if matched else None
        self._remember_told(writes and call.status == "ok", alike=alike_before, verified=verified_before)

    def _distances(self, steps: int) -> list[int]:
        """Tenths of a second between the last `steps` steps and the ones before, newest first."""
        starts = range(_SIGNATURE + RESULT_BYTES, min(steps * _STEP, len(self._steps)), _STEP)
        return [int.from_bytes(self._steps[at : at + _DISTANCE], "big") for at in starts]


def _is_step(steps: bytes, signature: bytes) -> bool:
    """Whether one of the steps has the signature."""
    return any(steps[at : at + _SIGNATURE] == signature for at in range(0, len(steps), _STEP))
