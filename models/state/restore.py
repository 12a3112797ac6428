"""State from a changelog: rows back into what they were. Runs stay bytes until they are touched."""

from collections.abc import Callable, Mapping
from typing import Final

from models.calendar import Calendar
from models.commands.held import HeldCommand
from models.commands.standing import StandingCommand
from models.incidents.incident import Incident
from models.rules.policy import Policy
from models.state.partition import PartitionState
from models.state.policy_row import POLICY_KEY, EarlierPolicy, FollowedPolicy, number_of, policy_of
from models.state.rows import ASLEEP, LIVE, read_fields, read_header, read_key, row_digest
from models.state.seen_rows import SEEN, SeenRows
from models.state.spend.breakdown import HourShares, KnownNames
from models.state.spend.cohort import Cohort
from models.state.spend.escalations import Escalations
from models.state.spend.model_cohort import ModelCohort
from models.state.spend.results import ResultBook
from models.state.spend.scopes import Meter, Scope, ScopeHistory
from models.state.spend.totals import HourTotals
from models.state.spend.unsent import UNSENT_KEY
from models.state.tenant import Tenant
from models.state.units.failing import FailingCalls
from models.state.units.groups import RunTree, Session
from models.state.units.unit import last_ms_of
from schemas.errors import StateError

Parts = tuple[str, ...]
ROWS_A_BREATH: Final = 4096
WHO_FOLLOWS: Final = (EarlierPolicy.kind, FollowedPolicy.kind)
WHO_FOLLOWS_KEYS: Final = tuple(b'["%s",' % kind.encode() for kind in WHO_FOLLOWS)
"""What the keys of such rows begin with."""


def restore(state: PartitionState, seen: SeenRows, rows: Mapping[bytes, bytes]) -> Policy | None:
    """Take over all rows of a changelog. Returns the policy that they follow, None where it cannot be read any more.

    The state has to be under that policy when its rows are read: see `written_under`.
    """
    _read_who_follows(state, rows)
    for number, (key, value) in enumerate(rows.items()):
        if not number % ROWS_A_BREATH:
            state.breathe()
        digest = row_digest(key, value)
        if key == POLICY_KEY:
            state.policy_row.row_hash = digest
        elif key == UNSENT_KEY:
            state.unsent.read(read_fields(value))
            state.unsent.row_hash = digest
        else:
            restore_row(state, seen, key, value, digest)
        state.row_sum = (state.row_sum + digest) % 2**64
    for tenant_id, tenant in state.all_tenants().items():
        by_number = {known.number: names for names, known in tenant.names.items()}
        for totals in tenant.totals.values():
            totals.restore_portions(by_number)
        tenant.look_after_silence(0)
        tenant.timers.sort()
        if tenant_id in state.waiting:
            state.earlier[state.number_of(tenant_id) - state.earlier[0].number].tenants += 1
    return written_under(rows)


def _read_who_follows(state: PartitionState, rows: Mapping[bytes, bytes]) -> None:
    """Which tenant follows which policy, before anything of theirs is read: it depends on that."""
    state.policy_row.number = number_of(rows.get(POLICY_KEY, b""))
    if not state.policy_row.number:
        return
    for key in [key for key in rows if key.startswith(WHO_FOLLOWS_KEYS)]:
        kind, name = read_key(key)
        if kind == EarlierPolicy.kind:
            earlier = EarlierPolicy.read(name, rows[key])
            earlier.row_hash = row_digest(key, rows[key])
            state.earlier.append(earlier)
        else:
            followed = state.followed[name] = FollowedPolicy(name, int(read_fields(rows[key])[0]))
            followed.row_hash = row_digest(key, rows[key])
    state.earlier.sort(key=lambda one: one.number)


def written_under(rows: Mapping[bytes, bytes]) -> Policy | None:
    """The policy that was in force when the rows were written, None where there is none that can be read."""
    value = rows.get(POLICY_KEY)
    return None if value is None else policy_of(value)


