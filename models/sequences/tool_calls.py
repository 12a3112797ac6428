"""The tool calls of one run, in order: how often the last ones repeat what came before.

Two calls of a tool are the same when tool and arguments are. Their results then say one of three things: equal, so the
second call learned nothing; different, so there was progress; or unknown, when they cannot be compared. Counts come in
two strengths for that reason: `alike` goes on while no difference is known, `verified` only while results are equal.

Calls in parallel, begun before any of them had an answer, are one round: the same call twice in it counts once.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import xxhash

from models.sequences.pauses import (
    LONGEST_PAUSE_MINUTES,
    LONGEST_PAUSE_MS,
    Pause,
    counted_before,
    minutes_since,
    span_ms,
    with_pause,
)
from schemas.duration import MINUTE_MS
from schemas.usage import SHAPE_VERSION_BITS, CallStatus, ToolCall, shape_version

STEPS: Final = 16
"""Tool calls remembered."""
LONGEST_PERIOD: Final = 8
"""Calls in the longest cycle that is looked for."""
MOST_MATCHES: Final = 255
"""Where counts of matches stop rising."""

_SIGNATURE: Final = 5
_HASH: Final = 3
_RESULT: Final = 2 * _HASH
_DISTANCE: Final = 2
_STEP: Final = _SIGNATURE + _RESULT + _DISTANCE
"""Bytes of a step: 40 bits of the hash of tool and arguments, 24 each of the hash of the result and of its shape, of
these 3 for the version of the shape, and the distance in tenths of a second from the start of the step before. Steps
are compared within one run only, and only with the last few: two different calls look the same once in 10^12
comparisons, two different results of the same call once in 10^7, two different shapes once in 2 * 10^6."""
_REACH: Final = LONGEST_PERIOD * _STEP
_KEPT: Final = (STEPS - 1) * _STEP
"""What stays of the steps when another comes."""
_FARTHEST_MS: Final = 100 * 0xFFFF
_REST: Final = 0xFF >> SHAPE_VERSION_BITS
"""Bits of a shape's first byte that are none of its version's."""
_BYTES: Final = tuple(bytes((one,)) for one in range(256))
_NO_SIGNATURE: Final = bytes(_SIGNATURE)
_NO_HASH: Final = bytes(_HASH)
_NO_RESULT: Final = bytes(_RESULT)
_NO_MATCHES: Final = bytes(2 * LONGEST_PERIOD)
"""Matches in a row with the step 1, 2 … 8 calls before: first those not known to differ, then those known not to."""

LONGEST_ROUND_MS: Final = MINUTE_MS
"""How long after a round's first answer another may come: who says that all its calls began at once is in a row all the
same."""
PACE: Final = 100
"""Tenths of a second between two looks at something that is waited for; closer together is no waiting."""
_EVEN: Final = 1.25
"""Ratio up to which distances count as even."""
_RISING: Final = 1.2
"""Ratio from which on a distance is longer than the one before, and not by chance."""


ToolCallsRow = tuple[
    bytes, bytes | None, int, int, int, int, CallStatus, int, int, tuple[Pause, ...], int, int, int, int, int,
    tuple[str, ...] | None,
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


class ToolCalls:
    """Counts over the recent tool calls of one run, brought up to date by `add` at each call.

    The attributes count over pauses of up to an hour: enough to see that nothing is wrong with one compare.

    same_call    calls in a row with the same tool and arguments, whatever came out
    alike        the same, counted from the last one known to have given a different result
    verified     calls in a row with the same tool, arguments and result
    failing      calls in a row with the same tool and arguments that failed
    failed       rounds in a row in which no call worked and one failed; cancelled calls neither count nor break a row
    loop_tools   tools of the last calls while something recurs within `LONGEST_PERIOD` steps, newest last
    """

    __slots__ = (
        "_answered_ms", "_calls", "_ended_ms", "_failures", "_pauses", "_periods", "_round_status", "_round_steps",
        "_started_ms", "_steps", "alike", "failed", "failing", "loop_tools", "same_call", "verified",
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
        self._failures = 0
        self._pauses: tuple[Pause, ...] = ()
        self.same_call = 0
        self.alike = 0
        self.verified = 0
        self.failing = 0
        self.failed = 0
        self.loop_tools: tuple[str, ...] | None = None

    def add(self, call: ToolCall) -> bool:
        """Add a tool call; returns whether it recurs or failed. Without `args_hash` nobody knows what it did: it is
        like no other, and breaks a row.

        After so long a pause that nothing of before can matter, everything starts anew.
        """
        started_ms, ended_ms = span_ms(call)
        if started_ms - self._ended_ms > MINUTE_MS:
            self._pause(started_ms, call.ts_ms)
        since_ms = started_ms - self._started_ms
        if (
            since_ms and (started_ms >= self._answered_ms or ended_ms <= self._started_ms)
        ) or ended_ms - self._answered_ms > LONGEST_ROUND_MS:
            self._started_ms, self._answered_ms, self._ended_ms = started_ms, ended_ms, ended_ms
            self._round_steps = 0
            self._round_status = "cancelled"
        else:
            self._join_round(started_ms, ended_ms)
        if call.status == "ok":
            self.failed = 0
            self._round_status = "ok"
        elif call.status == "error" and self._round_status == "cancelled":
            self._count_failed_round()
        before = self._steps
        signature, known = _NO_SIGNATURE, False
        if call.args_hash is not None:
            signature = xxhash.xxh3_64_digest(f"{call.tool}\0{call.args_hash}".encode())[:_SIGNATURE]
            known = before.find(signature, 0, _REACH) >= 0
            if self._round_steps and _is_step(before[: self._round_steps * _STEP], signature):
                return True
        distance = since_ms // 100 if 0 <= since_ms < _FARTHEST_MS else 0 if since_ms < 0 else 0xFFFF
        result = _NO_RESULT
        if call.result_hash is not None or call.result_shape_hash is not None:
            result = _hashes(call.result_hash, call.result_shape_hash)
        self._steps = signature + result + distance.to_bytes(_DISTANCE, "big") + before[:_KEPT]
        if self._round_steps < STEPS:
            self._round_steps += 1
        self._calls += 1
        if known:
            self._recurred(signature, result, before, call.tool, failed=call.status == "error")
        else:
            self.same_call = self.alike = self.verified = 1
            self.failing = int(call.status == "error")
            self._periods = self.loop_tools = None
        return known or call.status == "error"

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

        That is so when the longest distance in each round is ten seconds or more, always at the same place, at least
        twice as long as the others of a circle, and even or clearly rising: somebody looks again after a pause. A model
        that thinks in between is seldom so even, and thinks before every call of a circle.
        """
        distances = self._distances(min(calls, STEPS) - 1)
        longest = max(range(period), key=distances.__getitem__)
        pauses = distances[longest::period]
        others = [distance for place, distance in enumerate(distances) if place % period != longest]
        even = max(pauses) <= _EVEN * min(pauses)
        rising = all(later >= _RISING * earlier for later, earlier in pairwise(pauses))
        return min(pauses) >= max(PACE, 2 * max(others, default=0)) and (even or rising)

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
            self.failing, self.failed, self.loop_tools,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "ToolCalls":
        """What `to_row` described; written down and read again its tuples are lists."""
        calls = cls()
        (
            calls._steps, calls._periods, calls._started_ms, calls._answered_ms, calls._ended_ms, calls._round_steps,
            calls._round_status, calls._calls, calls._failures, pauses, calls.same_call, calls.alike, calls.verified,
            calls.failing, calls.failed, loop_tools,
        ) = row  # fmt: skip
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
            self._pauses = with_pause(self._pauses, (minutes, self._calls, self._failures))

    def _count_failed_round(self) -> None:
        """The first failed call of a round in which none has worked: until one does, it is a round that failed."""
        self.failed += 1
        self._failures += 1
        self._round_status = "error"

    def _recurred(self, signature: bytes, result: bytes, before: bytes, tool: str, *, failed: bool) -> None:
        """Count on: the call's signature is known from one of the last `LONGEST_PERIOD` steps."""
        old = self._periods or _NO_MATCHES
        new = bytearray(2 * LONGEST_PERIOD)
        same_call = alike = verified = 1
        failing = int(failed)
        at = before.find(signature, 0, _REACH)
        while at >= 0:
            loose, misaligned = divmod(at, _STEP)
            if not misaligned:
                same = _same_result(result, before[at + _SIGNATURE : at + _SIGNATURE + _RESULT])
                if same is not False:
                    new[loose] = min(old[loose] + 1, MOST_MATCHES)
                if same:
                    new[loose + LONGEST_PERIOD] = min(old[loose + LONGEST_PERIOD] + 1, MOST_MATCHES)
                if not loose:
                    same_call = self.same_call + 1
                    alike = self.alike + 1 if new[0] else 1
                    verified = self.verified + 1 if new[LONGEST_PERIOD] else 1
                    failing = self.failing + 1 if failed else 0
            at = before.find(signature, at + 1, _REACH)
        self.same_call, self.alike, self.verified, self.failing = same_call, alike, verified, failing
        matched = any(new)
        self._periods = bytes(new) if matched else None
        self.loop_tools = (*(self.loop_tools or ()), tool)[-LONGEST_PERIOD:] if matched else None

    def _distances(self, steps: int) -> list[int]:
        """Tenths of a second between the last `steps` steps and the ones before, newest first."""
        ends = range(_STEP, min(steps * _STEP, len(self._steps)) + 1, _STEP)
        return [int.from_bytes(self._steps[end - _DISTANCE : end], "big") for end in ends]


