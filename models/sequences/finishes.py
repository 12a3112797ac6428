"""How often an agent has said that it is finished, and went on all the same: because its harness did not take it.

It went on by itself if its next call began at once, and with the context it had. A person who answers takes longer; a
new piece of work begins with a smaller context; and an accepted output was taken.
"""

from collections.abc import Sequence
from typing import Any

from models.sequences.pauses import is_answer, span_ms
from schemas.usage import LlmCall, ToolCall

FinishesRow = tuple[int, int, bool, int, int, int]


class Finishes:
    """The finishing calls of one agent that were refused, brought up to date at each of them and at each model call."""

    __slots__ = ("_cost_nanousd", "_input_tokens", "_is_open", "_started_ms", "count", "spent_nanousd")

    def __init__(self) -> None:
        self.count = 0
        """Finishing calls in a row, the last one included; after all but that the run is known to have gone on."""
        self.spent_nanousd = 0
        """What the run has spent from the first of them to the last."""
        self._started_ms = 0
        """When the last finishing call began."""
        self._is_open = False
        """Whether nothing has come after it so far."""
        self._input_tokens = 0
        """Of the last model call whose input is known."""
        self._cost_nanousd = 0
        """What the run had cost at the first of them."""

    def add(self, call: ToolCall, cost_nanousd: int) -> None:
        """Add a finishing call. Another one before anything else happened is part of the same answer of the model."""
        if self._is_open:
            return
        if not self.count:
            self._cost_nanousd = cost_nanousd
        self.count += 1
        self.spent_nanousd = cost_nanousd - self._cost_nanousd
        self._is_open = True
        self._started_ms = span_ms(call)[0]

    def tool_called(self) -> None:
        """Another tool was called: the run goes on, and how soon is not known."""
        self._is_open = False

    def model_called(self, call: LlmCall) -> None:
        """The run goes on. Whatever follows from a finishing call starts anew, unless it came at once."""
        if self._is_open:
            if is_answer(call, self._started_ms) or 0 < call.input_tokens < self._input_tokens:
                self.count = 0
            self._is_open = False
        if call.input_tokens:
            self._input_tokens = call.input_tokens

    def to_row(self) -> FinishesRow:
        """The state as plain values; `from_row` makes the same of it."""
        return (
            self.count, self._started_ms, self._is_open, self._input_tokens, self._cost_nanousd, self.spent_nanousd
        )  # fmt: skip

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Finishes":
        """What `to_row` described."""
        one = cls()
        one.count, one._started_ms, one._is_open, one._input_tokens, one._cost_nanousd, one.spent_nanousd = row
        return one
