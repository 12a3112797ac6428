"""The brake of one target: what was ordered, and whether it bit.

The rules are data. `TRANSITIONS` says what may follow what; anything else changes nothing.
"""

from typing import Any, Literal, NamedTuple

from models.state.rows import Row
from schemas.control import TargetType
from schemas.policy import Action

BrakeState = Literal["armed", "ordered", "overdue", "acknowledged", "released", "expired"]
BrakeEvent = Literal["order", "deadline", "ack", "release", "expire"]

TRANSITIONS: dict[tuple[BrakeState, BrakeEvent], BrakeState] = {
    ("armed", "order"): "ordered",
    ("ordered", "order"): "ordered",  # a stronger command replaces a weaker one
    ("ordered", "ack"): "acknowledged",
    ("ordered", "deadline"): "overdue",
    ("ordered", "release"): "released",
    ("ordered", "expire"): "expired",
    ("overdue", "order"): "ordered",
    ("overdue", "ack"): "acknowledged",
    ("overdue", "release"): "released",
    ("overdue", "expire"): "expired",
    ("acknowledged", "order"): "ordered",
    ("acknowledged", "release"): "released",
    ("acknowledged", "expire"): "expired",
    ("released", "order"): "ordered",
    ("expired", "order"): "ordered",
}

STRENGTH: dict[Action, int] = {"resume": 0, "downgrade": 1, "pause": 2, "kill": 3}
"""A command gives way only to a stronger one."""

STANDING: frozenset[BrakeState] = frozenset({"ordered", "overdue", "acknowledged"})
"""States in which the last command is in force."""

AFTER_KILL = "brake/"
"""Before the id of a target: what its incidents about a disobeyed command are bound to, as others are to a run."""


class Origin(NamedTuple):
    """Why a command is given."""

    incident_id: str
    rule: str
    reason: str
    owner: str | None


class Brake(Row):
    """The last command of one target."""

    __slots__ = (
        "acked_ms", "action", "cause_ms", "command_id", "cost_nanousd", "deadline_ms", "due_ms", "expires_ms",
        "incident_id", "issued_ms", "owner", "reason", "rule", "seq", "state", "target_id", "target_type",
        "tenant_id",
    )  # fmt: skip
    kind = "brake"

    def __init__(self, tenant_id: str, target_type: TargetType, target_id: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.target_type: TargetType = target_type
        self.target_id = target_id
        self.state: BrakeState = "armed"
        self.action: Action = "resume"
        self.seq = 0
        self.command_id = ""
        self.incident_id = ""
        self.rule = ""
        self.reason = ""
        self.owner: str | None = None
        self.issued_ms = 0
        self.expires_ms = 0
        self.deadline_ms = 0
        """When an answer is due."""
        self.cause_ms = 0
        self.cost_nanousd = 0
        """What the target had spent when the command was given; overshoot is what comes on top."""
        self.acked_ms = 0
        self.due_ms = 0

    def move(self, event: BrakeEvent) -> bool:
        """Follow `TRANSITIONS`. False, and nothing changed, where the event has no place in this state."""
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            return False
        self.state = following
        return True

    def stands(self, now_ms: int) -> bool:
        """Whether the last command is in force."""
        return self.state in STANDING and now_ms < self.expires_ms

    @property
    def after_kill(self) -> str:
        """What incidents about a disobeyed command are bound to: they end with the answer, not with the run."""
        return f"{AFTER_KILL}{self.target_type}/{self.target_id}"

    @property
    def origin(self) -> Origin:
        """Why the last command was given."""
        return Origin(self.incident_id, self.rule, self.reason, self.owner)

    def next_due_ms(self) -> int:
        """When time alone changes something: the answer's deadline, then the command's expiry."""
        if self.state == "ordered":
            return min(self.deadline_ms, self.expires_ms)
        return self.expires_ms

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.target_type, self.target_id)

    def header(self) -> tuple[int, int]:
        return self.due_ms, 0

    def fields(self) -> tuple[Any, ...]:
        return (
            self.state, self.action, self.seq, self.command_id, self.incident_id, self.rule, self.reason, self.owner,
            self.issued_ms, self.expires_ms, self.deadline_ms, self.cause_ms, self.cost_nanousd, self.acked_ms,
        )  # fmt: skip

    @classmethod
    def read(cls, parts: tuple[str, ...], due_ms: int, fields: tuple[Any, ...]) -> "Brake":
        """A brake as its row holds it."""
        tenant_id, target_type, target_id = parts
        brake = cls(tenant_id, target_type, target_id)  # type: ignore[arg-type]  # only target types are written
        (
            brake.state, brake.action, brake.seq, brake.command_id, brake.incident_id, brake.rule, brake.reason,
            brake.owner, brake.issued_ms, brake.expires_ms, brake.deadline_ms, brake.cause_ms, brake.cost_nanousd,
            brake.acked_ms,
        ) = fields  # fmt: skip
        brake.due_ms = due_ms
        return brake


def target_named(unit_id: str) -> tuple[TargetType, str]:
    """Type and id of the target that an incident is bound to, whether by its end or by its answer to a command."""
    target_type, _, target_id = unit_id.removeprefix(AFTER_KILL).partition("/")
    return target_type, target_id  # type: ignore[return-value]  # only target types are written
