"""The detection worker: records in, decisions out, one transaction per batch.

The loop is numbered, each step with what it guarantees:

1 take      one wait, many records; partitions come and go here and nowhere else
2 decode    bytes to values; a bad record becomes a dead letter of this transaction
3 decide    the engines take the values in order, and remember which rows they touched
4 begin     a transaction
5 produce   alerts, commands, rollups, runs, dead letters, changed rows, and per partition the fence row last
6 offsets   of the input, with the group's metadata: a worker that lost its partitions fails here
7 commit    all of it becomes visible at once, or none of it

Whatever goes wrong after step 3, the state in memory is dropped and read back from the changelog: the fence says how
far it goes, and reading goes on behind it. That is slower than undoing, needs nothing on the hot path, and is the same
code as a restart.
"""

import gc
import logging
import os
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from models.engine import COMPILED
from schemas.errors import BrokerError
from streams.broker_time import BrokerTime
from streams.clock import BrokerClock, PartitionClock, monotonic_ms, pause, seconds
from streams.kafka.admin import missing_topics, partition_count, require_write
from streams.kafka.client import refuse_without_rights
from streams.kafka.order_reader import OrderReader
from streams.kafka.records import Records
from streams.kafka.state_reader import ChangelogStalled, StateReader
from streams.process.broker_watch import BrokerWatch
from streams.process.crash_points import VARIABLE, CrashPoints
from streams.process.logs import fields
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.tracing.decisions import DecisionTraces
from streams.tracing.span import Tracer
from streams.worker.commit_health import CommitHealth
from streams.worker.control.watch import ControlWatch
from streams.worker.dead_mans_switch import DeadMansSwitch
from streams.worker.generations.restoring import QUERY_TIMEOUT_S, Assignment, Restorer
from streams.worker.losses import BACKOFF_S, PLACE_LOST, REFUSED_BACKOFF_S, Failure, FencedOut, PlaceLost
from streams.worker.memory import return_freed
from streams.worker.partition import Partition, next_offsets
from streams.worker.policy import PolicyInForce
from streams.worker.reporter import Reporter
from streams.worker.transactions import Aborted, NoProducer, ProducerLost, TooLarge, Transactions
from streams.worker_group import INPUTS, GroupWatch, new_member, shared_topics

log = logging.getLogger("spendfuse.worker")

POLICY_POLL_MS = 200
CO_PARTITIONED = (*INPUTS, "state.v1", "alerts.v1")
TOPICS = (*CO_PARTITIONED, "policy.v1", "control.v1", "rollups.v1", "runs.v1", "usage.dlq.v1")
REJOIN_AFTER_S = 20.0
"""So long a broker that answers may keep us from our state, then a new consumer asks: one has been seen that asked a
former coordinator of its group for ever."""
SLICE_RECORDS = 500
"""Records that are fetched and decided at once, of a batch that is committed at once."""
FEW_RECORDS = 50
"""The same while tenants wait for another policy."""
SHORT_S = 0.1
"""After so long no more is added to a batch then."""
CATCH_UP_S = 0.02
"""For so long tenants are brought to it in each turn of the loop."""
SLOT_MEMORY_MS = 30_000
"""A second process in our slot takes our transactional id, and within so much time our place in the group."""