def restore_row(state: PartitionState, seen: SeenRows, key: bytes, value: bytes, digest: int) -> None:
    """Take over one row. Raises `StateError` for a row that nothing here can read."""
    try:
        kind, *parts = read_key(key)
        if kind == SEEN:
            seen.restore(key, (kind, *parts), value)
            return
        if kind not in WHO_FOLLOWS:
            READERS[kind](state, _tenant_of(state, parts[0]), tuple(parts), value, digest)
    except Exception as error:
        raise StateError(
            f"the changelog row {key[:200]!r} cannot be read ({type(error).__name__}: {error}). "
            "Rebuild the state from the input: python -m streams rebuild --from-input"
        ) from error


def _tenant_of(state: PartitionState, tenant_id: str) -> Tenant:
    """The tenant of a row; its first row makes it, among those that follow the same policy."""
    tenant = state.tenants.get(tenant_id) or state.waiting.get(tenant_id)
    if tenant is None:
        tenant = Tenant(tenant_id)
        waits = state.number_of(tenant_id) < state.policy_row.number
        (state.waiting if waits else state.tenants)[tenant_id] = tenant
    return tenant


def _policy_of(state: PartitionState, tenant_id: str) -> Policy:
    """The policy that a tenant follows; where that cannot be read any more, the one in force."""
    if tenant_id not in state.waiting:
        return state.policy
    return state.earlier[state.number_of(tenant_id) - state.earlier[0].number].policy or state.policy


