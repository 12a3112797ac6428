"""What a request comes to: records to write, and what was not taken of it, item by item."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.dead_letter import Reason


class Item(NamedTuple):
    """One message of usage.v1, checked: the value as it is written."""

    tenant_id: str
    value: bytes


class Rejected(NamedTuple):
    """One part of a request that counts as nothing, and why."""

    place: int
    """In the request, from 0."""
    reason: Reason
    detail: str
    data: bytes
    """What was sent, for the dead letter; empty where it may hold somebody's text."""


@dataclass(slots=True)
class Batch:
    """A request, read."""

    items: list[Item] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    ignored: int = 0
    """Parts that say nothing of spend."""


class Unreadable(Exception):
    """The body as a whole says nothing; the message says what was expected."""
