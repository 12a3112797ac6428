"""What the gateway has answered for is in the log, whatever becomes of brokers and of itself; and nobody else's is."""

import gzip
import json
import random
import socket
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.local import LocalKafka, free_ports
from schemas.codec import decode_dead_letter, decode_usage
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import apply
from streams.settings import Settings
from streams.tools.access_keys import run_revoke
from tests.support.gateway_process import GatewayProcess, new_key, post
from tests.support.kafka import TopicSpace, fresh_prefix, read_all, wait_until

SEED = 20_261_127
KILLS = 10
ON_DISK = "spendfuse_gateway_spool_bytes"
pytestmark = pytest.mark.kafka


def call(event_id: str, **more: Any) -> dict[str, Any]:
    """A model call as somebody without any library of ours would write it."""
    return {
        "type": "llm_call", "event_id": event_id, "ts_ms": wall_ms(), "run_id": "run-1", "model": "gpt-4.1",
        "provider": "openai", "input_tokens": 1000, "output_tokens": 100, "cost_nanousd": 2_800_000, **more,
    }  # fmt: skip


def in_log(space: TopicSpace) -> list[tuple[str, str]]:
    """Tenant and event id of every record of usage.v1."""
    records = read_all(space.bootstrap, space.name("usage.v1"))
    return [(message.tenant_id, message.event_id) for message in (decode_usage(record.value) for record in records)]


