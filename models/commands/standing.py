"""The last command of one target: what was given, and whether it was obeyed.

The rules are data. `TRANSITIONS` says what may follow what; anything else changes nothing. A command that the
blast-radius limit holds back is a row of its own (`models.commands.held`), because a weaker one may stand meanwhile.
"""

from typing import Any, Final, Literal, NamedTuple

from models.state.rows import PLAIN, Row
from schemas.control import Target, TargetType
from schemas.duration import DAY_MS
from schemas.policy import Action
from schemas.signing import KeyId

CommandState = Literal["wanted", "given", "overdue", "acknowledged", "lifted", "expired"]
CommandEvent = Literal["give", "deadline", "ack", "lift", "expire"]

TRANSITIONS: Final[dict[tuple[CommandState, CommandEvent], CommandState]] = {
    ("wanted", "give"): "given",
    ("given", "give"): "given",  # a stronger command, or the same for longer, replaces it
    ("given", "ack"): "acknowledged",
    ("given", "deadline"): "overdue",
    ("given", "lift"): "lifted",
    ("given", "expire"): "expired",
    ("overdue", "give"): "given",
    ("overdue", "ack"): "acknowledged",
    ("overdue", "lift"): "lifted",
    ("overdue", "expire"): "expired",
    ("acknowledged", "give"): "given",
    ("acknowledged", "lift"): "lifted",
    ("acknowledged", "expire"): "expired",
    ("lifted", "give"): "given",
    ("lifted", "expire"): "expired",
    ("expired", "give"): "given",
}

STRENGTH: Final[dict[str, int]] = {"resume": 0, "downgrade": 1, "pause": 2, "kill": 3}
"""A command gives way only to a stronger one."""

KILL_STANDS_MS: Final = 7 * DAY_MS
"""How long a command without an end stands before it is given again, or forgotten with its target."""

IN_FORCE: Final[frozenset[CommandState]] = frozenset({"given", "overdue", "acknowledged"})
"""States in which the last command is in force."""

DISOBEYED: Final = "disobeyed/"
"""Before a target: what incidents about a disobeyed command are bound to, as others are to a run."""


class Origin(NamedTuple):
    """Why a command is given."""

    incident_id: str
    rule: str
    reason: str
    owner: str | None
    signer: KeyId = "engine"


class StandingCommand(Row):
    """The last command of one target."""

    __slots__ = (
        "acked_ms", "action", "cause_event_id", "cause_ms", "command_id", "cost_nanousd", "deadline_ms", "due_ms",
        "expires_ms", "issued_ms", "origin", "out_ms", "repeated_ms", "scope", "seq", "state", "target_id",
        "target_type", "tenant_id",
    )  # fmt: skip
    kind = "command"

    def __init__(self, tenant_id: str, target_type: TargetType, target_id: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.target_type: TargetType = target_type
        self.target_id = target_id
        self.state: CommandState = "wanted"
        self.action: Action = "resume"
        self.seq = 0
        self.command_id = ""
        self.origin = Origin("", "", "", None)
        self.scope: dict[str, list[str]] | None = None
        """Of a target of type scope: dimension -> values of the runs it is for."""
        self.issued_ms = 0
        self.out_ms = 0
        """When it went out to those it is for, 0 while it has not: from then on it can be obeyed."""
        self.expires_ms = 0
        self.deadline_ms = 0
        """When an answer is due, 0 where none is."""
        self.cause_ms = 0
        self.cause_event_id: str | None = None
        """The event at which it was given; None where time alone did."""
        self.cost_nanousd = 0
        """What the target had spent when the command was given; overshoot is what comes on top."""
        self.acked_ms = 0
        self.due_ms = 0
        self.repeated_ms = 0
        """When it was last written once more, as far as this process knows: no part of the state."""

    def move(self, event: CommandEvent) -> bool:
        """Follow `TRANSITIONS`. False, and nothing changed, where the event has no place in this state."""
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            return False
        self.state = following
        return True

    def stands(self, now_ms: int) -> bool:
        """Whether the last command is in force."""
        return self.state in IN_FORCE and now_ms < self.expires_ms

    def covers(self, action: Action, until_ms: int | None, now_ms: int, *, is_ordered: bool = False) -> bool:
        """Whether something as strong stands for as long, None for without an end: nothing is to be said again.

        A rule asks for its kill again when a shorter one has run out. What a person has ordered nobody asks for again.
        """
        if not self.stands(now_ms) or STRENGTH[self.action] < STRENGTH[action]:
            return False
        if not is_ordered and (STRENGTH[self.action] > STRENGTH[action] or action == "kill"):
            return True
        return self.is_open_ended if until_ms is None else self.expires_ms >= until_ms

    @property
    def target(self) -> Target:
        """Whom it is for."""
        return Target(self.target_type, self.target_id)

    @property
    def is_by_operator(self) -> bool:
        """Whether a person ordered it: only a person lifts it then."""
        return self.origin.signer == "operator"

    @property
    def is_open_ended(self) -> bool:
        """Whether it is in force and was given without an end."""
        lasts_ms = self.expires_ms - self.issued_ms
        return self.state in IN_FORCE and lasts_ms > 0 and lasts_ms % KILL_STANDS_MS == 0

    @property
    def is_sticky(self) -> bool:
        """Whether it is a kill that only a person ends."""
        return self.action == "kill" and self.is_open_ended

    @property
    def disobeyed(self) -> str:
        """What incidents about a disobeyed command are bound to: they end with the answer, not with the run."""
        return f"{DISOBEYED}{self.target_type}/{self.target_id}"

    def next_due_ms(self) -> int:
        """When time alone changes something: the answer's deadline, then the command's expiry."""
        return min(self.answer_due_ms or self.expires_ms, self.expires_ms)

    @property
    def answer_due_ms(self) -> int:
        """When the answer that is awaited is due; 0 where none is: nobody can answer before it went out."""
        return self.deadline_ms if self.state == "given" and self.out_ms else 0

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.target_type, self.target_id)

    def header(self) -> tuple[int, int, int]:
        return self.due_ms, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        return (
            self.state, self.action, self.seq, self.command_id, tuple(self.origin), self.scope, self.issued_ms,
            self.expires_ms, self.deadline_ms, self.cause_ms, self.cost_nanousd, self.acked_ms, self.out_ms,
            self.cause_event_id,
        )  # fmt: skip

    @classmethod
    def read(cls, parts: tuple[str, ...], due_ms: int, fields: tuple[Any, ...]) -> "StandingCommand":
        """A command as its row holds it."""
        tenant_id, target_type, target_id = parts
        command = cls(tenant_id, target_type, target_id)  # type: ignore[arg-type]  # only target types are written
        (
            command.state, command.action, command.seq, command.command_id, origin, command.scope, command.issued_ms,
            command.expires_ms, command.deadline_ms, command.cause_ms, command.cost_nanousd, command.acked_ms,
            command.out_ms, command.cause_event_id,
        ) = fields  # fmt: skip
        command.origin = Origin(*origin)
        command.due_ms = due_ms
        return command


def target_of(unit_key: str) -> tuple[TargetType, str]:
    """Type and id of the target that an incident is bound to, whether by its end or by its answer to a command."""
    target_type, _, target_id = unit_key.removeprefix(DISOBEYED).partition("/")
    return target_type, target_id  # type: ignore[return-value]  # only target types are written
