"""`repeat`: a run that makes one and the same tool call again and again."""

from typing import Final

from models.detectors.base import SequenceDetector, register
from models.detectors.loops.in_a_row import (
    PageCount,
    RowSettings,
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
from models.sequences.tool_calls import SameCalls
from models.state.units.call_history import CallHistory
from models.state.units.failing import FailingCall
from schemas.usage import ToolCall

_GROUPS: Final[dict[str, str]] = {
    "session": "runs of the session, one after another,",
    "run_tree": "runs of the run tree",
    "run": "agents of the run",
}
"""What a summary calls those that have something in common."""


class RepeatSettings(RowSettings, ToolPatterns):
    """`notice_at` and `page_at` count identical calls in a row, the first one included and parallel ones once."""

    failing_page_at: PageCount = 10
    """Identical calls in a row that all failed, with whatever words; 0 means never, as it does if `page_at` is 0."""


@register
class Repeat(SequenceDetector[RepeatSettings]):
    """Fires when a run makes the same tool call with the same result `notice_at` (3) times in a row, and pages at
    `page_at` (5).

    A result that is known to have changed is progress and starts the count anew, unless the call fails again and again:
    that pages at `failing_page_at` (10). Results are the same if their hashes or the hashes of their shapes are. Where
    they have no hash it warns and does not page, unless the policy trusts the tool in `trust_without_result`.
    Waiting is paced: a call that works and is made at even or rising distances of ten seconds and more, at about even
    ones of half a minute, or by a back-off, or takes three seconds itself, pages only at `poll_page_at` (60) or once
    such calls have cost `poll_page_usd` ($10) by themselves, and `pollers` never do. One that fails by a back-off, as
    retries in a tool do, pages at `failing_page_at`. Where run after run of a session or run tree makes the same
    failing call once or twice, with the same result and nothing written between, it is told of; a run tree pages only
    where each run had given up before the next one failed. So it is where agent after agent of one run fails at the
    same call: that never pages.
    """

    name = "repeat"
    settings_class = RepeatSettings
    defaults = ({"name": "repeat"},)
    calls = ("tool",)

    def step(self, history: CallHistory, call: ToolCall) -> Finding | None:
        """What is true of the calls in a row, at every call from the notice on."""
        if history.tools.same_call < self.settings.notice_at:
            return None
        row = history.tools.same_calls(self.settings.within_minutes)
        finding = self._page(history, call, row) or self._notice(history, call, row)
        return finding and about(finding, history.tools.repeated(1), self.settings, self._nudge(history, call, row))

    def keeps_failing(self, call: FailingCall) -> Finding | None:
        """What is true of a call that fails in run after run of a session or run tree, or with agent after agent."""
        settings = self.settings
        if call.members == "rounds" or call.in_a_row < settings.notice_at:
            return None
        summary = (
            f"{call.in_a_row} {_GROUPS[call.group.type]} have called {call.tool} with the same arguments, and it "
            f"failed each time{spent_since(call.spent_nanousd)}"
        )
        evidence: dict[str, object] = {
            "tool": call.tool,
            "calls_in_a_row": call.failures,
            f"{call.members}_in_a_row": call.in_a_row,
        }
        limit = 0 if call.members == "agents" else settings.failing_page_at
        if settings.page_at and 0 < limit <= call.verified:
            advice = "Stop whatever starts these runs; find out why the call fails."
            finding = page(settings, call.failures, limit, summary, advice, evidence)
        else:
            finding = notice(call.failures, limit, summary, "Find out why the call fails.", evidence)
        return about(finding, call.name, settings)

    def _page(self, history: CallHistory, call: ToolCall, row: SameCalls) -> Finding | None:
        settings = self.settings
        if settings.polls(call.tool) or not settings.page_at:
            return None
        count = row.alike if settings.trusts(call.tool) else row.verified
        limit = settings.page_at
        if call.status == "error" and history.tools.backs_off(count):
            limit = max(limit, settings.failing_page_at)
        outcome = " and the same result" if row.verified >= count else "; its results are not reported"
        if count < limit and 0 < settings.failing_page_at <= row.failing:
            count, limit = row.failing, settings.failing_page_at
            outcome = " and failed each time"
        if count < limit:
            return None
        if _waits(history, call, count):
            if not settings.waits_too_long(count, call):
                return None
            limit = limit if settings.costs_too_much(count, call) else settings.poll_page_at
        summary = (
            f"Tool {call.tool} was called {count} times in a row with the same arguments{outcome}"
            f"{spent_since(history.tools.spent_in_row)}"
        )
        return page(settings, count, limit, summary, _advice(call), _evidence(call, row, count))

    def _notice(self, history: CallHistory, call: ToolCall, row: SameCalls) -> Finding | None:
        count = row.alike
        if count < self.settings.notice_at:
            return None
        verified = row.verified >= count
        outcome = "and the same result" if verified else "and its results cannot be compared"
        limit = self.settings.page_at
        advice = "Look at the run's last steps; it pages if this goes on."
        if self.settings.polls(call.tool):
            advice = "Nothing, if it is waiting for something; this tool is listed as a poller and never pages."
        elif not verified:
            advice = "Report `result_hash` for this tool; without it a loop cannot be told from progress."
        elif _waits(history, call, count):
            limit = self.settings.poll_page_at
            advice = f"Nothing, if it is waiting for something; it pages at {limit} calls." if limit else "Nothing."
        summary = (
            f"Tool {call.tool} was called {count} times in a row with the same arguments {outcome}"
            f"{spent_since(history.tools.spent_in_row)}"
        )
        return notice(count, limit, summary, advice, _evidence(call, row, count))

    def _nudge(self, history: CallHistory, call: ToolCall, row: SameCalls) -> str:
        """What the agent is told: only where every result is known to be the same, and nothing is waited for."""
        if row.verified < row.alike or self.settings.polls(call.tool) or _waits(history, call, row.alike):
            return ""
        got = "failed in the same way" if call.status == "error" else "got the same result"
        calls = f"You have called {plain(call.tool)} {row.alike} times in a row with the same arguments"
        return sentence(f"{calls} and {got} each time.")


def _advice(call: ToolCall) -> str:
    """What to do about the same call again and again: what fails or changes something waits for nothing."""
    if call.status == "error":
        return "Stop it if it still runs; find out why the call fails."
    if call.writes:
        return "Stop it if it still runs, and look at what it has changed: it did so each time."
    return "Stop it if it still runs. If this tool only waits for something, list it under `pollers` of this rule."


def _waits(history: CallHistory, call: ToolCall, count: int) -> bool:
    """A call that fails is no look at something that takes its time."""
    return call.status == "ok" and waits(call, paced=history.tools.is_paced(1, count))


def _evidence(call: ToolCall, row: SameCalls, count: int) -> dict[str, object]:
    return {
        "tool": call.tool,
        "calls_in_a_row": count,
        "period": 1,
        "results_verified": row.verified >= count,
        "status": call.status,
        "args_hash": (call.args_hash or "")[:12],
        "result_hash": (call.result_hash or "")[:12],
    }
