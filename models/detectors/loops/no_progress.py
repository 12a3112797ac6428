"""`no_progress`: a run whose calls tell it nothing that it did not know, whatever stands between them."""

from typing import Annotated, Final

from pydantic import Field

from models.detectors.base import SequenceDetector, register
from models.detectors.loops.in_a_row import (
    PageCount,
    Pollers,
    RowSettings,
    about,
    notice,
    page,
    plain,
    sentence,
    spent_since,
    waits,
)
from models.rules.finding import Finding
from models.sequences.pace import are_paced
from models.sequences.tool_calls import IN_A_ROW, NO_NEWS, STEPS, Among, Known, ToolCalls
from models.state.units.call_history import CallHistory
from models.state.units.failing import FailingCall
from schemas.usage import ToolCall

AMONG: Final = 12
"""Of so many calls, those with the same arguments and result are counted."""
LAST: Final = 10
"""Of so many calls, those that told nothing new are counted."""


class NoProgressSettings(RowSettings, Pollers):
    """`notice_at` and `page_at` count one call with one result among the last twelve, parallel ones once."""

    known_notice_at: Annotated[int, Field(ge=2, le=LAST)] = 4
    """Of the last ten calls, those that told nothing new: each had been made before with the same result."""
    known_page_at: Annotated[int, Field(ge=0, le=LAST)] = 5
    """0 means never, as it does if `page_at` is 0. Where results are not reported, one more is worth a notice."""
    no_news_at: Annotated[int, Field(ge=0)] = NO_NEWS
    """Calls in a row, with whatever arguments, whose results had all come before: a notice at most, at least 30; 0
    means never."""
    rounds_notice_at: PageCount = 10
    """Rounds in which something was written and the same call then failed with the same result: a notice at most; 0
    means never."""


