"""The sessions and run trees that runs belong to: joined, moved, woken and put to sleep."""

from typing import TypeVar

from models.incidents.incidents import Incidents
from models.state.partition import PartitionState
from models.state.rows import read_fields, row_digest, row_key, row_value
from models.state.tenant import Tenant
from models.state.units.groups import Group, RunTree, Session
from models.state.units.runs import Run
from models.state.units.unit import UnitKind
from schemas.control import Target
from schemas.duration import MINUTE_MS
from schemas.usage import UsageMessage

G = TypeVar("G", bound=Group)


class Groups:
    """The sessions and run trees of a partition, as far as some rule watches them."""

    def __init__(self, state: PartitionState, incidents: Incidents) -> None:
        self._state = state
        self._incidents = incidents

    def of(self, tenant: Tenant, run: Run) -> list[Group]:
        """The session and the tree that a run counts in, woken if they sleep."""
        tracks = self._state.policy.tracks
        found: list[Group] = []
        if "session" in tracks and run.session_id is not None:
            session = tenant.sessions.get(run.session_id)
            session = session or self._find(tenant, tenant.sessions, Session, run.session_id)
            if session is not None:
                found.append(session)
        if "run_tree" in tracks and run.unit_id:
            tree = tenant.trees.get(run.root_run_id)
            tree = tree or self._find(tenant, tenant.trees, RunTree, run.root_run_id)
            if tree is not None:
                found.append(tree)
        return found

    def named(self, tenant: Tenant, target: Target) -> Group | None:
        """The session or run tree that a target names, woken if it sleeps."""
        if target.type == "session":
            return self._find(tenant, tenant.sessions, Session, target.id)
        return self._find(tenant, tenant.trees, RunTree, target.id) if target.type == "run_tree" else None

    def join_session(self, tenant: Tenant, run: Run, session_id: str, at_ms: int) -> None:
        """A run says which session it belongs to."""
        run.session_id = session_id
        self._state.touch(run)
        if "session" in self._state.policy.tracks:
            self._join(self._get(tenant, tenant.sessions, Session, session_id, at_ms), run)

    def open_tree(self, tenant: Tenant, run: Run, at_ms: int) -> None:
        """A run is the root of its own tree until it says otherwise."""
        if "run_tree" in self._state.policy.tracks:
            self._join(self._get(tenant, tenant.trees, RunTree, run.root_run_id, at_ms), run)

    def join_tree(self, tenant: Tenant, run: Run, message: UsageMessage, at_ms: int) -> bool:
        """Learn a run's root: named by itself, else its parent's. Returns whether that moved it.

        Children may come before their parent does.
        """
        parent_id = message.parent_run_id or run.parent_run_id
        parent = tenant.run(parent_id) if parent_id is not None else None
        root_id = message.root_run_id or (parent.root_run_id if parent is not None else parent_id) or run.root_run_id
        run.parent_run_id = parent_id
        run.declared_root = message.root_run_id is not None
        self._state.touch(run)
        if root_id == run.root_run_id:
            return False
        was_root = run.root_run_id == run.unit_id
        former_id, run.root_run_id = run.root_run_id, root_id
        if "run_tree" not in self._state.policy.tracks:
            return False
        former = self._find(tenant, tenant.trees, RunTree, former_id)
        tree = self._get(tenant, tenant.trees, RunTree, root_id, at_ms)
        if former is None:
            self._join(tree, run)
        elif was_root:
            self._absorb(tenant, tree, former, at_ms)
        else:
            former.leave(run)
            self._join(tree, run)
            self._state.touch(former)
        run.forget_route()  # the tree's trips are set with the run's, at the message that follows
        return True

    def sleep(self, tenant: Tenant, group: Group, now_ms: int) -> None:
        """A group has been silent for long: remember it small."""
        cohort = tenant.cohorts.get(group.workflow)
        if isinstance(group, Session) and not group.counted and group.cost_nanousd and cohort is not None:
            group.counted = True
            command = tenant.commands.get(("session", group.unit_id))
            if command is None or not command.stands(now_ms):
                cohort.sessions.add(group.cost_nanousd)
                self._state.touch(cohort)
        group.asleep = True
        tenant.asleep.put(group.kind, group.unit_id, group.last_ms, row_value(group))
        groups = tenant.sessions if isinstance(group, Session) else tenant.trees
        groups.pop(group.unit_id, None)
        self._state.touch(group)

    def kinds(self, tenant: Tenant) -> frozenset[UnitKind]:
        """Kinds of group of which there are any, awake or asleep."""
        found: set[UnitKind] = set()
        if tenant.sessions or next(tenant.asleep.rows(Session.kind), None) is not None:
            found.add("session")
        if tenant.trees or next(tenant.asleep.rows(RunTree.kind), None) is not None:
            found.add("run_tree")
        return frozenset(found)

    def track(self, tenant: Tenant, kind: UnitKind, runs: list[Run]) -> None:
        """A rule watches this kind of group from here on: count every known run in its group, from nothing."""
        for run in runs:
            group_id = run.session_id if kind == "session" else run.root_run_id
            if group_id is None:
                continue
            if kind == "session":
                self._join(self._get(tenant, tenant.sessions, Session, group_id, run.started_ms), run)
            else:
                self._join(self._get(tenant, tenant.trees, RunTree, group_id, run.started_ms), run)

    def untrack(self, tenant: Tenant, kind: UnitKind) -> None:
        """No rule watches this kind of group any more. What it has counted would be stale when one does again."""
        awake = tenant.sessions if kind == "session" else tenant.trees
        row_class = Session if kind == "session" else RunTree
        for group in sorted(awake.values(), key=lambda one: one.unit_id):
            self._incidents.resolve_unit(tenant, f"{kind}/{group.unit_id}", self._state.now_ms, {})
            self._incidents.forget_unit(tenant, f"{kind}/{group.unit_id}")
            self._state.forget(group)
        awake.clear()
        for group_id, _ in list(tenant.asleep.rows(row_class.kind)):
            self.forget(tenant, row_class, group_id, tenant.asleep.pop(row_class.kind, group_id) or b"")

    def forget(self, tenant: Tenant, kind: type[Group], group_id: str, row: bytes) -> None:
        """A sleeping group is forgotten: its row goes, and what was published of it."""
        group = kind(tenant.tenant_id, group_id, 0)
        group.row_hash = row_digest(row_key(group), row)
        self._incidents.forget_unit(tenant, group.unit_key)
        self._state.forget(group)

    def _find(self, tenant: Tenant, awake: dict[str, G], kind: type[G], group_id: str) -> G | None:
        group = awake.get(group_id)
        if group is not None or (row := tenant.asleep.pop(kind.kind, group_id)) is None:
            return group
        woken = awake[group_id] = kind.read(tenant.tenant_id, group_id, 0, read_fields(row))
        woken.row_hash = row_digest(row_key(woken), row)
        woken.wake_at_next_call()  # its runs may have been awake all the time, and set no trips again
        self._arm(tenant, woken, tenant.clock_ms)
        return woken

    def _get(self, tenant: Tenant, awake: dict[str, G], kind: type[G], group_id: str, at_ms: int) -> G:
        group = self._find(tenant, awake, kind, group_id)
        if group is None:
            group = awake[group_id] = kind(tenant.tenant_id, group_id, at_ms)
            self._arm(tenant, group, tenant.clock_ms)
        return group

    def _arm(self, tenant: Tenant, group: Group, now_ms: int) -> None:
        group.due_ms = now_ms + self._state.policy.header.idle_run_minutes * MINUTE_MS
        tenant.wake_at(group.due_ms, group.kind, (group.unit_id,))
        self._state.touch(group)

    def _join(self, group: Group, run: Run) -> None:
        group.join(run)
        group.stamp = 0
        run.forget_route()  # trips are set at the message that follows
        self._state.touch(group)

    def _absorb(self, tenant: Tenant, tree: RunTree, former: RunTree, at_ms: int) -> None:
        """What looked like a root has a root of its own: its whole tree moves over."""
        self._incidents.resolve_unit(tenant, former.unit_key, at_ms, {"part_of": tree.unit_id})
        self._incidents.forget_unit(tenant, former.unit_key)
        tree.join(former, former.runs)
        if former.runs > 1:
            for member in tenant.live():
                if member.root_run_id == former.unit_id:
                    member.root_run_id = tree.unit_id
                    self._state.touch(member)
        tenant.trees.pop(former.unit_id, None)
        self._state.forget(former)
        self._state.touch(tree)
