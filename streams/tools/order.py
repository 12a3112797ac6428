"""Giving an order from the command line: what it would meet is read from the topics before it is written."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.codec import decode_alert, decode_command, decode_key_check, decode_usage
from schemas.control import Command, Target, TargetType
from schemas.duration import DAY_MS
from schemas.errors import BrokerError, PolicyError, SettingsError, Undecodable
from schemas.operator import Kill, OperatorMessage, Resume
from schemas.signing import control_key, is_key_check, is_standing
from schemas.usage import UsageMessage
from streams.clock import seconds
from streams.kafka.admin import partition_count
from streams.kafka.order_reader import OrderReader
from streams.kafka.order_writer import OrderWriter, operator_key
from streams.kafka.time_range import records_between
from streams.kafka.whole_topic import committed_records
from streams.process.policies import PolicyLost, policy_in_force
from streams.settings import Settings
from streams.tools.answer import NO_ANSWER, Answer
from streams.tools.orders.audit import audit, read_orders
from streams.tools.orders.registry import give
from streams.tools.orders.verb import UnknownFactError, Verb

Value = TypeVar("Value")
MOST_LOOKING_S = 20.0
"""How long usage.v1 is searched for an id."""


def run_order(settings: Settings, verb: Verb, order: OperatorMessage, now_ms: int, *, unseen: bool = False) -> int:
    """Look at what an order would meet, write it and say what was ordered. Raises `SettingsError` or `BrokerError`."""
    writer = OrderWriter(settings)
    partition_count(settings, needed=("operator.v1", "policy.v1"), alike=("operator.v1",))
    facts = TopicFacts(settings, now_ms)
    try:
        check_key(settings, facts.operator_keys())
    except UnknownFactError as unknown:
        print(f"not checked whether the workers know the key here: {unknown}", file=sys.stderr)
    answers: list[tuple[OperatorMessage, Answer]] = []

    def write(order: OperatorMessage) -> None:
        expected = Answer(settings) if is_answered(order, facts) else None
        writer.write(order)
        if expected is not None:
            answers.append((order, expected))

    give(verb, order, facts, write, unseen=unseen)
    for given, answer in answers:
        said = answer.said(given)
        print(NO_ANSWER if said is None else said, file=sys.stderr if said is None else sys.stdout)
    return 0


def is_answered(order: OperatorMessage, facts: "TopicFacts") -> bool:
    """Whether a command follows from the order as soon as a worker reads it, as far as that can be known."""
    if not isinstance(order, Kill | Resume):
        return False
    try:
        standing = facts.active_command(order.tenant_id, order.target)
        if isinstance(order, Kill):
            return standing is None or standing.action != "kill"
        pending = facts.pending_kills(order.tenant_id)
        return standing is not None or any(one.target == order.target for one in pending)
    except UnknownFactError:
        return False


def check_key(settings: Settings, obeyed: set[str]) -> None:
    """Raise `SettingsError` if the workers say whose orders they obey, and it is not who signs here."""
    public_key = operator_key(settings).public_key.hex()
    if obeyed and public_key not in obeyed:
        raise SettingsError(
            f"the workers would refuse this order: SPENDFUSE_OPERATOR_KEY here has the public key {public_key}, and "
            f"they obey {', '.join(sorted(obeyed))}. Nothing was written"
        )


class TopicFacts:
    """Facts from policy.v1, control.v1, alerts.v1 and usage.v1, each topic read when it is first asked about."""

    def __init__(self, settings: Settings, now_ms: int) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._incidents: dict[str, dict[str, Alert]] = {}
        self._control: dict[bytes, Any] | None = None
        self._kills: list[Kill] | None = None

    def policy(self) -> Policy:
        """The policy in force, as far as it is published."""
        try:
            policy = policy_in_force(self._settings)
        except (BrokerError, PolicyError, PolicyLost) as error:
            raise UnknownFactError(str(error)) from None
        if not policy.source:
            raise UnknownFactError("policy.v1 is empty, and which rules the workers have is not known here")
        return policy

    def active_command(self, tenant_id: str, target: Target) -> Command | None:
        """The last command to a target if it still holds."""
        command = self._last_command(tenant_id, target)
        return command if command is not None and holds(command, self._now_ms) else None

    def commands(self) -> list[Command]:
        """The last command to each target, of all tenants, whether or not it holds."""
        return list(self._commands().values())

    def commanded(self, tenant_id: str) -> list[Command]:
        """Every command that holds."""
        return [one for one in self._commands().values() if one.tenant_id == tenant_id and holds(one, self._now_ms)]

    def pending_kills(self, tenant_id: str) -> list[Kill]:
        """Operators' kills that no worker has obeyed yet: none runs, or none believes the key."""
        kills = [one for one in self._kills_in_force() if one.tenant_id == tenant_id]
        return [one for one in kills if is_pending(one, self._last_command(tenant_id, one.target), self._now_ms)]

    def operator_keys(self) -> set[str]:
        """Public keys of operators whom the workers obey, as the newest of their key checks says; empty for none."""
        newest: tuple[int, set[str]] = (-1, set())
        for key, message in self._last().items():
            if is_key_check(key):
                try:
                    check = decode_key_check(message.value())
                except Undecodable:
                    continue
                newest = max(newest, (message.timestamp()[1], set(check.operator_keys)), key=lambda one: one[0])
        return newest[1]

    def incidents(self, tenant_id: str) -> dict[str, Alert]:
        """The tenant's incidents by id, each with its newest alert, as far back as alerts.v1 goes."""
        if tenant_id not in self._incidents:
            alerts = self._values("alerts.v1", tenant_id.encode(), decode_alert)
            self._incidents[tenant_id] = {alert.incident_id: alert for alert in alerts}
        return self._incidents[tenant_id]

    def seen(self, tenant_id: str, kind: TargetType, typed: str) -> set[str]:
        """The ids of that kind which anybody has heard of within a day and which begin as was typed; the typed one
        alone if it is one of them: commands and alerts are looked at first, then the usage of the day.
        """
        found = {
            one.target.id for one in self._commands().values() if (one.tenant_id, one.target.type) == (tenant_id, kind)
        }
        alerts = self.incidents(tenant_id).values()
        if kind == "run":
            found |= {alert.run_id for alert in alerts if alert.run_id}
        if kind == "tenant" and alerts:
            found.add(tenant_id)
        return {typed} if typed in found else self._used(tenant_id, kind, typed, found)

    def _used(self, tenant_id: str, kind: TargetType, typed: str, found: set[str]) -> set[str]:
        try:
            for message in recent_usage(self._settings, self._now_ms):
                if message.key() != tenant_id.encode():
                    continue
                found |= _ids(message.value(), kind)
                if typed in found:
                    return {typed}
        except BrokerError as error:
            raise UnknownFactError(str(error)) from None
        return {one for one in found if one.startswith(typed)}

    def _kills_in_force(self) -> list[Kill]:
        if self._kills is None:
            try:
                found = audit(read_orders(self._settings), OrderReader.of(self._settings), self._now_ms)
            except BrokerError as error:
                raise UnknownFactError(str(error)) from None
            self._kills = [one.order for one in found if isinstance(one.order, Kill) and one.status == "in force"]
        return self._kills

    def _last_command(self, tenant_id: str, target: Target) -> Command | None:
        return self._commands().get(control_key(tenant_id, target.type, target.id).encode())

    def _commands(self) -> dict[bytes, Command]:
        """The last command under each key. What cannot be read leaves the one before it: others tell of it."""
        commands: dict[bytes, Command] = {}
        for key, message in self._last().items():
            if is_standing(key):
                commands[key] = message
        return commands

    def _last(self) -> dict[bytes, Any]:
        """Record key -> the last command, or the last record of a key check."""
        if self._control is None:
            found: dict[bytes, Any] = {}
            try:
                for record in committed_records(self._settings, "control.v1", progress=True):
                    key = record.key() or b""
                    if is_key_check(key):
                        found[key] = record
                        continue
                    try:
                        found[key] = decode_command(record.value())
                    except Undecodable:
                        continue
            except BrokerError as error:
                raise UnknownFactError(str(error)) from None
            self._control = found
        return self._control

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


