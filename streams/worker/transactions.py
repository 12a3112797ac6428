"""One transaction per batch: everything that follows from it, its state rows, its fences and its input offsets."""

import threading
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from models.effects import Effect
from schemas.alert import Alert
from schemas.codec import encode
from schemas.duration import MINUTE_MS
from schemas.errors import BrokerError, SpendfuseError
from streams.clock import BrokerClock
from streams.kafka.client import NOT_ALLOWED, make_producer, refuse_without_rights
from streams.kafka.records import OutRecord, Records
from streams.process.crash_points import CrashPoints
from streams.settings import Settings
from streams.worker.fence import FENCE_KEY, moved_on, write_fence
from streams.worker.partition import Misplaced, Partition, next_offsets

START_TIMEOUT_S = 30.0
OFFSETS_TIMEOUT_S = 5.0
"""For a call that a healthy broker answers at once, and that hangs for good when the coordinator goes away."""
MOST_OF_A_NAME = 300
"""Characters of a record's name in a message."""
OLDEST_ORDER_MS = 25 * MINUTE_MS
"""The broker takes no record of operator.v1 that is half an hour old."""
PATIENCE_S = 3.0
"""How much longer than its own time-out a call may take before it counts as hanging."""


class Outcome:
    """What one commit published, for metrics and logs."""

    __slots__ = ("beats", "effects", "repeats", "rows")

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.rows: list[tuple[bytes, bytes | None]] = []
        self.repeats = 0
        """Commands that were given before, written once more."""
        self.beats: list[int] = []
        """Partitions that have shown a sign of life."""


class Aborted(SpendfuseError):  # an event in the loop, not a fault of anybody's
    """The transaction was aborted: nothing of it is visible, and the state it was made from must be restored."""


class TooLarge(Aborted):
    """Aborted, and as often as it is tried, because a topic takes no record as large as one of these."""


class ProducerLost(SpendfuseError):  # likewise
    """The outcome of the transaction is unknown, or the producer was fenced: make a new one, and read the fence."""

    def __init__(self, text: str, *, fenced: bool = False) -> None:
        super().__init__(text)
        self.fenced = fenced
        """Whether somebody has taken the transactional id, if only the coordinator because time was up."""


class NoProducer(BrokerError):  # likewise, but for the first one
    """No transactional producer could be started."""