class Worker:
    """One process of the detection service. `run` works until `stop` is called."""

    def __init__(self, settings: Settings, metrics: Metrics, broker: BrokerWatch, tracer: Tracer | None = None) -> None:
        self._settings = settings
        self._broker = broker
        self._outages = broker.outages
        self._metrics = metrics
        self._usage_topic = settings.topic("usage.v1")
        self._spend_topic = settings.topic("spend.v1")
        self._inputs = {name: settings.topic(name) for name in INPUTS}
        self._orders = OrderReader.of(settings)
        self._clock = BrokerClock()
        self._time = BrokerTime(settings, self._clock, "state.v1")
        self._partitions: dict[int, Partition] = {}
        self._partition_count = 0
        self._policy: PolicyInForce
        self._stopping = False
        self._fenced_ms = -SLOT_MEMORY_MS
        self._watch: ControlWatch
        self._crash = CrashPoints(os.environ.get(VARIABLE))
        self._reporter = Reporter(settings, metrics)
        self._traces = DecisionTraces(tracer, self._clock)
        self.health = CommitHealth(settings.unhealthy_s * 1000)
        self._group = GroupWatch(settings)
        self._restorer = Restorer(settings, self._clock, self._crash, self._alive)
        metrics.unattended_seconds.set_function(lambda: self._group.attendance.unattended_s)
        metrics.compiled.set(COMPILED)
        metrics.uncommitted_seconds.set_function(lambda: self.health.failing_s)
        metrics.host_clock_ahead_seconds.set_function(lambda: self._clock.host_ahead_ms / 1000)
        self.beat_ms = monotonic_ms()
        """When the loop last showed that it lives."""
        self._asked_ms = self.beat_ms
        """When it last asked for records: long work shows that it lives and asks for none."""

    def fault(self) -> str | None:
        """What is wrong, in a sentence; None if nothing is."""
        return self.health.fault() or self._group.attendance.fault()

    def stop(self) -> None:
        """Finish the batch, commit, leave."""
        self._stopping = True

    def run(self) -> None:
        """Work. Raises `SpendfuseError` with what to do when it cannot go on."""
        gc.disable()  # state is free of cycles, and looking for some would stall the loop for half a second
        self._partition_count = partition_count(self._settings, needed=TOPICS, alike=CO_PARTITIONED)
        require_write(self._settings, INPUTS)
        self._metrics.topic_partitions.set(self._partition_count)
        self._time.ask(0)
        self._policy = PolicyInForce(self._settings, self._metrics, self._clock)
        self._watch = ControlWatch(self._settings, self._metrics, self._clock)
        transactions = Transactions(self._settings, Records(self._settings), self._crash, self._clock)
        self._group.start(self._partition_count)
        about = fields(slot=self._settings.slot, policy_version=self._policy.now.policy.version, compiled=COMPILED)
        log.info("worker started", extra=about)
        try:
            while not self._stopping:
                self._take_part(transactions)
        finally:
            self._policy.close()
            self._watch.close()
            self._group.close()
        log.info("worker stopped")

    def _take_part(self, transactions: Transactions) -> None:
        """Work as a member of the group, until asked to stop or until the place in it is lost."""
        consumer = new_member(self._settings)
        consumer.subscribe(
            shared_topics(self._settings),
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._revoked,
        )
        try:
            lost = self._work(consumer, transactions)
            if lost is not None:
                log.warning("the group gave our place away; joining again", extra=fields(error=lost))
                self.health.failed(lost)
                self._check_slot(consumer, transactions)
                self._pause()
        finally:
            consumer.close()

    def _work(self, consumer: Consumer, transactions: Transactions) -> str | None:
        """Returns how the place in the group was lost; None when asked to stop, or to give the place up.

        What is done about it is done behind the `except`, as everywhere here. Where a client's call fails while an
        exception is handled, confluent-kafka (2.16) keeps that exception for good, with all that its frames hold.
        """
        try:
            self._loop(consumer, transactions)
        except PlaceLost as lost:
            return str(lost)
        return None

    def _check_slot(self, consumer: Consumer, transactions: Transactions) -> None:
        """Raise `FencedOut` if a second process has this slot: it has then taken our transactional id as well.

        The transaction tried here cannot be committed, because the group refuses its offsets; how it fails tells.
        """
        owned = list(self._partitions.values())
        self._partitions.clear()
        taken = monotonic_ms() < self._fenced_ms + SLOT_MEMORY_MS
        needs_producer = False
        if owned and not taken:
            try:
                transactions.commit(owned, consumer)
            except Aborted:
                return
            except ProducerLost as lost:
                taken, needs_producer = self._is_fenced(lost), True
        if taken:
            raise FencedOut(f"another worker has taken slot {self._settings.slot!r}; give each its own SPENDFUSE_SLOT")
        if needs_producer:
            self._renew(transactions)

    def _loop(self, consumer: Consumer, transactions: Transactions) -> None:
        next_tick_ms = next_policy_ms = 0
        switch = DeadMansSwitch(self._settings, self._metrics, self._clock)
        while not self._stopping and not self._group.is_to_be_left():
            started = seconds()
            is_late = self._take_in(consumer)  # 1 to 3
            now_ms = self.beat_ms
            if is_late:
                # We stood still: what was appended meanwhile is read before time may pass it.
                next_tick_ms = now_ms + self._settings.tick_ms
            if now_ms >= next_tick_ms:
                next_tick_ms = now_ms + self._settings.tick_ms
                self._tick(consumer, switch)
            if now_ms >= next_policy_ms:
                next_policy_ms = now_ms + POLICY_POLL_MS
                self._change_policy()
            self._catch_up()
            self._crash("decided")
            if (failure := self._commit(consumer, transactions, started)) is not None:
                self._start_over(consumer, transactions, failure)

    def _take_in(self, consumer: Consumer) -> bool:
        """Decide a batch, slice by slice: a record is looked at soon after it was fetched, while the processor's cache
        still holds it. Returns whether the loop had stood still before.

        While tenants wait for another policy, a batch is short, because each record may be the first of its tenant
        under it, and what follows from the first of a batch waits for its last.
        """
        is_short = any(partition.engine.is_catching_up for partition in self._partitions.values())
        wait_s = 0.0 if is_short else self._settings.batch_wait_ms / 1000
        stood_still = False
        left = self._settings.batch_records
        started = since = seconds()
        while left:
            asked = min(left, FEW_RECORDS if is_short else SLICE_RECORDS)
            messages = consumer.consume(asked, wait_s)
            wait_s = 0.0  # beyond the first slice only what is there already
            since = self._metrics.step("take", since)
            now_ms = monotonic_ms()
            stood_still |= now_ms - self._asked_ms > PartitionClock.SLACK_MS
            self.beat_ms = self._asked_ms = now_ms
            self._crash("taken")
            if messages:
                self._decide(messages)
                since = self._metrics.step("decide", since)
            is_over = len(messages) < asked or (is_short and since > started + SHORT_S)
            left = 0 if is_over else left - asked
        return stood_still

    def _catch_up(self) -> None:
        """Bring some tenants of each partition to its policy: at least one."""
        waiting = [partition for partition in self._partitions.values() if partition.engine.is_catching_up]
        started = seconds()
        for partition in waiting:
            partition.catch_up(CATCH_UP_S / len(waiting))
        self._metrics.step("catch_up", started)

    def _decide(self, messages: Iterable[Any]) -> None:
        partitions = self._partitions
        usage_topic, spend_topic = self._usage_topic, self._spend_topic
        for message in messages:
            error = message.error()
            if error is not None:
                self._input_error(error, message)
                continue
            partition = partitions.get(message.partition())
            if partition is None:
                continue  # revoked since it was fetched
            if message.topic() == usage_topic:
                partition.usage(message)
            elif message.topic() == spend_topic:
                partition.spend(message)
            else:
                partition.operator(message, self._orders)
        for partition in partitions.values():
            partition.check_poison(self._settings.dead_letter_limit)

    def _input_error(self, error: KafkaError, message: Any) -> None:
        refuse_without_rights(error)
        if error.code() == KafkaError._PARTITION_EOF:
            partition = self._partitions.get(message.partition())
            if partition is not None and message.topic() == self._usage_topic:
                partition.end_reached(message.offset())
        elif error.code() in PLACE_LOST:
            raise PlaceLost(error.str())
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise BrokerError(f"the input does not reach back to where the state ends: {error.str()}")
        elif error.fatal():
            raise BrokerError(f"the consumer cannot go on: {error.str()}")
        else:
            log.warning("the broker reports", extra=fields(error=error.str()))

    def _tick(self, consumer: Consumer, switch: DeadMansSwitch) -> None:
        if self._partitions and self._time.ask_when_due(min(self._partitions)):
            for partition in self._partitions.values():
                partition.carry_clock()
        for number, partition in self._partitions.items():
            partition.tick()
            _, high = consumer.get_watermark_offsets(TopicPartition(self._usage_topic, number), cached=True)
            self._reporter.progress(partition, high)
        self._group.holds(self._partitions)
        switch.tick(self._partitions)
        self._watch.tick(self._partitions)

    def _change_policy(self) -> None:
        changed = self._policy.changed()
        if changed is not None:
            for partition in self._partitions.values():
                partition.change_policy(changed)

    def _commit(self, consumer: Consumer, transactions: Transactions, started: float) -> Failure | None:
        """Returns why nothing was committed; with it nobody holds the state any more but the loop itself."""
        partitions = self._partitions.values()
        changed = [one for one in partitions if one.has_something]
        if not changed:
            self.health.nothing()
            return None
        before = seconds()
        self.health.attempt()
        if self._outages != self._broker.outages:
            # A producer that saw its coordinator go may hang in the first transaction after it: wait with a new one.
            self._renew(transactions)
        try:
            outcome = transactions.commit(changed, consumer)  # 4 to 7
        except TooLarge as refused:
            log.error("a topic refuses a record; until it takes it nothing counts", extra=fields(error=str(refused)))
            return Failure(str(refused), REFUSED_BACKOFF_S)
        except Aborted as aborted:
            return Failure(str(aborted))
        except ProducerLost as lost:
            if self._is_fenced(lost):
                self._fenced_ms = monotonic_ms()
            return Failure(str(lost), needs_producer=True)
        self.health.succeeded()
        for partition in changed:
            partition.committed()
        self._metrics.step("commit", before)
        self._metrics.batch_seconds.observe(seconds() - started)
        self._reporter.committed(changed, outcome)
        self._traces.committed(outcome.effects, started, before)
        return None

    def _is_fenced(self, lost: ProducerLost) -> bool:
        """Whether another process has taken our transactional id, as far as that can be told: a broker that was away
        fences whom it finds with an open transaction as well.
        """
        return lost.fenced and monotonic_ms() > self._broker.last_away_ms + SLOT_MEMORY_MS

    def _renew(self, transactions: Transactions) -> None:
        """A new producer. A broker that is away is waited for, as long as it takes."""
        while True:
            self._outages = self._broker.outages
            try:
                transactions.renew()
            except NoProducer as error:
                if self._stopping:
                    raise
                log.warning("there is no new producer yet", extra=fields(error=str(error)))
                self.health.failed(str(error))
                self._pause()
            else:
                return

    def _start_over(self, consumer: Consumer, transactions: Transactions, failure: Failure) -> None:
        """Drop the state in memory, read it back, and go on behind its fence."""
        why, backoff_s, needs_producer = failure
        if missing := missing_topics(self._settings, TOPICS):  # the client says that records of others timed out
            why = f"topics are missing: {', '.join(missing)}: python -m streams topics apply ({why})"
        if needs_producer:
            log.warning("the producer is renewed", extra=fields(error=why))
            self._renew(transactions)
        self._metrics.aborts.inc()
        self.health.failed(why)
        log.warning("a batch was not committed; the state is read back", extra=fields(error=why))
        numbers = sorted(self._partitions)
        self._drop_state()
        self._pause(backoff_s)
        self.health.failed(why)  # still: a long pause is no calm
        with self._metrics.restoring.track_inprogress():
            places = self._restore(consumer, numbers)
        try:
            consumer.assign(places)
        except KafkaException as error:
            raise PlaceLost(error.args[0].str()) from error

    def _pause(self, backoff_s: float = BACKOFF_S) -> None:
        """Back off before trying again, without a busy loop."""
        until = seconds() + backoff_s
        while seconds() < until and not self._stopping:
            self.beat_ms = monotonic_ms()
            pause(0.05)

    def _assigned(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        numbers = sorted({partition.partition for partition in assigned})
        log.info("partitions assigned", extra=fields(partitions=numbers))
        self._drop_state()
        with self._metrics.restoring.track_inprogress():
            consumer.assign(self._restore(consumer, numbers))

    def _revoked(self, _: Consumer, revoked: list[TopicPartition]) -> None:
        """Between batches, so that no transaction is open: what is not committed is read again by the next owner."""
        self._crash("revoked")
        log.info("partitions revoked", extra=fields(partitions=sorted({one.partition for one in revoked})))
        self._drop_state()
        self._metrics.partitions.set(0)
        self._reporter.revoked()

    def _drop_state(self) -> None:
        """Let the state in memory go. It is free of cycles and goes at once; what else needs the collector, which is
        off otherwise, is looked for now that there is no state to look through.
        """
        self._partitions.clear()
        gc.collect()

    def _restore(self, consumer: Consumer, numbers: list[int]) -> list[TopicPartition]:
        """Read the state of these partitions back. Returns where to go on reading, per input partition.

        A broker that does not answer is asked again, as long as it takes. Raises `BrokerError` at the end of the
        process, and where the broker answers and the changelog does not come to its end; `PlaceLost` where it answers
        and this consumer gets nowhere.
        """
        since = seconds()
        while True:
            outages = self._broker.outages
            try:
                return self._restore_once(consumer, numbers)
            except ChangelogStalled as error:
                if outages == self._broker.outages and not self._broker.away_s:
                    raise
                said = str(error)
            except KafkaException as error:
                said = error.args[0].str()
                refuse_without_rights(error.args[0])
                if self._broker.away_s or outages != self._broker.outages:
                    since = seconds()
                if error.args[0].code() in PLACE_LOST or seconds() - since > REJOIN_AFTER_S:
                    raise PlaceLost(said) from error
            self._drop_state()
            if self._stopping:
                raise BrokerError(f"the state could not be read back: {said}")
            log.warning("the state is not read back yet", extra=fields(error=said))
            self.health.failed(f"the state cannot be read back: {said}")
            self._pause()

    def _restore_once(self, consumer: Consumer, numbers: list[int]) -> list[TopicPartition]:
        started = seconds()
        inputs = [TopicPartition(topic, number) for number in numbers for topic in self._inputs.values()]
        if not inputs:
            return []
        # Asking for committed offsets waits for transactions still pending on them, before the changelog is read.
        committed = {(one.topic, one.partition): one.offset for one in consumer.committed(inputs, QUERY_TIMEOUT_S)}
        changelog = StateReader(self._settings, self._alive).read(numbers)
        self._policy.meet(changelog)
        self._time.ask(min(numbers))
        assignment = Assignment(consumer, committed, self._partition_count, self._policy.now)
        for number in numbers:
            self._crash("restoring")
            self._partitions[number] = self._restorer.partition(assignment, number, changelog.pop(number))
            self._alive()
        return_freed()
        self._metrics.partitions.set(len(self._partitions))
        self._reporter.restored(self._partitions.values(), seconds() - started)
        self._watch.restored(self._partitions)
        return [place for one in self._partitions.values() for place in next_offsets(self._settings, one)]

    def _alive(self) -> None:
        self.beat_ms = monotonic_ms()
