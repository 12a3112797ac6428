"""State from a changelog: rows back into what they were. Runs stay bytes until they are touched."""

from collections.abc import Callable

from models.calendar import Calendar
from models.commands.standing import Brake
from models.incidents.incident import Incident
from models.state.cohort import Cohort
from models.state.partition import PartitionState
from models.state.rows import read_fields, read_header, read_key, row_digest
from models.state.runs import RunTree, Session
from models.state.scopes import Meter, Scope, ScopeHistory
from models.state.seen_rows import SEEN, SeenRows
from models.state.tenant import Tenant
from models.state.totals import HourTotals
from schemas.errors import StateError

Parts = tuple[str, ...]


def restore_row(state: PartitionState, seen: SeenRows, key: bytes, value: bytes) -> int:
    """Take over one row; returns its digest. Raises `StateError` for a row that nothing here can read."""
    try:
        kind, *parts = read_key(key)
        if kind == SEEN:
            return seen.restore(key, (kind, *parts), value)
        tenant = state.tenants.get(parts[0])
        if tenant is None:
            tenant = state.tenants[parts[0]] = Tenant(parts[0])
        digest = row_digest(key, value)
        READERS[kind](state, tenant, tuple(parts), value, digest)
    except Exception as error:
        raise StateError(
            f"the changelog row {key[:200]!r} cannot be read ({type(error).__name__}: {error}). "
            "Rebuild the state from the input: python -m streams rebuild --from-input"
        ) from error
    return digest


def _run(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state, digest  # a run keeps its bytes, and its digest is taken when they are read
    due_ms, clock_ms = read_header(value)
    tenant.runs[parts[1]] = value
    tenant.clock_ms = max(tenant.clock_ms, clock_ms)
    tenant.timers.append((due_ms, "run", (parts[1],)))


def _group(kind: type[Session] | type[RunTree]) -> Callable[[PartitionState, Tenant, Parts, bytes, int], None]:
    def read(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
        del state
        due_ms, _ = read_header(value)
        group = kind.read(tenant.tenant_id, parts[1], due_ms, read_fields(value))
        group.row_hash = digest
        groups = tenant.sessions if kind is Session else tenant.trees
        groups[parts[1]] = group  # type: ignore[assignment]  # the dictionary follows the class
        tenant.timers.append((due_ms, kind.kind, (parts[1],)))

    return read


def _tenant(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del parts
    tenant.read(read_fields(value))
    tenant.row_hash = digest
    state.raised_until_ms.update(until_ms for *_, until_ms in tenant.raised)


def _scope(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    scope = _find_scope(state, tenant, parts)
    scope.read(read_fields(value))
    scope.row_hash = digest
    if scope.stamp != state.policy.stamp:
        scope.segment_ms = -1
    state.raised_until_ms.update(until_ms for _, until_ms in scope.raised.values())


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
        meter = state.policy.meters.get(key[0]) or _unknown_meter(key, state.policy.calendar)
        scope = tenant.scopes[key] = Scope(tenant.tenant_id, meter, key[1:])
    return scope


def _unknown_meter(key: Parts, calendar: Calendar) -> Meter:
    """A meter of an earlier policy: its scopes are kept, in case the policy comes back."""
    return Meter(key[0], tuple(f"dimension_{n}" for n in range(1, len(key))), (), ("hour",), False, (), calendar)


def _totals(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, _ = read_header(value)
    totals = HourTotals.read(parts, due_ms, read_fields(value))
    totals.row_hash = digest
    tenant.totals[totals.workflow, totals.start_ms] = totals
    tenant.timers.append((due_ms, "totals", parts[1:]))


def _cohort(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    cohort = Cohort.read(tenant.tenant_id, parts[1], read_fields(value))
    cohort.row_hash = digest
    tenant.cohorts[parts[1]] = cohort


def _incident(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, _ = read_header(value)
    incident = Incident.read(tenant.tenant_id, due_ms, read_fields(value))
    incident.row_hash = digest
    tenant.incidents[parts[1]] = incident
    if incident.unit_id is not None:
        tenant.unit_incidents.setdefault(incident.unit_id, set()).add(parts[1])
    tenant.timers.append((due_ms, "incident", (parts[1],)))


def _brake(state: PartitionState, tenant: Tenant, parts: Parts, value: bytes, digest: int) -> None:
    del state
    due_ms, _ = read_header(value)
    brake = Brake.read(parts, due_ms, read_fields(value))
    brake.row_hash = digest
    tenant.brakes[brake.target_type, brake.target_id] = brake
    tenant.braked.add(brake.target_id)
    tenant.commands[brake.command_id] = brake
    tenant.timers.append((due_ms, "brake", (brake.target_type, brake.target_id)))


READERS: dict[str, Callable[[PartitionState, Tenant, Parts, bytes, int], None]] = {
    "run": _run,
    "session": _group(Session),
    "tree": _group(RunTree),
    "tenant": _tenant,
    "scope": _scope,
    "history": _history,
    "totals": _totals,
    "cohort": _cohort,
    "incident": _incident,
    "brake": _brake,
}
