"""What the rules about calls in a row share: their settings, and the two findings they make."""

from fnmatch import fnmatchcase
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from models.detectors.base import commanded
from models.rules.finding import Finding
from schemas.policy import RunRuleSettings

NOTICE = 0.5
SURE = 1.0

CallCount = Annotated[int, Field(ge=2, le=1000)]


class RowSettings(RunRuleSettings):
    """Two counts of calls in a row: at the lower one it is worth a look, at the higher one it is sure."""

    notice_at: CallCount = 3
    page_at: Annotated[int, Field(ge=0, le=1000)] = 5
    """0 means never."""

    @model_validator(mode="after")
    def _page_follows_notice(self) -> Self:
        if 0 < self.page_at < self.notice_at:
            raise ValueError(f"page_at ({self.page_at}) must be 0 or at least notice_at ({self.notice_at})")
        return self


class ToolPatterns(RunRuleSettings):
    """Tools that are judged differently, as patterns (`wait_*`) over their names, upper and lower case alike."""

    pollers: tuple[str, ...] = ("*wait*", "*poll*", "*sleep*", "*status*", "BashOutput")
    """Tools that may well answer the same many times while something else goes on: a warning at most."""
    trust_without_result: tuple[str, ...] = ()
    """Tools of which the same call is a repetition even where nobody reports a result hash."""

    def polls(self, tool: str) -> bool:
        """Whether the same answer again is normal for the tool."""
        return _any_matches(self.pollers, tool)

    def trusts(self, tool: str) -> bool:
        """Whether the tool's calls may be judged without their results."""
        return _any_matches(self.trust_without_result, tool)


def _any_matches(patterns: tuple[str, ...], tool: str) -> bool:
    name = tool.lower()
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)


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
