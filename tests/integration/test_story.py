"""`story` on a real broker: all that happened to a run or an incident, in order and once, and nothing of others."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from spendfuse import Emitter, Guard, Run, Stopped, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from streams.__main__ import main
from streams.clock import wall_ms
from streams.tracing.span import trace_id
from tests.support.alerting_process import TO_THE_HOOK, AlertingProcess, Listening
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.receivers import webhook
from tests.support.worker_process import ENGINE_KEY, OPERATOR_KEY, OPERATOR_PUBLIC_KEY, WorkerProcess

TENANT, FOREIGN = "acme", "umbrella"
RUN = "circles-4711"
MARKER = "foreign-marker"
POLICY = """
[[repeat]]
name = "same-call-again"
mode = "enforce"
"""
MOST_CALLS = 2000
KEYS = derive_keys(ENGINE_KEY.encode(), TENANT)


@pytest.fixture
def hook() -> Iterator[Listening]:
    """A webhook that takes every message."""
    with Listening(webhook()) as listening:
        yield listening


@pytest.fixture
def here(kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch) -> TopicSpace:
    """The environment of an operator who may check what the engine signed."""
    given = {
        "KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix, "OPERATOR_KEY": OPERATOR_KEY,
        "OPERATOR_NAME": "ana", "ENGINE_KEY": ENGINE_KEY,
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"SPENDFUSE_{name}", value)
    return kafka_topics


def test_a_run_killed_resumed_and_killed_again(
    here: TopicSpace, hook: Listening, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run loops, is killed, says so, is resumed by an operator and killed again: its story has each record once,
    causes before what follows from them, who signed and who denied, and what the receiver was told; that of the
    incident has the same commands. A tenant that has a run of the same name is not in it, nor is a call in its stead.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(TO_THE_HOOK.format(url=hook.url) + POLICY, encoding="utf-8")
    assert main(["policy", "publish", str(policy)]) == 0
    bootstrap, prefix = here.bootstrap, here.prefix
    with (
        AlertingProcess(bootstrap, prefix, policy, {}, OPERATOR_PUBLIC_KEY=OPERATOR_PUBLIC_KEY) as alerting,
        WorkerProcess(bootstrap, prefix) as worker,
        Emitter(KafkaTransport(bootstrap, prefix=prefix), clock_ms=one_by_one()) as emitter,
        Guard(KafkaControl(bootstrap, prefix=prefix), emitter, when_blind="stop", tenant_id=TENANT, keys=KEYS) as guard,
    ):
        assert guard.wait_ready(30)
        worker.wait_said("state restored")
        alerting.wait_owning(here.partitions)
        stand_in(here)
        with emitter.run(tenant_id=TENANT, run_id=RUN, workflow="docs", owner="ana") as run:
            first = loop_until_stopped(run, guard)
            worker.wait_for(lambda: stops(here) == 1, 30, "the kill is acknowledged")
            assert main(["resume", "--run", RUN, "--tenant", TENANT, "--why", "once more"]) == 0
            worker.wait_for(lambda: not is_stopped(run, guard), 30, "the run may go on")
            second = loop_until_stopped(run, guard)
            worker.wait_for(lambda: stops(here) == 2, 30, "the kill is acknowledged again")
        assert emitter.flush(10) == 0
        sent = read_all(bootstrap, here.name("usage.v1"))
        worker.wait_applied({one.partition: one.offset for one in sent})  # type: ignore[misc]  # as read
        told = len(read_all(bootstrap, here.name("alerts.v1")))
        alerting.wait_for(lambda: len(settled(here)) >= told, 30, "all is told")
        assert worker.stop() == 0, worker.tail()
        assert alerting.stop() == 0, alerting.tail()
    capsys.readouterr()

    facts = as_data(capsys, "--run", RUN[:9], "--tenant", TENANT)
    assert first.command_id != second.command_id
    by_kind = {kind: [one for one in facts if one["kind"] == kind] for kind in {one["kind"] for one in facts}}
    assert places(facts) == expected(here), "every record once"
    assert [one["id"] for one in by_kind["command"] if one["data"]["action"] == "kill"] == [
        first.command_id, second.command_id,
    ]  # fmt: skip
    assert {one["data"]["signed_by"] for one in by_kind["command"]} == {
        "signed by the engine", "signed by the engine on an operator's word",
    }  # fmt: skip
    [resume] = by_kind["order"]
    assert (resume["data"]["status"], resume["data"]["order"]["why"]) == ("done", "once more")
    assert [one["data"]["acted"] for one in by_kind["ack"]].count("stopped") == 2
    assert {one["data"]["status"] for one in by_kind["told"]} <= {"sent", "superseded", "not_news", "muted"}
    assert MARKER not in json.dumps(facts)
    at = {one["id"]: number for number, one in enumerate(facts) if one["id"]}
    late = [one for number, one in enumerate(facts) if one["cause"] in at and at[one["cause"]] > number]
    assert not late, "nothing comes before its cause"
    kills = [one for one in by_kind["command"] if one["data"]["action"] == "kill"]
    assert [one["trace_id"] for one in kills] == [f"{trace_id(TENANT, one['cause']):032x}" for one in kills]
    assert all(one["after_cause_ms"] is not None for one in by_kind["command"] + by_kind["ack"])

    incident = next(one["data"]["incident_id"] for one in by_kind["command"] if one["id"] == first.command_id)
    of_incident = as_data(capsys, "--incident", incident[:10])
    assert {one["id"] for one in of_incident if one["kind"] == "command"} >= {first.command_id}
    assert MARKER not in json.dumps(of_incident)

    assert main(["story", "--run", RUN, "--tenant", TENANT]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80, text
    assert text.startswith(f"Story of run {RUN} of {TENANT}\n")
    assert "× tool grep, the same arguments, within" in text

    forget_before(here, by_kind["usage"][-1])
    left = as_data(capsys, "--run", RUN)
    assert [one["id"] for one in left if one["kind"] == "usage"] == [by_kind["usage"][-1]["id"]]
    assert main(["story", "--run", RUN]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "usage.v1 begins at " in text
    assert "what it held before is gone" in text
    assert MARKER not in text


def loop_until_stopped(run: Run, guard: Guard) -> Stopped:
    """The same search again and again."""
    for _ in range(MOST_CALLS):
        try:
            guard.check(run)
        except Stopped as stopped:
            return stopped
        run.tool_call("grep", args={"pattern": "old_name"}, result=["a.md"])
        run.stop_event.wait(0.02)  # a model takes its time
    raise AssertionError("nobody stopped the run")


def is_stopped(run: Run, guard: Guard) -> bool:
    """Whether the run may not go on."""
    try:
        guard.check(run)
    except Stopped:
        return True
    return False


def one_by_one() -> Callable[[], int]:
    """A clock on which no two calls are made at once: calls in the same millisecond count as one round."""
    began_ms, calls = wall_ms(), count()
    return lambda: max(began_ms + next(calls), wall_ms())


def stand_in(space: TopicSpace) -> None:
    """Another tenant's run of the same name."""
    now_ms = wall_ms()
    call = {
        "type": "llm_call", "event_id": f"{MARKER}-{now_ms}", "ts_ms": now_ms, "tenant_id": FOREIGN, "run_id": RUN,
        "model": MARKER, "cost_nanousd": 10**9,
    }  # fmt: skip
    produce(space.bootstrap, space.name("usage.v1"), [Record(json.dumps(call).encode(), FOREIGN.encode())])


