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

HistoryRow = tuple[ToolCallsRow, ModelCallsRow]


class CallHistory:
    """The two sequences of a run, brought up to date by `tool` and `model` at each call."""

    __slots__ = ("models", "tools")

    def __init__(self) -> None:
        self.tools = ToolCalls()
        self.models = ModelCalls()

    def restart(self) -> None:
        """Start anew: somebody has let the run go on, and what it did before is no part of a new loop."""
        self.tools.restart()
        self.models.restart()

    def tool(self, call: ToolCall) -> None:
        """Add a tool call."""
        self.tools.add(call)
        self.models.tool_since = True

    def model(self, call: LlmCall) -> None:
        """Add a model call. An answer from a semantic cache was not sent anywhere and leaves no trace."""
        if not call.cache_hit:
            self.models.add(call)

    def to_row(self) -> HistoryRow:
        """The state as plain values; `from_row` makes the same history of it."""
        return self.tools.to_row(), self.models.to_row()

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "CallHistory":
        """The history that `to_row` described; written down and read again its tuples are lists."""
        history = cls()
        tools, models = row
        history.tools, history.models = ToolCalls.from_row(tools), ModelCalls.from_row(models)
        return history
