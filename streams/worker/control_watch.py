"""What stands on control.v1 is what the engines have said: read back, and put right where it is not.

The topic is kept by compaction, so whoever may write there can put something else in a command's place, or delete it.
Guards believe neither, but one that starts afterwards would never hear of the command. So the worker reads the topic
from its beginning and compares it with the state of its partitions: a command that is gone is written again, a forged
one is told of and answered, and every tenant has a key check that its guards' keys hold against.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, cast, get_args
from urllib.parse import unquote

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from models.commands.standing import StandingCommand
from models.stimuli import CommandForged
from schemas.codec import decode_command, decode_key_check
from schemas.control import Command, KeyCheck, Target, TargetType
from schemas.errors import Undecodable
from schemas.signing import KEY_CHECK, EngineKeys, Headers, control_key
from streams.clock import BrokerClock
from streams.kafka.client import make_consumer, refuse_without_rights
from streams.kafka.leaders import watermarks
from streams.process.logs import fields
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker.partition import Partition

log = logging.getLogger("spendfuse.control")

QUERY_TIMEOUT_S = 5.0
MOST_A_TICK = 20_000
MOST_UNANSWERED = 10_000
"""Forgeries about tenants of whom nothing is known yet, kept until something is."""
TARGETS = frozenset(get_args(TargetType))


class ControlWatch:
    """Follows control.v1 outside of the group. Called between batches."""

    def __init__(self, settings: Settings, metrics: Metrics, brokers: BrokerClock) -> None:
        self._metrics = metrics
        self._brokers = brokers
        self._keys = None if settings.engine_root_key is None else EngineKeys(settings.engine_root_key)
        before = settings.engine_root_key_before
        self._keys_before = None if before is None else EngineKeys(before)
        self._operator_keys = sorted(key.hex() for key in settings.operator_public_keys)
        self._topic = settings.topic("control.v1")
        self._consumer: Consumer = make_consumer(settings, f"spendfuse-control-{settings.slot}")
        self._positions: dict[int, int] = {}
        """Partition of control.v1 -> the offset before which it has been read."""
        self._ends: dict[int, int] | None = None
        """Where the topic ended when partitions were last restored; None while nobody has asked."""
        self._expected: dict[str, StandingCommand] = {}
        """Record key -> what the restored state says was given last, to be compared once the topic is read so far."""
        self._seqs: dict[str, tuple[int, int]] = {}
        """Record key -> `seq` and end of the engine's last command there, as long as it lasts."""
        self._checked: set[str] = set()
        """Tenants whose key check stands on the topic."""
        self._written: set[str] = set()
        """Tenants whose key check leaves with a transaction of ours, and has not been read back."""
        self._tenants: dict[int, int] = {}
        """Partition -> how many tenants it had when they were last looked at."""
        self._unanswered: dict[str, CommandForged] = {}

    def restored(self, partitions: Mapping[int, Partition]) -> None:
        """Partitions have been read back: what is expected on the topic is what their state says, and no more yet."""
        now_ms = self._brokers.now_ms()
        self._seqs = {key: known for key, known in self._seqs.items() if known[1] > now_ms}
        self._expected = {
            control_key(command.tenant_id, command.target_type, command.target_id): command
            for partition in partitions.values()
            for command in partition.engine.standing()
        }
        self._ends = None
        self._written.clear()
        self._tenants.clear()

    def tick(self, partitions: Mapping[int, Partition]) -> None:
        """Read on, and have the partitions put right what is not as they have said."""
        if not partitions or (self._ends is None and not self._ask_ends()):
            return
        is_new = bool(self._expected) or not self._tenants
        self._read(partitions)
        if is_new and not self._is_read:
            return  # what is missing so far may still come
        self._compare(partitions)
        for number, partition in partitions.items():
            self._check_keys(number, partition)

    def close(self) -> None:
        """Stop following."""
        self._consumer.close()

    @property
    def _is_read(self) -> bool:
        return self._ends is not None and all(self._positions.get(one, 0) >= end for one, end in self._ends.items())

    def _ask_ends(self) -> bool:
        """Find out how far there is to read, and begin if that is the first time. False while no broker answers."""
        try:
            partitions = self._consumer.list_topics(self._topic, timeout=QUERY_TIMEOUT_S).topics[self._topic].partitions
            places = {number: TopicPartition(self._topic, number) for number in partitions}
            ends = {number: watermarks(self._consumer, place, QUERY_TIMEOUT_S)[1] for number, place in places.items()}
        except KafkaException as error:
            refuse_without_rights(error.args[0])
            log.warning("control.v1 cannot be read yet", extra=fields(error=error.args[0].str()))
            return False
        self._ends = ends
        if not self._positions:
            self._positions = dict.fromkeys(self._ends, 0)
            self._consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in self._ends])
        return True

    def _read(self, partitions: Mapping[int, Partition]) -> None:
        for message in self._consumer.consume(MOST_A_TICK, 0.0):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                refuse_without_rights(error)
                log.warning("control.v1 cannot be read", extra=fields(error=error.str()))
                continue
            number, offset = message.partition(), message.offset()
            assert number is not None, "a message has its place"
            assert offset is not None, "a message has its place"
            tells = self._is_read
            self._positions[number] = offset if error is not None else offset + 1
            if error is None:
                self._take(message, partitions, tells=tells)

    def _take(self, message: Any, partitions: Mapping[int, Partition], *, tells: bool) -> None:
        key, value, headers = (message.key() or b"").decode("utf-8", "replace"), message.value(), message.headers()
        tenant_id, kind, target_id = _parts(key)
        if kind == KEY_CHECK:
            self._take_key_check(tenant_id, value, headers)
        elif kind in TARGETS and (how := self._fault(key, value, headers)) is not None:
            self._seqs.pop(key, None)
            if tells:
                target = Target(cast("TargetType", kind), target_id)
                self._forged(CommandForged(tenant_id, target, how, _denial(value)), key, partitions)

    def _take_key_check(self, tenant_id: str, value: bytes | None, headers: Headers | None) -> None:
        self._written.discard(tenant_id)
        if self._is_key_check(tenant_id, value, headers):
            self._checked.add(tenant_id)
        else:
            self._checked.discard(tenant_id)
            self._tenants.clear()  # to be looked at again

    def _fault(self, key: str, value: bytes | None, headers: Headers | None) -> str | None:
        """What is wrong with a record that stands for commands, in words; None for what the engine wrote, in order."""
        if value is None:
            return "has deleted a command"
        try:
            command = decode_command(value)
        except Undecodable:
            return "has written what is no command"
        if key != control_key(command.tenant_id, command.target.type, command.target.id):
            return "has written a command in another one's place"
        if not self._is_ours(command, value, headers):
            if self._keys_before is not None and self._keys_before.has_signed(command, value, headers):
                self._seqs.pop(key, None)  # to be signed anew
                return None
            return "has written a command that the engine did not sign"
        seq, _ = self._seqs.get(key, (-1, 0))
        if command.seq < seq:
            return "has copied an old command"
        if command.expires_ms > self._brokers.now_ms():
            self._seqs[key] = (command.seq, command.expires_ms)
        return None

    def _is_ours(self, message: Command | KeyCheck, value: bytes, headers: Headers | None) -> bool:
        return self._keys is None or self._keys.has_signed(message, value, headers)

    def _is_key_check(self, tenant_id: str, value: bytes | None, headers: Headers | None) -> bool:
        try:
            check = decode_key_check(value)
        except Undecodable:
            return False
        current = check.tenant_id == tenant_id and check.operator_keys == self._operator_keys
        return current and self._is_ours(check, value or b"", headers)

    def _forged(self, forged: CommandForged, key: str, partitions: Mapping[int, Partition]) -> None:
        """Have whoever knows the tenant tell of it. Where nobody does, that waits."""
        log.error("forged command", extra=fields(tenant_id=forged.tenant_id, key=key, how=forged.how))
        self._metrics.forged_commands.inc()
        for partition in partitions.values():
            if forged.tenant_id in partition.engine.tenants:
                partition.engine.handle(forged)
                return
        self._unanswered[key] = forged
        if len(self._unanswered) > MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]

    def _compare(self, partitions: Mapping[int, Partition]) -> None:
        """Have every command written once more that should stand on the topic and does not."""
        expected, self._expected = self._expected, {}
        for key, command in expected.items():
            if self._seqs.get(key, (-1, 0))[0] >= command.seq or command.expires_ms <= self._brokers.now_ms():
                continue
            log.warning("a command is gone from control.v1 and is written again", extra=fields(key=key))
            for partition in partitions.values():
                partition.engine.repeat(command.tenant_id, command.target)

    def _check_keys(self, number: int, partition: Partition) -> None:
        """Have the key checks of new tenants written, and answer what was forged before anything was known of them."""
        tenants = partition.engine.tenants
        if self._tenants.get(number) == len(tenants):
            return
        self._tenants[number] = len(tenants)
        if self._keys is not None:
            missing = [one for one in tenants if one not in self._checked and one not in self._written]
            partition.key_checks += missing
            self._written.update(missing)
        for key in [key for key, forged in self._unanswered.items() if forged.tenant_id in tenants]:
            partition.engine.handle(self._unanswered.pop(key))


def _denial(value: bytes | None) -> str:
    return f"forged/{hashlib.sha256(value or b'').hexdigest()}"


def _parts(key: str) -> tuple[str, str, str]:
    """Tenant, type and id that a record key names; empty where it names none."""
    parts = key.split("/")
    return (unquote(parts[0]), parts[1], unquote(parts[2])) if len(parts) == 3 else ("", "", "")
