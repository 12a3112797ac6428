"""A run whose calls fail one after another."""

from models.detectors.base import SequenceDetector, register
from models.detectors.in_a_row import RowSettings, notice, page
from models.rules.finding import Finding
from models.state.call_history import CallHistory
from schemas.usage import LlmCall, ToolCall


class ErrorStreakSettings(RowSettings):
    """`notice_at` and `page_at` count failed calls of one kind, tool or model, in a row."""

    notice_at: int = 5
    page_at: int = 0
    """0 means never: calls that fail in different ways are how an agent finds its way, and their cost has a cap."""


@register
class ErrorStreak(SequenceDetector[ErrorStreakSettings]):
    """Fires when `notice_at` (5) tool calls in a row, or as many model calls, have failed, whatever they were.

    Tool calls and model calls are counted apart: a model that answers between two failed tool calls is no sign that the
    tool works again. Cancelled calls neither count nor end a row. It pages only where the policy sets `page_at`; the
    same call failing in the same way is for `repeat` and `retry_storm`.
    """

    name = "error_streak"
    settings_class = ErrorStreakSettings
    defaults = ({"name": "error_streak"},)
    calls = ("tool", "model")

    def step(self, history: CallHistory, call: ToolCall | LlmCall) -> Finding | None:
        """The finding this call completes, and again at every further failure."""
        if call.status != "error":
            return None
        is_tool = isinstance(call, ToolCall)
        count = history.failed_tools if is_tool else history.failed_models
        if count < self.settings.notice_at:
            return None
        last = call.tool if isinstance(call, ToolCall) else call.model
        kind = "tool" if is_tool else "model"
        summary = f"The last {count} {kind} calls of the run have failed, most recently {last}."
        evidence: dict[str, object] = {"kind": kind, "last": last, "failed_in_a_row": count}
        if isinstance(call, LlmCall):
            evidence["error_type"] = call.error_type
        if 0 < self.settings.page_at <= count:
            advice = f"Stop it if it still runs; check whether {last} works at all."
            return page(self.settings, count, self.settings.page_at, summary, advice, evidence)
        return notice(count, self.settings.page_at, summary, f"Check whether {last} works at all.", evidence)
