"""Which commands stand, and for whom. Pure: the time comes in, nothing goes out.

| command   | applied when                          | then, for its target                           |
|-----------|---------------------------------------|------------------------------------------------|
| kill      | newer, unexpired                      | stands until it expires or an operator resumes |
| pause     | newer, unexpired                      | stands beside a kill, never instead of it      |
| downgrade | newer, unexpired                      | the same                                       |
| resume    | newer, unexpired, from the operator   | lifts everything                               |
| resume    | newer, unexpired, from the engine     | lifts pause and downgrade; a kill stays        |
| nudge     | newer, unexpired                      | is there to be taken once; stands for nothing  |

What has expired is kept for a while, and judged again whenever somebody asks: a clock that was ahead and is set right
lets no run go on that was told to stop.

Newer means a higher `seq` than any authentic command the target has had, expired ones included. A nudge counts among
nudges only, so that it keeps no kill from being heard.

A run that an operator lets go on is exempt from what was commanded to its scopes before: the scope stays closed for
others, and when the run has used up what it was allowed, the engine commands the run itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from spendfuse._client.runlike import RunLike
from spendfuse._control.command import ALL_TENANTS, Command, Target
from spendfuse._control.scope import NO_CALL, CallDimensions, ScopeIndex

Verdict = Literal["applied", "replayed", "expired", "not_entitled"]

EXPIRED_KEPT_S: Final = 3_600.0
"""How long what has expired is kept, by a clock that nobody sets."""
EXPIRED_TAKEN_MS: Final = 86_400_000
"""What had expired for longer when it came is not kept: a compacted topic may be full of it."""


@dataclass(slots=True)
class Standing:
    """What stands for one target."""

    seq: int = -1
    latest_expiry_ms: int = 0
    expired_at_s: float | None = None
    """When every command was first seen to have expired, by a monotonic clock."""
    kill: Command | None = None
    pause: Command | None = None
    downgrade: Command | None = None
    resumed: Command | None = None
    """An operator's resume that nothing has been commanded since."""

    @property
    def commands(self) -> tuple[Command, ...]:
        """What stands, the strictest first."""
        return tuple(command for command in (self.kill, self.pause, self.downgrade) if command is not None)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a command, and which earlier ones it lifted."""

    verdict: Verdict
    lifted: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class _Tenant:
    by_target: dict[Target, Standing] = field(default_factory=dict)
    scopes: ScopeIndex = field(default_factory=ScopeIndex)
    nudges: dict[str, Command] = field(default_factory=dict)
    """Run -> the last sentence for its agent, until it is taken."""
    last_nudges: dict[str, Command] = field(default_factory=dict)
    """Run -> its last nudge, taken or not, until it expires."""


_NOTHING = _Tenant()
"""Of a tenant to whom nothing was said. Not to be changed."""


class StandingCommands:
    """The last commands per target. One thread applies, any thread may ask: a reader sees a state before or after."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}

    def apply(self, command: Command, *, by_operator: bool, now_ms: int) -> Applied:
        """Take in an authentic command."""
        tenant = self._tenants.setdefault(command.tenant_id, _Tenant())
        if command.action == "nudge":
            return _noted(tenant, command, now_ms)
        standing = tenant.by_target.setdefault(command.target, Standing())
        if command.seq <= standing.seq:
            return Applied("replayed")
        standing.seq = command.seq
        standing.latest_expiry_ms = max(standing.latest_expiry_ms, command.expires_ms)
        is_expired = command.expires_ms <= now_ms
        if is_expired and (command.action == "resume" or command.expires_ms + EXPIRED_TAKEN_MS <= now_ms):
            return Applied("expired")
        before = standing.commands
        if command.action == "resume":
            applied = _resume(standing, by_operator=by_operator, now_ms=now_ms)
            if by_operator:
                standing.resumed = command
        elif is_expired:
            applied = Applied("expired")
            if (held := getattr(standing, command.action)) is None or held.expires_ms < command.expires_ms:
                setattr(standing, command.action, command)
        else:
            setattr(standing, command.action, command)
            standing.resumed = None
            applied = Applied("applied")
        if command.target[0] == "scope":
            _index(tenant.scopes, before, standing.commands)
        return applied

    def kill(self, run: RunLike, now_ms: int, call: CallDimensions = NO_CALL) -> Command | None:
        """The kill that stands for the run, if any; the narrowest target's first."""
        return next(self._reaching("kill", run, now_ms, call), None)

    def pause(self, run: RunLike, now_ms: int, call: CallDimensions = NO_CALL) -> Command | None:
        """The pause that stands for the run longest, if any."""
        pauses = self._reaching("pause", run, now_ms, call)
        return max(pauses, key=lambda command: command.expires_ms, default=None)

    def downgrade(self, run: RunLike, now_ms: int, call: CallDimensions = NO_CALL) -> Command | None:
        """The downgrade that stands for the run, if any."""
        return next(self._reaching("downgrade", run, now_ms, call), None)

    def take_nudge(self, run: RunLike, now_ms: int) -> Command | None:
        """The sentence that waits for the run's agent, if any: it is not there any more afterwards."""
        tenant = self._tenants.get(run.tenant_id)
        nudge = None if tenant is None else tenant.nudges.pop(run.run_id, None)
        return nudge if nudge is not None and nudge.expires_ms > now_ms else None

    def is_quiet(self, tenant_id: str) -> bool:
        """Whether nothing was ever said to the tenant, nor to all: the usual case, in two lookups."""
        return tenant_id not in self._tenants and ALL_TENANTS not in self._tenants

    def prune(self, now_ms: int, now_s: float) -> None:
        """Forget what has expired for long enough: a replay of that is ignored for being expired.

        `now_ms` is the time by which commands expire, `now_s` that of a monotonic clock.
        """
        for tenant_id, tenant in list(self._tenants.items()):
            for target in [t for t, s in tenant.by_target.items() if _is_forgettable(s, now_ms, now_s)]:
                standing = tenant.by_target.pop(target)
                if target[0] == "scope":
                    _index(tenant.scopes, standing.commands, ())
            for run_id in [run_id for run_id, last in tenant.last_nudges.items() if last.expires_ms <= now_ms]:
                del tenant.last_nudges[run_id]
                tenant.nudges.pop(run_id, None)
            if not tenant.by_target and not tenant.last_nudges:
                del self._tenants[tenant_id]

    def _reaching(self, action: str, run: RunLike, now_ms: int, call: CallDimensions) -> Iterator[Command]:
        tenant = self._tenants.get(run.tenant_id, _NOTHING)
        for target in targets_of(run):
            standing = tenant.by_target.get(target)
            command: Command | None = None if standing is None else getattr(standing, action)
            if command is not None and command.expires_ms > now_ms:
                yield command
        own = tenant.by_target.get(("run", run.run_id))
        for scopes in (tenant.scopes, self._tenants.get(ALL_TENANTS, _NOTHING).scopes):
            for command in scopes.reaching(run, call):
                if command.action == action and command.expires_ms > now_ms and not _is_exempt(own, now_ms):
                    yield command


