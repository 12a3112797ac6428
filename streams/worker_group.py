"""The workers' group: how a worker becomes a member, and whether somebody works on every partition of the input.

The group alone does not tell. A coordinator that was loaded again (Apache Kafka 4.1.1, after the broker was killed) may
never notice that a member is gone: a worker that is no more keeps its partitions, and the others are told nothing. A
client that has lost its coordinator reads on what the group has given away. So every worker looks for itself whether
what waits is counted (docs/decisions/0065-who-works-on-a-partition.md).
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.duration import HOUR_MS
from streams.clock import monotonic_ms
from streams.kafka.client import make_consumer
from streams.kafka.leaders import watermarks
from streams.process.logs import fields
from streams.settings import PREFIX, Settings

log = logging.getLogger("spendfuse.group")

GROUP: Final = "spendfuse-engine"
INPUTS: Final = ("usage.v1", "operator.v1", "spend.v1")
"""What the group reads. Written as well, but seldom: what lies in a wrong partition of the first two is moved, and the
third sends on what is spent across tenants.
"""
REJOIN: Final = "join the group anew"
REPLACED: Final = "replaced "
"""What a repair says that it wants done, or has done, the latter with the member's name."""
LOOK_EVERY_S: Final = 5.0
ANSWER_S: Final = 5.0
BUSY_TICKS: Final = 10
"""Who has not said for so many ticks what it works on is busy, with reading its state back or with waiting for a
broker: then nothing is known of others that could be held against them.
"""
REPAIR_S: Final = 60.0
"""How long a repair may take."""
SESSIONS: Final = 2
"""The group has so many session time-outs at least to mend by itself what is amiss."""
REPAIR_AFTER: Final = 3
"""After so many times that time a repair is tried: whoever owns the partition may be reading its state back."""
REPAIR_EVERY: Final = 2
"""Then every so many times: what was repaired begins with a rebalance and a restore."""
ALARM_AFTER: Final = 5
"""After so many times that time the process counts as ill: nothing was to any avail."""
REMEMBERED_MS: Final = HOUR_MS
"""A member that was replaced lately is left in peace twice as long each time: it may live, be slow, and begin anew."""
LONGEST_WORK_MS: Final = 30 * 60_000
"""How long what is done in one go, such as time that passes for very many tenants, may keep the loop from asking for
records. A loop that hangs shows no sign of life meanwhile, and the watchdog ends it far earlier.
"""


def member_name(settings: Settings) -> str:
    """What the group calls this worker, whichever of its processes: a static member keeps its place over a restart."""
    return f"{settings.prefix}engine-{settings.slot}"


def shared_topics(settings: Settings) -> list[str]:
    """By whose partitions the group shares the work out, in full. They are the same whatever generation of the state a
    worker keeps: with others it would be given other partitions than its place among all, and two would work on one.
    """
    return [f"{settings.prefix}{name}" for name in INPUTS]


def new_member(settings: Settings, name: str | None = None) -> Consumer:
    """A consumer that joins the group once it subscribes: under this worker's name, unless another one is given."""
    config = {
        "group.instance.id": name or member_name(settings),
        "partition.assignment.strategy": "range",
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": max(1, settings.session_timeout_ms // 3),
        "max.poll.interval.ms": LONGEST_WORK_MS,
        "auto.offset.reset": "error",
        "queued.min.messages": 200_000,
    }
    return make_consumer(settings, GROUP, config)


class Attendance:
    """For how long nobody has worked on a partition, by what is seen of it every few seconds.

    Time counts between two looks that agree, so that nothing is held against anybody while no broker answers.

    Args:
        patience_ms: how long the group has to mend by itself what is amiss.
        now_ms: a clock that never jumps.
    """

    def __init__(self, patience_ms: int, now_ms: Callable[[], int] = monotonic_ms) -> None:
        self.patience_ms = patience_ms
        self._now_ms = now_ms
        self._looked_ms: int | None = None
        self._waited_ms: dict[int, int] = {}
        self._tries = 0

    def note(self, idle: Collection[int]) -> None:
        """Of these partitions records wait, and nobody has committed anything since the last look."""
        now_ms, before = self._now_ms(), self._waited_ms
        passed_ms = 0 if self._looked_ms is None else now_ms - self._looked_ms
        self._looked_ms = now_ms
        self._waited_ms = {number: before[number] + passed_ms if number in before else 0 for number in idle}
        if not idle:
            self._tries = 0

    def not_known(self) -> None:
        """The broker was asked, and did not say."""
        self._looked_ms = None

    def due(self) -> int:
        """Which attempt to repair it is due now, from 1; 0 for none. It is told once."""
        if self.unattended_s * 1000 < (REPAIR_AFTER + self._tries * REPAIR_EVERY) * self.patience_ms:
            return 0
        self._tries += 1
        return self._tries

    @property
    def idle(self) -> list[int]:
        """Partitions on which nobody works."""
        return sorted(self._waited_ms)

    @property
    def unattended_s(self) -> float:
        """For how many seconds the partition that waits longest has waited; 0 while somebody works on each."""
        return max(self._waited_ms.values(), default=0) / 1000

    def fault(self) -> str | None:
        """What is wrong, in a sentence; None if nothing is, or it may still be mended without anybody's help."""
        limit_ms = ALARM_AFTER * self.patience_ms
        overdue = sorted(number for number, ms in self._waited_ms.items() if ms >= limit_ms)
        if not overdue:
            return None
        numbers = ", ".join(map(str, overdue))
        return (
            f"nobody has worked on partition {numbers} of the input for {self.unattended_s:.0f} s; "
            "docs/runbooks/partitions-unowned.md says what to do"
        )


