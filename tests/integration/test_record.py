"""A recorded log: what a live worker decided can be found out again from a file."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import encode
from schemas.control import Target
from schemas.operator import Resume
from schemas.signing import OperatorKey
from streams.clock import wall_ms
from streams.kafka import time_range
from streams.kafka.time_range import records_between
from streams.settings import Settings
from tests.support.kafka import Record, TopicSpace, commands_on, produce, read_all
from tests.support.service_process import OPERATOR_KEY, ROOT
from tests.support.worker_process import WorkerProcess

TENANT = "acme"
POLICY = """
version = "{version}"
[[cap]]
name = "run-cost"
limit_usd = {limit_usd}
thresholds = [0.5, 1.0]
at_limit = "kill"
mode = "enforce"
"""


def call(run: str, usd: int, event: str, tenant: str = TENANT) -> bytes:
    """A model call now."""
    return json.dumps(
        {
            "type": "llm_call",
            "event_id": event,
            "ts_ms": wall_ms(),
            "tenant_id": tenant,
            "run_id": run,
            "model": "m",
            "cost_nanousd": usd * 10**9,
        }
    ).encode()


def append(space: TopicSpace, topic: str, value: bytes, key: str | None = TENANT, **more: Any) -> None:
    """Write one record, as its producer would."""
    record = Record(value, None if key is None else key.encode(), timestamp_ms=wall_ms(), partition=0, **more)
    produce(space.bootstrap, space.name(topic), [record])


def run(space: TopicSpace, *words: str) -> subprocess.CompletedProcess[str]:
    """What comes of a command."""
    given = {
        "SPENDFUSE_KAFKA_BOOTSTRAP": space.bootstrap,
        "SPENDFUSE_PREFIX": space.prefix,
        "SPENDFUSE_OPERATOR_KEY": OPERATOR_KEY,
    }
    command = [sys.executable, "-m", "streams", *words]
    done = subprocess.run(command, cwd=ROOT, env=given, check=False, capture_output=True, timeout=100, text=True)
    assert done.returncode == 0, done.stderr
    return done


def publish(space: TopicSpace, folder: Path, version: str, limit_usd: int) -> None:
    path = folder / f"{version}.toml"
    path.write_text(POLICY.format(version=version, limit_usd=limit_usd), encoding="utf-8")
    run(space, "policy", "publish", str(path))


def facts(effects: Iterable[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """What was found and ordered, without what depends on when somebody looked."""
    found: Counter[tuple[Any, ...]] = Counter()
    for effect in effects:
        value = effect["value"]
        if effect["topic"] == "control.v1":
            found["command", value["action"], value["target"]["id"], value["rule"], value["cause_event_id"]] += 1
        elif effect["topic"] == "alerts.v1" and value["state"] != "resolved":
            found["alert", value["rule"], value["state"], value["run_id"], value["level"], value["value"]] += 1
        elif effect["topic"] == "usage.dlq.v1" and value["reason"] != "bad_signature":
            found["refused", value["reason"], value["sha256"]] += 1
    return found


def told(space: TopicSpace) -> Counter[tuple[Any, ...]]:
    """The facts on the topics."""
    return facts(
        {"topic": topic, "value": json.loads(record.value or b"")}
        for topic, read in (("alerts.v1", read_all), ("control.v1", commands_on), ("usage.dlq.v1", read_all))
        for record in read(space.bootstrap, space.name(topic))
    )


def live_through(space: TopicSpace, folder: Path) -> None:
    """A worker meets spend, bad input, an operator's order, a forged one, and another policy."""
    publish(space, folder, "wide", 10)
    append(space, "usage.v1", b"{no", None)
    with WorkerProcess(space.bootstrap, space.prefix) as worker:
        worker.wait_said("state restored")
        append(space, "usage.v1", call("dear", 12, "e1"))
        worker.wait_said("command")
        order = Resume(
            message_id="o1", ts_ms=wall_ms(), tenant_id=TENANT, who="ana", why="wanted", target=Target("run", "dear")
        )
        value = encode(order)
        append(space, "operator.v1", value + b" ")
        append(
            space, "operator.v1", value, headers=tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(TENANT, value))
        )
        worker.wait_said("command", 2)
        append(space, "usage.v1", call("cheap", 7, "e2"))
        append(space, "usage.v1", call("stray", 99, "e3"), "another")
        append(space, "usage.v1", call("neighbour", 99, "e4", "beta"), "beta")
        append(space, "usage.v1", call("lines", 6, "e5").replace(b", ", b",\n"))
        worker.wait_applied({0: 5})
        publish(space, folder, "narrow", 5)
        worker.wait_said("policy changed")
        append(space, "usage.v1", call("after", 6, "e6"))
        worker.wait_applied({0: 6})
        assert worker.stop() == 0, worker.tail()


