"""A system that is asked again and again for what was used: how, and where its answers stand in time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.errors import Undecodable
from streams.gateway.sources.usage_item import Usage


class Found(NamedTuple):
    """One call that it knows of."""

    at_ms: int
    """The time that it is asked for by: when it began, or was noted."""
    usage: Usage | Undecodable


class Fetch(Protocol):
    """Asks for everything that stands at a time or later."""

    def __call__(self, since_ms: int) -> Iterator[Found]:
        """Raises `SettingsError` where the system refuses, `UnansweredError` where it may answer later."""


class UnansweredError(Exception):
    """The system did not answer, or not now."""


@dataclass(frozen=True, slots=True)
class PollSource:
    """One that `poll --from` knows.

    Args:
        variables: what it needs of the environment, under its own names; all have to be set.
        make: from their values to what asks.
        overlap_ms: how long after the time that it stands at a call may still turn up: so far back is asked again.
    """

    variables: tuple[str, ...]
    make: "Make"
    overlap_ms: int


class Make(Protocol):
    """Makes what asks."""

    def __call__(self, variables: Mapping[str, str]) -> Fetch:
        """Raises `SettingsError`."""
