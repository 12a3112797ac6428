"""What somebody has already, as usage: one kind of file, and how its lines are read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

Event = dict[str, Any]
"""The members of a usage.v1 message, without its tenant. Its `event_id` is derived from the source's own ids: the first
event of an id counts.
"""


class Line(NamedTuple):
    """One line of a file, as its bytes without the line's end."""

    number: int
    """From 1."""
    data: bytes


class Unread(NamedTuple):
    """A line that should have said something and cannot be read."""

    number: int
    reason: str
    """In a few words, the same for all of a kind, and without anything of the line's text."""


Read = Callable[[Iterable[Line]], Iterator[Event | Unread]]
"""From the lines of one file to events, in any order, and to what could not be read. Lines about nothing that is used
up are passed over.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """One that `import --from` knows.

    Args:
        files: the pattern of its files in a folder, such as `**/*.jsonl`; a packed one ends in `.gz` besides.
        read: what a file of it says.
    """

    files: str
    read: Read
