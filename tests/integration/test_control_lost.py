"""control.v1 loses what stands on it, or is given more partitions, while a worker lives: no record says so."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # offered, but not exported
from pydantic import SecretStr

from models.stimuli import UsageSeen
from schemas.codec import encode
from schemas.control import Command
from schemas.signing import EngineKeys, control_key
from streams.clock import BrokerClock, wall_ms
from streams.kafka.admin import await_leaders, topics_on_broker
from streams.kafka.client import Admin
from streams.kafka.records import OutRecord, Records
from streams.kafka.topics import apply
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker.control.watch import ControlWatch
from streams.worker.partition import Partition
from tests.integration.test_control_watch import TENANT, forged
from tests.integration.test_orders_and_policies import policy_file
from tests.integration.test_topics import forget_records
from tests.support.kafka import Record, TopicSpace, produce, wait_until
from tests.support.messages import llm_call
from tests.support.worker_process import ENGINE_KEY

ADDED = 3
"""Partitions that somebody adds."""


class Watched:
    """A worker's look at control.v1 without its loop. The kill of run `dear` and the key check stand there."""

    def __init__(self, space: TopicSpace, policy: Path) -> None:
        self.space = space
        self.topic = space.name("control.v1")
        self.settings = Settings(
            kafka_bootstrap=space.bootstrap, prefix=space.prefix, engine_key=SecretStr(ENGINE_KEY), policy=policy
        )
        self.admin = Admin(self.settings)
        self.metrics = Metrics()
        self.partition = Partition(0, 1, self.settings.file_policy(), {}, None)
        self.watch = ControlWatch(self.settings, self.metrics, BrokerClock())
        self._records = Records(self.settings)
        now_ms = wall_ms()
        call = llm_call(now_ms, usd=12, run_id="dear", tenant_id=TENANT, event_id="e1")
        self.partition.engine.handle(UsageSeen(call, now_ms))
        (kill,) = [one for one in self.partition.drain_effects() if one.topic == "control.v1"]
        assert isinstance(kill.value, Command)
        self.kill = kill.value
        check = self._records.key_check(TENANT)
        assert check is not None
        self.write(self._records.of(kill), check)
        self.watch.restored({0: self.partition})
        wait_until(self._is_read, 20, "the topic is read")
        assert self.written_again() == ([], [])

    def written_again(self) -> tuple[list[str], list[str]]:
        """Look once: the commands and the tenants' key checks that are to be written once more; nobody does here."""
        self.watch.tick({0: self.partition})
        repeats = [command.command_id for command, _ in self.partition.engine.drain_repeats()]
        checks, self.partition.key_checks = self.partition.key_checks, []
        return repeats, checks

    def write(self, *records: OutRecord, partition: int | None = None) -> None:
        """As the worker, or somebody else, does."""
        made = [Record(one.value, one.key, tuple(one.headers or ()), None, partition) for one in records]
        produce(self.space.bootstrap, self.topic, made)

    def forge(self, run: str, partition: int) -> None:
        """Somebody else writes a kill there."""
        command = forged(run)
        value = encode(command)
        headers = list(EngineKeys(b"what an agent might try").command_headers(command, value, "engine"))
        self.write(OutRecord(self.topic, control_key(TENANT, "run", run).encode(), value, headers), partition=partition)

    @property
    def forgeries(self) -> float | None:
        """How many were told of."""
        return self.metrics.registry.get_sample_value("spendfuse_forged_commands_total")

    def _is_read(self) -> bool:
        self.watch.tick({0: self.partition})
        return self.watch.is_current


def deleted_by_age(watched: Watched) -> None:
    """Somebody has the topic delete what is old, and all of it is."""
    forget_records(watched.admin, watched.topic)


def made_anew(watched: Watched) -> None:
    """Somebody deletes the topic, and makes it again."""
    watched.admin.delete_topics([watched.topic], request_timeout=10)[watched.topic].result(20)
    wait_until(lambda: watched.topic not in topics_on_broker(watched.admin), 20, "the topic is gone")
    apply(watched.admin, watched.space.prefix, watched.space.partitions, 1)


@pytest.fixture
def watched(kafka_topics: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr("streams.worker.control.watch.LOOK_EVERY_MS", 0)
    found = Watched(kafka_topics, policy_file(tmp_path, "v1", 10))
    yield found
    found.watch.close()


@pytest.mark.parametrize("lose", [deleted_by_age, made_anew])
def test_what_the_topic_loses_is_written_again(watched: Watched, lose: Callable[[Watched], None]) -> None:
    """A kill that stands, and the key check of its tenant, are written again by the worker that runs: a guard that
    starts now would never hear of them. Each is written once, and nobody is accused of it.
    """
    lose(watched)
    commands: list[str] = []
    checks: list[str] = []

    def is_back() -> bool:
        again = watched.written_again()
        commands.extend(again[0])
        checks.extend(again[1])
        return bool(commands and checks)

    wait_until(is_back, 30, "both are written again")
    for _ in range(3):
        is_back()
    assert (commands, checks) == ([watched.kill.command_id], [TENANT])
    assert watched.forgeries == 0
    watched.forge("other", partition=0)
    wait_until(lambda: watched.written_again()[0] and watched.forgeries == 1, 20, "a forgery is told of as before")


def test_partitions_that_are_added_are_watched_as_well(watched: Watched) -> None:
    """Nothing depends on how many partitions the topic has: a forgery in a new one is told of, and a partition of the
    input that comes afterwards has its key checks.
    """
    count = watched.space.partitions + ADDED
    watched.admin.create_partitions([NewPartitions(watched.topic, count)])[watched.topic].result(20)
    wait_until(lambda: len(topics_on_broker(watched.admin)[watched.topic].partitions) == count, 20, "there are more")
    await_leaders(watched.admin, [watched.topic])
    watched.forge("other", partition=count - 1)
    wait_until(lambda: watched.written_again()[0] and watched.forgeries == 1, 20, "the forgery is told of")
    watched.watch.restored({0: watched.partition})
    watched.written_again()
    wait_until(lambda: watched.watch.is_current or watched.written_again(), 20, "it is read to its end")
    assert watched.watch.is_current
