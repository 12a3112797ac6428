"""The whole way on a real Kafka: an agent with the client library runs in circles, is stopped, and says so."""

import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # offered, but not exported
    AdminClient,
    NewPartitions,
    NewTopic,
)
from spendfuse import Emitter, Guard, Stopped, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from streams.clock import wall_ms
from tests.support.kafka import Record, TopicSpace, produce, read_all, wait_until
from tests.support.worker_process import ENGINE_KEY, WorkerProcess

TENANT = "acme"
POLICY = """
version = "guard-1"
[[repeat]]
name = "same-call-again"
mode = "enforce"
"""
MOST_CALLS = 2000
KEYS = derive_keys(ENGINE_KEY.encode(), TENANT)


def loop_until_stopped(emitter: Emitter, guard: Guard) -> tuple[str, Stopped]:
    """An agent that searches for the same thing again and again; its run's id, and what stopped it."""
    with emitter.run(tenant_id=TENANT, workflow="docs", owner="ana") as run:
        for _ in range(MOST_CALLS):
            try:
                guard.check(run)
            except Stopped as stopped:
                return run.run_id, stopped
            run.tool_call("grep", args={"pattern": "old_name"}, result=["a.md"])
            run.llm_call(model="gpt-5-mini", input_tokens=900, output_tokens=20, cost_usd="0.001")
            run.stop_event.wait(0.02)  # a model takes its time
    raise AssertionError("nobody stopped the run")


