"""Loops across the runs of a session, or of a run tree: each makes the same failing call once or twice and gives up.

Runs of a session come one after another. Children of a run may all begin at once, and all look for a file that is not
there before they get on with their work: of them it is only sure that they go in circles where each had given up when
the next one failed. A child that belongs to a session counts there.
"""

from typing import Final

import xxhash

from models.incidents.incidents import Incidents
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.failing import FailingCall, FailingCalls
from models.state.units.runs import Run
from schemas.control import Target
from schemas.duration import MINUTE_MS
from schemas.usage import ToolCall

SOON_MS: Final = 10 * MINUTE_MS
"""In a row means soon: a failure later than this after the one before begins anew."""
MOST_GROUPS: Final = 10_000
"""Sessions and run trees of a tenant with failing calls that are watched; of more the one whose first failure is oldest
is not."""

GroupKey = tuple[str, ...]


class GroupFailures:
    """The failing calls of a partition's sessions and trees. What works costs a look, while something fails there."""

    def __init__(self, state: PartitionState, incidents: Incidents) -> None:
        self._state = state
        self._incidents = incidents

    def failed(self, tenant: Tenant, run: Run, call: ToolCall, name: bytes, at_ms: int) -> FailingCall | None:
        """Take in a call that has failed. Returns what is known of it, if it has arguments and the run is one of a
        session or a child in a run tree.

        `name` is a short one of its tool and arguments.
        """
        key = _group_of(run)
        if key is None or call.args_hash is None:
            return None
        row = tenant.failing.get(key) or self._open(tenant, key)
        failures = row.failures(name, call.tool, at_ms - SOON_MS)
        in_turn = True
        if failures.run_id != run.unit_id and (previous := tenant.run(failures.run_id)) is not None:
            failures.spent(previous.cost_nanousd)
            in_turn = row.group.type == "session" or _has_given_up(previous)
        result = call.result_shape_hash or call.result_hash or ""
        failures.add(run.unit_id, result and _short(result), run.cost_nanousd, at_ms, in_turn=in_turn)
        self._state.touch(row)
        return FailingCall(
            row.group,
            name.hex(),
            call.tool,
            failures.runs,
            failures.failures,
            failures.verified,
            failures.spent_nanousd,
        )

    def worked(self, tenant: Tenant, run: Run, call: ToolCall, name: bytes, *, writes: bool) -> None:
        """Take in a call that has worked: in a session or tree with failing ones it ends its own row, and all if it
        `writes`.
        """
        key = _group_of(run)
        row = None if key is None else tenant.failing.get(key)
        if row is None:
            return
        if writes:
            row.calls.clear()
        elif call.args_hash is None or row.calls.pop(name, None) is None:
            return
        self._state.touch(row)

    def restart(self, tenant: Tenant, group: Target) -> None:
        """Somebody has let a session or tree go on: its failures are no part of a new loop."""
        row = tenant.failing.get(_key_of(group))
        if row is not None and row.group == group:
            row.calls.clear()
            self._state.touch(row)

    def due(self, tenant: Tenant, key: GroupKey, now_ms: int) -> None:
        """Look whether the calls still fail; where they do not, forget them, and what was said of them."""
        row = tenant.failing.get(key)
        if row is None or row.due_ms != now_ms:
            return
        if row.last_ms + SOON_MS > now_ms:
            self._wait(tenant, row, row.last_ms + SOON_MS)
            return
        self._forget(tenant, row)

    def _open(self, tenant: Tenant, key: GroupKey) -> FailingCalls:
        if len(tenant.failing) >= MOST_GROUPS:
            self._forget(tenant, tenant.failing[next(iter(tenant.failing))])
        row = tenant.failing[key] = FailingCalls(tenant.tenant_id, key, 0)
        self._wait(tenant, row, self._state.now_ms + SOON_MS)
        return row

    def _forget(self, tenant: Tenant, row: FailingCalls) -> None:
        del tenant.failing[row.group_key]
        group = row.group
        if not tenant.remembers("session" if group.type == "session" else "run_tree", group.id):
            self._incidents.resolve_unit(tenant, f"{group.type}/{group.id}", self._state.now_ms, {})
            self._incidents.forget_unit(tenant, f"{group.type}/{group.id}")
        self._state.forget(row)

    def _wait(self, tenant: Tenant, row: FailingCalls, due_ms: int) -> None:
        row.due_ms = due_ms
        tenant.wake_at(due_ms, row.kind, row.group_key)
        self._state.touch(row)


def _group_of(run: Run) -> GroupKey | None:
    """The key of the session that a run belongs to, else of the tree that it is a child in."""
    if run.session_id is not None:
        return (run.session_id,)
    return None if run.root_run_id == run.unit_id else (run.root_run_id, "run_tree")


def _key_of(group: Target) -> GroupKey:
    return (group.id,) if group.type == "session" else (group.id, group.type)


def _has_given_up(run: Run) -> bool:
    """Whether a run has ended, and nothing that it tried has worked since its last failure."""
    return run.state != "live" and any(history.tools.failed for history in run.histories())


def _short(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())[:12]
