"""A workflow's premium calls of one day in runs that did not begin with one: what they cost, and why they were made."""

from typing import Any, Final

from models.state.rows import PLAIN, Row
from models.state.units.unit import MAX_NANOUSD
from schemas.duration import DAY_MS

MOST_REASONS: Final = 16
OTHER_REASONS: Final = "other reasons"
"""Where further ones are counted: they are texts from outside."""
MOST_LISTED: Final = 5


class Escalations(Row):
    """Premium calls that nobody could expect, by tenant, workflow and day (UTC)."""

    __slots__ = ("calls", "cost_nanousd", "due_calls", "latest_runs", "models", "reasons", "rules", "runs", "start_ms",
                 "tenant_id", "workflow")  # fmt: skip
    kind = "escalations"

    def __init__(self, tenant_id: str, workflow: str, start_ms: int) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.start_ms = start_ms
        self.runs = 0
        """How many runs made such calls and did not say why."""
        self.calls = 0
        """How many calls that were."""
        self.cost_nanousd = 0
        self.due_calls = 1
        """At how many calls, explained ones included, the rules are asked next: at every doubling."""
        self.rules: list[str] = []
        """Names of the rules that have told of it."""
        self.models: list[str] = []
        self.latest_runs: list[str] = []
        self.reasons: dict[str, tuple[int, int]] = {}
        """Reason -> how many calls were made for it, and what they cost."""

    @property
    def end_ms(self) -> int:
        """When the day is over."""
        return self.start_ms + DAY_MS

    @property
    def explained(self) -> tuple[int, int]:
        """How many calls say why they were made, and what they cost."""
        counts = self.reasons.values()
        return sum([calls for calls, _ in counts]), sum([cost_nanousd for _, cost_nanousd in counts])

    def explain(self, reason: str, cost_nanousd: int) -> bool:
        """Count a call that says why it was made; returns whether the rules are to be asked."""
        if reason not in self.reasons and len(self.reasons) >= MOST_REASONS:
            reason = OTHER_REASONS
        calls, known_nanousd = self.reasons.get(reason, (0, 0))
        self.reasons[reason] = (calls + 1, min(known_nanousd + cost_nanousd, MAX_NANOUSD))
        return self._is_due()

    def add(self, run_id: str, model: str, cost_nanousd: int, *, is_first: bool) -> bool:
        """Count a call that does not; returns whether the rules are to be asked. `is_first`: the run's first."""
        self.runs += is_first
        self.calls += 1
        self.cost_nanousd = min(self.cost_nanousd + cost_nanousd, MAX_NANOUSD)
        if model not in self.models:
            self.models = [*self.models, model][-MOST_LISTED:]
        if run_id not in self.latest_runs:
            self.latest_runs = [*self.latest_runs, run_id][-MOST_LISTED:]
        return self._is_due() or self.calls == 1

    def _is_due(self) -> bool:
        calls = self.calls + self.explained[0]
        if calls < self.due_calls:
            return False
        self.due_calls = 2 * calls
        return True

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.workflow)

    def header(self) -> tuple[int, int, int]:
        return self.end_ms, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        return (
            self.start_ms, self.runs, self.calls, self.cost_nanousd, self.due_calls, self.models, self.latest_runs,
            self.reasons, self.rules,
        )  # fmt: skip

    @classmethod
    def read(cls, parts: tuple[str, ...], fields: tuple[Any, ...]) -> "Escalations":
        """A day as its row holds it."""
        day = cls(parts[0], parts[1], fields[0])
        _, day.runs, day.calls, day.cost_nanousd, day.due_calls, day.models, day.latest_runs, reasons, day.rules = (
            fields
        )
        day.reasons = {reason: (calls, cost_nanousd) for reason, (calls, cost_nanousd) in reasons.items()}
        return day