def recent_usage(settings: Settings, now_ms: int) -> Iterator[Any]:
    """The records of usage.v1 of the last day, and of what a clock that is ahead has written.

    Raises:
        UnknownFactError: they cannot all be read within `MOST_LOOKING_S`.
        BrokerError: they cannot be read.
    """
    deadline = seconds() + MOST_LOOKING_S
    for message in records_between(settings, ("usage.v1",), now_ms - DAY_MS, now_ms + DAY_MS, progress=True):
        if seconds() > deadline:
            raise UnknownFactError(f"the usage of the last day was not read through in {MOST_LOOKING_S:.0f} s")
        yield message


def holds(command: Command, now_ms: int) -> bool:
    """Whether a command is in force."""
    return command.action != "resume" and now_ms < command.expires_ms


def is_pending(kill: Kill, last: Command | None, now_ms: int) -> bool:
    """Whether a kill that was ordered has not been given yet, by the last command to its target."""
    return last is None or (not holds(last, now_ms) and last.issued_ms < kill.ts_ms)


def _ids(value: bytes | None, kind: TargetType) -> set[str]:
    """The ids of one kind that a usage message names."""
    try:
        usage: UsageMessage = decode_usage(value)
    except Undecodable:
        return set()
    match kind:
        case "run":
            return {usage.run_id}
        case "run_tree":
            return {usage.root_run_id or usage.run_id}
        case "tenant":
            return {usage.tenant_id}
        case "session":
            return {usage.session_id} if usage.session_id else set()
        case "workflow":
            return {usage.workflow} if usage.workflow else set()
        case _:
            return set()
