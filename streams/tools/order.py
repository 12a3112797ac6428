"""Giving an order from the command line: what it would meet is read from the topics before it is written."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.codec import decode_alert, decode_command
from schemas.control import Command, Target
from schemas.errors import BrokerError, PolicyError, Undecodable
from schemas.operator import OperatorMessage
from schemas.signing import control_key
from streams.kafka.admin import partition_count
from streams.kafka.order_writer import OrderWriter
from streams.kafka.whole_topic import committed_records
from streams.process.policies import policy_in_force
from streams.settings import Settings
from streams.tools.orders.registry import give
from streams.tools.orders.verb import UnknownFactError, Verb

Value = TypeVar("Value")


def run_order(settings: Settings, verb: Verb, order: OperatorMessage, now_ms: int) -> int:
    """Look at what an order would meet, write it and say what was ordered. Raises `SettingsError` or `BrokerError`."""
    writer = OrderWriter(settings)
    partition_count(settings, needed=("operator.v1", "policy.v1"), alike=("operator.v1",))
    give(verb, order, TopicFacts(settings, now_ms), writer.write)
    return 0


class TopicFacts:
    """Facts from policy.v1, control.v1 and alerts.v1, each topic read when it is first asked about."""

    def __init__(self, settings: Settings, now_ms: int) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._incidents: dict[str, dict[str, Alert]] = {}

    def policy(self) -> Policy:
        """The policy in force, as far as it is published."""
        try:
            policy = policy_in_force(self._settings)
        except (BrokerError, PolicyError) as error:
            raise UnknownFactError(str(error)) from None
        if not policy.source:
            raise UnknownFactError("policy.v1 is empty, and which rules the workers have is not known here")
        return policy

    def active_command(self, tenant_id: str, target: Target) -> Command | None:
        """The last command to a target if it still holds."""
        key = control_key(tenant_id, target.type, target.id).encode()
        commands = list(self._values("control.v1", key, decode_command))
        command = commands[-1] if commands else None
        holds = command is not None and command.action != "resume" and self._now_ms < command.expires_ms
        return command if holds else None

    def incidents(self, tenant_id: str) -> dict[str, Alert]:
        """The tenant's incidents by id, each with its newest alert, as far back as alerts.v1 goes."""
        if tenant_id not in self._incidents:
            alerts = self._values("alerts.v1", tenant_id.encode(), decode_alert)
            self._incidents[tenant_id] = {alert.incident_id: alert for alert in alerts}
        return self._incidents[tenant_id]

    def _values(self, topic: str, key: bytes, decode: Callable[[bytes | None], Value]) -> Iterator[Value]:
        """The values under a key, oldest first. What cannot be read is left out: others tell of it."""
        records: Iterator[Any] = committed_records(self._settings, topic, progress=True)
        try:
            for record in records:
                if record.key() != key:
                    continue
                try:
                    yield decode(record.value())
                except Undecodable:
                    continue
        except BrokerError as error:
            raise UnknownFactError(str(error)) from None
