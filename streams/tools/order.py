"""Giving an order from the command line: what it would change is looked at before it is written."""

import re
import sys

from alerting.meaning import author, meaning
from models.detectors.budget import Budget
from models.rules.policy import Policy
from schemas.errors import SettingsError
from schemas.operator import LimitException, OperatorMessage
from streams.kafka.admin import partition_count
from streams.kafka.order_writer import OrderWriter
from streams.process.policies import policy_in_force
from streams.settings import Settings


def run_order(settings: Settings, order: OperatorMessage) -> int:
    """Write an order and say what was ordered. Raises `SettingsError` or `BrokerError`."""
    writer = OrderWriter(settings)
    partition_count(settings, needed=("operator.v1", "policy.v1"), alike=("operator.v1",))
    if isinstance(order, LimitException):
        policy = policy_in_force(settings)
        if policy.source:
            check_exception(order, policy)
        else:
            print("policy.v1 is empty: whether the workers have such a budget is not known here", file=sys.stderr)
    writer.write(order)
    print(f"{meaning(order)} Ordered by {author(order)} ({order.message_id})")
    return 0


def check_exception(order: LimitException, policy: Policy) -> None:
    """An exception to a budget that does not exist, or of nobody's, would change nothing, and nobody would notice.

    Raises:
        SettingsError: with what there is instead.
    """
    budget = policy.rules.get(order.rule)
    if not isinstance(budget, Budget):
        names = ", ".join(name for name, rule in policy.rules.items() if isinstance(rule, Budget)) or "none"
        raise SettingsError(
            f"--rule: the policy in force ({policy.version}) has no budget {order.rule!r}; its budgets: {names}"
        )
    of_tenant = {"tenant_id": order.tenant_id}
    pattern = "/".join(re.escape(of_tenant[name]) if name in of_tenant else ".+" for name in budget.group_by)
    if re.fullmatch(pattern, order.scope, re.DOTALL) is None:
        shape = "/".join(of_tenant.get(name, f"<{name}>") for name in budget.group_by)
        raise SettingsError(f"--scope {order.scope!r}: the budget {order.rule} is about scopes such as {shape}")
