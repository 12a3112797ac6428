"""What is remembered of the newest so many."""

from typing import Generic, TypeVar

Value = TypeVar("Value")


class Newest(Generic[Value]):
    """Values by their keys; beyond so many the oldest are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[str, Value] = {}

    def add(self, key: str, value: Value) -> bool:
        """Remember it; returns whether the key was new. One that is known keeps its value."""
        if key in self._values:
            return False
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]
        return True

    def get(self, key: str) -> Value | None:
        """What is remembered; None if nothing is."""
        return self._values.get(key)

    def pop(self, key: str) -> Value | None:
        """The same, and forget it."""
        return self._values.pop(key, None)
