"""Which commands stand, and for whom. Pure: the time comes in, nothing goes out.

| command   | applied when                          | then, for its target                          |
|-----------|---------------------------------------|-----------------------------------------------|
| kill      | newer, unexpired                      | stands until it expires or an operator resumes |
| pause     | newer, unexpired                      | stands beside a kill, never instead of it      |
| downgrade | newer, unexpired                      | the same                                       |
| resume    | newer, unexpired, from the operator   | lifts everything                               |
| resume    | newer, unexpired, from the engine     | lifts pause and downgrade; a kill stays        |

Newer means a higher `seq` than any authentic command the target has had, expired ones included.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from spendfuse._command import Command, Target

Verdict = Literal["applied", "replayed", "expired", "not_entitled"]


class RunLike(Protocol):
    """What a guard needs to know of a run. `Run` has it; your own object may have it too."""

    @property
    def tenant_id(self) -> str:
        """Whose run it is."""

    @property
    def run_id(self) -> str:
        """Its id."""

    @property
    def session_id(self) -> str | None:
        """The dialogue it belongs to."""

    @property
    def root_run_id(self) -> str | None:
        """The run its tree grew from; None for that run itself."""

    @property
    def workflow(self) -> str | None:
        """What it is an execution of."""


@dataclass(slots=True)
class Standing:
    """What stands for one target."""

    seq: int = -1
    latest_expiry_ms: int = 0
    kill: Command | None = None
    pause: Command | None = None
    downgrade: Command | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a command, and which earlier ones it lifted."""

    verdict: Verdict
    lifted: tuple[Command, ...] = ()


class Brake:
    """The last commands per target. One thread applies, any thread may ask: a reader sees a state before or after."""

    def __init__(self) -> None:
        self._tenants: dict[str, dict[Target, Standing]] = {}

    def apply(self, command: Command, *, by_operator: bool, now_ms: int) -> Applied:
        """Take in an authentic command."""
        standing = self._tenants.setdefault(command.tenant_id, {}).setdefault(command.target, Standing())
        if command.seq <= standing.seq:
            return Applied("replayed")
        standing.seq = command.seq
        standing.latest_expiry_ms = max(standing.latest_expiry_ms, command.expires_ms)
        if command.expires_ms <= now_ms:
            return Applied("expired")
        if command.action == "resume":
            return _resume(standing, by_operator=by_operator, now_ms=now_ms)
        setattr(standing, command.action, command)
        return Applied("applied")

    def kill(self, run: RunLike, now_ms: int) -> Command | None:
        """The kill that stands for the run, if any; the narrowest target's first."""
        return next((s.kill for s in self._of(run) if s.kill is not None and s.kill.expires_ms > now_ms), None)

    def pause(self, run: RunLike, now_ms: int) -> Command | None:
        """The pause that stands for the run longest, if any."""
        live = (s.pause for s in self._of(run) if s.pause is not None and s.pause.expires_ms > now_ms)
        return max(live, key=lambda command: command.expires_ms, default=None)

    def downgrade(self, run: RunLike, now_ms: int) -> Command | None:
        """The downgrade that stands for the run, if any."""
        live = (s.downgrade for s in self._of(run) if s.downgrade is not None and s.downgrade.expires_ms > now_ms)
        return next(live, None)

    def is_quiet(self, tenant_id: str) -> bool:
        """Whether nothing was ever said to the tenant: the usual case, in one lookup."""
        return tenant_id not in self._tenants

    def prune(self, now_ms: int) -> None:
        """Forget targets whose every command has expired: a replay of those is ignored for being expired."""
        for tenant_id, standings in list(self._tenants.items()):
            for target in [t for t, s in standings.items() if s.latest_expiry_ms <= now_ms]:
                del standings[target]
            if not standings:
                del self._tenants[tenant_id]

    def _of(self, run: RunLike) -> list[Standing]:
        standings = self._tenants.get(run.tenant_id)
        if standings is None:
            return []
        return [standing for target in targets_of(run) if (standing := standings.get(target)) is not None]


def targets_of(run: RunLike) -> tuple[Target, ...]:
    """Return everything a command may name to reach the run, narrowest first."""
    targets = [("run", run.run_id), ("run_tree", run.root_run_id or run.run_id)]
    if run.session_id is not None:
        targets.append(("session", run.session_id))
    if run.workflow is not None:
        targets.append(("workflow", run.workflow))
    return (*targets, ("tenant", run.tenant_id))


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