def test_a_recorded_log_gives_the_facts_of_the_live_run(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Alerts, commands and refusals of a backtest over the recorded log are those of the worker that lived through it,
    a forged order is left out and counted, and a backtest straight over the topics says the same. `tune` begins
    with the policy in force.
    """
    live_through(kafka_topics, tmp_path)
    out, effects = tmp_path / "log.jsonl.gz", tmp_path / "effects.jsonl"
    written = run(kafka_topics, "record", "--since", "1h", "--out", str(out)).stdout
    assert "7 of usage.v1, 2 of policy.v1, 1 of operator.v1" in written
    assert "1 operators' messages left out" in written
    assert [path.name for path in tmp_path.glob("*log.jsonl.gz*")] == [out.name]
    lived = told(kafka_topics)
    assert {fact[:3] for fact in lived} >= {
        ("command", "kill", "dear"),
        ("command", "resume", "dear"),
        ("command", "kill", "after"),
    }
    run(kafka_topics, "backtest", "--events", str(out), "--as-recorded", "--out", str(effects))
    assert facts(map(json.loads, effects.read_text().splitlines())) == lived
    run(kafka_topics, "backtest", "--topic", "usage.v1", "--since", "1h", "--as-recorded", "--out", str(effects))
    assert facts(map(json.loads, effects.read_text().splitlines())) == lived
    tuned = run(kafka_topics, "tune", "--topic", "usage.v1", "--since", "1h").stdout
    assert "limit_usd = 7.5 " in tuned, "one and a half times that of the policy in force"
    assert "Nothing is proposed." in tuned


def test_a_log_of_one_tenant_holds_nothing_of_another(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """With --tenant the file has that tenant's records and the policies in force, from before the range as well, in
    the order of their appends, and ends with the time to which it goes. A faulty policy from before it is told of.
    """
    publish(kafka_topics, tmp_path, "early", 10)
    append(kafka_topics, "policy.v1", b'{"cap": "none"}', Settings().policy_name)
    middle_ms = wall_ms()
    for number, tenant in enumerate(("acme", "other", "acme")):
        value = call("r", 1, f"e{number}", tenant)
        record = Record(value, tenant.encode(), timestamp_ms=middle_ms + number, partition=number % 2)
        produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), [record])
    out = tmp_path / "log.jsonl"
    since = datetime.fromtimestamp(middle_ms / 1000, UTC).isoformat()
    publish(kafka_topics, tmp_path, "late", 5)
    said = run(kafka_topics, "record", "--tenant", "acme", "--since", since, "--out", str(out)).stdout
    assert "the newest policy from before this time is not valid: the one before it rules" in said
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    usage = [line["value"]["event_id"] for line in lines if line.get("topic") == "usage.v1"]
    policies = [line["value"]["version"] for line in lines if line.get("topic") == "policy.v1"]
    assert (usage, policies) == (["e0", "e2"], ["early", "late"])
    times_ms = [line["append_ms"] for line in lines[:-1]]
    assert times_ms == sorted(times_ms)
    assert lines[-1].keys() == {"until_ms"}
    assert lines[-1]["until_ms"] >= times_ms[-1]
    packed = tmp_path / "log.jsonl.gz"
    run(kafka_topics, "record", "--since", since, "--out", str(packed))
    assert b'"e1"' in gzip.decompress(packed.read_bytes())


def test_topics_are_read_together_whatever_their_lengths(
    kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of many partitions come in the order of their appends, those of a partition in the order in which they
    stand, also where one partition is far ahead of the others and has to wait.
    """
    monkeypatch.setattr(time_range, "MOST_HELD", 10)
    monkeypatch.setattr(time_range, "CHUNK", 7)
    start_ms = wall_ms() - 1_000_000
    offsets_ms = {0: range(300), 1: range(1000, 1300), 2: range(5, 2000, 50)}
    records = [
        Record(b"{}", b"acme", (), start_ms + offset_ms, partition)
        for partition, offsets in offsets_ms.items()
        for offset_ms in offsets
    ]
    went_back = Record(b"{}", b"acme", (), start_ms + 10, 1)
    produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), [*records, went_back])
    order = Record(b"{}", b"acme", (), start_ms + 1000, 0)
    produce(kafka_topics.bootstrap, kafka_topics.name("operator.v1"), [order])
    settings = Settings(kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix)
    found = list(records_between(settings, ("operator.v1", "usage.v1"), start_ms + 5, start_ms + 1900))
    times_ms = [one.timestamp()[1] - start_ms for one in found]
    wanted = [at for offsets in offsets_ms.values() for at in offsets if 5 <= at < 1900]
    assert sorted(times_ms) == sorted([*wanted, 10, 1000])
    back = next(place for place, one in enumerate(found) if one.partition() == 1 and one.timestamp()[1] < start_ms + 99)
    assert times_ms[back - 1] == 1299, "a time that went back comes where its partition had got to"
    assert times_ms[:back] + times_ms[back + 1 :] == sorted(times_ms[:back] + times_ms[back + 1 :])
    first = times_ms.index(1000)
    assert found[first].topic() == kafka_topics.name("operator.v1")
