"""Which runs a cap, operators' kills and resumes on their terms leave under a kill: plain bookkeeping, run by run.

Like `tests.support.oracle` it shares nothing with the engine but the messages. It knows one cap on the cost of single
runs, enforced by a kill, in tenants without budgets, stop rules, sessions or trees.
"""

from collections import defaultdict
from collections.abc import Sequence

from schemas.operator import Kill, OperatorMessage, Resume
from schemas.usage import LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage
from tests.support.oracle import Charge, counted

RunId = tuple[str, str]
"""Tenant and run."""
Happening = tuple[UsageMessage | OperatorMessage, int]
"""A message with its append time."""


class _Account:
    """What one run has used up, what it may, and whether it is stopped."""

    def __init__(self, limit_nanousd: int) -> None:
        self.limit_nanousd = limit_nanousd
        self.total = 0
        self.accepted = 0
        """The total when an output was last accepted: only what came after it counts."""
        self.now_ms = 0
        self.ended_ms: int | None = None
        """None while it lives."""
        self.granted_up_to: int | None = None
        """A total, if an operator has named one or the run had one more allowance."""
        self.granted_until_ms: int | None = None
        self.has_grant = False
        self.killed = False

    def pass_time(self, now_ms: int) -> None:
        """Time alone ends a permission, and then the run is judged."""
        if self.granted_until_ms is not None and self.has_grant and self.now_ms < self.granted_until_ms <= now_ms:
            self.now_ms = now_ms
            self.judge()

    def exceeded(self) -> bool:
        """Whether the run has used up what it may."""
        used, may = self.total - self.accepted, self.limit_nanousd
        if self.has_grant and (self.granted_until_ms is None or self.now_ms < self.granted_until_ms):
            if self.granted_up_to is None:
                return False
            may = max(may, self.granted_up_to - self.accepted)
        return used >= may

    def judge(self) -> None:
        """Stop it if it lives and has used up what it may."""
        if self.ended_ms is None and self.exceeded():
            self.killed = True

    def message(self, charge: Charge) -> None:
        """Count a message of the run."""
        message = charge.message
        goes_on = isinstance(message, LlmCall | ToolCall | RunStarted)
        if goes_on and self.ended_ms is not None and charge.at_ms > self.ended_ms:
            self.ended_ms = None
        self.total += charge.cost_nanousd
        if isinstance(message, LlmCall | ToolCall):
            self.now_ms = max(self.now_ms, charge.at_ms)
        if isinstance(message, Outcome) and message.outcome in ("accepted", "edited"):
            self.accepted = self.total
        if goes_on:
            self.judge()
        if isinstance(message, RunFinished) and self.ended_ms is None:
            self.ended_ms = charge.at_ms

    def resume(self, order: Resume, at_ms: int) -> None:
        """Let it go on: up to an amount, until a time, or with one more allowance."""
        if not self.killed:
            return
        self.killed = False
        self.now_ms = max(self.now_ms, at_ms)
        if self.exceeded():
            self.has_grant = True
            self.granted_until_ms = order.until_ms
            self.granted_up_to = order.limit_nanousd
            if order.limit_nanousd is None and order.until_ms is None:
                self.granted_up_to = self.total + self.limit_nanousd


def killed_runs(limit_nanousd: int, happenings: Sequence[Happening], until_ms: int) -> set[RunId]:
    """The runs under a kill once time has passed to `until_ms`."""
    runs: dict[RunId, _Account] = defaultdict(lambda: _Account(limit_nanousd))
    clocks_ms: dict[str, int] = defaultdict(int)

    def pass_time(tenant_id: str, now_ms: int) -> None:
        clocks_ms[tenant_id] = max(clocks_ms[tenant_id], now_ms)
        for (tenant, _), run in runs.items():
            if tenant == tenant_id:
                run.pass_time(clocks_ms[tenant_id])

    charges = {charge.message.event_id: charge for charge in counted(_usage(happenings))}
    for message, append_ms in happenings:
        if isinstance(message, Kill | Resume):
            pass_time(message.tenant_id, append_ms)
            run = runs[message.tenant_id, message.target.id]
            if isinstance(message, Kill):
                run.killed = True
            else:
                run.resume(message, append_ms)
        elif isinstance(message, UsageMessage):
            pass_time(message.tenant_id, append_ms)
            key = (message.tenant_id, message.run_id)
            opens = isinstance(message, LlmCall | ToolCall | RunStarted)
            if message.event_id in charges and (opens or key in runs):
                runs[key].message(charges[message.event_id])
    for tenant_id in list(clocks_ms):
        pass_time(tenant_id, until_ms)
    return {key for key, run in runs.items() if run.killed}


def _usage(happenings: Sequence[Happening]) -> list[tuple[UsageMessage, int]]:
    return [(message, append_ms) for message, append_ms in happenings if isinstance(message, UsageMessage)]
