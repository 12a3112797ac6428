"""`error_streak`: a run whose calls fail one after another."""

from models.detectors.base import SequenceDetector, register
from models.detectors.loops.in_a_row import PageCount, RowSettings, about, notice, page, plain, sentence, spent_since
from models.rules.finding import Finding
from models.sequences.tool_calls import ToolCalls
from models.state.units.call_history import CallHistory
from schemas.usage import LlmCall, ToolCall


class ErrorStreakSettings(RowSettings):
    """`notice_at` and `page_at` count failed calls of one kind, tool or model, in a row, parallel tool calls once."""

    notice_at: int = 5
    page_at: int = 0
    """0 means never: calls that fail in different ways are how an agent finds its way, and their cost has a cap."""
    same_failure_page_at: PageCount = 8
    """Tool calls in a row that failed with the same result (or its shape), whatever their arguments: nothing that it
    tries makes a difference. 0 means never."""


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
            spent_nanousd = history.tools.spent_failing
            nudge = sentence(f"Your last {count} tool calls have all failed, most recently {plain(last)}.")
        else:
            kind, last, count = "model", call.model, max(history.models.failed_calls(within), call.attempt)
            spent_nanousd = history.models.spent_failing
            nudge = ""  # a model cannot be told by a call that fails
        if count < self.settings.notice_at:
            return None
        if isinstance(call, ToolCall) and self._is_refused(history.tools):
            return about(self._refused(call, history.tools), kind, self.settings, nudge)
        return about(self._judge(call, kind, last, count, spent_nanousd), kind, self.settings, nudge)

    def _is_refused(self, tools: ToolCalls) -> bool:
        limit = self.settings.same_failure_page_at
        return 0 < limit <= tools.same_failures(self.settings.within_minutes) and not tools.is_in_circle()

    def _refused(self, call: ToolCall, tools: ToolCalls) -> Finding:
        count = tools.same_failures(self.settings.within_minutes)
        summary = (
            f"The last {count} tool calls of the run, most recently {call.tool}, have failed with one and the same "
            f"result, whatever their arguments{spent_since(tools.spent_failing)}"
        )
        evidence: dict[str, object] = {"kind": "tool", "last": call.tool, "failed_in_a_row": count}
        advice = f"Stop it if it still runs: nothing that it tries makes a difference. Check whether {call.tool} works."
        return page(self.settings, count, self.settings.same_failure_page_at, summary, advice, evidence)

    def _judge(self, call: ToolCall | LlmCall, kind: str, last: str, count: int, spent_nanousd: int) -> Finding:
        summary = (
            f"The last {count} {kind} calls of the run have failed, most recently {last}{spent_since(spent_nanousd)}"
        )
        evidence: dict[str, object] = {"kind": kind, "last": last, "failed_in_a_row": count}
        if isinstance(call, LlmCall):
            evidence["error_type"] = call.error_type
        if 0 < self.settings.page_at <= count:
            advice = f"Stop it if it still runs; check whether {last} works at all."
            return page(self.settings, count, self.settings.page_at, summary, advice, evidence)
        return notice(count, self.settings.page_at, summary, f"Check whether {last} works at all.", evidence)
