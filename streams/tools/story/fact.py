"""A fact of a story: what one record says happened, when, where it stands, and what it follows from."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["policy", "order", "usage", "alert", "command", "ack", "enforcer", "told"]
IN_ORDER: tuple[Kind, ...] = ("policy", "order", "usage", "alert", "command", "ack", "enforcer", "told")
"""What comes first of what the brokers have at the same moment: causes before what follows from them."""


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Used(NamedTuple):
    """What calls used: nano-dollars as they were reported, and tokens. `unpriced` of them gave no price."""

    cost_nanousd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced: int = 0

    def plus(self, other: "Used") -> "Used":
        """Both together."""
        return Used(*(one + another for one, another in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that happened.

    `id` is what others name as their cause; `cause` the id of what it follows from. Facts of the same `alike` are told
    together where nothing else happened in between. `data` is what machines get beside the text.
    """

    place: Place
    at_ms: int
    """The brokers' time of its record; of an enforcer's step the time that the step says."""
    kind: Kind
    text: str
    id: str = ""
    cause: str | None = None
    alike: tuple[str, ...] = ()
    used: Used | None = None
    data: dict[str, Any] = field(default_factory=dict)
