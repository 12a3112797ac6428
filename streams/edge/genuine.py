"""Which records of control.v1 are the engine's, checked as guards check them."""

from typing import Self

from schemas.control import Command, KeyCheck
from schemas.signing import EngineKeys, Headers
from streams.settings import Settings


class Genuine:
    """Checks records against the engine's keys: the root that is in use, and the one before while it is replaced."""

    def __init__(self, *keys: EngineKeys) -> None:
        self._keys = keys

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The keys of the settings; there may be none."""
        roots = (settings.engine_root_key, settings.engine_root_key_before)
        return cls(*(EngineKeys(root) for root in roots if root is not None))

    @property
    def checks(self) -> bool:
        """Whether there is a key to check with; without one, whoever may write control.v1 is believed."""
        return bool(self._keys)

    def is_engines(self, message: Command | KeyCheck, value: bytes, headers: Headers | None) -> bool:
        """Whether the engine has signed it, as far as that can be checked here."""
        return not self._keys or any(keys.has_signed(message, value, headers) for keys in self._keys)