def targets_of(run: RunLike) -> tuple[Target, ...]:
    """Return everything but scopes that a command may name to reach the run, narrowest first."""
    targets = [("run", run.run_id), ("run_tree", run.root_run_id or run.run_id)]
    if run.session_id is not None:
        targets.append(("session", run.session_id))
    if run.workflow is not None:
        targets.append(("workflow", run.workflow))
    return (*targets, ("tenant", run.tenant_id))


def _is_forgettable(standing: Standing, now_ms: int, now_s: float) -> bool:
    """Whether every command has expired, and has been seen to for an hour."""
    if standing.latest_expiry_ms > now_ms:
        standing.expired_at_s = None
        return False
    if standing.expired_at_s is None:
        standing.expired_at_s = now_s
    return not standing.commands or now_s - standing.expired_at_s >= EXPIRED_KEPT_S


def _noted(tenant: _Tenant, nudge: Command, now_ms: int) -> Applied:
    run_id = nudge.target[1]
    last = tenant.last_nudges.get(run_id)
    if last is not None and nudge.seq <= last.seq:
        return Applied("replayed")
    tenant.last_nudges[run_id] = nudge
    if nudge.expires_ms <= now_ms:
        return Applied("expired")
    tenant.nudges[run_id] = nudge
    return Applied("applied")


def _is_exempt(own: Standing | None, now_ms: int) -> bool:
    """Whether an operator lets the run go on whatever its scopes say: until that ends, or the run itself is commanded.

    The engine commands the run itself once it has used up what the operator allowed.
    """
    resumed = None if own is None else own.resumed
    return resumed is not None and resumed.expires_ms > now_ms


def _resume(standing: Standing, *, by_operator: bool, now_ms: int) -> Applied:
    held = standing.kill if standing.kill is not None and standing.kill.expires_ms > now_ms else None
    lifted = [command for command in (standing.pause, standing.downgrade) if command is not None]
    standing.pause = standing.downgrade = None
    if held is not None and not by_operator:
        return Applied("not_entitled", tuple(lifted))
    if standing.kill is not None:
        lifted.append(standing.kill)
    standing.kill = None
    return Applied("applied", tuple(lifted))


def _index(scopes: ScopeIndex, before: tuple[Command, ...], after: tuple[Command, ...]) -> None:
    """Bring the index from what stood for a scope to what stands now; what comes is there before what goes is not."""
    for command in after:
        if command not in before:
            scopes.add(command)
    for command in before:
        if command not in after:
            scopes.remove(command)