@register
class NoProgress(SequenceDetector[NoProgressSettings]):
    """Fires when a run makes the same tool call with the same result for the third time among its last 12 calls, and
    pages at the fifth, or when half of its last 10 tell it nothing new, whatever stands between.

    A call tells nothing new if it was made before, with the same arguments and the same result, among the last 16 since
    something was written: what `writes`, or is one of the policy's `writing_tools`, may change what is found. One
    call in a row whose results come in turn pages when none of the last ten was new. Where results have no hash,
    where the tool is a poller or the call waits for something, it warns and does not page. What repeats in a row is
    for `repeat`, what goes round in a circle for `cycle`. Thirty calls in a row of which none has a new result are
    told of, too, though their arguments differ; and so is a call that has failed with the same result for the
    tenth time, though something was written before each.
    """

    name = "no_progress"
    settings_class = NoProgressSettings
    defaults = ({"name": "no_progress"},)
    calls = ("tool",)

    def step(self, history: CallHistory, call: ToolCall) -> Finding | None:
        """What is true of the last calls, at every one that was made before, and at every one without news."""
        tools = history.tools
        if tools.is_in_circle():
            return None
        same = tools.among(AMONG, self.settings.within_minutes)
        known = tools.told_before(LAST, self.settings.within_minutes)
        if tools.same_call >= IN_A_ROW and known.verified < LAST:
            known = Known(0, 0)  # one call whose result changes: it gets on while a new one comes now and then
        finding = self._page(tools, call, same, known) or self._notice(tools, call, same, known)
        return finding and about(finding, "", self.settings, self._nudge(tools, call, same, known))

    def keeps_failing(self, call: FailingCall) -> Finding | None:
        """What is true of a call that fails as before, whatever was written since."""
        limit = self.settings.rounds_notice_at
        if call.members != "rounds" or not 0 < limit <= call.in_a_row:
            return None
        summary = (
            f"{call.tool} has failed {call.in_a_row} times with the same arguments and result, and something was "
            f"changed before each{spent_since(call.spent_nanousd)}"
        )
        advice = "Look at the last changes: none of them makes a difference. A cap on the run would stop it."
        evidence: dict[str, object] = {"tool": call.tool, "calls_in_a_row": call.in_a_row}
        nudge = sentence(f"{plain(call.tool)} has failed {call.in_a_row} times in the same way, whatever you changed.")
        return about(notice(call.in_a_row, 0, summary, advice, evidence), call.name, self.settings, nudge)

    def _nudge(self, tools: ToolCalls, call: ToolCall, same: Among, known: Known) -> str:
        """What the agent is told: only where results are known to be the same, and nothing is waited for."""
        if self._waits(tools, call, same):
            return ""
        if same.verified >= self.settings.notice_at:
            what = f"Among your last {same.first + 1} tool calls, {plain(call.tool)} was called {same.verified} times"
            return sentence(f"{what} with the same arguments, and its result was the same each time.")
        if known.verified >= self.settings.known_notice_at:
            return sentence(f"{known.verified} of your last {LAST} tool calls told you nothing that you did not know.")
        return ""

    def _page(self, tools: ToolCalls, call: ToolCall, same: Among, known: Known) -> Finding | None:
        settings = self.settings
        if not settings.page_at or self._waits(tools, call, same):
            return None
        if same.verified >= settings.page_at:
            count, limit, words = same.verified, settings.page_at, _again(tools, call, same)
        elif 0 < settings.known_page_at <= known.verified:
            count, limit, words = known.verified, settings.known_page_at, _known(tools, known.verified)
        else:
            return None
        advice = "Stop it if it still runs; look at what it expects of these calls."
        return page(settings, count, limit, words, advice, _evidence(call, count))

    def _notice(self, tools: ToolCalls, call: ToolCall, same: Among, known: Known) -> Finding | None:
        settings = self.settings
        advice = "Look at the run's last steps; it pages if this goes on."
        if same.verified >= settings.notice_at:
            count, limit, words = same.verified, settings.page_at, _again(tools, call, same)
        elif known.verified >= settings.known_notice_at:
            count, limit, words = known.verified, settings.known_page_at, _known(tools, known.verified)
        elif 0 < settings.known_page_at < known.alike:
            count, limit, words = known.alike, 0, _unknown(tools, known.alike)
            advice = "Report `result_hash` for these tools; without it a loop cannot be told from progress."
        elif 0 < settings.no_news_at <= tools.no_news:
            count, limit, words = tools.no_news, 0, _no_news(tools, call)
            advice = "Look at what it does. If these calls change something, have them report `writes`."
        else:
            return None
        if limit and self._waits(tools, call, same):
            advice = "Nothing, if it is waiting for something."
        return notice(count, limit, words, advice, _evidence(call, count))

    def _waits(self, tools: ToolCalls, call: ToolCall, same: Among) -> bool:
        if same.first < tools.same_call:
            paced = same.first > 0 and tools.is_paced(1, same.first + 1)
        elif len(same.apart) > 1:
            paced = are_paced(same.apart)
        else:  # one distance is always even: it must be a pause, and no long way round through other calls
            paced = bool(same.apart) and tools.is_paced(same.first, same.first + 1)
        return self.settings.polls(call.tool) or waits(call, paced=paced)


def _again(tools: ToolCalls, call: ToolCall, same: Among) -> str:
    return (
        f"Tool {call.tool} was called {same.verified} times among the last {same.first + 1} calls with the same "
        f"arguments and result, no write between{spent_since(tools.spent_since(same.first))}"
    )


def _known(tools: ToolCalls, count: int) -> str:
    return (
        f"{count} of the last {LAST} tool calls told the run nothing new: same calls, same results, nothing written "
        f"between{spent_since(tools.spent_since(LAST - 1))}"
    )


def _unknown(tools: ToolCalls, count: int) -> str:
    return (
        f"{count} of the last {LAST} tool calls had been made before with the same arguments, and their results cannot "
        f"be compared{spent_since(tools.spent_since(LAST - 1))}"
    )


def _no_news(tools: ToolCalls, call: ToolCall) -> str:
    return (
        f"The last {tools.no_news} tool calls, most recently {call.tool}, had no result that had not come shortly "
        f"before, whatever their arguments{spent_since(tools.spent_since(STEPS - 1))}"
    )


def _evidence(call: ToolCall, count: int) -> dict[str, object]:
    return {
        "tool": call.tool,
        "calls_in_a_row": count,
        "status": call.status,
        "args_hash": (call.args_hash or "")[:12],
        "result_hash": (call.result_hash or "")[:12],
    }
