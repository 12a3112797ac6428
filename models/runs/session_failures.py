"""Loops across the runs of a session: each run makes the same failing call once or twice and gives up."""

from typing import Final

import xxhash

from models.incidents.incidents import Incidents
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.failing import FailingCall, FailingCalls
from models.state.units.runs import Run
from schemas.duration import MINUTE_MS
from schemas.usage import ToolCall

SOON_MS: Final = 10 * MINUTE_MS
"""In a row means soon: a failure later than this after the one before begins anew."""
MOST_SESSIONS: Final = 10_000
"""Sessions of a tenant with failing calls that are watched; of more the one whose first failure is oldest is not."""


class SessionFailures:
    """The failing calls of a partition's sessions. What works costs a look, and only while something fails."""

    def __init__(self, state: PartitionState, incidents: Incidents) -> None:
        self._state = state
        self._incidents = incidents

    def failed(self, tenant: Tenant, run: Run, call: ToolCall, name: bytes, at_ms: int) -> FailingCall | None:
        """Take in a call that has failed in a run of a session. Returns what is known of it, if it has arguments.

        `name` is a short one of its tool and arguments.
        """
        session_id = run.session_id
        if session_id is None or call.args_hash is None:
            return None
        row = tenant.failing.get(session_id) or self._open(tenant, session_id)
        failures = row.failures(name, call.tool, at_ms - SOON_MS)
        if failures.run_id != run.unit_id and (previous := tenant.run(failures.run_id)) is not None:
            failures.spent(previous.cost_nanousd)
        result = call.result_shape_hash or call.result_hash or ""
        failures.add(run.unit_id, result and _short(result), run.cost_nanousd, at_ms)
        self._state.touch(row)
        return FailingCall(
            session_id,
            name.hex(),
            call.tool,
            failures.runs,
            failures.failures,
            failures.verified,
            failures.spent_nanousd,
        )

    def worked(self, tenant: Tenant, session_id: str, call: ToolCall, name: bytes) -> None:
        """Take in a call that has worked, in a session with failing ones: it ends its own row, and all if it writes."""
        row = tenant.failing[session_id]
        if call.writes:
            row.calls.clear()
        elif call.args_hash is None or row.calls.pop(name, None) is None:
            return
        self._state.touch(row)

    def restart(self, tenant: Tenant, session_id: str) -> None:
        """Somebody has let the session go on: its failures are no part of a new loop."""
        if (row := tenant.failing.get(session_id)) is not None:
            row.calls.clear()
            self._state.touch(row)

    def due(self, tenant: Tenant, session_id: str, now_ms: int) -> None:
        """Look whether a session's calls still fail; where they do not, forget them, and what was said of them."""
        row = tenant.failing.get(session_id)
        if row is None or row.due_ms != now_ms:
            return
        if row.last_ms + SOON_MS > now_ms:
            self._wait(tenant, row, row.last_ms + SOON_MS)
            return
        self._forget(tenant, row)

    def _open(self, tenant: Tenant, session_id: str) -> FailingCalls:
        if len(tenant.failing) >= MOST_SESSIONS:
            self._forget(tenant, tenant.failing[next(iter(tenant.failing))])
        row = tenant.failing[session_id] = FailingCalls(tenant.tenant_id, session_id, 0)
        self._wait(tenant, row, self._state.now_ms + SOON_MS)
        return row

    def _forget(self, tenant: Tenant, row: FailingCalls) -> None:
        del tenant.failing[row.session_id]
        if not tenant.remembers("session", row.session_id):
            self._incidents.resolve_unit(tenant, f"session/{row.session_id}", self._state.now_ms, {})
            self._incidents.forget_unit(tenant, f"session/{row.session_id}")
        self._state.forget(row)

    def _wait(self, tenant: Tenant, row: FailingCalls, due_ms: int) -> None:
        row.due_ms = due_ms
        tenant.wake_at(due_ms, row.kind, (row.session_id,))
        self._state.touch(row)


def _short(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())[:12]
