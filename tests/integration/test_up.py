"""`python -m streams up`: the processes of one machine, killed and started again, and ended together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.local import free_ports
from schemas.codec import encode
from streams.clock import wall_ms
from tests.support.alerting_process import TO_THE_HOOK, Listening
from tests.support.gateway_process import new_key
from tests.support.kafka import Record, TopicSpace, produce
from tests.support.messages import tool_call
from tests.support.pages import CONNECT, fences, typed
from tests.support.receivers import webhook
from tests.support.service_process import ServiceProcess

PROCESSES = ("worker-0", "alerting", "gateway")
LOOPS = '[[repeat]]\nname = "repeat"\nmode = "enforce"\n'


def pid_of(up: ServiceProcess, name: str) -> int:
    """The process of that name that was started last."""
    return int([line["pid"] for line in up.said("a process was started") if line["process"] == name][-1])


def first_kills(up: ServiceProcess, gateway: str, key: str) -> None:
    """What docs/connect says to type first: an event is taken, a run that spends more than it said is stopped, and so
    is a program of Python's that would go on for ever.
    """

    def answers(block: str) -> list[dict[str, Any]]:
        script = (
            block.replace("http://127.0.0.1:8440", gateway).replace("sf_…", key).replace("curl -s", "curl -sw '\\n'")
        )
        done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=60, check=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line]

    send, spend_too_much, ask = [
        block for block in typed(CONNECT / "http.md") if "/v1/events" in block or "/check" in block
    ]
    assert answers(send) == [{"accepted": 1, "rejected": []}]
    assert answers(ask) == [{"decision": "continue", "downgrade": False}]
    up.wait_for(lambda: answers(spend_too_much)[1]["decision"] == "stop", 60, "the first run is stopped")
    endless = fences(CONNECT / "python.md", "python")[-1]
    environment = os.environ | {"SPENDFUSE_URL": gateway, "SPENDFUSE_KEY": key}
    done = subprocess.run(
        [sys.executable, "-c", endless], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Stopped: The run has cost $0.01" in done.stderr


def test_what_is_killed_comes_back_and_all_end_together(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows 10 and 59: worker, alerting and gateway are killed; health says so and is green again by itself, a loop is
    killed and somebody told; whoever then follows the pages sees a first event and first kills. SIGTERM ends all of
    them in order.
    """
    policy = tmp_path / "policy.toml"
    given = {"KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix, "POLICY": policy, "SLOT": "m1"}
    gateway = {"GATEWAY_PORT": free_ports(1)[0], "SPOOL_FOLDER": tmp_path / "spool"}
    key = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)
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
            first_kills(up, f"http://127.0.0.1:{gateway['GATEWAY_PORT']}", key)
            running = [pid_of(up, name) for name in PROCESSES]
            assert not set(killed) & set(running)
            assert up.stop(60) == 0, up.tail()
            for pid in running:
                assert not Path(f"/proc/{pid}").exists()
