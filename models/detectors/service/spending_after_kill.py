"""`spending_after_kill`: a kill was not obeyed."""

from dataclasses import replace
from typing import Annotated, Final

from pydantic import Field

from models.commands.standing import StandingCommand
from models.detectors.base import CommandDetector, register
from models.rules.finding import Finding
from models.sequences.pauses import LONGEST_CALL_MS
from schemas.duration import HOUR_MS, format_duration
from schemas.money import format_usd
from schemas.policy import RuleSettings
from schemas.usage import LlmCall, ToolCall

_LONGEST_TOOL_CALL_MS: Final = HOUR_MS
"""A build or a run of tests may have begun so long ago; a model call has not."""


class SpendingAfterKillSettings(RuleSettings):
    """A call that was under way when the kill went out is overshoot, not disobedience."""

    grace_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    """Calls that begin within so many seconds after the kill are still forgiven."""


@register
class SpendingAfterKill(CommandDetector[SpendingAfterKillSettings]):
    """Fires when a killed run goes on making calls, or when nobody acknowledges a kill by the deadline."""

    name = "spending_after_kill"
    settings_class = SpendingAfterKillSettings
    defaults = ({"name": "spending-after-kill"},)
    always_on = True

    def call_after(
        self, command: StandingCommand, call: LlmCall | ToolCall, overshoot_nanousd: int, now_ms: int
    ) -> Finding | None:
        # Its own clock may run ahead; and who says of every call that it began long ago would never be heard of.
        longest_ms = _LONGEST_TOOL_CALL_MS if isinstance(call, ToolCall) else LONGEST_CALL_MS
        began_ms = min(max(_began_ms(call), now_ms - longest_ms), now_ms)
        if began_ms <= command.out_ms + self.settings.grace_seconds * 1000:
            return None
        since_ms = began_ms - command.out_ms
        return self._finding(
            command,
            overshoot_nanousd,
            f"The {_what(command)} was killed {format_duration(since_ms)} ago and still makes calls: "
            f"{format_usd(overshoot_nanousd)} spent since",
        )

    def unanswered(self, command: StandingCommand, overshoot_nanousd: int) -> Finding | None:
        waited = format_duration(command.deadline_ms - command.out_ms)
        words = f"Nobody acknowledged the kill of the {_what(command)} within {waited}"
        if not overshoot_nanousd:
            advice = "See whether it still runs, and stop it by hand if so; then find out why its guard did not answer."
            finding = self._finding(command, 0, f"{words}; nothing was spent since")
            return replace(finding, next_action=advice, evidence={**finding.evidence, "is_silent": True})
        return self._finding(command, overshoot_nanousd, f"{words}: {format_usd(overshoot_nanousd)} spent since")

    def _finding(self, command: StandingCommand, overshoot_nanousd: int, summary: str) -> Finding:
        return Finding(
            level=1.0,
            severity=self.settings.severity,
            value=overshoot_nanousd,
            unit="nanousd",
            evidence={
                "command_id": command.command_id,
                "killed_by": command.origin.rule,
                "issued_ms": command.issued_ms,
                "overshoot_nanousd": overshoot_nanousd,
            },
            summary=summary,
            next_action="Stop it by hand, or revoke its model key; then find out why its guard did not act.",
        )


def _what(command: StandingCommand) -> str:
    return command.target_type.replace("_", " ")


def _began_ms(call: LlmCall | ToolCall) -> int:
    if isinstance(call, LlmCall) and call.started_ms is not None:
        return call.started_ms
    return call.ts_ms - (call.latency_ms or 0)
