"""The dead man's switch through the whole pipe: worker, alerts.v1, alerting, and the end that a monitor watches.

Numbers of rows are those of the fault matrix.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from infra.kafka.embedded import EmbeddedBroker
from schemas.alert import WATCHDOG
from schemas.codec import decode_alert
from streams.clock import wall_ms
from tests.support.alerting_process import AlertingProcess, AlertLog, Listening
from tests.support.kafka import TopicSpace, read_all
from tests.support.receivers import webhook
from tests.support.telling import alert
from tests.support.worker_process import WorkerProcess

PARTITIONS = 3
POLICY = """
version = "watched"
[receivers.outside]
type = "webhook"
url = "{url}/beat/{{partition}}"
[[route]]
match = {{ severity = "critical" }}
receivers = ["outside"]
[[route]]
match = {{ detector = "watchdog" }}
receivers = ["outside"]
"""
EVERY_SECOND: dict[str, Any] = {"WATCHDOG_S": 1, "TICK_MS": 100}


class Monitor:
    """An outside monitor: what it has heard of each partition, and when that was true."""

    def __init__(self, listening: Listening, partitions: int) -> None:
        self._listening = listening
        self.addresses = {f"/beat/{number}" for number in range(partitions)}

    def beats(self, since_ms: int = 0) -> Counter[str]:
        """How many beats each address has had that tell of a time since then."""
        heard = zip(self._listening.receiver.paths, self._listening.bodies, strict=False)
        beats = [
            (path, body["data"]["alerts"][0]) for path, body in heard if body["type"] == "spendfuse.watchdog.open.v1"
        ]
        return Counter(path for path, beat in beats if beat["ts_ms"] >= since_ms)

    def all_beat(self, times: int, since_ms: int = 0) -> bool:
        """Whether every partition has beaten so often since then."""
        beats = self.beats(since_ms)
        return all(beats[address] >= times for address in self.addresses)

    def heard_of(self, incident_id: str) -> bool:
        """Whether it was told of an incident."""
        told = (one["incident_id"] for body in self._listening.bodies for one in body["data"]["alerts"])
        return incident_id in told


def test_a_dead_or_frozen_engine_does_not_beat(embedded: EmbeddedBroker) -> None:
    """Row 59: every partition beats on the same partition of alerts.v1, idle ones too. A worker that stands still or is
    dead beats no more, and its return is heard.
    """
    space = TopicSpace(embedded.bootstrap, "beats.", PARTITIONS)
    embedded.create_topics(space.prefix, PARTITIONS)

    def beats(since_ms: int = 0) -> list[int]:
        records = read_all(space.bootstrap, space.name("alerts.v1"))
        found = [(record.partition or 0, decode_alert(record.value)) for record in records]
        assert all(beat.scope["partition"] == str(partition) for partition, beat in found)
        return [partition for partition, beat in found if beat.detector == WATCHDOG and beat.ts_ms >= since_ms]

    def all_beat(since_ms: int = 0) -> bool:
        return set(beats(since_ms)) == set(range(PARTITIONS))

    with WorkerProcess(space.bootstrap, space.prefix, SESSION_TIMEOUT_MS=3000, **EVERY_SECOND) as worker:
        worker.wait_for(all_beat, 60, "beats of each partition")
        worker.freeze()
        froze_ms = wall_ms()
        assert not beats(froze_ms)
        worker.thaw()
        worker.wait_for(lambda: all_beat(froze_ms), 60, "beats after it stood still")
        worker.kill()
    died_ms = wall_ms()
    assert not beats(died_ms)
    with WorkerProcess(space.bootstrap, space.prefix, SESSION_TIMEOUT_MS=3000, **EVERY_SECOND) as worker:
        worker.wait_for(lambda: all_beat(died_ms), 60, "beats of the next worker")
        assert worker.stop() == 0, worker.tail()


def test_the_outside_hears_no_more_of_a_dead_engine(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 59: each partition reaches the monitor at an address of its own. Once the engine is dead, no beat tells of a
    later time while alerting goes on telling: a monitor that allows for half a missing beat pages 90 s after the last.
    The next worker is heard.
    """
    space, policy = kafka_topics, tmp_path / "policy.toml"
    with Listening(webhook()) as end:
        monitor, alerts = Monitor(end, space.partitions), AlertLog(space)
        policy.write_text(POLICY.format(url=end.url), encoding="utf-8")
        with AlertingProcess(space.bootstrap, space.prefix, policy, {}) as telling:
            with WorkerProcess(space.bootstrap, space.prefix, policy, **EVERY_SECOND) as worker:
                worker.wait_for(lambda: monitor.all_beat(2), 60, "two beats of each partition")
                worker.kill()
            died_ms = wall_ms()
            alerts.write(alert("told-afterwards", at_ms=died_ms))
            telling.wait_for(lambda: monitor.heard_of("told-afterwards"), 60, "an alert told afterwards")
            assert not monitor.beats(died_ms)
            with WorkerProcess(space.bootstrap, space.prefix, policy, **EVERY_SECOND) as worker:
                telling.wait_for(lambda: monitor.all_beat(1, died_ms), 60, "beats of the next worker")
                assert worker.stop() == 0, worker.tail()
            assert telling.stop() == 0, telling.tail()
        assert monitor.beats().keys() == monitor.addresses


def test_a_hanging_foreign_transaction_silences_its_partition(kafka_topics: TopicSpace) -> None:
    """Row 61: behind a transaction that somebody leaves open on usage.v1 nobody may read. The lag names the partition,
    it stops beating while the others go on, and with the end of the transaction it beats again.
    """
    stuck, others = 0, range(1, kafka_topics.partitions)
    foreign = Producer(
        {"bootstrap.servers": kafka_topics.bootstrap, "transactional.id": f"{kafka_topics.prefix}foreign"}
    )
    foreign.init_transactions(30)
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, **EVERY_SECOND) as worker:

        def beats(number: int) -> float:
            return worker.metric("spendfuse_watchdog_beats_total").get(f'partition="{number}"', 0)

        def others_beat(times: int) -> None:
            before = {number: beats(number) for number in others}
            worker.wait_for(
                lambda: all(beats(number) >= before[number] + times for number in others), 60, "the others beat"
            )

        worker.wait_for(lambda: beats(stuck) >= 1, 60, "the partition beats")
        foreign.begin_transaction()
        foreign.produce(kafka_topics.name("usage.v1"), b"{}", b"somebody", stuck)
        foreign.flush(10)
        others_beat(2)  # a beat that was asked for before may still leave
        last = beats(stuck)
        others_beat(3)
        assert beats(stuck) == last
        for name in ("spendfuse_lag_records", "spendfuse_held_records", "spendfuse_lag_seconds"):
            values = worker.metric(name)
            assert {labels for labels, value in values.items() if value > 0.5} == {f'partition="{stuck}"'}, name
        foreign.abort_transaction(30)
        worker.wait_for(lambda: beats(stuck) > last, 60, "the partition beats again")
        worker.wait_for(lambda: not any(worker.metric("spendfuse_held_records").values()), 60, "nothing held")
        worker.wait_for(lambda: not any(worker.metric("spendfuse_lag_records").values()), 60, "nothing left to read")
        assert worker.stop() == 0, worker.tail()
