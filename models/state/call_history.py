"""The recent steps of one run: what the rules about order look at. Bounded, and cheap to keep.

Tool calls and model calls are two sequences. A loop of tool calls has model calls in between, each with a longer
context than the last, and is a loop all the same.

Two calls of a tool are the same when tool and arguments are. Their results then say one of three things: equal, so the
second call learned nothing; different, so there was progress; or unknown, when either has no result hash. Counts come
in two strengths for that reason: `alike` goes on while no difference is known, `verified` only while results are equal.
"""

import xxhash

from schemas.usage import LlmCall, ToolCall

STEPS = 16
"""Tool calls remembered."""
LONGEST_PERIOD = 8
"""Calls in the longest cycle that is looked for."""

_SIGNATURE = 5
_RESULT = 3
_STEP = _SIGNATURE + _RESULT
"""Bytes of a step: 40 bits of the hash of tool and arguments, 24 of the hash of the result. Steps are compared within
one run only, and only with the last few: two different calls look the same once in 10^12 comparisons, two different
results of the same call once in 10^7."""
_REACH = LONGEST_PERIOD * _STEP
_KEPT = STEPS * _STEP
_NO_RESULT = bytes(_RESULT)
_UNKNOWN = bytes(_STEP)
_MOST = 255
_NO_MATCHES = bytes(2 * LONGEST_PERIOD)
"""Matches in a row with the step 1, 2 … 8 calls before: first those not known to differ, then those known not to."""

HistoryRow = tuple[
    bytes, int, int, int, bytes | None, tuple[str, ...] | None, int, int, int, int, int, int, int, bool, bool
]  # fmt: skip


