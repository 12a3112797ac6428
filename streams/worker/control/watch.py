"""What stands on control.v1 is what the engines have said: read back, and put right where it is not.

The topic is kept by compaction, so whoever may write there can put something else in a command's place, or delete it.
Guards believe neither, but one that starts afterwards would never hear of the command. So the worker reads the topic
from its beginning and compares it with the state of its partitions: a command that is gone is written again, a forged
one is told of and answered, and every tenant has a key check that its guards' keys hold against. Once a minute it
looks whether the topic still has what was read: what has gone with a retention, or with the topic, is written again.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast, get_args
from urllib.parse import unquote

from models.commands.standing import StandingCommand
from models.stimuli import CommandForged
from schemas.codec import decode_command, decode_key_check
from schemas.control import Command, KeyCheck, Target, TargetType
from schemas.duration import MINUTE_MS
from schemas.errors import Undecodable
from schemas.signing import KEY_CHECK, EngineKeys, Headers, control_key
from streams.clock import BrokerClock, monotonic_ms
from streams.process.logs import fields
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker.control.topic import ControlTopic
from streams.worker.partition import Partition

log = logging.getLogger("spendfuse.control")

LOOK_EVERY_MS: Final = MINUTE_MS
MOST_UNANSWERED = 10_000
"""Forgeries about tenants of whom nothing is known yet, kept until something is."""
TARGETS = frozenset(get_args(TargetType))


class Given(NamedTuple):
    """The engine's last command under a key, as it was read."""

    seq: int
    expires_ms: int
    partition: int
    offset: int


