"""A day in minutes: brokers, workers, clocks, producers and policies fail at random, and the agents notice nothing."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from spendfuse import Emitter, Guard, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from infra.kafka.local import LocalKafka
from schemas.signing import is_standing
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.day.fleet import GUARDED, Fleet
from tests.day.mishaps import Day
from tests.integration.proof import digest_of, newest
from tests.support.alerting_process import TO_THE_HOOK, AlertingProcess, Listening, repeated_without_a_word
from tests.support.kafka import Record, TopicSpace, commands_on, fresh_prefix, read_all, wait_settled, wait_until
from tests.support.receivers import webhook
from tests.support.state_rows import counted
from tests.support.worker_process import ENGINE_KEY, WorkerProcess

MINUTES = float(os.environ.get("SPENDFUSE_DAY_MINUTES", "1.5"))
SEED = int(os.environ.get("SPENDFUSE_DAY_SEED", "20261127"))
RUNS = 1000
LOOPS = 20
PARTITIONS = 3
MOST_GROWTH = 1.3
"""Of a worker's memory, from a third of the day on: the state of so few runs is small beside it."""
POLICY = """
version = "day-1"
[blast_radius]
always_allowed = 1000

[[budget]]
name = "tenant-daily"
period = "day"
limit_usd = 5000
[[cap]]
name = "run-cost"
limit_usd = 5
at_limit = "kill"
mode = "enforce"
[[repeat]]
name = "same-call-again"
mode = "enforce"
"""


