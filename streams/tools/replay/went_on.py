"""What would have been paged had nobody obeyed: in the log, a run goes on long after its kill.

Whether guards would have stopped the run no log can tell. A backtest takes it that they would, counts what came after
as saved, and says in an alert of shadow mode that it rests on that: of the first three that a rule kills in a tenant's
day, one by one. What goes on after those adds nothing but their number, which the scorecard has.
"""

from collections.abc import Iterator
from typing import Final

from models.identity import derived_id
from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.control import Command
from schemas.duration import DAY_MS, format_duration
from schemas.money import format_usd

DETECTOR: Final = "spending_after_kill"
MOST_A_DAY: Final = 3


class WentOn:
    """The alerts about runs that went on in the log alone."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str, int], set[str]] = {}
        self._spent_nanousd: dict[str, int] = {}

    def call(
        self, policy: Policy, command: Command, run_id: str, event_id: str, cost_nanousd: int, began_ms: int
    ) -> Iterator[Alert]:
        """A call that a kill would have prevented. Gives an alert where a rule would have spoken for the first time."""
        spent_nanousd = self._spent_nanousd.get(command.command_id, 0) + cost_nanousd
        self._spent_nanousd[command.command_id] = spent_nanousd
        after_ms = began_ms - command.issued_ms
        for rule in policy.rules.values():
            if rule.name != DETECTOR or after_ms <= rule.settings.grace_seconds * 1000:
                continue
            fact = (command.tenant_id, rule.rule, command.rule, command.issued_ms // DAY_MS)
            told = self._told.setdefault(fact, set())
            if command.command_id in told or len(told) >= MOST_A_DAY:
                continue
            told.add(command.command_id)
            incident_id = derived_id("went on", *fact, command.command_id)
            yield Alert(
                alert_id=derived_id(incident_id, "open"),
                incident_id=incident_id,
                state="open",
                severity=rule.settings.severity,
                mode="shadow",
                rule=rule.rule,
                detector=rule.name,
                tenant_id=command.tenant_id,
                scope={"tenant_id": command.tenant_id, command.target.type: command.target.id},
                run_id=run_id,
                owner=None,
                level=1.0,
                window_start_ms=None,
                window_end_ms=None,
                value=spent_nanousd,
                limit=None,
                baseline=None,
                ratio=None,
                unit="nanousd",
                evidence={
                    "command_id": command.command_id,
                    "killed_by": command.rule,
                    "issued_ms": command.issued_ms,
                    "overshoot_nanousd": spent_nanousd,
                },
                summary=(
                    f"In the log the {command.target.type.replace('_', ' ')} goes on {format_duration(after_ms)} after "
                    f"its kill: {format_usd(spent_nanousd)} more by then, had its guard not stopped it"
                ),
                next_action="Nothing, if its agents have guards by now; --as-recorded shows what happens if not.",
                ts_ms=began_ms,
                cause_event_id=event_id,
                policy_version=policy.version,
            )