class GroupWatch:
    """Looks after the partitions that others work on, in a thread of its own from `start` to `close`.

    Args:
        settings: which cluster, and this worker's slot in the group.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._usage, self._state = settings.topic("usage.v1"), settings.topic("state.v1")
        self.attendance = Attendance(max(1000 * settings.unhealthy_s, SESSIONS * settings.session_timeout_ms))
        self._held: tuple[frozenset[int], int] = frozenset(), monotonic_ms()
        self._partitions = 0
        self._marks: dict[int, tuple[int, int]] = {}
        """Partition -> how far it was committed, and where its state ended, when it was last looked at."""
        self._replaced_ms: dict[str, list[int]] = {}
        """Member -> when it was replaced."""
        self._is_to_rejoin = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="group-watch", daemon=True)

    def start(self, partitions: int) -> None:
        """Look after these many partitions of each input."""
        self._partitions = partitions
        self._thread.start()

    def holds(self, numbers: Iterable[int]) -> None:
        """Take note that this worker works on these partitions now: how well, its own health tells."""
        self._held = frozenset(numbers), monotonic_ms()

    def is_to_be_left(self) -> bool:
        """Whether this worker should give up its place in the group and join anew; asked once, it is taken as done."""
        if not self._is_to_rejoin.is_set():
            return False
        self._is_to_rejoin.clear()
        return True

    def close(self) -> None:
        """Look no more."""
        self._end.set()

    def _watch(self) -> None:
        consumer: Consumer | None = None
        while not self._end.wait(LOOK_EVERY_S):
            held, said_ms = self._held
            if monotonic_ms() - said_ms > BUSY_TICKS * self._settings.tick_ms:
                self.attendance.not_known()
                continue
            if len(held) == self._partitions:
                self.attendance.note([])
                continue
            # After a failure a new client asks: one goes on asking the coordinator of before a restart of the broker.
            consumer = consumer or make_consumer(self._settings, GROUP, {"log_level": 0})
            try:
                idle = self._idle(consumer, held)
            except KafkaException:
                self.attendance.not_known()
                consumer.close()
                consumer = None
                continue
            self.attendance.note(idle)
            if attempt := self.attendance.due():
                self._repair(attempt)

    def _idle(self, consumer: Consumer, held: frozenset[int]) -> list[int]:
        """Partitions of others of which records wait, and of which nobody has committed anything since they were last
        looked at: whoever works on one writes its state, maybe another generation's, and moves the group's offset.
        """
        everything = [TopicPartition(self._usage, number) for number in range(self._partitions)]
        committed = {one.partition: one.offset for one in consumer.committed(everything, ANSWER_S)}
        if max(committed.values()) < 0:
            return []  # nothing was ever counted, or this broker (the embedded one) does not keep how far
        done = {number: max(0, offset) for number, offset in committed.items() if number not in held}
        behind = [number for number, offset in done.items() if offset < self._end_of(consumer, self._usage, number)]
        before, self._marks = (
            self._marks,
            {number: (done[number], self._end_of(consumer, self._state, number)) for number in behind},
        )
        return [
            number
            for number, mark in self._marks.items()
            if before.get(number) == mark and self._is_waiting(consumer, number, done[number])
        ]

    def _end_of(self, consumer: Consumer, topic: str, number: int) -> int:
        return watermarks(consumer, TopicPartition(topic, number), ANSWER_S)[1]

    def _is_waiting(self, consumer: Consumer, number: int, start: int) -> bool:
        """Whether a record stands there; the end of a transaction takes an offset as well."""
        consumer.assign([TopicPartition(self._usage, number, start)])
        found = any(message.error() is None for message in consumer.consume(1, ANSWER_S))
        consumer.unassign()
        return found

    def _repair(self, attempt: int) -> None:
        """Have somebody see to it, in a process of its own: the client's calls about groups have been seen to end the
        process that makes them, when their broker goes away.
        """
        waits_s = round(self.attendance.unattended_s)
        spared = [name for name in self._replaced_ms if self._is_spared(name)]
        command = [sys.executable, "-m", "streams.group_repair", "--attempt", str(attempt), "--idle"]
        command += [*map(str, self.attendance.idle), "--spared", *spared]
        environment = {**os.environ, f"{PREFIX}SLOT": str(self._settings.slot)}
        try:
            done = subprocess.run(  # noqa: S603 - our own program, no shell
                command, env=environment, capture_output=True, text=True, timeout=REPAIR_S, check=False
            )
        except subprocess.TimeoutExpired:
            log.error("nobody works on partitions, and a repair does not end", extra=fields(waits_s=waits_s))
            return
        did = done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr.strip()[-300:]}"
        log.error(
            "nobody works on partitions",
            extra=fields(partitions=self.attendance.idle, waits_s=waits_s, repair=did or "none"),
        )
        if did == REJOIN:
            self._is_to_rejoin.set()
        elif did.startswith(REPLACED):
            self._replaced_ms.setdefault(did.removeprefix(REPLACED), []).append(monotonic_ms())

    def _is_spared(self, name: str) -> bool:
        """Whether a member was replaced so lately that it may be beginning anew."""
        times = sum(ms > monotonic_ms() - REMEMBERED_MS for ms in self._replaced_ms[name])
        return self.attendance.unattended_s * 1000 < (REPAIR_AFTER * self.attendance.patience_ms) << times
