"""What the rules about calls in a row share: their settings, and the two findings they make."""

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from models.detectors.base import commanded
from models.rules.finding import Finding
from models.sequences.pauses import LONGEST_PAUSE_MINUTES
from models.sequences.tool_calls import SLOW_MS
from schemas.duration import MINUTE_MS
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import RunRuleSettings, Steps, Usd
from schemas.usage import ToolCall

NOTICE = 0.5
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
SURE = 1.0

CallCount = Annotated[int, Field(ge=2, le=1000)]
Minutes = Annotated[int, Field(ge=1, le=LONGEST_PAUSE_MINUTES)]
PageCount = Annotated[int, Field(ge=0, le=1000)]
"""0 means never."""


class SequenceSettings(RunRuleSettings):
    """What all rules about the order of calls have."""

    within_minutes: Minutes = 10
    """In a row means soon: a call that starts later than this after the end of the one before starts the counts anew,
    and an incident about what is repeated is over after so long without it."""
    nudge: bool = True
    """Whether the agent itself is told, through its guard, once a level and where nothing is stopped: at the notice,
    and in `alert` at the page. Not in shadow mode; an agent that never asks its guard is not affected."""


class RowSettings(SequenceSettings):
    """Two counts of calls in a row: at the lower one it is worth a look, at the higher one it is sure."""

    steps: ClassVar[Steps] = {"notice_at": (0.67, 1.34, 2), "page_at": (0.6, 0.8, 1.2, 1.6, 2)}
    notice_at: CallCount = 3
    page_at: PageCount = 5
    """0 means never."""

    @model_validator(mode="after")
    def _page_follows_notice(self) -> Self:
        if 0 < self.page_at < self.notice_at:
            raise ValueError(f"page_at ({self.page_at}) must be 0 or at least notice_at ({self.notice_at})")
        return self


class Pollers(SequenceSettings):
    """Tools that are judged differently, as patterns (`wait_*`) over their names, upper and lower case alike."""

    pollers: tuple[str, ...] = ("wait", "sleep", "BashOutput")
    """Tools that do nothing but wait: a warning at most. The last resort, for waiting that its pace does not show."""

    def polls(self, tool: str) -> bool:
        """Whether the same answer again is normal for the tool."""
        return any_matches(self.pollers, tool)


class ToolPatterns(Pollers):
    """And how long waiting may go on, and whose results need not be known."""

    poll_page_at: PageCount = 60
    """Calls, or rounds of a circle, that page even if they look like waiting: they work, and take three seconds and
    more each, or are ten seconds and more apart at even or rising distances. 0 means never."""
    poll_page_usd: Usd = Usd(10)
    """What such calls may cost by themselves (`cost_nanousd`), all of them together: who waits pays for the model's
    turns, and little more. 0 means whatever they cost."""
    trust_without_result: tuple[str, ...] = ()
    """Tools of which the same call is a repetition even where nobody reports a result hash."""

    def trusts(self, tool: str) -> bool:
        """Whether the tool's calls may be judged without their results."""
        return any_matches(self.trust_without_result, tool)

    def waits_too_long(self, polls: int, call: ToolCall) -> bool:
        """Whether something has been looked at in vain so often, or at such a price, that waiting for it is no excuse
        any more; `call` is the last look, and like all others.
        """
        return 0 < self.poll_page_at <= polls or self.costs_too_much(polls, call)

    def costs_too_much(self, polls: int, call: ToolCall) -> bool:
        """Whether so many calls like this one have cost more than waiting may."""
        limit_nanousd = usd_to_nanousd(self.poll_page_usd) if call.cost_nanousd and self.poll_page_at else 0
        return 0 < limit_nanousd <= polls * (call.cost_nanousd or 0)


def waits(call: ToolCall, *, paced: bool) -> bool:
    """Whether a call looks at something that takes its time: it works, and it is slow itself or made at a pace."""
    return call.status == "ok" and (paced or (call.latency_ms or 0) >= SLOW_MS)


def spent_since(nanousd: int) -> str:
    """How a summary ends: with what has been spent since the first of the calls that it is about, if anything was."""
    return f"; {format_usd(nanousd)} spent since the first." if nanousd > 0 else "."


def any_matches(patterns: tuple[str, ...], tool: str) -> bool:
    """Whether a tool's name fits one of the patterns, upper and lower case alike."""
    name = tool.lower()
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)


def about(finding: Finding, repeated: str, settings: SequenceSettings, nudge: str = "") -> Finding:
    """The finding as one about `repeated`: another thing repeated is another incident, and so is the same one again
    after `within_minutes` without it. `nudge` is what the agent is told, where nothing is stopped for it.
    """
    return replace(
        finding,
        nudge=nudge if settings.nudge else "",
        aspect=repeated,
        lasts_ms=settings.within_minutes * MINUTE_MS,
        evidence={**finding.evidence, "repeated": repeated, "within_minutes": settings.within_minutes},
    )


def sentence(what: str) -> str:
    """What is put before the model of an agent that goes on like that: that it does, and how it may get out of it."""
    return f"{what} Doing it again will not change that: try something else, or say what keeps you from going on."


def plain(tool: str) -> str:
    """A tool's name as a model may read it. Names come from outside, and what is no name is not put before a model."""
    return tool if _NAME.fullmatch(tool) else "the same tool"


def notice(count: int, limit: int, summary: str, next_action: str, evidence: dict[str, Any]) -> Finding:
    """Worth a look: nobody is woken and nothing is stopped. `limit` is the count at which it would be sure."""
    return Finding(
        level=NOTICE,
        severity="warning",
        value=count,
        unit="calls",
        limit=limit or None,
        summary=summary,
        next_action=next_action,
        evidence=evidence,
    )


def page(
    settings: RunRuleSettings, count: int, limit: int, summary: str, next_action: str, evidence: dict[str, Any]
) -> Finding:
    """Sure enough to wake somebody, and to stop the run where the policy enforces it."""
    return Finding(
        level=SURE,
        severity=settings.severity,
        value=count,
        unit="calls",
        limit=limit,
        action=commanded(settings.action),
        summary=summary,
        next_action=next_action,
        evidence=evidence,
    )
