"""A run that makes one and the same tool call again and again."""

from models.detectors.base import SequenceDetector, register
from models.detectors.in_a_row import RowSettings, ToolPatterns, notice, page
from models.rules.finding import Finding
from models.state.call_history import CallHistory
from schemas.usage import ToolCall


class RepeatSettings(RowSettings, ToolPatterns):
    """`notice_at` and `page_at` count identical calls in a row, the first one included."""


@register
class Repeat(SequenceDetector[RepeatSettings]):
    """Fires when a run makes the same tool call with the same result `notice_at` (3) times in a row, and pages at
    `page_at` (5).

    A result that is known to have changed is progress and starts the count anew. Where results have no hash it warns
    and does not page, unless the policy trusts the tool in `trust_without_result`; for `pollers` it never pages.
    """

    name = "repeat"
    settings_class = RepeatSettings
    defaults = ({"name": "repeat"},)
    calls = ("tool",)

    def step(self, history: CallHistory, call: ToolCall) -> Finding | None:
        """The finding this call completes: the notice once, the page at every further call."""
        count = history.alike
        if count < self.settings.notice_at:
            return None
        sure = count if self.settings.trusts(call.tool) else history.verified
        if 0 < self.settings.page_at <= sure and not self.settings.polls(call.tool):
            return self._page(history, call, sure)
        return self._notice(history, call) if count == self.settings.notice_at else None

    def _page(self, history: CallHistory, call: ToolCall, count: int) -> Finding:
        verified = history.verified >= count
        outcome = ", each time with the same result" if verified else "; its results are not reported"
        return page(
            self.settings,
            count,
            self.settings.page_at,
            f"Tool {call.tool} was called {count} times in a row with the same arguments{outcome}.",
            "Stop it if it still runs. If this tool only waits for something, list it under `pollers` of this rule.",
            _evidence(history, call, verified=verified),
        )

    def _notice(self, history: CallHistory, call: ToolCall) -> Finding:
        verified = history.verified >= history.alike
        outcome = "and got the same result each time" if verified else "and its results cannot be compared"
        advice = "Look at the run's last steps; it pages if this goes on."
        if self.settings.polls(call.tool):
            advice = "Nothing, if it is waiting for something; this tool is listed as a poller and never pages."
        elif not verified:
            advice = "Report `result_hash` for this tool; without it a loop cannot be told from progress."
        return notice(
            history.alike,
            self.settings.page_at,
            f"Tool {call.tool} was called {history.alike} times in a row with the same arguments {outcome}.",
            advice,
            _evidence(history, call, verified=verified),
        )


def _evidence(history: CallHistory, call: ToolCall, *, verified: bool) -> dict[str, object]:
    return {
        "tool": call.tool,
        "calls_in_a_row": history.alike,
        "period": 1,
        "results_verified": verified,
        "status": call.status,
        "args_hash": (call.args_hash or "")[:12],
        "result_hash": (call.result_hash or "")[:12],
    }