class Transactions:
    """The transactional producer of a worker."""

    def __init__(self, settings: Settings, records: Records, crash: CrashPoints, brokers: BrokerClock) -> None:
        self._settings = settings
        self._brokers = brokers
        self._records = records
        self._crash = crash
        self._timeout_s = float(settings.call_timeout_s)
        self._state_topic = settings.topic("state.v1")
        self._operator_topic = settings.topic("operator.v1")
        self._producer = self._start(START_TIMEOUT_S)

    def renew(self) -> None:
        """A new producer under the same transactional id: aborts what the former left open, and fences it.

        Raises:
            NoProducer: not now; it may be tried again.
            BrokerError: the broker does not allow it.
        """
        self._producer = self._start(self._timeout_s)

    def _start(self, timeout_s: float) -> Producer:
        producer = make_producer(
            self._settings,
            {
                "transactional.id": f"{self._settings.prefix}engine-{self._settings.slot}",
                "transaction.timeout.ms": self._settings.transaction_timeout_ms,
                "linger.ms": 1,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1_048_576,
                "message.max.bytes": 4 * 1024 * 1024,
                "delivery.report.only.error": True,  # commit tells of success for all at once
                # After a commit the broker still writes markers, and the next transaction is told to come again:
                # with the default of 100 ms every small transaction takes that long.
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 50,
            },
        )
        try:
            producer.init_transactions(timeout_s)
        except KafkaException as error:
            refuse_without_rights(error.args[0])
            raise NoProducer(f"no transactional producer could be started: {error.args[0].str()}") from error
        return producer

    def commit(self, partitions: Iterable[Partition], consumer: Consumer) -> Outcome:
        """Publish what the partitions' engines decided since the last commit.

        Raises:
            Aborted: nothing of it is visible.
            TooLarge: likewise, until the topic takes larger records.
            ProducerLost: whether it is visible, the fence will say.
            BrokerError: the broker does not allow it.
        """
        outcome = Outcome()
        try:
            self._producer.begin_transaction()  # 4
            offsets = self._produce(partitions, outcome)  # 5
            if self._crash.armed:
                self._producer.flush(self._timeout_s)
            self._crash("rows_sent")
            self._send_offsets(offsets, consumer.consumer_group_metadata())  # 6: always, the zombie check
            self._crash("offsets_sent")
            self._producer.commit_transaction(self._timeout_s)  # 7
            self._crash("committed")
        except KafkaException as error:
            reason = error.args[0]
        else:
            return outcome
        raise self._given_up(reason, outcome)  # not above, where a client's call that fails keeps the exception

    def _produce(self, partitions: Iterable[Partition], outcome: Outcome) -> list[TopicPartition]:
        offsets: list[TopicPartition] = []
        for partition in partitions:
            self._send_decided(partition, outcome)
            self._crash("effects_sent")
            for one in partition.misplaced:
                self._send(one.topic, one.value, one.key, one.home, headers=one.headers, ms=self._time_of(one))
            outcome.rows += self._send_state(partition)
            offsets += next_offsets(self._settings, partition)
        return offsets

    def _send_decided(self, partition: Partition, outcome: Outcome) -> None:
        """What the partition has to say to others."""
        partition.engine.go_out(self._brokers.now_ms())
        for effect in partition.drain_effects():
            outcome.effects.append(effect)
            self._send_record(self._records.of(effect))
        for command, kid in partition.engine.drain_repeats():
            self._send_record(self._records.repeated(command, kid))
            outcome.repeats += 1
        for tenant_id in partition.key_checks:
            if (check := self._records.key_check(tenant_id)) is not None:
                self._send_record(check)
        if partition.beat is not None:
            self._send_alert(partition.beat, partition.number)
            outcome.beats.append(partition.number)
        for page in partition.pages:
            outcome.effects.append(self._send_alert(page, partition.number))

    def _send_state(self, partition: Partition) -> list[tuple[bytes, bytes | None]]:
        """The rows that have changed, and the fence behind them. Returns the rows."""
        rows = partition.engine.drain_rows()
        self._send_rows(rows, partition.number)
        fence = partition.fence()
        if partition.has_left_another:
            left = self._settings.at_generation(partition.predecessor).topic("state.v1")
            gone = write_fence(moved_on(fence, self._settings.state_generation))
            self._send(left, gone, FENCE_KEY, partition.number)
        self._send(self._state_topic, write_fence(fence), FENCE_KEY, partition.number)
        return rows

    def _send_offsets(self, offsets: list[TopicPartition], group: object) -> None:
        """The call that hangs for good when the coordinator goes away: then it is left behind in its thread."""
        producer = self._producer
        reasons: list[KafkaError] = []  # not the exception: it knows this frame, which would know it

        def call() -> None:
            try:
                producer.send_offsets_to_transaction(offsets, group, OFFSETS_TIMEOUT_S)
            except KafkaException as error:
                reasons.append(error.args[0])

        thread = threading.Thread(target=call, name="send-offsets", daemon=True)
        thread.start()
        thread.join(OFFSETS_TIMEOUT_S + PATIENCE_S)
        if thread.is_alive():
            raise ProducerLost("the coordinator went away while it was sent the offsets")
        if reasons:
            raise KafkaException(reasons[0])

    def _send_rows(self, rows: list[tuple[bytes, bytes | None]], partition: int) -> None:
        """Many per batch, so the loop holds nothing but the call itself."""
        produce, topic = self._producer.produce, self._state_topic
        for key, value in rows:
            try:
                produce(topic, value, key, partition)
            except BufferError:
                pass
            else:
                continue
            self._send(topic, value, key, partition)

    def _send_record(self, record: OutRecord) -> None:
        self._send(record.topic, record.value, record.key, headers=record.headers)

    def _send_alert(self, alert: Alert, partition: int) -> Effect:
        """An alert about the service itself, which no engine has decided, beside those of the partition."""
        effect = Effect("alerts.v1", alert.tenant_id, alert)
        record = self._records.of(effect)
        self._send(record.topic, record.value, record.key, partition)
        return effect

    def _time_of(self, misplaced: Misplaced) -> int:
        """A moved record keeps its time. An order that is too old to be written is refused there, by its time."""
        now_ms = self._brokers.now_ms()
        is_order = misplaced.topic == self._operator_topic
        return now_ms if is_order and now_ms - misplaced.append_ms > OLDEST_ORDER_MS else misplaced.append_ms

    def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes,
        partition: int = -1,
        headers: Any = None,
        ms: int | None = None,
    ) -> None:
        """Hand a record over with `ms` as its time; with the brokers' now, or a host whose clock is hours ahead could
        write nothing: they refuse what is of the future.
        """
        stamp_ms = self._brokers.now_ms() if ms is None else ms
        while True:
            try:
                self._producer.produce(topic, value, key, partition, timestamp=stamp_ms, headers=headers or [])
            except BufferError:
                pass
            else:
                return
            self._producer.poll(0.05)

    def _given_up(self, reason: KafkaError, outcome: Outcome) -> Aborted | ProducerLost:
        """Abort; returns what that means. Raises `BrokerError` if the broker does not allow it."""
        too_large = reason.code() == KafkaError.MSG_SIZE_TOO_LARGE
        if reason.code() in NOT_ALLOWED:
            # Or the client's last words would be about what it has not sent.
            self._producer.purge()
            self._producer.flush(PATIENCE_S)
        refuse_without_rights(reason)
        if not (too_large or reason.txn_requires_abort()):
            return ProducerLost(reason.str(), fenced=reason.code() == KafkaError._FENCED)
        try:
            self._producer.abort_transaction(self._timeout_s)
        except KafkaException as failed:
            return ProducerLost(f"{reason.str()}; the abort failed too: {failed.args[0].str()}")
        if too_large:
            return TooLarge(_what_is_too_large(reason.str(), outcome))
        return Aborted(reason.str())


def _what_is_too_large(reason: str, outcome: Outcome) -> str:
    """Which record it most likely is: the client says of which topic, and not which."""
    records = [(len(key) + len(value or b""), f"the row {key!r}") for key, value in outcome.rows]
    records += [(len(encode(one.value)), f"{type(one.value).__name__} for {one.key!r}") for one in outcome.effects]
    size, name = max(records, default=(0, "none"))
    return (
        f"{reason}. The largest record of the batch is {name[:MOST_OF_A_NAME]} with {size:,} bytes. Have the topic "
        "take it: give it the max.message.bytes that `python -m streams topics check` names"
    )
