"""What people tell a running worker: another policy, and signed orders.

Numbers of rows are those of the fault matrix.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from schemas.codec import encode
from schemas.control import Target
from schemas.operator import Resume
from schemas.signing import KID_HEADER, operator_headers
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.worker_process import ENGINE_KEY, OPERATOR_KEY, ROOT, WorkerProcess

TENANT = "acme"
TS_MS = 1_795_276_800_000
POLICY = """
version = "{version}"
[[cap]]
name = "run-cost"
limit_usd = {limit_usd}
at_limit = "kill"
mode = "enforce"
"""


def policy_file(folder: Path, version: str, limit_usd: float) -> Path:
    path = folder / f"{version}.toml"
    path.write_text(POLICY.format(version=version, limit_usd=limit_usd), encoding="utf-8")
    return path


def spend(space: TopicSpace, run: str, usd: int, event: str) -> None:
    """A model call of a run."""
    call = {
        "type": "llm_call", "event_id": event, "ts_ms": TS_MS, "tenant_id": TENANT, "run_id": run, "model": "m",
        "cost_nanousd": usd * 10**9,
    }  # fmt: skip
    produce(space.bootstrap, space.name("usage.v1"), [Record(json.dumps(call).encode(), TENANT.encode(), (), TS_MS, 0)])


def values(space: TopicSpace, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in read_all(space.bootstrap, space.name(topic))]


def test_another_policy_takes_over_and_a_faulty_one_does_not(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 33: a published policy holds for the messages after it, its version stands in the alerts, and it is still
    in force after a restart. A faulty one is refused with its faults, and the one before stays.
    """
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    wide, narrow = policy_file(tmp_path, "wide", 100), policy_file(tmp_path, "narrow", 10)
    with WorkerProcess(bootstrap, prefix, wide) as worker:
        worker.wait_said("state restored")
        spend(kafka_topics, "before", 20, "e1")
        worker.wait_applied({0: 0})
        _publish(kafka_topics, narrow)
        worker.wait_said("policy changed")
        faulty = Record(b'{"version":"broken","cap":[{"name":"run-cost","limit_usd":-5}]}', b"default")
        produce(bootstrap, kafka_topics.name("policy.v1"), [faulty])
        [refused] = worker.wait_said("a policy was refused; the one before it stays in force")
        assert "cap[0]" in str(refused["faults"])
        assert worker.metric("spendfuse_policy_faults_total") == {"": 1.0}
        spend(kafka_topics, "after", 12, "e2")
        worker.wait_applied({0: 1})
        assert worker.stop() == 0, worker.tail()
    with WorkerProcess(bootstrap, prefix, wide) as worker:
        worker.wait_said("state restored")
        spend(kafka_topics, "later", 12, "e3")
        worker.wait_applied({0: 2})
        assert worker.stop() == 0, worker.tail()
    kills = {command["target"]["id"]: command["rule"] for command in values(kafka_topics, "control.v1")}
    assert kills == {"after": "run-cost", "later": "run-cost"}
    assert {alert["policy_version"] for alert in values(kafka_topics, "alerts.v1")} == {"narrow"}


def test_only_a_signed_order_lifts_a_kill(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 56: an order without a signature, with the engine's, or with one over other bytes becomes a dead letter;
    the operator's own lifts the kill with a command that the operator's key signs.
    """
    order = Resume(
        message_id="order-1", ts_ms=TS_MS + 1, tenant_id=TENANT, who="ana", why="wanted", target=Target("run", "dear")
    )
    value = encode(order)
    signed = tuple(operator_headers(TENANT, value, OPERATOR_KEY.encode()))
    forged = [
        (),
        tuple(operator_headers(TENANT, value, ENGINE_KEY.encode())),
        tuple(operator_headers(TENANT, value + b" ", OPERATOR_KEY.encode())),
        tuple(operator_headers("other", value, OPERATOR_KEY.encode())),
    ]
    control = kafka_topics.name("control.v1")
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy_file(tmp_path, "v1", 10)) as worker:
        worker.wait_said("state restored")
        spend(kafka_topics, "dear", 12, "e1")
        worker.wait_said("command")
        orders = [Record(value, TENANT.encode(), headers, TS_MS + 1, 0) for headers in forged]
        produce(kafka_topics.bootstrap, kafka_topics.name("operator.v1"), orders)
        worker.wait_said("dead letter", len(forged))
        assert len(read_all(kafka_topics.bootstrap, control)) == 1, "a forged order led to a command"
        genuine = Record(value, TENANT.encode(), signed, TS_MS + 2, 0)
        produce(kafka_topics.bootstrap, kafka_topics.name("operator.v1"), [genuine])
        worker.wait_said("command", 2)
        assert worker.stop() == 0, worker.tail()
    kill, resume = read_all(kafka_topics.bootstrap, control)
    assert [dict(each.headers)[KID_HEADER] for each in (kill, resume)] == [b"engine", b"operator"]
    assert [json.loads(each.value or b"")["action"] for each in (kill, resume)] == ["kill", "resume"]
    assert json.loads(resume.value or b"")["seq"] > json.loads(kill.value or b"")["seq"]
    letters = values(kafka_topics, "usage.dlq.v1")
    assert [(letter["topic"], letter["reason"]) for letter in letters] == [
        (kafka_topics.name("operator.v1"), "bad_signature")
    ] * len(forged)


def _publish(space: TopicSpace, policy: Path) -> None:
    given = {"SPENDFUSE_KAFKA_BOOTSTRAP": space.bootstrap, "SPENDFUSE_PREFIX": space.prefix}
    command = [sys.executable, "-m", "streams", "policy", "publish", str(policy)]
    subprocess.run(command, cwd=ROOT, env=given, check=True, capture_output=True, timeout=60)
