"""`python -m streams up`: the processes of one machine, killed and started again, and ended together."""

import os
import signal
from pathlib import Path
from typing import Any

from infra.kafka.local import free_ports
from schemas.codec import encode
from streams.clock import wall_ms
from tests.support.alerting_process import TO_THE_HOOK, Listening
from tests.support.kafka import Record, TopicSpace, produce
from tests.support.messages import tool_call
from tests.support.receivers import webhook
from tests.support.service_process import ServiceProcess

PROCESSES = ("worker-0", "alerting", "gateway")
LOOPS = '[[repeat]]\nname = "repeat"\nmode = "enforce"\n'


def pid_of(up: ServiceProcess, name: str) -> int:
    """The process of that name that was started last."""
    return int([line["pid"] for line in up.said("a process was started") if line["process"] == name][-1])


def test_what_is_killed_comes_back_and_all_end_together(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Rows 10 and 59: worker, alerting and gateway are killed; health says so and is green again by itself, a loop is
    killed and somebody told. SIGTERM ends all of them in order.
    """
    policy = tmp_path / "policy.toml"
    given = {"KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix, "POLICY": policy, "SLOT": "m1"}
    gateway = {"GATEWAY_PORT": free_ports(1)[0], "SPOOL_FOLDER": tmp_path / "spool"}
    with Listening(webhook()) as hook:
        policy.write_text(TO_THE_HOOK.format(url=hook.url) + LOOPS, encoding="utf-8")
        with ServiceProcess(["streams", "up", "--gateway"], {**given, **gateway}) as up:
            up.wait_for(lambda: up.health == "ok", 60, "all are well")
            killed = [pid_of(up, name) for name in PROCESSES]
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            up.wait_for(lambda: "ended with code -9; it is started again" in up.health, 60, "health says so")
            up.wait_for(lambda: up.health == "ok", 60, "all are well again")
            now_ms = wall_ms()
            same: dict[str, Any] = {
                "tenant_id": "acme",
                "run_id": "r",
                "tool": "t",
                "args_hash": "a",
                "result_hash": "b",
            }
            calls = [encode(tool_call(now_ms + number * 100, event_id=f"e{number}", **same)) for number in range(8)]
            produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), [Record(call, b"acme") for call in calls])
            up.wait_for(lambda: hook.bodies, 60, "somebody is told of the loop")
            running = [pid_of(up, name) for name in PROCESSES]
            assert not set(killed) & set(running)
            assert up.stop(60) == 0, up.tail()
            for pid in running:
                assert not Path(f"/proc/{pid}").exists()
