"""One partition at work: its engine, its clock, and how far it has read."""

import logging
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from confluent_kafka import TopicPartition

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy
from models.state.rows import SCHEMA
from models.stimuli import OperatorSeen, PolicyChanged, RecordMoved, RecordRefused, SpendDue, SpendSeen, Ticked
from schemas.alert import Alert
from schemas.codec import dead_letter, decode_spend, decode_usage
from schemas.duration import DAY_MS
from schemas.errors import StateError, Undecodable
from streams.clock import BrokerClock, PartitionClock, seconds
from streams.kafka.order_reader import OrderReader
from streams.kafka.partitioner import KEYLESS, moved_from, origin_of, partition_of
from streams.process.logs import fields
from streams.settings import Settings
from streams.worker.fence import Fence, check_digest
from streams.worker.generations.published import Level, level_of
from streams.worker.unreadable import UnreadableRow

log = logging.getLogger("spendfuse.partition")

MOST_KNOWN_KEYS: Final = 100_000
MARKED_MS: Final = DAY_MS
"""For so long after a takeover each commit says in the changelog of the generation before that it has moved on: there
its workers, as long as there are any, see that somebody works on the partition."""


class PoisonedInput(StateError):  # it names what is wrong with the input
    """Nothing can be read any more of what could be read before. The last of it was not committed."""


class Misplaced(NamedTuple):
    """A record that was found in another partition than its tenant's, as it is to be written there."""

    topic: str
    home: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    append_ms: int