def test_events_over_http_are_in_the_log_under_the_keys_tenant(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An array, one object a line or over many, and a packed body are taken; each record has its tenant's key and
    partition. What is wrong is named by its place, and stands in the dead letters; the rest counts all the same.
    """
    space = kafka_topics
    token = new_key(space.bootstrap, space.prefix, "acme", capture=capsys)
    with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        lines = b"\n".join(json.dumps(call(f"line-{number}")).encode() for number in range(3))
        assert gateway.post("/v1/events", lines, token) == (200, {"accepted": 3, "rejected": []})
        one = json.dumps(call("over-lines"), indent=2).encode()
        assert gateway.post("/v1/events", one, token) == (200, {"accepted": 1, "rejected": []})
        packed = gzip.compress(json.dumps([call("packed-0"), call("packed-1")]).encode())
        assert gateway.post("/v1/events", packed, token, **{"Content-Encoding": "gzip"})[0] == 200
        wrong = [
            call("fine"),
            call("of-another", tenant_id="globex"),
            {**call("dollars"), "cost_nanousd": None, "cost_usd": 0.5},
            call("late", backfill=True),
            {**call("ack"), "type": "command_ack", "command_id": "c", "acted": "stopped"},
        ]  # fmt: skip
        status, answer = gateway.post("/v1/events", json.dumps(wrong).encode(), token)
        assert (status, answer["accepted"]) == (200, 1)
        assert [(one["index"], one["reason"]) for one in answer["rejected"]] == [
            (1, "wrong_tenant"), (2, "foreign_name"), (3, "wrong_value"), (4, "wrong_value"),
        ]  # fmt: skip
        assert gateway.stop() == 0
    assert sorted(in_log(space)) == sorted(
        ("acme", name) for name in ("line-0", "line-1", "line-2", "over-lines", "packed-0", "packed-1", "fine")
    )
    records = read_all(space.bootstrap, space.name("usage.v1"))
    assert {record.key for record in records} == {b"acme"}
    assert {record.partition for record in records} == {partition_of(b"acme", space.partitions)}
    letters = [decode_dead_letter(record.value) for record in read_all(space.bootstrap, space.name("usage.dlq.v1"))]
    assert [(letter.topic, letter.offset, letter.reason) for letter in letters] == [
        ("gateway/events", 1, "wrong_tenant"), ("gateway/events", 2, "foreign_name"),
        ("gateway/events", 3, "wrong_value"), ("gateway/events", 4, "wrong_value"),
    ]  # fmt: skip


def test_who_has_no_key_for_it_is_refused(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No key, a wrong one, one for other work, and one that was revoked a moment ago: each is told why, in words."""
    space = kafka_topics
    settings = Settings(kafka_bootstrap=space.bootstrap, prefix=space.prefix, operator_name="ana")
    token = new_key(space.bootstrap, space.prefix, "acme", capture=capsys)
    guard = new_key(space.bootstrap, space.prefix, "acme", "guard", capture=capsys)
    body = json.dumps(call("once")).encode()
    with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        for shown, status, word in (
            (None, 401, "no key"),
            (token[:-1] + "x", 401, "not known"),
            (guard, 403, "may not ingest"),
        ):
            answered, answer = gateway.post("/v1/events", body, shown)
            assert (answered, word in answer["error"]) == (status, True), answer
        assert gateway.post("/v1/events", body, token)[0] == 200
        later = new_key(space.bootstrap, space.prefix, "globex", capture=capsys)
        wait_until(lambda: gateway.post("/v1/events", body, later)[0] == 200, 10, "a key made meanwhile is known")
        assert run_revoke(settings, token) == 0
        wait_until(lambda: gateway.post("/v1/events", body, token)[0] == 401, 10, "the revoked key is refused")
        assert "was revoked" in gateway.post("/v1/events", body, token)[1]["error"]
    assert {tenant for tenant, _ in in_log(space)} == {"acme", "globex"}


def test_a_body_that_never_comes_holds_nobody_up(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Connections that send a header and no body are answered 408, and others are served meanwhile."""
    space = kafka_topics
    token = new_key(space.bootstrap, space.prefix, "acme", capture=capsys)
    with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool") as gateway, ExitStack() as held:
        gateway.wait_ready()
        slow = [
            held.enter_context(socket.create_connection(("127.0.0.1", gateway.gateway_port), 30)) for _ in range(50)
        ]
        for connection in slow:
            connection.sendall(
                f"POST /v1/events HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n"
                "Content-Length: 1000\r\n\r\n{".encode()
            )
        assert gateway.post("/v1/events", json.dumps(call("meanwhile")).encode(), token)[0] == 200
        assert all(connection.recv(100).startswith(b"HTTP/1.1 408") for connection in slow)


def test_usage_that_was_taken_while_no_broker_answered_is_in_the_log(
    own_kafka: LocalKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The broker is killed: the gateway goes on taking usage, on its disk. It is killed too, and started again; when
    the broker is back, every message that was taken is in the log.
    """
    space = TopicSpace(own_kafka.bootstrap, fresh_prefix(), 2)
    apply(Admin(Settings(kafka_bootstrap=space.bootstrap)), space.prefix, space.partitions, replication=1)
    token = new_key(space.bootstrap, space.prefix, "acme", capture=capsys)
    with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        assert gateway.post("/v1/events", json.dumps(call("before")).encode(), token)[0] == 200
        own_kafka.kill()
        for number in range(20):
            body = json.dumps([call(f"away-{number}-{part}") for part in range(5)]).encode()
            assert gateway.post("/v1/events", body, token) == (200, {"accepted": 5, "rejected": []})
        gateway.kill()
    own_kafka.start()
    with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        gateway.wait_for(lambda: gateway.metric(ON_DISK).get("") == 0, 60, "the disk is handed on")
        assert gateway.stop() == 0
    expected = {"before"} | {f"away-{number}-{part}" for number in range(20) for part in range(5)}
    assert {event_id for _, event_id in in_log(space)} == expected


def test_a_gateway_killed_at_random_loses_nothing_that_it_answered_for(
    kafka_topics: TopicSpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten kills under load from clients that send again what was not answered: all that was answered is in the log."""
    space = kafka_topics
    token = new_key(space.bootstrap, space.prefix, "acme", capture=capsys)
    chance = random.Random(SEED)
    (port,) = free_ports(1)
    answered: list[str] = []
    end = threading.Event()

    def send(client: int) -> None:
        number = 0
        while not end.is_set():
            ids = [f"c{client}-{number}-{part}" for part in range(10)]
            if post(port, "/v1/events", json.dumps([call(event_id) for event_id in ids]).encode(), token)[0] == 200:
                answered.extend(ids)
                number += 1

    clients = [threading.Thread(target=send, args=(client,)) for client in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(KILLS):
            with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool", port) as gateway:
                enough = len(answered) + chance.randrange(50, 400)
                gateway.wait_for(lambda enough=enough: len(answered) >= enough, 30, "some are answered")  # type: ignore[misc]
                gateway.kill()
    finally:
        end.set()
        for client in clients:
            client.join()
    with GatewayProcess(space.bootstrap, space.prefix, tmp_path / "spool") as gateway:
        gateway.wait_ready()
        gateway.wait_for(lambda: gateway.metric(ON_DISK).get("") == 0, 60, "the disk is handed on")
    logged = Counter(event_id for _, event_id in in_log(space))
    missing = [event_id for event_id in answered if event_id not in logged]
    assert not missing, f"seed {SEED}: {len(missing)} of {len(answered)} answered are not in the log: {missing[:5]}"
