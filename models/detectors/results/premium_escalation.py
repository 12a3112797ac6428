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
            return None
        runs = "1 run" if day.runs == 1 else f"{day.runs:,} runs"
        calls = "1 premium call" if day.calls == 1 else f"{day.calls:,} premium calls"
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
                "explained": [_counted(reason, *counts) for reason, counts in sorted(day.reasons.items())],
            },
            summary=f"{runs} went on with {calls} for {format_usd(day.cost_nanousd)} today and did not say why",
            next_action="Have the agent say why (escalation_reason), or announce it (expected_route).",
        )


def _counted(reason: str, calls: int, cost_nanousd: int) -> str:
    return f"{reason}: {calls:,} for {format_usd(cost_nanousd)}"
