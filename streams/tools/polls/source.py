"""A system that is asked again and again for what was used: how, and where its answers stand in time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from schemas.errors import SettingsError, Undecodable
from streams.gateway.sources.usage_item import Usage
from streams.provider_api import Api

ANSWER_S: Final = 60.0


class Found(NamedTuple):
    """One call that it knows of."""

    at_ms: int
    """The time that it is asked for by: when it began, or was noted."""
    usage: Usage | Undecodable


class Fetch(Protocol):
    """Asks for everything that stands at a time or later."""

    def __call__(self, since_ms: int) -> Iterator[Found]:
        """Raises `ProviderError` where the system refuses, or does not answer."""


def api_of(base_url: str, headers: Mapping[str, str]) -> Api:
    """The client of a system's API. Raises `SettingsError`."""
    if not base_url.startswith(("http://", "https://")):
        raise SettingsError(f"{base_url}: an address begins with https://")
    return Api(base_url.rstrip("/"), dict(headers), ANSWER_S)


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
