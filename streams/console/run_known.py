"""What the book knows of one run: as `why` looks at it, from memory and not from the topics."""

from typing import NamedTuple

from models.detectors.limits.cap import Cap
from models.detectors.run_shape.context_growth import ContextGrowth
from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.duration import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.money import usd_to_nanousd
from schemas.operator import Kill, Resume
from schemas.run import RunRecord
from streams.console.state.book import Book, TenantBook
from streams.console.state.forged import Forged
from streams.kafka.order_reader import OrderReader
from streams.tools.inspection.run_facts import RunFacts, RunKey, alerts_about, command_on
from streams.tools.inspection.why import Why, why
from streams.tools.orders.audit import Audited, audit

CLOCKS_DIFFER_MS = 10 * MINUTE_MS
"""A run's own clock may be ahead of the brokers', by which its calls are looked up."""


class ContextRule(NamedTuple):
    """From where on a context is looked at: what is usual of the workflow may raise that, nothing lowers it."""

    rule: str
    min_tokens: int
    multiplier: float

    def floor(self, first_tokens: int) -> int:
        """Tokens of input, of a context that began with so many."""
        return max(self.min_tokens, round(self.multiplier * first_tokens))


class ContextLine(NamedTuple):
    """Tokens of input that a rule goes by."""

    tokens: int
    rule: str
    is_passed: bool
    """Whether the rule has told of the run at this line; else it looks from there on, at the earliest."""


class RunKnown(NamedTuple):
    """A run, what stands against it, and why."""

    tenant_id: str
    run_id: str
    now_ms: int
    record: RunRecord | None
    facts: RunFacts
    why: Why
    commands: list[Command]
    """Given to it, oldest first."""
    incidents: frozenset[str]
    """Those whose alerts are known."""
    policy_cap_nanousd: int | None = None
    """What the policy lets any run cost."""
    context_rule: ContextRule | None = None
    forged: tuple[Forged, ...] = ()
    """What looks like a command to it, and is none of the engine's."""
    is_caught_up: bool = False

    @property
    def orders(self) -> tuple[Audited, ...]:
        """What people have ordered about it."""
        return self.facts.orders

    @property
    def began_ms(self) -> int:
        """From when on its calls are to be looked for."""
        known = [one.ts_ms for one in self.facts.alerts] + [one.issued_ms for one in self.commands]
        if self.record is not None:
            return self.record.started_ms - CLOCKS_DIFFER_MS
        return min(known) - HOUR_MS if known else self.now_ms - DAY_MS

    @property
    def cost_cap_nanousd(self) -> int | None:
        """What the run alone may cost, as far as anybody has said."""
        near = None if self.record is None else self.record.nearest
        if near is not None and near.unit == "nanousd" and near.per == "run":
            return near.limit
        limits = [one.limit for one in self.facts.alerts if one.unit == "nanousd" and one.run_id == self.run_id]
        return next((int(limit) for limit in reversed(limits) if limit), self.policy_cap_nanousd)

    def context_line(self, first_tokens: int) -> ContextLine | None:
        """What the run's context is held against, of one that began with so many tokens."""
        told = [one for one in self.facts.alerts if one.detector == ContextGrowth.name and one.run_id == self.run_id]
        limits = [ContextLine(int(one.limit), one.rule, True) for one in told if one.limit and one.unit == "tokens"]
        if limits or self.context_rule is None:
            return limits[-1] if limits else None
        return ContextLine(self.context_rule.floor(first_tokens), self.context_rule.rule, False)

    def knows_incident(self, incident_id: str) -> bool:
        """Whether an incident can be shown."""
        return incident_id in self.incidents


def run_known(book: Book, reader: OrderReader, key: RunKey, now_ms: int) -> RunKnown:
    """What is known of a run; nothing need be. Hold the book's lock."""
    tenant = book.known(key.tenant_id)
    target = Target("run", key.run_id)
    forged = tuple(one for one in book.forged(key.tenant_id) if one.target == target)
    if tenant is None:
        facts = RunFacts(key)
        return RunKnown(*key, now_ms, None, facts, why(facts, now_ms), [], frozenset(), forged=forged)
    record = tenant.runs.get(key.run_id)
    alerts = _alerts(tenant, key.run_id)
    command = command_on(tenant.commands.standing.values(), key, _dimensions(record, alerts), now_ms)
    about = tuple(alerts_about(_all(tenant, alerts, command), key, command))
    facts = RunFacts(key, command, about, tuple(_orders(tenant, key.run_id, command, reader, now_ms)))
    commands = [one for one in tenant.commands.given.values() if one.target == target]
    if command is not None and command not in commands:
        commands.append(command)
    incidents = frozenset(one.incident_id for one in about)
    cap, context = _policy_cap(book.policy), _context_rule(book.policy)
    return RunKnown(*key, now_ms, record, facts, why(facts, now_ms), commands, incidents, cap, context, forged)


def _policy_cap(policy: Policy) -> int | None:
    """The lowest limit in money that holds for every single run."""
    caps = [rule.settings for rule in policy.rules.values() if isinstance(rule, Cap) and rule.settings.mode != "shadow"]
    limits = [usd_to_nanousd(one.limit_usd) for one in caps if one.limit_usd and one.per == "run" and not one.match]
    return min(limits, default=None)


def _context_rule(policy: Policy) -> ContextRule | None:
    """The rule that looks at contexts of all runs the soonest."""
    rules = [one for one in policy.rules.values() if isinstance(one, ContextGrowth)]
    found = [
        ContextRule(one.rule, one.settings.min_tokens, one.settings.multiplier)
        for one in rules
        if one.settings.mode != "shadow" and not one.settings.match
    ]
    return min(found, key=lambda one: one.min_tokens, default=None)


def _alerts(tenant: TenantBook, run_id: str) -> list[Alert]:
    return [alert for incident in tenant.incidents.about_run(run_id) for alert in incident.alerts]


def _all(tenant: TenantBook, alerts: list[Alert], command: Command | None) -> list[Alert]:
    """The run's alerts and those of what stopped it, oldest first."""
    cause = None if command is None else tenant.incidents.get(command.incident_id)
    more = [] if cause is None else [one for one in cause.alerts if one not in alerts]
    return sorted([*alerts, *more], key=lambda one: one.ts_ms)


def _dimensions(record: RunRecord | None, alerts: list[Alert]) -> dict[str, str]:
    """What commands to more than single runs are matched with."""
    found: dict[str, str] = {}
    for alert in alerts:
        found |= alert.attribution | ({"owner": alert.owner} if alert.owner else {})
    if record is None:
        return found
    names = (
        "workflow", "owner", "project", "environment", "agent", "user", "feature", "tier", "task_category",
        "feature_flag", "prompt_version", "session_id", "root_run_id",
    )  # fmt: skip
    found |= {each: value for each in names if (value := getattr(record, each))}
    return found | {f"tags.{each}": value for each, value in (record.tags or {}).items()}


def _orders(
    tenant: TenantBook, run_id: str, command: Command | None, reader: OrderReader, now_ms: int
) -> list[Audited]:
    """People's orders about the run, or about what stands against it."""
    if reader.believes_nobody:
        return []
    targets = {Target("run", run_id)} | ({command.target} if command else set())
    records = {(one.partition, one.offset): one for target in targets for one in tenant.orders_naming(target.id)}
    return [
        one
        for one in audit(records.values(), reader, now_ms)
        if isinstance(one.order, Kill | Resume) and one.order.target in targets
    ]
