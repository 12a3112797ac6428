"""From effects to Kafka records: topic, key, value, and the signature of commands."""

from typing import NamedTuple

from models.effects import Effect
from schemas.codec import encode
from schemas.control import Command
from schemas.signing import EngineKeys
from streams.settings import Settings

Headers = list[tuple[str, bytes]]


class OutRecord(NamedTuple):
    """What is handed to a producer."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers | None


class Records:
    """Makes records of effects, under one installation's names and keys."""

    def __init__(self, settings: Settings) -> None:
        self._topics = {
            name: settings.topic(name) for name in ("alerts.v1", "control.v1", "rollups.v1", "usage.dlq.v1")
        }
        self._keys = None if settings.engine_root_key is None else EngineKeys(settings.engine_root_key)

    def of(self, effect: Effect) -> OutRecord:
        """The record of an effect."""
        value = encode(effect.value)
        return OutRecord(self._topics[effect.topic], effect.key.encode(), value, self._headers(effect, value))

    def _headers(self, effect: Effect, value: bytes) -> Headers | None:
        if self._keys is None or effect.signer is None or not isinstance(effect.value, Command):
            return None
        return self._keys.command_headers(effect.value, value, effect.signer)