def as_data(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    """The facts of a story; notes are left out."""
    assert main(["story", "--json", *words]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return [one for one in lines if one["kind"] != "note"]


def places(facts: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Where the facts stand."""
    return sorted((one["topic"], one["partition"], one["offset"]) for one in facts)


def expected(space: TopicSpace) -> list[tuple[str, int, int]]:
    """Where everything of the tenant stands: it has one run. Of what is written again the first, of deliveries the
    last.
    """
    found: dict[tuple[str, str], tuple[str, int, int]] = {}
    for topic, name in (
        ("usage.v1", "event_id"), ("alerts.v1", "alert_id"), ("control.v1", "command_id"),
        ("operator.v1", "message_id"), ("policy.v1", "version"), ("deliveries.v1", ""),
    ):  # fmt: skip
        for one in read_all(space.bootstrap, space.name(topic)):
            value = json.loads(one.value or b"{}")
            tenant_id = value.get("tenant_id") or value.get("alert", {}).get("tenant_id")
            if topic != "policy.v1" and (tenant_id != TENANT or value.get("type") in ("key_check", "order")):
                continue
            place = (topic, one.partition or 0, one.offset or 0)
            key = (topic, value.get(name) if name else (one.key or b"").decode())
            if topic == "deliveries.v1":
                found[key] = place
            found.setdefault(key, place)
    return sorted(found.values())


def forget_before(space: TopicSpace, fact: dict[str, Any]) -> None:
    """Have retention take what stands before a fact in its partition."""
    admin = AdminClient({"bootstrap.servers": space.bootstrap})
    place = TopicPartition(space.name(fact["topic"]), fact["partition"], fact["offset"])
    for future in admin.delete_records([place]).values():
        future.result(10)


def stops(space: TopicSpace) -> int:
    """How many kills were obeyed."""
    values = [json.loads(one.value or b"") for one in read_all(space.bootstrap, space.name("usage.v1"))]
    return sum(one.get("acted") == "stopped" for one in values)


def settled(space: TopicSpace) -> list[str]:
    """Keys of deliveries that are closed."""
    last = {one.key: json.loads(one.value or b"{}") for one in read_all(space.bootstrap, space.name("deliveries.v1"))}
    return [str(key) for key, one in last.items() if one.get("type") == "delivery" and one["status"] != "pending"]
