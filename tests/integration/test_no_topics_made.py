"""A broker that makes topics by itself, as Kafka does unless told otherwise: with settings that are wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from spendfuse import Emitter, Guard
from spendfuse.kafka import KafkaControl, KafkaTransport

from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka
from streams.kafka.client import Admin
from streams.kafka.topics import apply, check
from streams.settings import Settings
from tests.conftest import do_without
from tests.support.kafka import fresh_prefix, read_all, wait_until
from tests.support.service_process import ENGINE_KEY, OPERATOR_KEY
from tests.support.worker_process import OPERATOR_PUBLIC_KEY

ROOT = Path(__file__).parents[2]
CALL = {"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"}
COMMANDS = (
    "streams worker",
    "alerting",
    "streams policy publish POLICY",
    "streams policy diff POLICY",
    "streams silence --match rule=m --for 1h --tenant acme --who ana --why quiet",
    "streams kill --run r --tenant acme --who ana --why stop",
    "streams resume --run r --tenant acme --who ana --why go",
    "streams ack i --tenant acme --who ana --why seen",
    "streams orders",
    "streams incidents",
    "streams dlq",
    "streams why r",
    "streams doctor",
    "streams report weekly",
    "streams record --since 1h --out OUT",
    "streams backfill --since 1h --yes",
    "streams deliveries check",
    "streams keys check",
    "streams rebuild --from-input",
    "streams topics check",
)


@pytest.fixture(scope="module")
def willing() -> Iterator[LocalKafka]:
    """A broker that creates whatever topic it is asked about."""
    try:
        broker = LocalKafka({"auto.create.topics.enable": "true"})
    except KafkaUnavailableError as error:
        do_without(str(error))
    yield broker
    broker.stop()


def topics(broker: LocalKafka) -> set[str]:
    """What there is, but for what the broker keeps for itself."""
    found = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).topics
    return {name for name in found if not name.startswith("__")}


def test_nothing_makes_a_topic_but_topics_apply(willing: LocalKafka, tmp_path: Path) -> None:
    """Whatever is begun before `topics apply` says that topics are missing, and how they are made; it makes none."""
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "1"\n[[cap]]\nname = "m"\nlimit_usd = 1\n', encoding="utf-8")
    variables = os.environ | {
        "SPENDFUSE_KAFKA_BOOTSTRAP": willing.bootstrap,
        "SPENDFUSE_OPERATOR_KEY": OPERATOR_KEY,
        "SPENDFUSE_OPERATOR_PUBLIC_KEY": OPERATOR_PUBLIC_KEY,
        "SPENDFUSE_ENGINE_KEY": ENGINE_KEY,
    }
    running = {}
    for command in COMMANDS:
        words = command.replace("POLICY", str(policy)).replace("OUT", str(tmp_path / "log.jsonl")).split()
        running[command] = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
    said = {command: process.communicate(timeout=120)[0] for command, process in running.items()}
    codes = {command: process.returncode for command, process in running.items()}
    assert topics(willing) == set()
    silent = {
        command: said[command] for command in COMMANDS if codes[command] == 0 or "topics apply" not in said[command]
    }
    assert silent == {}


def test_no_agent_makes_a_topic(willing: LocalKafka, caplog: pytest.LogCaptureFixture) -> None:
    """An agent that is begun before `topics apply` makes no topic: its events wait, counted, the log says what for, and
    so does the guard that is waited for. When the topics are there, as they are declared, all of it arrives.
    """
    prefix = fresh_prefix()
    with (
        Emitter(KafkaTransport(willing.bootstrap, prefix=prefix, config={"log_level": 0})) as emitter,
        Guard(KafkaControl(willing.bootstrap, prefix=prefix), emitter, when_blind="continue") as guard,
    ):
        first = emitter.emit(CALL)
        wait_until(lambda: f"there is no topic {prefix}usage.v1" in caplog.text, 30, "the log names the topic")
        assert not guard.wait_ready(2)
        assert f"there is no topic {prefix}control.v1" in (guard.waiting_for or "")
        assert "python -m streams topics apply" in (guard.waiting_for or "")
        second = emitter.emit(CALL)
        assert emitter.flush(1.5) == 2
        assert not [name for name in topics(willing) if name.startswith(prefix)]
        admin = Admin(Settings(kafka_bootstrap=willing.bootstrap))
        apply(admin, prefix, 2, replication=1)
        assert emitter.flush(30) == 0
        assert guard.wait_ready(30)
    assert check(admin, prefix) == []
    records = read_all(willing.bootstrap, f"{prefix}usage.v1")
    assert {json.loads(record.value or b"")["event_id"] for record in records} == {first, second}
