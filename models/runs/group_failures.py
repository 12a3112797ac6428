"""Calls that fail again and again where no single history shows it.

Across the runs of a session, or of a run tree: each makes the same failing call once or twice and gives up. Runs of a
session come one after another. Children of a run may all begin at once, and all look for a file that is not there
before they get on with their work: of them it is only sure that they go in circles where each had given up when the
next one failed. A child that belongs to a session counts there.

Across the agents of one run, of which nobody knows whether they have given up. And across what one agent writes: it
changes something, tries the same again, and it fails as before.
"""

from collections.abc import Iterator
from typing import Final

import xxhash

from models.incidents.incidents import Incidents
from models.sequences.tool_calls import ToolCalls
from models.state.partition import PartitionState
from models.state.tenant import Tenant
from models.state.units.call_history import CallHistory
from models.state.units.failing import FailingCall, FailingCalls, Failures
from models.state.units.runs import Run
from schemas.control import Target
from schemas.duration import MINUTE_MS
from schemas.usage import ToolCall

SOON_MS: Final = 10 * MINUTE_MS
"""In a row means soon: a failure later than this after the one before begins anew."""
MOST_GROUPS: Final = 10_000
"""Sessions, run trees and runs of a tenant with failing calls that are watched; of more the one whose first failure is
oldest is not."""

GroupKey = tuple[str, ...]


class GroupFailures:
    """The failing calls of a partition's sessions and trees. What works costs a look, while something fails there."""

    def __init__(self, state: PartitionState, incidents: Incidents) -> None:
        self._state = state
        self._incidents = incidents

    def failed(
        self, tenant: Tenant, run: Run, call: ToolCall, history: CallHistory, at_ms: int
    ) -> Iterator[FailingCall]:
        """Take in a call that has failed. Gives what is known of it, if it has arguments: in the run's session or tree,
        with the run's agents if it has several, and in rounds if its agent has lately made it with the same result.
        """
        if call.args_hash is None:
            return
        tools = history.tools
        if (key := _group_of(run)) is not None:
            yield self._count(tenant, key, run, call, tools, run.unit_id, at_ms)
        if run.agents:
            yield self._count(tenant, _agents_of(run), run, call, tools, call.agent or run.unit_id, at_ms)
        if tools.loop_tools is not None:
            rounds = str(tools.written_at)  # what fails again with nothing written between is one round
            yield self._count(tenant, _rounds_of(run, call), run, call, tools, rounds, at_ms)

    def worked(self, tenant: Tenant, run: Run, call: ToolCall, name: bytes, *, writes: bool, made_before: bool) -> None:
        """Take in a call that has worked: where it failed it ends its own row, and if it `writes`, those of others that
        wait for what may be different now.
        """
        if (key := _group_of(run)) is not None:
            self._worked(tenant, key, call, name, writes=writes)
        if run.agents:
            self._worked(tenant, _agents_of(run), call, name, writes=writes)
        if made_before:
            self._worked(tenant, _rounds_of(run, call), call, name, writes=False)

    def _worked(self, tenant: Tenant, key: GroupKey, call: ToolCall, name: bytes, *, writes: bool) -> None:
        row = tenant.failing.get(key)
        if row is None:
            return
        if writes:
            row.calls.clear()
        elif call.args_hash is None or row.calls.pop(name, None) is None:
            return
        self._state.touch(row)

    def _count(
        self, tenant: Tenant, key: GroupKey, run: Run, call: ToolCall, tools: ToolCalls, member: str, at_ms: int
    ) -> FailingCall:
        """Count one more failure of the newest of `tools`, made by `member`."""
        name = tools.newest
        row = tenant.failing.get(key) or self._open(tenant, key)
        failures = row.failures(name, call.tool, at_ms - SOON_MS)
        result = call.result_shape_hash or call.result_hash or ""
        result = result and _short(result)
        in_turn = True
        if row.members == "rounds":
            if not failures.failed_with(result):
                failures = row.calls[name] = Failures(call.tool)  # it fails otherwise: that is progress
                failures.spent_nanousd = tools.spent_in_row
        elif row.members == "agents":
            in_turn = False
        elif failures.member != member and (previous := tenant.run(failures.member)) is not None:
            failures.spent(previous.cost_nanousd)
            in_turn = row.group.type == "session" or _has_given_up(previous)
        in_one_run = row.group.type == "run"
        failures.add(member, result, run.cost_nanousd, at_ms, in_turn=in_turn, in_one_run=in_one_run)
        self._state.touch(row)
        return FailingCall(
            row.group,
            row.members,
            name.hex(),
            call.tool,
            failures.count + (row.members == "rounds"),  # and the one that the first of these is like
            failures.failures,
            failures.verified,
            failures.spent_nanousd,
        )

    def restart(self, tenant: Tenant, group: Target) -> None:
        """Somebody has let a session, tree or run go on: its failures are no part of a new loop."""
        for row in [row for row in tenant.failing.values() if row.group == group]:
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
        if not tenant.remembers(row.kind_of_group, group.id):
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


def _agents_of(run: Run) -> GroupKey:
    """The key of a run's agents."""
    return (run.unit_id, "run")


def _rounds_of(run: Run, call: ToolCall) -> GroupKey:
    """The key of the rounds of the agent that makes a call."""
    return (run.unit_id, "run", call.agent or "")


def _has_given_up(run: Run) -> bool:
    """Whether a run has ended, and nothing that it tried has worked since its last failure."""
    return run.state != "live" and any(history.tools.failed for history in run.histories())


def _short(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode())[:12]