@pytest.mark.timeout(60 * MINUTES + 600)
def test_a_day_in_minutes(own_kafka: LocalKafka, tmp_path: Path) -> None:
    """Beside a thousand honest runs and some that go in circles, everything that may fail does, at random. In the end
    every dollar is counted and every bad record set aside, each once; every circling run was killed once, and nobody
    else; every mishap was told once, to the one who wants to know; the changelog's digests hold; and the memory of the
    worker that lived through it all has not grown.
    """
    told = f"seed {SEED}"
    rng = Random(SEED)
    space = TopicSpace(own_kafka.bootstrap, fresh_prefix(), PARTITIONS)
    apply(Admin(Settings(kafka_bootstrap=space.bootstrap)), space.prefix, space.partitions, replication=1)
    policy = tmp_path / "policy.toml"
    keys = derive_keys(ENGINE_KEY.encode(), GUARDED)
    with Listening(webhook()) as hook:
        policy.write_text(POLICY + _routing(hook), encoding="utf-8")
        with (
            AlertingProcess(space.bootstrap, space.prefix, policy, {}, STALL_LIMIT_S=60) as alerting,
            Day(own_kafka, space, policy, tmp_path, rng) as day,
            Emitter(KafkaTransport(space.bootstrap, prefix=space.prefix), max_buffered=100_000) as emitter,
            Guard(
                KafkaControl(space.bootstrap, prefix=space.prefix), emitter,
                when_blind="continue", tenant_id=GUARDED, keys=keys,
            ) as guard,
        ):  # fmt: skip
            fleet = Fleet(emitter, guard, Random(SEED), RUNS, 60 * MINUTES, LOOPS)
            memory = _live_through(day, fleet)
            told += f", after {', '.join(day.happened)}"
            day.first.wait_for(lambda: not fleet.is_alive(), 120, f"{told}: every run has ended")
            assert emitter.flush(60) == 0, told
            spent = Counter({tenant: sum_ for tenant, sum_ in (fleet.spent + day.must.spent).items() if sum_})
            _wait_counted(space, day.first, spent, told)
            incidents = {alert["incident_id"] for alert in _values(space, "alerts.v1")}
            alerting.wait_for(lambda: incidents <= _incidents(hook), 120, f"{told}: somebody is told of everything")
            assert (day.first.stop(), alerting.stop()) == (0, 0), day.first.tail() + alerting.tail()
        assert repeated_without_a_word(hook) == [], told
    assert fleet.faults == [], told
    assert +counted(space) == spent, f"{told}: something was counted twice"
    _check_dead_letters(space, day, told)
    _check_kills(space, fleet, told)
    _check_alerts(space, day, told)
    _check_changelog(space, told)
    assert memory[-1] < MOST_GROWTH * memory[len(memory) // 3], f"{told}: {[round(each / 2**20) for each in memory]} MB"


def _routing(hook: Listening) -> str:
    """Everything to the webhook, in the policy that the worker reads as well."""
    return TO_THE_HOOK.format(url=hook.url).replace('version = "hook"\n', "")


def _live_through(day: Day, fleet: Fleet) -> list[float]:
    """Mishap after mishap, each of them at least once, until the day is over; the first worker's memory after each."""
    day.first.wait_said("state restored")
    ends_s = time.monotonic() + 60 * MINUTES
    fleet.start()
    memory: list[float] = []
    while not memory or time.monotonic() < ends_s:
        for mishap in day.one_of_each():
            day.happened.append(mishap.__name__)
            mishap()
            assert day.first.running, f"seed {SEED}: after {day.happened} the worker ended:\n{day.first.tail()}"
            memory.append(_memory_bytes(day.first))
    return memory


def _wait_counted(space: TopicSpace, worker: WorkerProcess, spent: Counter[str], told: str) -> None:
    try:
        wait_until(lambda: +counted(space) == spent, 120, f"{told}: every dollar is counted")
    except AssertionError as error:
        found = counted(space)
        differing = {name: found[name] - spent[name] for name in found | spent if found[name] != spent[name]}
        raise AssertionError(
            f"{error}; nano-dollars too many: {differing}; the worker has applied {worker.applied()} and is "
            f"{worker.health!r}; its last words:\n{worker.tail()}"
        ) from None


def _memory_bytes(worker: WorkerProcess) -> float:
    def asked() -> float:
        return worker.metric("process_resident_memory_bytes").get("", 0.0)

    return wait_until(asked, 60, "the worker says how much memory it has")


def _values(space: TopicSpace, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in read_all(space.bootstrap, space.name(topic))]


def _incidents(hook: Listening) -> set[str]:
    return {each["incident_id"] for body in hook.bodies for each in body["data"]["alerts"]}


def _check_dead_letters(space: TopicSpace, day: Day, told: str) -> None:
    letters = _values(space, "usage.dlq.v1")
    places = Counter((letter["topic"], letter["partition"], letter["offset"]) for letter in letters)
    assert Counter(letter["reason"] for letter in letters) == day.must.refused, told
    assert set(places.values()) <= {1}, told


def _check_kills(space: TopicSpace, fleet: Fleet, told: str) -> None:
    records = commands_on(space.bootstrap, space.name("control.v1"))
    commands = [json.loads(record.value or b"") for record in records if is_standing(record.key)]
    assert {command["action"] for command in commands} == {"kill"}, told
    assert Counter(command["target"]["id"] for command in commands) == dict.fromkeys(fleet.stopped, 1), told
    assert len(fleet.stopped) == LOOPS, told


def _check_alerts(space: TopicSpace, day: Day, told: str) -> None:
    alerts = _values(space, "alerts.v1")
    twice = [each for each, times in Counter(alert["alert_id"] for alert in alerts).items() if times > 1]
    assert not twice, f"{told}: written twice: {twice}"
    opened = Counter(alert["incident_id"] for alert in alerts if alert["state"] == "open")
    assert set(opened.values()) == {1}, f"{told}: opened twice: {opened.most_common(3)}"
    about = [alert for alert in alerts if alert["state"] == "open" and alert["rule"] != "same-call-again"]
    found = {(tenant, text): sum(_is_about(each, tenant, text) for each in about) for tenant, text in day.must.told}
    assert set(found.values()) == {1}, f"{told}: {found}"
    known = day.must.told | day.must.may_be_told
    others = [each for each in about if not any(_is_about(each, tenant, text) for tenant, text in known)]
    assert not others, f"{told}: nobody wants to hear of {[(each['tenant_id'], each['summary']) for each in others]}"


def _is_about(alert: dict[str, Any], tenant: str, text: str) -> bool:
    return alert["tenant_id"] == tenant and text in alert["summary"]


def _check_changelog(space: TopicSpace, told: str) -> None:
    """Each partition's fence proves its rows."""
    wait_settled(space.bootstrap, [space.name("state.v1")])
    records = read_all(space.bootstrap, space.name("state.v1"), timeout_s=90)
    for partition in range(space.partitions):
        rows = newest(_of(records, partition))
        fence = json.loads(rows.pop(b'["fence"]'))
        assert int(fence["digest"], 16) == digest_of(rows), f"{told}: partition {partition} has another digest"


def _of(records: Iterable[Record], partition: int) -> list[Record]:
    return [record for record in records if record.partition == partition]