def test_a_looping_agent_is_stopped_and_says_so(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """The guard believes the signed kill, `check` raises, the ack reaches usage.v1, and the incident is resolved with
    the time from cause to stop; nobody is paged for spending after the kill.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    with (
        WorkerProcess(bootstrap, prefix, policy) as worker,
        Emitter(KafkaTransport(bootstrap, prefix=prefix)) as emitter,
        Guard(KafkaControl(bootstrap, prefix=prefix), emitter, when_blind="stop", tenant_id=TENANT, keys=KEYS) as guard,
    ):
        assert guard.wait_ready(30)
        worker.wait_said("state restored")
        run_id, stopped = loop_until_stopped(emitter, guard)
        assert emitter.flush(10) == 0
        assert (stopped.rule, guard.stats.forged) == ("same-call-again", 0)
        worker.wait_for(lambda: _acks(kafka_topics), 30, "the ack is on usage.v1")
        sent = read_all(bootstrap, kafka_topics.name("usage.v1"))
        worker.wait_applied({record.partition: record.offset for record in sent})  # type: ignore[misc]  # as read
        assert worker.stop() == 0, worker.tail()
    [ack] = _acks(kafka_topics)
    assert (ack["run_id"], ack["command_id"], ack["acted"]) == (run_id, stopped.command_id, "stopped")
    alerts = [json.loads(record.value or b"") for record in read_all(bootstrap, kafka_topics.name("alerts.v1"))]
    assert {alert["rule"] for alert in alerts} == {"same-call-again"}
    [resolved] = [alert for alert in alerts if alert["state"] == "resolved"]
    assert resolved["evidence"]["command_id"] == stopped.command_id
    assert resolved["evidence"]["cause_to_stop_ms"] >= 0


def test_an_agent_that_is_told_of_its_loop_leaves_it(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """At the third equal call the guard has a sentence for the model, which it believes by its signature and hands over
    once; nothing is stopped, and the last word about the incident says that the agent was told.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    told: list[str] = []
    with (
        WorkerProcess(bootstrap, prefix, policy) as worker,
        Emitter(KafkaTransport(bootstrap, prefix=prefix), clock_ms=_one_by_one()) as emitter,
        Guard(KafkaControl(bootstrap, prefix=prefix), emitter, when_blind="stop", tenant_id=TENANT, keys=KEYS) as guard,
    ):
        assert guard.wait_ready(30)
        with emitter.run(tenant_id=TENANT, workflow="docs") as run:
            for _ in range(3):
                run.tool_call("grep", args={"pattern": "old_name"}, result=["a.md"])

            def asked() -> bool:
                told.extend(filter(None, [guard.nudge(run)]))
                return bool(told)

            wait_until(asked, 30, f"a sentence; {worker.tail()}")
            run.tool_call("read", args={"path": "a.md"}, result="old_name")
            guard.check(run)
        assert emitter.flush(10) == 0
        sent = read_all(bootstrap, kafka_topics.name("usage.v1"))
        worker.wait_applied({record.partition: record.offset for record in sent})  # type: ignore[misc]  # as read
        assert worker.stop() == 0, worker.tail()
    assert told[0].startswith("You have called grep 3 times in a row with the same arguments")
    [ack] = _acks(kafka_topics)
    [nudge] = [one for one in _values(kafka_topics, "control.v1") if one.get("action")]
    assert (nudge["action"], ack["command_id"], ack["acted"]) == ("nudge", nudge["command_id"], "delivered")
    alerts = _values(kafka_topics, "alerts.v1")
    assert [alert["state"] for alert in alerts] == ["open", "resolved"]
    assert "nudge_delivered_ms" in alerts[-1]["evidence"]


def test_a_guard_with_another_key_knows_that_it_is_blind(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """A command whose signature it cannot check is counted as forged, and so are its keys found out: a guard that fails
    closed stops its runs, one that fails open says what is wrong, and neither is ready again.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    wrong = derive_keys(b"another root key of an engine, in tests", TENANT)
    with (
        WorkerProcess(bootstrap, prefix, policy) as worker,
        Emitter(KafkaTransport(bootstrap, prefix=prefix), clock_ms=_one_by_one()) as emitter,
        Guard(
            KafkaControl(bootstrap, prefix=prefix), emitter, when_blind="stop", tenant_id=TENANT, keys=wrong
        ) as guard,
        emitter.run(tenant_id=TENANT, workflow="docs") as run,
    ):
        assert guard.wait_ready(30)
        for _ in range(6):
            run.tool_call("grep", args={"pattern": "old_name"}, result=["a.md"])
        emitter.flush(10)
        wait_until(lambda: guard.stats.forged == 2, 30, f"the guard has seen nudge and kill; {worker.tail()}")
        with pytest.raises(Stopped) as stopped:
            guard.check(run)
        assert (stopped.value.command_id, run.stop_event.is_set()) == (None, False)
        wait_until(lambda: "the keys of acme are not those" in (guard.waiting_for or ""), 30, "the key check is read")
        control = KafkaControl(bootstrap, prefix=prefix)
        with Guard(control, emitter, when_blind="continue", tenant_id=TENANT, keys=wrong) as late:
            assert not late.wait_ready(30)
            assert "keys derive --tenant acme" in (late.waiting_for or "")
            late.check(run)
        control = KafkaControl(bootstrap, prefix=prefix)
        with Guard(control, emitter, when_blind="stop", tenant_id=TENANT, keys=KEYS) as right:
            assert right.wait_ready(30), right.waiting_for


def test_a_guard_behind_an_open_transaction_knows_that_it_is_blind(kafka_topics: TopicSpace) -> None:
    """Whoever may write the topic can begin a transaction there and not end it: what comes behind it is hidden from
    readers of committed records. The guard compares with all that was written.
    """
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    settings = {"bootstrap.servers": bootstrap, "transactional.id": f"{prefix}foreign", "log_level": 2}
    foreign = Producer(settings)
    foreign.init_transactions(30)
    with (
        Emitter(KafkaTransport(bootstrap, prefix=prefix)) as emitter,
        Guard(KafkaControl(bootstrap, prefix=prefix), emitter, when_blind="stop", blind_after_s=1.5) as guard,
        emitter.run(tenant_id=TENANT) as run,
    ):
        assert guard.wait_ready(30), guard.waiting_for
        guard.check(run)
        foreign.begin_transaction()
        foreign.produce(kafka_topics.name("control.v1"), b"x", b"any", 0)
        foreign.flush(10)
        wait_until(lambda: guard.blind, 30, "the guard is blind")
        assert "a transaction that nobody ends" in (guard.waiting_for or "")
        with pytest.raises(Stopped):
            guard.check(run)
        foreign.abort_transaction(30)
        wait_until(lambda: not guard.blind, 30, "the guard sees again")
        guard.check(run)


def _one_by_one() -> Callable[[], int]:
    """A clock on which no two calls are made at once: calls in the same millisecond count as one round."""
    began_ms, calls = time.time_ns() // 1_000_000, count()
    return lambda: began_ms + next(calls)


def _acks(space: TopicSpace) -> list[dict[str, object]]:
    return [message for message in _values(space, "usage.v1") if message["type"] == "command_ack"]


def _values(space: TopicSpace, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in read_all(space.bootstrap, space.name(topic))]


def kill(space: TopicSpace, run_id: str, partition: int) -> None:
    """Put an unsigned kill of a run into a partition of the control topic."""
    now_ms = wall_ms()
    body = {
        "command_id": run_id, "action": "kill", "tenant_id": TENANT, "target": {"type": "run", "id": run_id}, "seq": 1,
        "reason": "cap reached", "issued_ms": now_ms, "expires_ms": now_ms + 3_600_000,
    }  # fmt: skip
    value = json.dumps(body).encode()
    produce(space.bootstrap, space.name("control.v1"), [Record(value, run_id.encode(), partition=partition)])


def test_a_guard_follows_its_topic_through_what_operators_do_to_it(kafka_topics: TopicSpace) -> None:
    """A partition that is added is read, and so is a topic that was deleted and made anew, from its beginning: although
    it holds more by then than was read of the first.
    """
    space, admin = kafka_topics, AdminClient({"bootstrap.servers": kafka_topics.bootstrap})
    name, partitions = space.name("control.v1"), space.partitions
    with (
        Emitter(KafkaTransport(space.bootstrap, prefix=space.prefix)) as emitter,
        Guard(
            KafkaControl(space.bootstrap, prefix=space.prefix), emitter, when_blind="continue", blind_after_s=1.5
        ) as guard,
    ):

        def heard(run_id: str) -> bool:
            try:
                guard.check(emitter.run(TENANT, run_id=run_id))
            except Stopped:
                return True
            return False

        assert guard.wait_ready(30), guard.waiting_for
        admin.create_partitions([NewPartitions(name, partitions + 1)])[name].result(30)
        wait_until(lambda: len(admin.list_topics(name, 10).topics[name].partitions) > partitions, 30, "it is there")
        kill(space, "in a new partition", partitions)
        wait_until(lambda: heard("in a new partition"), 30, "it is read")

        admin.delete_topics([name])[name].result(30)
        wait_until(lambda: guard.blind, 30, "the guard misses the topic")
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        for number in range(20):
            kill(space, f"{number} of the new topic", 0)
        wait_until(lambda: all(heard(f"{number} of the new topic") for number in range(20)), 30, "all of it is read")
