"""`exception`: raise a budget for a while."""

import argparse
import re
from collections.abc import Iterator

from models.detectors.limits.budget import Budget
from models.rules.policy import Policy
from schemas.errors import SettingsError
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import LimitException
from streams.tools.orders.verb import (
    Audit,
    Facts,
    Fields,
    Options,
    Status,
    Verb,
    add_end,
    limit_nanousd,
    needed_end_ms,
)

MOST_DAYS = 366


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
    if ("tenant_id" in budget.group_by) == (order.tenant_id == ALL_TENANTS):
        whose = "a tenant's own" if "tenant_id" in budget.group_by else f"that of all tenants: --tenant {ALL_TENANTS}"
        raise SettingsError(f"--tenant {order.tenant_id!r}: the budget {order.rule} is {whose}")
    of_tenant = {"tenant_id": order.tenant_id}
    pattern = "/".join(re.escape(of_tenant[name]) if name in of_tenant else ".+" for name in budget.group_by)
    is_named = order.scope != ALL_TENANTS or not budget.group_by
    if not is_named or re.fullmatch(pattern or ALL_TENANTS, order.scope, re.DOTALL) is None:
        shape = "/".join(of_tenant.get(name, f"<{name}>") for name in budget.group_by) or ALL_TENANTS
        raise SettingsError(f"--scope {order.scope!r}: the budget {order.rule} is about scopes such as {shape}")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", required=True, help="the budget's name in the policy")
    parser.add_argument("--scope", help="as in the policy's overrides, such as acme/docs; the tenant unless given")
    parser.add_argument("--limit-usd", required=True, metavar="300", help="what may be spent in a period meanwhile")
    add_end(parser.add_mutually_exclusive_group(required=True))


def _build(options: Options, common: Fields, now_ms: int) -> LimitException:
    return LimitException(
        **common,
        rule=options.rule,
        scope=options.scope or options.tenant,
        limit_nanousd=limit_nanousd(options.limit_usd),
        until_ms=needed_end_ms(options, now_ms, MOST_DAYS),
    )


def _look(order: LimitException, facts: Facts) -> Iterator[str]:
    check_exception(order, facts.policy())
    yield from ()


def _status(order: LimitException, now_ms: int) -> Status:
    return "in force" if now_ms < order.until_ms else "over"


def _subject(order: LimitException) -> tuple[str, ...]:
    return (order.tenant_id, "budget", order.rule, order.scope)


VERB = Verb(
    "exception",
    "raise a budget for a while",
    LimitException,
    _add_arguments,
    _build,
    _look,
    Audit(_status, _subject),
)
