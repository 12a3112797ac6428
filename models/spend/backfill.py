"""What came more than a day late, sent again to be booked: in its own hour, without a look at the run that it was."""

from typing import TypeGuard

from models.attribution import Router
from models.prices.book import Charge
from models.runs.memory import Memory
from models.spend.hourly_totals import HourlyTotals
from models.spend.ledger import SpendLedger
from models.spend.quality_watch import QualityWatch
from models.state.spend.totals import HourTotals
from models.state.tenant import Tenant
from schemas.usage import LlmCall, Outcome, ToolCall, UsageMessage


class Backfill:
    """Books the past of a partition."""

    def __init__(
        self, router: Router, memory: Memory, totals: HourlyTotals, ledger: SpendLedger, quality: QualityWatch
    ) -> None:
        self._router = router
        self._memory = memory
        self._totals = totals
        self._ledger = ledger
        self._quality = quality

    def book(self, tenant: Tenant, message: LlmCall | ToolCall | Outcome, charge: Charge | None, at_ms: int) -> None:
        """Count the message where it happened: in the totals of its hour, and in every budget whose period holds it.

        It belongs to whom it says, else to whom its run says, if that is known. The run is neither woken nor judged.
        `charge` is what a model call costs.
        """
        attributes = self._memory.attributes_of(tenant, message.run_id)
        route = self._router.route(tenant, attributes, self._router.key_of(message))
        totals = self._totals.booked(tenant, route, at_ms)
        cost_nanousd = 0
        match message:
            case LlmCall():
                assert charge is not None
                cost_nanousd = charge.cost_nanousd
                _count_call(totals, message, charge)
            case ToolCall():
                cost_nanousd = message.cost_nanousd or 0
                totals.tool_calls += 1
                totals.blind_tool_calls += message.args_hash is None
                totals.errors += message.status == "error"
            case Outcome():
                setattr(totals, message.outcome, getattr(totals, message.outcome) + 1)
        if isinstance(message, LlmCall) or (isinstance(message, ToolCall) and cost_nanousd):
            self._totals.break_down(tenant, totals, attributes, message, cost_nanousd)
        if cost_nanousd:
            totals.cost_nanousd += cost_nanousd
            self._ledger.book_past(tenant, route, cost_nanousd, at_ms)
        self._quality.backfilled(tenant, message, cost_nanousd)


def is_bookable(message: UsageMessage) -> TypeGuard[LlmCall | ToolCall | Outcome]:
    """Whether there is anything to book in a message of its type: what was spent, or what became of it."""
    return isinstance(message, LlmCall | ToolCall | Outcome)


def _count_call(totals: HourTotals, call: LlmCall, charge: Charge) -> None:
    totals.calls += 1
    totals.input_tokens += call.input_tokens
    totals.output_tokens += call.output_tokens
    totals.retries += call.attempt > 1
    totals.errors += call.status == "error"
    if "unpriced" in charge.problems:
        totals.unpriced_calls += 1
        totals.unpriced_tokens += charge.input_tokens + charge.output_tokens
