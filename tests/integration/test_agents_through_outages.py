"""Agents whose broker goes away, on a real Kafka: what waited is sent at once when it is back, or told at the end."""

import json
import subprocess
import sys

from spendfuse import Emitter
from spendfuse.kafka import KafkaTransport

from infra.kafka.local import LocalKafka
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.support.kafka import fresh_prefix, read_all, wait_until

EVENTS = 10_000
CALL = {"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"}
AGENT = """
from spendfuse import Emitter
from spendfuse.kafka import KafkaTransport

emitter = Emitter(KafkaTransport("127.0.0.1:1", prefix=""), max_buffered=400)
for _ in range(500):
    emitter.emit({"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"})
"""


def test_what_waited_out_an_outage_arrives_at_once(own_kafka: LocalKafka) -> None:
    """Ten thousand events are given up by the Kafka client while the broker is dead, and again; when it is back, all of
    them arrive within seconds. At fifty a second that took minutes, and a program that ended before lost the rest. What
    was under way when the client gave it up may come twice or later than its neighbours: the event id makes it count
    once.
    """
    prefix = fresh_prefix()
    apply(Admin(Settings(kafka_bootstrap=own_kafka.bootstrap)), prefix, 2, replication=1)
    config = {"delivery.timeout.ms": 1_000, "log_level": 2}
    with Emitter(KafkaTransport(own_kafka.bootstrap, prefix=prefix, config=config)) as emitter:
        first = emitter.emit(CALL)
        assert emitter.flush(30) == 0
        own_kafka.kill()
        ids = [emitter.emit(CALL) for _ in range(EVENTS)]
        wait_until(lambda: emitter.stats.resent >= EVENTS, 60, "each was given up and sent again")
        own_kafka.start()
        assert emitter.flush(30) == 0
    records = read_all(own_kafka.bootstrap, f"{prefix}usage.v1")
    assert {json.loads(record.value or b"")["event_id"] for record in records} == {first, *ids}


def test_a_program_that_ends_without_a_broker_says_what_is_lost() -> None:
    """It ends by itself within seconds, without `close`, and its log says how much is missing and why."""
    done = subprocess.run([sys.executable, "-c", AGENT], capture_output=True, text=True, timeout=60, check=True)
    assert "500 of 500 usage events are not in the log" in done.stderr
    assert "waiting for the broker when the emitter closed: 400, refused by it: 0, dropped for want of room: 100" in (
        done.stderr
    )
