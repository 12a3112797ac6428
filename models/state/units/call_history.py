"""The recent calls of one agent in a run: what the rules about order look at. Bounded, and cheap to update.

Tool calls and model calls are two sequences. A loop of tool calls has model calls in between, each with a longer
context than the last, and is a loop all the same. A model that answers between two failed tool calls is no sign that
the tool works again.
"""

from collections.abc import Sequence
from typing import Any

from models.sequences.finishes import Finishes, FinishesRow
from models.sequences.model_calls import ModelCalls, ModelCallsRow
from models.sequences.pauses import is_answer
from models.sequences.tool_calls import MOST_OF_A_STEP, ToolCalls, ToolCallsRow
from schemas.usage import LlmCall, ToolCall

HistoryRow = tuple[ToolCallsRow, ModelCallsRow, int, FinishesRow | None]
NO_MODEL_CALLS = -1


class CallHistory:
    """The sequences of one agent, brought up to date by `tool` and `model` at each call."""

    __slots__ = ("finishes", "models", "step_calls", "tools")

    def __init__(self) -> None:
        self.tools = ToolCalls()
        self.models = ModelCalls()
        self.step_calls = NO_MODEL_CALLS
        """Tool calls since the last model call; `NO_MODEL_CALLS` where nobody has reported one, and no tool call is
        known to be of one model's answer with another."""
        self.finishes: Finishes | None = None
        """What came of finishing calls, from the first on."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was called so far."""
        return self.step_calls == NO_MODEL_CALLS and not self.tools.count

    @property
    def last_ms(self) -> int:
        """When the last call ended, about."""
        return max(self.tools.ended_ms, self.models.last_ms)

    def restart(self) -> None:
        """Start anew: somebody has let the run go on, and what it did before is no part of a new loop."""
        self.tools.restart()
        self.models.restart()
        self.step_calls = NO_MODEL_CALLS
        self.finishes = None

    def tool(
        self,
        call: ToolCall,
        failed: bool | None = None,
        cost_nanousd: int = 0,
        finishes: bool = False,
        writes: bool = False,
    ) -> bool:
        """Add a tool call; returns whether it recurs, failed, or finishes: of others no rule has anything to say.

        `failed` where that is another thing than its status says; `cost_nanousd` is what the run has cost by now;
        `writes` where it changes something and may not say so.
        """
        calls = self.step_calls
        if calls >= 0:
            self.step_calls = calls + 1
        if finishes:
            if self.finishes is None:
                self.finishes = Finishes()
            self.finishes.add(call, cost_nanousd)
        elif self.finishes is not None:
            self.finishes.tool_called()
        if failed is None:
            failed = call.status == "error"
        answered_ms = -1 if calls else self.models.last_ms
        same_step = 0 < calls < MOST_OF_A_STEP
        return self.tools.add(call, failed, same_step, cost_nanousd, writes or call.writes, answered_ms) or finishes

    def model(self, call: LlmCall, cost_nanousd: int = 0) -> bool:
        """Add a model call; returns whether it was sent before or failed. An answer from a semantic cache was not sent
        anywhere and leaves no trace.
        """
        if call.cache_hit:
            return call.status == "error"
        is_after_model, tool_since, self.step_calls = self.step_calls == 0, self.step_calls > 0, 0
        if is_after_model and self.tools.same_call and is_answer(call, self.models.last_ms):
            self.tools.answered()
        if self.finishes is not None:
            self.finishes.model_called(call)
        return self.models.add(call, tool_since, cost_nanousd)

    def to_row(self) -> HistoryRow:
        """The state as plain values; `from_row` makes the same history of it."""
        finishes = None if self.finishes is None else self.finishes.to_row()
        return self.tools.to_row(), self.models.to_row(), self.step_calls, finishes

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "CallHistory":
        """The history that `to_row` described; written down and read again its tuples are lists."""
        history = cls()
        tools, models, history.step_calls, finishes = row
        history.tools, history.models = ToolCalls.from_row(tools), ModelCalls.from_row(models)
        history.finishes = None if finishes is None else Finishes.from_row(finishes)
        return history
