"""From effects to Kafka records: topic, key, value, and the signature of commands."""

from typing import NamedTuple, get_args

from models.effects import Effect, Topic
from schemas.codec import encode
from schemas.control import Command, KeyCheck
from schemas.signing import REPEAT_HEADER, EngineKeys, KeyId, control_key, key_check_key
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
        self._topics = {name: settings.topic(name) for name in get_args(Topic)}
        self._keys = None if settings.engine_root_key is None else EngineKeys(settings.engine_root_key)
        self._operator_keys = sorted(key.hex() for key in settings.operator_public_keys)

    def of(self, effect: Effect) -> OutRecord:
        """The record of an effect."""
        value = encode(effect.value)
        return OutRecord(self._topics[effect.topic], effect.key.encode(), value, self._headers(effect, value))

    def repeated(self, command: Command, kid: KeyId) -> OutRecord:
        """The record of a command that was given before, to be written once more."""
        key = control_key(command.tenant_id, command.target.type, command.target.id)
        record = self.of(Effect("control.v1", key, command, kid))
        return record._replace(headers=[*(record.headers or ()), (REPEAT_HEADER, b"1")])

    def key_check(self, tenant_id: str) -> OutRecord | None:
        """The record with which a tenant's guards check their keys; None where nothing is signed."""
        if self._keys is None:
            return None
        check = KeyCheck(tenant_id=tenant_id, operator_keys=self._operator_keys)
        value = encode(check)
        headers = self._keys.key_check_headers(check, value)
        return OutRecord(self._topics["control.v1"], key_check_key(tenant_id).encode(), value, headers)

    def _headers(self, effect: Effect, value: bytes) -> Headers | None:
        if self._keys is None or effect.signer is None or not isinstance(effect.value, Command):
            return None
        return self._keys.command_headers(effect.value, value, effect.signer)