def _hashes(exact: str | None, shape: str | None) -> bytes:
    """What is remembered of a result: the hash of it all and that of its shape, zeros for unknown."""
    return (_NO_HASH if exact is None else xxhash.xxh3_64_digest(exact.encode())[:_HASH]) + (
        _NO_HASH if shape is None else _shape(shape)
    )


def _shape(shape: str) -> bytes:
    """The hash of a shape's hash, its first bits those of the version."""
    digest = xxhash.xxh3_64_digest(shape.encode())
    return _BYTES[digest[0] & _REST | shape_version(shape) << 8 - SHAPE_VERSION_BITS] + digest[1:_HASH]


def _same_result(one: bytes, other: bytes) -> bool | None:
    """Whether two results are the same, in full or in shape; None if nothing says so or otherwise.

    Without one kind of hash the other decides. Shapes of two versions are neither the same nor different: results that
    differ in full are then an unknown, not progress.
    """
    if one == other:
        return None if one == _NO_RESULT else True
    mine, theirs = one[:_HASH], other[:_HASH]
    if _NO_HASH not in (mine, theirs) and mine == theirs:
        return True
    shape, their_shape = one[_HASH:], other[_HASH:]
    if _NO_HASH not in (shape, their_shape):
        return shape == their_shape if shape[0] | _REST == their_shape[0] | _REST else None
    return None if _NO_HASH in (mine, theirs) else False


def _is_step(steps: bytes, signature: bytes) -> bool:
    """Whether one of the steps has the signature."""
    return any(steps[at : at + _SIGNATURE] == signature for at in range(0, len(steps), _STEP))
