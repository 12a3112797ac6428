"""Calls that nobody can price: counted per model and day, charged as the policy says, told."""

from models.commands.enforcement import Enforcement
from models.incidents.incident import Subject
from models.state.partition import PartitionState
from models.state.route import Route
from models.state.tenant import Tenant
from schemas.duration import DAY_MS
from schemas.usage import LlmCall

MOST_UNPRICED_MODELS = 100
OTHER_MODELS = "other models"


class UnpricedCalls:
    """The calls of a partition that have no price."""

    def __init__(self, state: PartitionState, enforcement: Enforcement) -> None:
        self._state = state
        self._enforcement = enforcement

    def charge(self, tenant: Tenant, route: Route, call: LlmCall, at_ms: int) -> int:
        """Count a call nobody can price. Returns what the policy has it cost, else 0: told apart, never silent."""
        tokens = call.input_tokens + call.output_tokens
        assert route.totals is not None
        route.totals.unpriced_calls += 1
        route.totals.unpriced_tokens += tokens
        day_ms = at_ms - at_ms % DAY_MS
        known = call.model in tenant.unpriced or len(tenant.unpriced) < MOST_UNPRICED_MODELS
        model = call.model if known else OTHER_MODELS
        day = tenant.unpriced.setdefault(model, [day_ms, 0, 0])
        if day[0] < day_ms:
            day[:] = [day_ms, 0, 0]
        day_ms = day[0]
        day[1] += 1
        day[2] += tokens
        self._state.touch(tenant)
        for rule in self._state.policy.unpriced_rules:
            if (finding := rule.counted(model, day[1], day[2])) is not None:
                subject = Subject(
                    key=(model, day_ms),
                    scope={"tenant_id": tenant.tenant_id, "model": model},
                    owner=None,
                    window_start_ms=day_ms,
                    window_end_ms=day_ms + DAY_MS,
                )
                self._enforcement.apply(tenant, rule, finding, subject, at_ms)
        price = self._state.policy.header.unpriced_usd_per_million_tokens
        return 0 if price is None else int(price * tokens * 1000)
