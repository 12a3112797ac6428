"""A run whose calls fail one after another."""

from models.detectors.base import SequenceDetector, register
from models.detectors.loops.in_a_row import RowSettings, about, notice, page, plain, sentence
from models.rules.finding import Finding
from models.state.units.call_history import CallHistory
from schemas.usage import LlmCall, ToolCall


class ErrorStreakSettings(RowSettings):
    """`notice_at` and `page_at` count failed calls of one kind, tool or model, in a row, parallel tool calls once."""

    notice_at: int = 5
    page_at: int = 0
    """0 means never: calls that fail in different ways are how an agent finds its way, and their cost has a cap."""


@register
class ErrorStreak(SequenceDetector[ErrorStreakSettings]):
    """Fires when `notice_at` (5) tool calls in a row, or as many model calls, have failed, whatever they were.

    Tool calls and model calls are counted apart: a model that answers between two failed tool calls is no sign that the
    tool works again. Cancelled calls neither count nor end a row, and tool calls in parallel count once. It pages only
    where the policy sets `page_at`; the same call failing again and again is for `repeat` and `retry_storm`.
    """

    name = "error_streak"
    settings_class = ErrorStreakSettings
    defaults = ({"name": "error_streak"},)
    calls = ("tool", "model")

    def step(self, history: CallHistory, call: ToolCall | LlmCall) -> Finding | None:
        """What is true of the failures so far, at every one from the notice on."""
        if call.status != "error":
            return None
        within = self.settings.within_minutes
        if isinstance(call, ToolCall):
            kind, last, count = "tool", call.tool, history.tools.failed_rounds(within)
            nudge = sentence(f"Your last {count} tool calls have all failed, most recently {plain(last)}.")
        else:
            kind, last, count = "model", call.model, max(history.models.failed_calls(within), call.attempt)
            nudge = ""  # a model cannot be told by a call that fails
        if count < self.settings.notice_at:
            return None
        return about(self._judge(call, kind, last, count), kind, self.settings, nudge)

    def _judge(self, call: ToolCall | LlmCall, kind: str, last: str, count: int) -> Finding:
        summary = f"The last {count} {kind} calls of the run have failed, most recently {last}."
        evidence: dict[str, object] = {"kind": kind, "last": last, "failed_in_a_row": count}
        if isinstance(call, LlmCall):
            evidence["error_type"] = call.error_type
        if 0 < self.settings.page_at <= count:
            advice = f"Stop it if it still runs; check whether {last} works at all."
            return page(self.settings, count, self.settings.page_at, summary, advice, evidence)
        return notice(count, self.settings.page_at, summary, f"Check whether {last} works at all.", evidence)
