"""Everything that can happen to the engine. Each carries its own time; the engine has no clock."""

from typing import NamedTuple

from models.rules.policy import Policy
from schemas.control import Target
from schemas.dead_letter import DeadLetter
from schemas.internal.spend import SpendDelta
from schemas.operator import OperatorMessage
from schemas.usage import UsageMessage


class UsageSeen(NamedTuple):
    """A usage message, and when it was appended to the log."""

    message: UsageMessage
    append_ms: int


class SpendSeen(NamedTuple):
    """A partition has told what its tenants have spent in scopes across tenants."""

    delta: SpendDelta


class SpendDue(NamedTuple):
    """What this partition's tenants have spent in scopes across tenants is to be told: about once a second."""


class OperatorSeen(NamedTuple):
    """An operator's message whose signature has been checked."""

    message: OperatorMessage
    append_ms: int


class RecordRefused(NamedTuple):
    """A record that could not be read."""

    letter: DeadLetter
    tenant_id: str | None = None
    """Whose it would have been by its key: told, if that tenant is known."""


class RecordMoved(NamedTuple):
    """A record of this tenant, taken in already, had been written to another partition than the tenant's."""

    tenant_id: str
    run_id: str | None
    """None for an order."""
    had_key: bool


class CommandForged(NamedTuple):
    """Somebody else has written to control.v1 what stands there about a target now, or has deleted it."""

    tenant_id: str
    target: Target
    how: str
    """What was written, in words that follow `somebody`."""
    denial: str
    """The cause that the answer names, so that guards know what it answers: `forged/` and the hash of what was written.
    """


class PolicyChanged(NamedTuple):
    """Another policy is in force from here on."""

    policy: Policy
    at_ms: int
    """Since when, as far as the partition's time has come: what it leads to is done at this time."""
    at_once: bool = True
    """Whether every tenant follows now. Else each does when something happens to it, or when `catch_up` reaches it."""


class Ticked(NamedTuple):
    """Time has passed without messages, for every tenant unless one is named."""

    now_ms: int
    tenant_id: str | None = None


Stimulus = (
    UsageSeen
    | SpendSeen
    | SpendDue
    | OperatorSeen
    | RecordMoved
    | CommandForged
    | RecordRefused
    | PolicyChanged
    | Ticked
)