class ControlWatch:
    """Follows control.v1 outside of the group. Called between batches."""

    def __init__(self, settings: Settings, metrics: Metrics, brokers: BrokerClock) -> None:
        self._metrics = metrics
        self._brokers = brokers
        self._keys = None if settings.engine_root_key is None else EngineKeys(settings.engine_root_key)
        before = settings.engine_root_key_before
        self._keys_before = None if before is None else EngineKeys(before)
        self._operator_keys = sorted(key.hex() for key in settings.operator_public_keys)
        self._topic = ControlTopic(settings, self._gone)
        self._is_restored = False
        """Whether partitions were restored since it was last looked where the topic ends."""
        self._looked_ms = 0
        self._expected: dict[str, StandingCommand] = {}
        """Record key -> what the restored state says was given last, to be compared once the topic is read so far."""
        self._lost: set[str] = set()
        """Keys whose last command is on the topic no more."""
        self._given: dict[str, Given] = {}
        """Record key -> the engine's last command there, as long as it lasts."""
        self._signed_before: set[str] = set()
        """Record keys whose last command is signed with the engine's key of before."""
        self._checked: dict[str, tuple[int, int]] = {}
        """Tenant -> partition and offset of the key check that stands on the topic."""
        self._written: set[str] = set()
        """Tenants whose key check leaves with a transaction of ours, and has not been read back."""
        self._tenants: dict[int, int] = {}
        """Partition -> how many tenants it had when they were last looked at."""
        self._unanswered: dict[str, CommandForged] = {}

    def restored(self, partitions: Mapping[int, Partition]) -> None:
        """Partitions have been read back: what is expected on the topic is what their state says, and no more yet."""
        now_ms = self._brokers.now_ms()
        self._given = {key: known for key, known in self._given.items() if known.expires_ms > now_ms}
        self._expected = dict(_standing(partitions))
        self._is_restored = True
        self._written.clear()
        self._tenants.clear()

    def tick(self, partitions: Mapping[int, Partition]) -> None:
        """Read on, and have the partitions put right what is not as they have said."""
        if not partitions or not self._is_looked_at():
            return
        for message, is_news in self._topic.read():
            self._take(message, partitions, tells=is_news)
        if self._lost:
            self._expected |= {key: command for key, command in _standing(partitions) if key in self._lost}
            self._lost.clear()
        if (self._expected or not self._tenants) and not self.is_current:
            return  # what is missing so far may still come
        self._compare(partitions)
        for number, partition in partitions.items():
            self._check_keys(number, partition)

    @property
    def is_current(self) -> bool:
        """Whether the topic has been read to where it ended when it was last looked at."""
        return not self._is_restored and self._topic.is_read

    def close(self) -> None:
        """Stop following."""
        self._topic.close()

    def _is_looked_at(self) -> bool:
        """Look where the topic begins and ends, when that is due. Whether it was, since partitions were restored."""
        now_ms = monotonic_ms()
        if self._is_restored:
            self._is_restored = not self._topic.look(afresh=True)
            self._looked_ms = now_ms
        elif now_ms >= self._looked_ms + LOOK_EVERY_MS:
            self._topic.look(afresh=False)
            self._looked_ms = now_ms
        return not self._is_restored

    def _gone(self, number: int, before: int) -> None:
        """What was read from before that offset of a partition is on the topic no more."""
        lost = {key for key, one in self._given.items() if one.partition == number and one.offset < before}
        for key in lost:
            del self._given[key]
        self._lost |= lost
        unchecked = [one for one, (held, offset) in self._checked.items() if held == number and offset < before]
        for tenant_id in unchecked:
            del self._checked[tenant_id]
        if lost or unchecked:
            log.error(
                "control.v1 has lost records, which are written again: look whether its settings are as declared, "
                "python -m streams topics check",
                extra=fields(partition=number, commands=len(lost), key_checks=len(unchecked)),
            )
            self._tenants.clear()

    def _take(self, message: Any, partitions: Mapping[int, Partition], *, tells: bool) -> None:
        key, value, headers = (message.key() or b"").decode("utf-8", "replace"), message.value(), message.headers()
        tenant_id, kind, target_id = _parts(key)
        place = message.partition(), message.offset()
        if kind == KEY_CHECK:
            self._take_key_check(tenant_id, value, headers, place)
        elif kind in TARGETS and (how := self._fault(key, value, headers, place)) is not None:
            self._given.pop(key, None)
            if tells:
                target = Target(cast("TargetType", kind), target_id)
                self._forged(CommandForged(tenant_id, target, how, _denial(value)), key, partitions)

    def _take_key_check(
        self, tenant_id: str, value: bytes | None, headers: Headers | None, place: tuple[int, int]
    ) -> None:
        self._written.discard(tenant_id)
        if self._is_key_check(tenant_id, value, headers):
            self._checked[tenant_id] = place
        else:
            self._checked.pop(tenant_id, None)
            self._tenants.clear()  # to be looked at again

    def _fault(self, key: str, value: bytes | None, headers: Headers | None, place: tuple[int, int]) -> str | None:
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
                self._given.pop(key, None)
                self._signed_before.add(key)
                return None
            return "has written a command that the engine did not sign"
        given = self._given.get(key)
        if given is not None and command.seq < given.seq:
            return "has copied an old command"
        if command.expires_ms > self._brokers.now_ms():
            self._given[key] = Given(command.seq, command.expires_ms, *place)
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
        signed_before, self._signed_before = self._signed_before, set()
        for key, command in expected.items():
            given = self._given.get(key)
            is_there = given is not None and given.seq >= command.seq
            if is_there or command.expires_ms <= self._brokers.now_ms():
                continue
            if key in signed_before:
                log.info("a command is signed anew, with the key that took the place of its own", extra=fields(key=key))
            else:
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


def _standing(partitions: Mapping[int, Partition]) -> Iterator[tuple[str, StandingCommand]]:
    """What the partitions have said last of each target, by its record key."""
    for partition in partitions.values():
        for command in partition.engine.standing():
            yield control_key(command.tenant_id, command.target_type, command.target_id), command


def _denial(value: bytes | None) -> str:
    return f"forged/{hashlib.sha256(value or b'').hexdigest()}"


def _parts(key: str) -> tuple[str, str, str]:
    """Tenant, type and id that a record key names; empty where it names none."""
    parts = key.split("/")
    return (unquote(parts[0]), parts[1], unquote(parts[2])) if len(parts) == 3 else ("", "", "")
