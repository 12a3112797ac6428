"""Whose spend is it, and where do they read? The policy's `[owners]`."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

UNATTRIBUTED = "unattributed"
"""The owner of spend that names none."""
_WILDCARDS = "*?["


class Owners:
    """Receivers by owner. The name itself comes first, then the pattern with the most letters of its own.

    The order in the policy does not count: policies travel as JSON, whose tables have none.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        self._exact = dict(table)
        self._patterns = sorted((pattern for pattern in table if _is_pattern(pattern)), key=_by_precision)

    def __bool__(self) -> bool:
        return bool(self._exact)

    def find(self, owner: str | None) -> str | None:
        """The entry of the table that holds for an owner; None if no entry does."""
        name = owner or UNATTRIBUTED
        if name in self._exact and not _is_pattern(name):
            return name
        return next((pattern for pattern in self._patterns if fnmatchcase(name, pattern)), None)

    def receivers(self, entry: str) -> tuple[str, ...]:
        """Where an entry leads."""
        return tuple(self._exact[entry])


def _is_pattern(text: str) -> bool:
    return any(character in text for character in _WILDCARDS)


def _by_precision(pattern: str) -> tuple[int, str]:
    return -sum(character not in _WILDCARDS for character in pattern), pattern