def _run(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state, digest  # a run keeps its bytes, and its digest is taken when they are read
    due_ms, clock_ms, activity = read_header(value)
    if activity == ASLEEP:
        _sleep(tenant, "run", parts[1], value)
        return
    tenant.runs[parts[1]] = value
    tenant.live_runs += activity == LIVE
    tenant.clock_ms = max(tenant.clock_ms, clock_ms)
    tenant.timers.append((due_ms, "run", (parts[1],)))


def _group(kind: type[Session] | type[RunTree]) -> Callable[[PartitionState, Tenant, Parts, bytes, int], None]:
    def read(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
        del state
        due_ms, _, activity = read_header(value)
        if activity == ASLEEP:
            _sleep(tenant, kind.kind, parts[1], value)
            return
        group = kind.read(tenant.tenant_id, parts[1], due_ms, read_fields(value))
        group.row_hash = digest
        groups = tenant.sessions if kind is Session else tenant.trees
        groups[parts[1]] = group  # type: ignore[assignment]  # the dictionary follows the class
        tenant.timers.append((due_ms, kind.kind, (parts[1],)))

    return read


def _sleep(tenant: Tenant, kind: str, unit_id: str, value: bytes) -> None:
    tenant.asleep.put(kind, unit_id, last_ms_of(read_fields(value)), value)


def _tenant(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del parts
    tenant.read(read_fields(value))
    tenant.row_hash = digest
    state.raised_until_ms.update(until_ms for *_, until_ms in tenant.raised)
    dues = ((tenant.held_due_ms, "held"), (tenant.sleep_due_ms, "asleep"), (tenant.orders_due_ms, "orders"))
    for due_ms, kind in dues:
        if due_ms:
            tenant.timers.append((due_ms, kind, ()))


def _scope(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    scope = _find_scope(state, tenant, parts)
    scope.read(read_fields(value))
    scope.row_hash = digest
    scope.due_ms, *_ = read_header(value)
    if scope.due_ms:
        tenant.timers.append((scope.due_ms, scope.kind, scope.key))


def _history(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    scope = _find_scope(state, tenant, parts)
    if scope.history is None:
        scope.history = ScopeHistory(tenant.tenant_id, scope.key)
    scope.history.read(read_fields(value))
    scope.history.row_hash = digest


def _find_scope(state: PartitionState, tenant: Tenant, parts: Parts) -> Scope:
    key = parts[1:]
    scope = tenant.scopes.get(key)
    if scope is None:
        policy = _policy_of(state, tenant.tenant_id)
        meter = policy.meters.get(key[0]) or _unknown_meter(key, policy.calendar)
        scope = tenant.scopes[key] = Scope(tenant.tenant_id, meter, key[1:])
    return scope


def _unknown_meter(key: Parts, calendar: Calendar) -> Meter:
    """A meter of an earlier policy: its scopes are kept, in case the policy comes back."""
    dimensions = tuple(f"dimension_{n}" for n in range(1, len(key)))
    return Meter(key[0], dimensions, (), ("hour",), False, False, (), calendar)


def _totals(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, *_ = read_header(value)
    totals = HourTotals.read(parts, due_ms, read_fields(value))
    totals.row_hash = digest
    tenant.totals[totals.key] = totals
    tenant.timers.append((due_ms, "totals", totals.key))


def _shares(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    shares = HourShares(tenant.tenant_id, parts[1:], read_fields(value)[0])
    shares.row_hash = digest
    tenant.shares[shares.key] = shares


def _names(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    known = KnownNames(tenant.tenant_id, int(parts[1]), read_fields(value))
    known.row_hash = digest
    tenant.names[known.names] = known


def _cohort(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    cohort = Cohort.read(tenant.tenant_id, parts[1], read_fields(value))
    cohort.row_hash = digest
    if (known := tenant.cohorts.get(parts[1])) is not None:
        cohort.models = known.models  # their rows were read before
    tenant.cohorts[parts[1]] = cohort


def _model_cohort(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    _, workflow, model = parts
    past = ModelCohort.read(tenant.tenant_id, workflow, model, read_fields(value))
    past.row_hash = digest
    if workflow not in tenant.cohorts:
        tenant.cohorts[workflow] = Cohort(tenant.tenant_id, workflow)
    tenant.cohorts[workflow].models[model] = past


def _results(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, *_ = read_header(value)
    book = ResultBook.read(parts, due_ms, read_fields(value))
    book.row_hash = digest
    tenant.results[book.key] = book
    tenant.timers.append((due_ms, "results", book.key))


def _escalations(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    day = Escalations.read(parts, read_fields(value))
    day.row_hash = digest
    tenant.escalations[day.workflow] = day
    tenant.timers.append((day.end_ms, "escalations", (day.workflow,)))


def _incident(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, *_ = read_header(value)
    incident = Incident.read(parts, due_ms, read_fields(value))
    incident.row_hash = digest
    tenant.incidents[parts[1]] = incident
    if incident.unit_key is not None:
        tenant.unit_incidents.setdefault(incident.unit_key, set()).add(parts[1])
    if due_ms:
        tenant.timers.append((due_ms, "update", (parts[1],)))


def _command(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, *_ = read_header(value)
    command = StandingCommand.read(parts, due_ms, read_fields(value))
    command.row_hash = digest
    tenant.commands[command.target_type, command.target_id] = command
    tenant.commanded.add(command.target_id)
    tenant.command_ids[command.command_id] = command
    tenant.timers.append((due_ms, "command", (command.target_type, command.target_id)))


def _held(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    held = HeldCommand.read(parts, read_fields(value))
    held.row_hash = digest
    tenant.held[held.target_type, held.target_id] = held


def _failing(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, *_ = read_header(value)
    failing = FailingCalls.read(parts, due_ms, read_fields(value))
    failing.row_hash = digest
    tenant.failing[failing.group_key] = failing
    tenant.timers.append((due_ms, "failing", failing.group_key))


READERS: dict[str, Callable[[PartitionState, Tenant, Parts, bytes, int], None]] = {
    "run": _run,
    "session": _group(Session),
    "tree": _group(RunTree),
    "tenant": _tenant,
    "scope": _scope,
    "history": _history,
    "totals": _totals,
    "shares": _shares,
    "names": _names,
    "cohort": _cohort,
    "model_cohort": _model_cohort,
    "results": _results,
    "escalations": _escalations,
    "incident": _incident,
    "command": _command,
    "held": _held,
    "failing": _failing,
}
