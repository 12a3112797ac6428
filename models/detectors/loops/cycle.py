"""`cycle`: a run that goes round in a circle of several tool calls."""

from typing import Annotated, ClassVar

from pydantic import Field

from models.detectors.base import SequenceDetector, register
from models.detectors.loops.in_a_row import (
    SURE,
    ToolPatterns,
    about,
    notice,
    page,
    plain,
    sentence,
    spent_since,
    waits,
)
from models.rules.finding import Finding
from models.sequences.tool_calls import LEAST_MATCHES, LONGEST_PERIOD, MOST_MATCHES
from models.state.units.call_history import CallHistory
from schemas.policy import Steps
from schemas.usage import ToolCall


class CycleSettings(ToolPatterns):
    """How often a circle must have been gone round."""

    steps: ClassVar[Steps] = {"rounds": (0.67, 1.34, 1.67, 2)}
    rounds: Annotated[int, Field(ge=2, le=25)] = 3
    """The first round included."""


@register
class Cycle(SequenceDetector[CycleSettings]):
    """Fires when a run goes round the same 2 to 8 tool calls, with the same results, for the third time.

    Every call must equal the one a period before in tool, arguments and result, `rounds` - 1 times round and at least
    4 times. One call of the circle with other arguments, such as an edit between two test runs, or with another result
    is progress and starts the count anew. Where results have no hash, or one of the tools is a poller, it warns and
    does not page. A circle with a pause of ten seconds and more at the same place each time waits for something, and
    pages at `poll_page_at` (60) rounds. The same call over and over is for `repeat`.
    """

    name = "cycle"
    settings_class = CycleSettings
    defaults = ({"name": "cycle"},)
    calls = ("tool",)

    def step(self, history: CallHistory, call: ToolCall) -> Finding | None:
        """What is true of the circle that this call goes on, at every call from its third round on."""
        tools = history.tools
        if tools.loop_tools is None:
            return None
        for period in range(2, LONGEST_PERIOD + 1):
            needed = max(LEAST_MATCHES, (self.settings.rounds - 1) * period)
            alike, _ = tools.matches(period, self.settings.within_minutes)
            if alike >= needed and tools.same_call < period:
                finding = self._judge(history, call, period, needed)
                return about(finding, tools.repeated(period), self.settings, _nudge(finding))
        return None

    def _judge(self, history: CallHistory, call: ToolCall, period: int, needed: int) -> Finding:
        settings = self.settings
        alike, verified = history.tools.matches(period, settings.within_minutes)
        tools = list(history.tools.loop_tools or ())[-period:]
        trusted = all(settings.trusts(tool) for tool in tools)
        polls = any(settings.polls(tool) for tool in tools)
        equal = verified >= needed
        count = alike + period
        limit = needed + period
        is_waiting = waits(call, paced=history.tools.is_paced(period, count))
        too_long = alike == MOST_MATCHES or settings.waits_too_long(count // period, call)
        results = "with the same results" if equal else "and its results cannot be compared"
        summary = (
            f"The run goes round the same {period} tool calls ({', '.join(dict.fromkeys(tools))}), "
            f"{count // period} times so far, {results}{spent_since(history.tools.spent_in_row)}"
        )
        evidence: dict[str, object] = {
            "tools": tools,
            "period": period,
            "calls_in_a_row": count,
            "results_verified": equal,
            "args_hash": (call.args_hash or "")[:12],
            "result_hash": (call.result_hash or "")[:12],
        }
        if (equal or trusted) and not polls and (too_long or not is_waiting):
            advice = "Stop it if it still runs. If one of these tools only waits, list it under `pollers` of this rule."
            return page(settings, count, limit, summary, advice, evidence)
        advice = "Look at the run's last steps."
        if polls or is_waiting:
            advice = "Nothing, if it is waiting for something."
        elif not equal:
            advice = "Report `result_hash` for these tools; without it a circle cannot be told from progress."
        return notice(count, limit, summary, advice, evidence)


def _nudge(finding: Finding) -> str:
    """What the agent is told of a circle that is sure to be one."""
    if finding.level < SURE:
        return ""
    found = finding.evidence
    tools = ", ".join(dict.fromkeys(plain(tool) for tool in found["tools"]))
    rounds = found["calls_in_a_row"] // found["period"]
    return sentence(
        f"You have made the same {found['period']} tool calls ({tools}) {rounds} times over, with the same results."
    )
