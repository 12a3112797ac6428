"""`premium_escalation`: a run goes on with a premium model, and does not say why."""

from typing import Annotated

from pydantic import Field

from models.detectors.base import EscalationDetector, commanded, register
from models.rules.finding import Finding
from models.state.spend.escalations import Escalations
from schemas.money import format_usd
from schemas.policy import Action, Limit, RuleSettings, Severity


class PremiumEscalationSettings(RuleSettings):
    """Which models are premium is `premium_models`, at the top of the policy."""

    min_calls: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Nothing is said while fewer calls of a workflow's day came without a reason."""
    tell_explained: bool = False
    """Whether a day on which every call had its reason is told as well, as `info`: how often for what."""
    at_limit: Limit = "alert"
    """What `enforce` asks of a run that makes such a call: most of the time `downgrade`."""
    severity: Severity = "warning"


@register
class PremiumEscalation(EscalationDetector[PremiumEscalationSettings]):
    """Fires once a day for a workflow whose runs go on with a premium model without an `escalation_reason`, after they
    began with another or were announced on another route.
    """

    name = "premium_escalation"
    settings_class = PremiumEscalationSettings
    defaults = ({"name": "premium-escalation"},)

    @property
    def limit_action(self) -> Action | None:
        return commanded(self.settings.at_limit)

    def judge(self, day: Escalations) -> Finding | None:
        if day.calls < self.settings.min_calls:
            return self._explained(day) if self.settings.tell_explained and day.reasons else None
        runs = "1 run" if day.runs == 1 else f"{day.runs:,} runs"
        calls = _premium(day.calls)
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=day.cost_nanousd,
            unit="nanousd",
            action=self.limit_action,
            evidence={
                "at_limit": self.settings.at_limit,
                "models": list(day.models),
                "latest_escalated_runs": list(day.latest_runs),
                "explained": _by_reason(day),
            },
            summary=f"{runs} went on with {calls} for {format_usd(day.cost_nanousd)} today and did not say why",
            next_action="Have the agent say why (escalation_reason), or announce it (expected_route).",
        )

    def _explained(self, day: Escalations) -> Finding:
        calls, cost_nanousd = day.explained
        return Finding(
            level=0.5,
            severity="info",
            value=cost_nanousd,
            unit="nanousd",
            evidence={"at_limit": "alert", "explained": _by_reason(day)},
            summary=f"{_premium(calls)} for {format_usd(cost_nanousd)} today, each for a reason",
            next_action="See whether these reasons are worth their price.",
        )


def _premium(calls: int) -> str:
    return "1 premium call" if calls == 1 else f"{calls:,} premium calls"


def _by_reason(day: Escalations) -> list[str]:
    """The reasons, the dearest last: messages show the last ones."""
    dearest_last = sorted(day.reasons.items(), key=lambda one: (one[1][1], one[0]))
    return [_counted(reason, *counts) for reason, counts in dearest_last]


def _counted(reason: str, calls: int, cost_nanousd: int) -> str:
    return f"{reason}: {calls:,} for {format_usd(cost_nanousd)}"
