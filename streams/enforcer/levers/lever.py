"""What an enforcer can switch at a provider."""

from typing import NamedTuple, Protocol


class Found(NamedTuple):
    """How a key stands at its provider."""

    is_closed: bool
    before: str
    """What has to be known to put it back as it is, in the provider's own words."""


class Lever(Protocol):
    """One key or project. Every call may be made again."""

    def read(self) -> Found:
        """How it stands. Raises `ProviderError`."""

    def close(self) -> None:
        """Let nothing more through. Raises `ProviderError`."""

    def open(self, before: str) -> None:
        """Put it back as `read` found it. Raises `ProviderError`."""