class CallHistory:
    """Counts over the recent calls of one run, brought up to date by `tool` and `model` at each call.

    same_call       tool calls in a row with the same tool and arguments, whatever came out
    alike           the same, counted from the last one known to have given a different result
    verified        tool calls in a row with the same tool, arguments and result
    failed_tools    tool calls in a row that failed
    failed_models   model calls in a row that failed; a counter apart, because a model that answers between two failed
                    tool calls is no sign that the tool works again. Cancelled calls neither count nor break a row
    resends         how often the last model call has been sent in a row
    sure_resends    those of them that are surely not parallel samples or different prompts of one length
    loop_tools      tools of the last calls while something recurs within `LONGEST_PERIOD` steps, newest last
    """

    __slots__ = (
        "_history", "_model_check", "_model_end_ms", "_model_failed", "_model_key", "_periods", "_tool_since", "alike",
        "failed_models", "failed_tools", "loop_tools", "resends", "same_call", "sure_resends", "verified",
    )  # fmt: skip

    def __init__(self) -> None:
        self._history = b""
        self._periods: bytearray | None = None
        self._model_key = 0
        self._model_check = 0
        self._model_end_ms = 0
        self._model_failed = False
        self._tool_since = False
        self.same_call = 0
        self.alike = 0
        self.verified = 0
        self.failed_tools = 0
        self.failed_models = 0
        self.resends = 0
        self.sure_resends = 0
        self.loop_tools: tuple[str, ...] | None = None

    def tool(self, call: ToolCall) -> None:
        """Take in a tool call. Without `args_hash` nobody knows what it did: it is like no other, and breaks a row."""
        self._tool_since = True
        if call.status == "error":
            self.failed_tools += 1
        elif call.status == "ok":
            self.failed_tools = 0
        before = self._history
        if call.args_hash is None:
            step = _UNKNOWN
            recurs = False
        else:
            signature = xxhash.xxh3_64_digest(f"{call.tool}\0{call.args_hash}".encode())[:_SIGNATURE]
            result = call.result_hash
            step = signature + (_NO_RESULT if result is None else xxhash.xxh3_64_digest(result.encode())[:_RESULT])
            recurs = before.find(signature, 0, _REACH) >= 0
        self._history = (step + before)[:_KEPT]
        if recurs:
            self._recurred(step, before, call.tool)
        else:
            self.same_call = self.alike = self.verified = 1
            self._periods = self.loop_tools = None

    def model(self, call: LlmCall) -> None:
        """Take in a model call. An answer from a semantic cache was not sent anywhere and leaves no trace.

        A call is a re-send when its prompt hash is that of the last call and their input tokens, where both are known,
        agree: a hash of a template stays the same while the prompt grows. Without a prompt hash, model and input
        tokens stand in for it. That key is weak: a tool call in between, or two answers of different length, show that
        these were different prompts, and only re-sends around a failure or a higher `attempt` are sure.
        A call that began before the last one ended is a parallel sample, unless it failed or is a later attempt.
        """
        if call.cache_hit:
            return
        failed = call.status != "ok"
        if call.status == "error":
            self.failed_models = max(self.failed_models + 1, call.attempt)
        elif not failed:
            self.failed_models = 0
        key, check = _model_key(call)
        again = key == self._model_key and key != 0 and self._agrees(call, check, failed)
        retried = failed or call.attempt > 1
        if not again:
            self.resends = self.sure_resends = call.attempt
            self._model_end_ms = 0
        elif retried or _started_ms(call) >= self._model_end_ms:
            self.resends = max(self.resends + 1, call.attempt)
            if retried or self._model_failed or call.prompt_hash is not None:
                self.sure_resends = max(self.sure_resends + 1, call.attempt)
        self._model_key = key
        self._model_check = check or (self._model_check if again else 0)
        self._model_end_ms = max(self._model_end_ms, call.ts_ms)
        self._model_failed = failed
        self._tool_since = False

    def matches(self, period: int) -> tuple[int, int]:
        """How many tool calls in a row equal the one `period` calls before, as (alike, verified); at most 255."""
        if self._periods is None:
            return 0, 0
        return self._periods[period - 1], self._periods[period - 1 + LONGEST_PERIOD]

    def distinct(self, steps: int) -> int:
        """How many different signatures the last `steps` tool calls have, at most `STEPS` of them."""
        recent = self._history[: steps * _STEP]
        return len({recent[at : at + _SIGNATURE] for at in range(0, len(recent), _STEP)})

    def restart(self) -> None:
        """Start anew: somebody has let the run go on, and what it did before is no part of a new loop."""
        self.__init__()  # type: ignore[misc]

    def to_row(self) -> HistoryRow:
        """The state as plain values; `from_row` makes the same history of it."""
        return (
            self._history, self.same_call, self.alike, self.verified,
            None if self._periods is None else bytes(self._periods),
            self.loop_tools, self.failed_tools, self.failed_models,
            self._model_key, self._model_check, self._model_end_ms,
            self.resends, self.sure_resends, self._model_failed, self._tool_since,
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: HistoryRow) -> "CallHistory":
        """The history that `to_row` described."""
        history = cls()
        (
            history._history, history.same_call, history.alike, history.verified, periods, loop_tools,
            history.failed_tools, history.failed_models, history._model_key, history._model_check, history._model_end_ms,
            history.resends, history.sure_resends, history._model_failed, history._tool_since,
        ) = row  # fmt: skip
        history._periods = None if periods is None else bytearray(periods)
        history.loop_tools = None if loop_tools is None else tuple(loop_tools)
        return history

    def _recurred(self, step: bytes, before: bytes, tool: str) -> None:
        """Count on: the call's signature is known from one of the last `LONGEST_PERIOD` steps."""
        signature, result = step[:_SIGNATURE], step[_SIGNATURE:]
        old = self._periods or _NO_MATCHES
        new = bytearray(2 * LONGEST_PERIOD)
        same_call = alike = verified = 1
        at = before.find(signature, 0, _REACH)
        while at >= 0:
            loose, misaligned = divmod(at, _STEP)
            if not misaligned:
                earlier = before[at + _SIGNATURE : at + _STEP]
                unknown = result == _NO_RESULT or earlier == _NO_RESULT
                if unknown or result == earlier:
                    new[loose] = min(old[loose] + 1, _MOST)
                    if not unknown:
                        new[loose + LONGEST_PERIOD] = min(old[loose + LONGEST_PERIOD] + 1, _MOST)
                if not loose:
                    same_call = self.same_call + 1
                    alike = self.alike + 1 if new[0] else 1
                    verified = self.verified + 1 if new[LONGEST_PERIOD] else 1
            at = before.find(signature, at + 1, _REACH)
        self.same_call, self.alike, self.verified = same_call, alike, verified
        matched = any(new)
        self._periods = new if matched else None
        self.loop_tools = (*(self.loop_tools or ()), tool)[-LONGEST_PERIOD:] if matched else None

    def _agrees(self, call: LlmCall, check: int, failed: bool) -> bool:
        """Whether nothing contradicts that a model call with the last one's key is the last one sent again."""
        if call.prompt_hash is not None:
            return not check or not self._model_check or check == self._model_check
        return not self._tool_since and (failed or self._model_failed or check == self._model_check)


def _model_key(call: LlmCall) -> tuple[int, int]:
    """What the call is known by, 0 for unknown, and the token count that two calls of one key must share."""
    if call.prompt_hash is not None:
        return xxhash.xxh3_64_intdigest(f"prompt\0{call.prompt_hash}".encode()), call.input_tokens
    if call.input_tokens:
        return xxhash.xxh3_64_intdigest(f"size\0{call.model}\0{call.input_tokens}".encode()), call.output_tokens
    return 0, 0


def _started_ms(call: LlmCall) -> int:
    """When the call began; when it ended, if nobody says how long it took."""
    if call.started_ms is not None:
        return call.started_ms
    return call.ts_ms - (call.latency_ms or 0)
