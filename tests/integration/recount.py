"""Levels and commands of the load's budgets and caps, counted again without the engine: plain sums over the log."""

from collections import Counter
from collections.abc import Iterable, Sequence

from schemas.alert import Alert
from schemas.codec import decode_alert, decode_command, decode_usage
from schemas.control import Command
from schemas.errors import Undecodable
from tests.support import oracle
from tests.support.kafka import Record, TopicSpace, commands_on, read_all
from tests.support.messages import USD
from tests.support.oracle import BudgetRule, Cap

HOURLY = BudgetRule("tenant-hourly", "hour", 25 * USD)
RUN_COST = Cap("run-cost", "cost_nanousd", 20 * USD)
BUDGETS = (
    HOURLY,
    BudgetRule("workflow-daily", "day", 60 * USD, group_by=("tenant_id", "workflow")),
    BudgetRule("tenant-monthly", "month", 1500 * USD),
)
CAPS = (RUN_COST, Cap("run-size", "calls", 60), Cap("run-size", "tool_calls", 60), Cap("run-size", "retries", 6))
"""What `tests.support.load.POLICY` says of them."""

Counted = tuple[object, ...]


def check_recount(space: TopicSpace, told: str) -> None:
    """What stands on alerts.v1 and control.v1 is what a recount of usage.v1 asks for, each once."""
    usage, alerts = (read_all(space.bootstrap, space.name(topic), timeout_s=90) for topic in ("usage.v1", "alerts.v1"))
    commands = commands_on(space.bootstrap, space.name("control.v1"))
    compare(
        [one for number in range(space.partitions) for one in counted_records(usage, number)],
        [decode_alert(record.value) for record in alerts],
        [decode_command(record.value) for record in commands],
        told,
    )


def counted_records(records: Iterable[Record], partition: int) -> list[oracle.Record]:
    """A partition's messages with their append times, without those that must be refused."""
    found: list[oracle.Record] = []
    for record in records:
        if record.partition != partition:
            continue
        try:
            message = decode_usage(record.value)
        except Undecodable:
            continue
        if record.key == message.tenant_id.encode() and record.timestamp_ms is not None:
            found.append((message, record.timestamp_ms))
    return found


def compare(records: Sequence[oracle.Record], alerts: Sequence[Alert], commands: Sequence[Command], told: str) -> None:
    """Raise `AssertionError` with what is missing and what is too much; `told` stands before it."""
    _same(_budget_alerts(alerts), Counter(_budget_levels(records)), f"{told}: levels of budgets")
    shared = _stopped_with_their_workflow(alerts, commands)
    levels = Counter(one for one in _cap_levels(records) if (one[0], *one[2:4]) not in shared or one[4] != 1.0)
    _same(_cap_alerts(alerts), levels, f"{told}: levels of caps")
    _check_kills(records, commands, told)
    _check_pauses(records, commands, told)


def _budget_levels(records: Sequence[oracle.Record]) -> Iterable[Counted]:
    for rule in BUDGETS:
        yield from (tuple(one) for one in oracle.budget_crossings(rule, records))


def _cap_levels(records: Sequence[oracle.Record]) -> Iterable[Counted]:
    for cap in CAPS:
        yield from (tuple(one) for one in oracle.cap_crossings(cap, records))


def _budget_alerts(alerts: Iterable[Alert]) -> Counter[Counted]:
    names = {rule.name for rule in BUDGETS}
    return Counter(
        (one.rule, tuple(one.scope.values()), one.window_start_ms, one.level, one.value, one.cause_event_id)
        for one in alerts
        if one.rule in names and one.state in ("open", "escalated")
    )


def _cap_alerts(alerts: Iterable[Alert]) -> Counter[Counted]:
    known = {(cap.rule, cap.counter) for cap in CAPS}
    return Counter(
        (one.rule, one.evidence["counter"], one.tenant_id, one.run_id, one.level, one.value, one.cause_event_id)
        for one in alerts
        if one.state in ("open", "escalated") and one.run_id and (one.rule, one.evidence.get("counter")) in known
    )


def _stopped_with_their_workflow(alerts: Iterable[Alert], commands: Iterable[Command]) -> set[tuple[object, ...]]:
    """Rule, tenant and run of those whose kill belongs to an incident of their workflow: the fourth and later ones."""
    workflows = {one.incident_id for one in alerts if "runs_stopped" in one.evidence}
    return {(one.rule, one.tenant_id, one.target.id) for one in commands if one.incident_id in workflows}


def _check_kills(records: Sequence[oracle.Record], commands: Sequence[Command], told: str) -> None:
    """A run is killed by its cap once, by the event that reached it; one that another rule has killed needs no more."""
    due = {
        (one.tenant_id, one.run_id): one.event_id
        for one in reversed(oracle.cap_crossings(RUN_COST, records))
        if one.level >= 1
    }
    kills = [one for one in commands if one.action == "kill" and one.target.type == "run"]
    by_cap = Counter((one.tenant_id, one.target.id) for one in kills if one.rule == RUN_COST.rule)
    assert by_cap.keys() <= due.keys(), f"{told}: killed below the cap: {sorted(by_cap.keys() - due.keys())[:3]}"
    assert set(by_cap.values()) <= {1}, f"{told}: killed twice: {by_cap.most_common(3)}"
    causes = {(one.tenant_id, one.target.id): one.cause_event_id for one in kills if one.rule == RUN_COST.rule}
    assert causes == {run: due[run] for run in causes}, f"{told}: killed by another event than the one that reached it"
    spared = due.keys() - {(one.tenant_id, one.target.id) for one in kills}
    assert not spared, f"{told}: over the cap and never killed: {sorted(spared)[:3]}"


def _check_pauses(records: Sequence[oracle.Record], commands: Sequence[Command], told: str) -> None:
    """Every hour whose budget is used up pauses its scope, and no other hour does."""
    due = Counter(one.event_id for one in oracle.budget_crossings(HOURLY, records) if one.level >= 1)
    paused = Counter(one.cause_event_id for one in commands if one.rule == HOURLY.name and one.target.type == "scope")
    assert set(paused) == set(due), f"{told}: scopes paused by {sorted(map(str, paused.keys() ^ due.keys()))[:3]}"


def _same(found: Counter[Counted], expected: Counter[Counted], what: str) -> None:
    missing, extra = expected - found, found - expected
    assert not missing, f"{what}: {missing.total()} missing, such as {list(missing)[:2]}"
    assert not extra, f"{what}: {extra.total()} too many, such as {list(extra)[:2]}"