class Partition:
    """Turns records into stimuli for its engine, and its engine's state into a fence."""

    def __init__(
        self,
        number: int,
        partitions: int,
        policy: Policy,
        rows: dict[bytes, bytes],
        fence: Fence | None,
        policy_ms: int = 0,
        breathe: Callable[[], None] | None = None,
        brokers: BrokerClock | None = None,
    ) -> None:
        """Of so many partitions the one of that number.

        `policy_ms` is since when the policy is in force, if the rows follow another, and as far as the partition's time
        has come; 0 for their last record. `breathe` is called again and again while something takes long. `brokers` is
        the clock that tells how long nobody was there.
        """
        self.number = number
        self._partitions = partitions
        self._keys_of: dict[bytes | None, str] = {}
        """Keys that belong here -> their tenants."""
        self.misplaced: list[Misplaced] = []
        """What leaves with the next commit for the partitions where it belongs."""
        self.misplaced_records = 0
        """How many such records there have been."""
        self.engine = Engine(policy, 0 if rows else secrets.randbits(64), breathe, commands_go_out_at_once=False)
        self.usage_offset = -1
        self.operator_offset = -1
        self.spend_offset = -1
        self.moved = False
        """Whether something was read since the last commit."""
        self.beat: Alert | None = None
        """The sign of life that leaves with the next commit."""
        self.key_checks: list[str] = []
        """Tenants whose key check leaves with the next commit."""
        self._counted_to = 0
        self.unreadable_in_a_row = 0
        """Records of usage.v1 since the last one that could be read."""
        self._unreadable = UnreadableRow(number, 0 if fence is None else fence.flood_paged_ms)
        self.pages: list[Alert] = []
        """Alerts about the service itself that leave with the next commit."""
        self.floods = 0
        """How often so many unreadable records in a row were set aside that somebody must be told."""
        self.unkeyed = 0
        self.restored_rows = len(rows)
        self.predecessor = self._taken_over_ms = self._ticked_ms = 0  # as in `Fence`
        self.published: Counter[Level] = Counter()
        """Levels of limits across tenants that the generation before has published: these are not published again."""
        self._brokers = brokers or BrokerClock()
        self.clock = PartitionClock()
        self._last_append_ms = 0
        self._end_offset = 0
        if fence is not None:
            self.clock = PartitionClock(fence.time_ms or fence.last_append_ms, fence.written_ms)
            self.carry_clock()
            self.engine.restore(rows, min(policy_ms, self.clock.kept_ms), at_once=False)
            check_digest(number, fence, self.engine.digest)
            if not self.engine.seed:
                log.warning(
                    "event ids of this state are hashed without a secret; `rebuild` gives them one",
                    extra=fields(partition=number),
                )
            self.usage_offset = fence.usage_offset
            self.operator_offset = fence.operator_offset
            self.spend_offset = fence.spend_offset
            self._last_append_ms = fence.last_append_ms
            self._ticked_ms = fence.ticked_ms
            self.predecessor, self._taken_over_ms = fence.predecessor, fence.taken_over_ms

    def take_over(self, left: Fence | None) -> None:
        """Go on for workers of the generation before, who left `left` behind, when everything up to there has been
        taken in. What they had let fall due by time alone falls due here, and is for the caller to drop. A fence of an
        older version does not say until when that was: rather than lost, a second or two of it is published again.
        """
        if left is not None:
            self.clock = PartitionClock(left.time_ms or left.last_append_ms, left.written_ms)
            self.carry_clock()
            self._last_append_ms = max(self._last_append_ms, left.last_append_ms)
            self._ticked_ms = left.ticked_ms or max(0, left.time_ms - 2 * PartitionClock.SLACK_MS)
            self.engine.handle(Ticked(self._ticked_ms))
        self.unreadable_in_a_row = 0
        self._taken_over_ms = self._brokers.now_ms()

    @property
    def taken_over_ms(self) -> int:
        """As in `Fence`."""
        return self._taken_over_ms

    def drain_effects(self) -> list[Effect]:
        """What the engine has decided, without what the generation before has published already."""
        effects = self.engine.drain_effects()
        return [effect for effect in effects if not self._is_published(effect)] if self.published else effects

    def _is_published(self, effect: Effect) -> bool:
        level = level_of(effect.value) if isinstance(effect.value, Alert) else None
        if level is None or self.published[level] <= 0:
            return False
        self.published[level] -= 1
        return True

    @property
    def has_left_another(self) -> bool:
        """Whether the generation before is to be told with each commit that this one has taken over."""
        return self._brokers.now_ms() < self._taken_over_ms + MARKED_MS

    def carry_clock(self) -> None:
        """Nobody kept this partition's clock from its fence until now, as long as the brokers' clock says."""
        if self._brokers.is_known:
            self.clock.carry(self._brokers.now_ms())

    def usage(self, message: Any) -> None:
        """Take in one record of usage.v1. One at or below the fence has been counted already."""
        offset = message.offset()
        if offset <= self.usage_offset:
            return
        if not self.moved:
            self._move()
        self.usage_offset = offset
        append_ms = message.timestamp()[1]
        self._last_append_ms = append_ms
        self.clock.record(append_ms)
        value = message.value()
        try:
            usage = decode_usage(value)
            is_here = self._keys_of.get(message.key()) == usage.tenant_id or self._is_here(message, usage.tenant_id)
        except Undecodable as fault:
            if fault.reason == "wrong_tenant":  # that one we could read
                self._refuse(message, value, fault, append_ms)
            else:
                self._refuse(message, value, fault, append_ms, self._note_unreadable(message.key(), append_ms))
            return
        self.unreadable_in_a_row = 0
        if not is_here:
            self._move_on(message, usage.tenant_id)
            return
        if self.engine.usage(usage, append_ms):
            self._set_aside(message, value, append_ms)
        if message.headers() is not None:
            self._tell_of_move(message, usage.tenant_id, usage.run_id)

    def operator(self, message: Any, orders: OrderReader) -> None:
        """Take in one record of operator.v1. What is unreadable or unsigned orders nothing, and stops nothing: whoever
        may write there could otherwise end every worker for good.
        """
        offset = message.offset()
        if offset <= self.operator_offset:
            return
        if not self.moved:
            self._move()
        self.operator_offset = offset
        append_ms = message.timestamp()[1]
        value = message.value()
        try:
            order = orders.read(value, message.headers(), append_ms)
        except Undecodable as fault:
            self._refuse(message, value, fault, append_ms)
            return
        if partition_of(order.tenant_id.encode(), self._partitions) != self.number:
            self._move_on(message, order.tenant_id)
            return
        log.info("operator message", extra=fields(type=type(order).__name__, who=order.who, why=order.why))
        self.engine.handle(OperatorSeen(order, append_ms))
        self._tell_of_move(message, order.tenant_id, None)

    def spend(self, message: Any) -> None:
        """Take in one record of spend.v1: what some partition's tenants have spent in scopes across tenants."""
        offset = message.offset()
        if offset <= self.spend_offset:
            return
        if not self.moved:
            self._move()
        self.spend_offset = offset
        append_ms = message.timestamp()[1]
        value = message.value()
        try:
            delta = decode_spend(value)
        except Undecodable as fault:
            self._refuse(message, value, fault, append_ms)
            return
        if not self._last_append_ms:
            # No tenant of its own makes this partition's time pass.
            self.clock.record(delta.ts_ms)
            self.clock.end_reached()
        self.engine.handle(SpendSeen(delta))

    def change_policy(self, changed: PolicyChanged) -> None:
        """Follow another policy, since its append or since as late as the input has been read: each tenant when
        something happens to it, or when `catch_up` comes to it.
        """
        self.engine.handle(changed._replace(at_ms=min(changed.at_ms, self._now_ms()), at_once=False))

    def catch_up(self, for_s: float) -> None:
        """Bring tenants that wait to the policy in force, for so many seconds: at least one."""
        had_waiting = self.engine.waiting
        ends = seconds() + for_s
        self.engine.catch_up(lambda: seconds() >= ends, self._now_ms())
        if had_waiting and not self.engine.waiting:
            log.info(
                "all tenants follow the policy",
                extra=fields(partition=self.number, policy_version=self.engine.policy.version),
            )

    def end_reached(self, offset: int) -> None:
        """Everything that may be read of usage.v1 has been read, up to before `offset`."""
        self._end_offset = offset
        self.clock.end_reached()

    @property
    def offsets(self) -> dict[str, int]:
        """Input -> the offset of its last record that was taken in, -1 for none."""
        return {"usage.v1": self.usage_offset, "operator.v1": self.operator_offset, "spend.v1": self.spend_offset}

    @property
    def read_to(self) -> int:
        """The offset of usage.v1 before which nothing is left to read: behind the last record may be markers."""
        return max(self.usage_offset + 1, self._end_offset)

    @property
    def counted_to(self) -> int:
        """The offset of usage.v1 before which everything is committed, as far as there is something to commit."""
        return self._counted_to if self.moved else self.read_to

    @property
    def at_end(self) -> bool:
        """Whether everything that may be read has been read. More may stand there, uncommitted."""
        return self._end_offset > self.usage_offset

    @property
    def has_something(self) -> bool:
        """Whether there is anything to commit."""
        return self.moved or self.engine.has_changed or self.beat is not None or bool(self.key_checks)

    def committed(self) -> None:
        """All that it had to say is visible."""
        self.moved = False
        self.beat = None
        self.pages = []
        self.key_checks = []
        self.misplaced = []

    def tick(self) -> None:
        """Let time pass where no message makes it pass, and send on what was spent across tenants."""
        now_ms = self._now_ms()
        if now_ms > 0:
            self.engine.handle(Ticked(now_ms))
            self._ticked_ms = max(self._ticked_ms, now_ms)
        self.engine.handle(SpendDue())

    def fence(self) -> Fence:
        """How far the rows taken so far go."""
        return Fence(
            usage_offset=self.usage_offset,
            operator_offset=self.operator_offset,
            spend_offset=self.spend_offset,
            digest=f"{self.engine.digest:016x}",
            schema=SCHEMA,
            partitions=self._partitions,
            policy_version=self.engine.policy.version,
            policy_stamp=self.engine.policy.stamp,
            last_append_ms=self._last_append_ms,
            written_ms=self._brokers.now_ms(),
            time_ms=self.clock.kept_ms,
            host_ahead_ms=self._brokers.host_ahead_ms,
            flood_paged_ms=self._unreadable.paged_hour_ms,
            ticked_ms=self._ticked_ms,
            predecessor=self.predecessor,
            taken_over_ms=self._taken_over_ms,
        )

    def check_poison(self, limit: int) -> None:
        """Look at the row of records of usage.v1 that could not be read, once it has more than `limit`.

        Raises:
            PoisonedInput: nothing can be read any more, from tenants that were read until now.
        """
        if not limit or self.unreadable_in_a_row <= limit:
            return
        if self._unreadable.is_ours(self.engine, self._last_append_ms):
            raise PoisonedInput(
                f"partition {self.number}: more than {limit} records of usage.v1 in a row cannot be read, up to offset "
                f"{self.usage_offset}, from tenants that could be read until now: is there a newer version of the "
                "worker? Stop the producers that write them; then start the worker again, or set "
                "SPENDFUSE_DEAD_LETTER_LIMIT to 0 to have them set aside."
            )
        self.floods += 1
        page = self._unreadable.page(self.usage_offset, self._last_append_ms, self.engine.policy.version)
        self.pages += [] if page is None else [page]
        self.unreadable_in_a_row = 0

    def _now_ms(self) -> int:
        """The partition's time, as far as it is safe to act on, and never past the brokers': the last record may be of
        an agent whose clock is ahead, and the time of all others is not that agent's.
        """
        now_ms = self.clock.now_ms()
        return min(now_ms, self._brokers.now_ms() - PartitionClock.SLACK_MS) if self._brokers.is_known else now_ms

    def _move(self) -> None:
        """From here on there is something to commit."""
        self._counted_to = self.read_to
        self.moved = True

    def _is_here(self, message: Any, tenant_id: str) -> bool:
        """Whether the record lies where its tenant's state is. Raises `Undecodable` if it has another tenant's key."""
        key, own = message.key(), tenant_id.encode()
        if key is None:
            self.unkeyed += 1
        elif key != own:
            raise Undecodable("wrong_tenant", "the record's key is not its tenant_id")
        if partition_of(own, self._partitions) != self.number:
            return False
        if key is not None:
            if len(self._keys_of) >= MOST_KNOWN_KEYS:
                self._keys_of.clear()
            self._keys_of[key] = tenant_id
        return True

    def _move_on(self, message: Any, tenant_id: str) -> None:
        """Another client's partitioner, or none, put the record here; its tenant's spend is counted elsewhere."""
        own = tenant_id.encode()
        self.misplaced_records += 1
        self.misplaced.append(
            Misplaced(
                message.topic(),
                partition_of(own, self._partitions),
                own,
                message.value(),
                [*(message.headers() or ()), moved_from(self.number, message)],
                message.timestamp()[1],
            )
        )

    def _tell_of_move(self, message: Any, tenant_id: str, run_id: str | None) -> None:
        """A producer puts this tenant's records where they do not belong."""
        origin = origin_of(message.headers())
        if origin is not None:
            self.engine.handle(RecordMoved(tenant_id, run_id, had_key=not origin.endswith(KEYLESS)))

    def _note_unreadable(self, key: bytes | None, append_ms: int) -> str | None:
        """One more that could not be read. Returns whose it would have been."""
        if not self.unreadable_in_a_row:
            self._unreadable.begin()
        self.unreadable_in_a_row += 1
        return self._unreadable.add(key, self.engine, append_ms)

    def _set_aside(self, message: Any, value: bytes | None, append_ms: int) -> None:
        """Say where a record stands that came too late, so that it can be found and booked."""
        fault = Undecodable("too_late", "it came more than a day after it happened: in no budget")
        self._refuse(message, value, fault, append_ms)

    def _refuse(
        self, message: Any, value: bytes | None, fault: Undecodable, append_ms: int, tenant_id: str | None = None
    ) -> None:
        letter = dead_letter(
            message.topic(), message.partition(), message.offset(), message.key(), value, fault, append_ms
        )
        self.engine.handle(RecordRefused(letter, tenant_id))


def next_offsets(settings: Settings, partition: Partition) -> list[TopicPartition]:
    """Where to go on reading each input, behind all that was taken in."""
    return [
        TopicPartition(settings.topic(name), partition.number, offset + 1) for name, offset in partition.offsets.items()
    ]
