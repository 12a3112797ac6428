"""The recent calls of one run: what the rules about order look at. Bounded, and cheap to update.

Tool calls and model calls are two sequences. A loop of tool calls has model calls in between, each with a longer
context than the last, and is a loop all the same. A model that answers between two failed tool calls is no sign that
the tool works again.
"""

from collections.abc import Sequence
from typing import Any

from models.sequences.model_calls import ModelCalls, ModelCallsRow
from models.sequences.tool_calls import ToolCalls, ToolCallsRow
from schemas.usage import LlmCall, ToolCall

HistoryRow = tuple[ToolCallsRow, ModelCallsRow, bool]


class CallHistory:
    """The two sequences of a run, brought up to date by `tool` and `model` at each call."""

    __slots__ = ("models", "tool_since", "tools")

    def __init__(self) -> None:
        self.tools = ToolCalls()
        self.models = ModelCalls()
        self.tool_since = False
        """Whether a tool was called since the last model call."""

    def restart(self) -> None:
        """Start anew: somebody has let the run go on, and what it did before is no part of a new loop."""
        self.tools.restart()
        self.models.restart()
        self.tool_since = False

    def tool(self, call: ToolCall) -> bool:
        """Add a tool call; returns whether it recurs or failed: of others no rule has anything to say."""
        self.tool_since = True
        return self.tools.add(call)

    def model(self, call: LlmCall) -> bool:
        """Add a model call; returns whether it was sent before or failed. An answer from a semantic cache was not sent
        anywhere and leaves no trace.
        """
        if call.cache_hit:
            return call.status == "error"
        tool_since, self.tool_since = self.tool_since, False
        return self.models.add(call, tool_since=tool_since)

    def to_row(self) -> HistoryRow:
        """The state as plain values; `from_row` makes the same history of it."""
        return self.tools.to_row(), self.models.to_row(), self.tool_since

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "CallHistory":
        """The history that `to_row` described; written down and read again its tuples are lists."""
        history = cls()
        tools, models, history.tool_since = row
        history.tools, history.models = ToolCalls.from_row(tools), ModelCalls.from_row(models)
        return history
