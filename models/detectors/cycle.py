"""A run that goes round in a circle of several tool calls."""

from typing import Annotated

from pydantic import Field

from models.detectors.base import SequenceDetector, register
from models.detectors.in_a_row import ToolPatterns, notice, page
from models.rules.finding import Finding
from models.state.call_history import LONGEST_PERIOD, CallHistory
from schemas.usage import ToolCall

LEAST_MATCHES = 4
"""Calls that must equal the one a period before, however short the period is."""


class CycleSettings(ToolPatterns):
    """How often a circle must have been gone round."""

    rounds: Annotated[int, Field(ge=2, le=25)] = 3
    """The first round included."""


@register
class Cycle(SequenceDetector[CycleSettings]):
    """Fires when a run goes round the same 2 to 8 tool calls, with the same results, for the third time.

    Every call must equal the one a period before in tool, arguments and result, `rounds` - 1 times round and at least
    4 times. One call of the circle with other arguments, such as an edit between two test runs, or with another result
    is progress and starts the count anew. Where results have no hash, or one of the tools is a poller, it warns and
    does not page. The same call over and over is for `repeat`.
    """

    name = "cycle"
    settings_class = CycleSettings
    defaults = ({"name": "cycle"},)
    calls = ("tool",)

    def step(self, history: CallHistory, call: ToolCall) -> Finding | None:
        """The finding this call completes: the notice once, the page at every further call."""
        if history.loop_tools is None:
            return None
        for period in range(2, LONGEST_PERIOD + 1):
            needed = max(LEAST_MATCHES, (self.settings.rounds - 1) * period)
            alike, _ = history.matches(period)
            if alike >= needed and history.same_call < period:
                return self._judge(history, call, period, needed)
        return None

    def _judge(self, history: CallHistory, call: ToolCall, period: int, needed: int) -> Finding | None:
        alike, verified = history.matches(period)
        tools = list(history.loop_tools or ())[-period:]
        trusted = all(self.settings.trusts(tool) for tool in tools)
        polls = any(self.settings.polls(tool) for tool in tools)
        sure = (verified >= needed or trusted) and not polls
        if not sure and alike != needed:
            return None
        results = "with the same results" if verified >= needed else "and its results cannot be compared"
        count = alike + period
        summary = (
            f"The run goes round the same {period} tool calls ({', '.join(dict.fromkeys(tools))}), "
            f"{count // period} times so far, {results}."
        )
        evidence: dict[str, object] = {
            "tools": tools,
            "period": period,
            "calls_in_a_row": count,
            "results_verified": verified >= needed,
            "args_hash": (call.args_hash or "")[:12],
            "result_hash": (call.result_hash or "")[:12],
        }
        if sure:
            advice = "Stop it if it still runs. If one of these tools only waits, list it under `pollers` of this rule."
            return page(self.settings, count, needed + period, summary, advice, evidence)
        advice = "Look at the run's last steps."
        if not polls:
            advice = "Report `result_hash` for these tools; without it a circle cannot be told from progress."
        return notice(count, needed + period, summary, advice, evidence)
