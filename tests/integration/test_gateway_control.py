"""Agents without Kafka follow control.v1 through the gateway: what is commanded is heard, by whom it concerns."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from spendfuse import Connection, Stopped, connect

from schemas.codec import decode_usage, encode
from schemas.control import Target
from schemas.signing import EngineKeys, control_key
from schemas.usage import CommandAck
from streams.clock import wall_ms
from streams.tools.access_keys import run_revoke
from tests.support import facts
from tests.support.gateway_process import GatewayProcess, new_key, operator_of
from tests.support.kafka import Record, TopicSpace, produce, read_all, wait_until
from tests.support.service_process import ENGINE_KEY

TIMEOUT_S = 30.0
OPEN_STREAMS = "spendfuse_gateway_control_streams"
CUT_STREAMS = "spendfuse_gateway_control_cut_total"
pytestmark = pytest.mark.kafka


@pytest.fixture
def token(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> str:
    return new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", "guard", capture=capsys)


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, token: str) -> Iterator[GatewayProcess]:  # a key
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool") as process:
        process.wait_ready()
        yield process


def give(space: TopicSpace, *targets: Target, tenant_id: str = "acme", root: str = ENGINE_KEY, **fields: Any) -> None:
    """Kill them, as the engine whose root key that is would."""
    records = []
    for number, target in enumerate(targets):
        now_ms = wall_ms()
        given: dict[str, Any] = {
            "tenant_id": tenant_id,
            "command_id": f"kill-{target.id}",
            "issued_ms": now_ms,
            "expires_ms": now_ms + 600_000,
            "seq": number + 1,
        }
        command = facts.command(target=target, **(given | fields))
        value = encode(command)
        headers = EngineKeys(root.encode()).command_headers(command, value, "engine")
        records.append(Record(value, control_key(tenant_id, target.type, target.id).encode(), headers=tuple(headers)))
    produce(space.bootstrap, space.name("control.v1"), records)


def at(gateway: GatewayProcess) -> str:
    """Its address."""
    return f"http://127.0.0.1:{gateway.gateway_port}"


def is_stopped(connection: Connection, run_id: str) -> bool:
    """Whether the run may make no call."""
    try:
        connection.guard.check(connection.run(run_id=run_id), by="a test")
    except Stopped:
        return True
    return False


def go_on_until_killed(connection: Connection, space: TopicSpace) -> None:
    """A run that is killed after its first call."""
    with connection.run(run_id="r1", workflow="docs") as run:
        run.llm_call(model="gpt-5", input_tokens=10)
        give(space, Target("run", "r1"), Target("workflow", "other"))
        assert run.stop_event.wait(TIMEOUT_S)
        connection.guard.check(run)


def events(gateway: GatewayProcess, token: str, last_id: str | None = None) -> Iterator[tuple[str, str, Any]]:
    """Name, id and data of what a plain socket is sent."""
    resumed = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    with closing(socket.create_connection(("127.0.0.1", gateway.gateway_port), TIMEOUT_S)) as client:
        request = f"GET /v1/control HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
        client.sendall(f"{request}{resumed}\r\n".encode())
        fields: dict[str, str] = {}
        for line in client.makefile("r", encoding="utf-8", newline=None):
            name, _, value = line.rstrip().partition(": ")
            if name in ("id", "event", "data"):
                fields[name] = value
            elif "data" in fields:
                yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
                fields = {}


def test_a_run_is_killed_and_answers_once_over_http(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str
) -> None:
    """The library reports and obeys without Kafka, in two lines. What stood before it came, and what comes after, is
    heard; the answers say who denied and stand once in the log, however often they are given.
    """
    give(kafka_topics, Target("run", "r0"))
    with connect(at(gateway), key=token) as connection:
        assert connection.guard.wait_ready(TIMEOUT_S), connection.guard.waiting_for
        assert is_stopped(connection, "r0")
        with pytest.raises(Stopped):
            go_on_until_killed(connection, kafka_topics)
        assert not is_stopped(connection, "r2")
    for _ in range(2):
        body = json.dumps({"run_id": "r0", "acted": "stopped", "denied_by": "a shell"}).encode()
        assert gateway.post("/v1/control/kill-r0/ack", body, token) == (200, {"accepted": 1, "rejected": []})
    messages = [
        decode_usage(record.value or b"") for record in read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))
    ]
    acks = [message for message in messages if isinstance(message, CommandAck)]
    assert {(ack.run_id, ack.command_id, ack.acted) for ack in acks} == {
        ("r0", "kill-r0", "stopped"),
        ("r1", "kill-r1", "stopped"),
    }
    assert len({ack.event_id for ack in acks}) == 2, "whoever answers, and however often, it is one answer"
    assert [ack.denied_by for ack in acks if ack.run_id == "r0"] == ["a test", "a shell", "a shell"]
    assert [message.run_id for message in messages if not isinstance(message, CommandAck)] == ["r1"] * 3


def test_a_guard_hears_its_own_tenant_and_what_is_genuine(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another tenant's commands, and what somebody else has signed, are sent to nobody; who is commanded by a stranger
    is told that nobody knows what stands, and no other tenant is.
    """
    other = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "globex", "ingest", "guard", capture=capsys)
    give(kafka_topics, Target("run", "r1"), tenant_id="globex")
    give(kafka_topics, Target("run", "forged"), tenant_id="globex", root="the root key of somebody else")
    with connect(at(gateway), key=token, when_blind="stop") as ours, connect(at(gateway), key=other) as theirs:
        assert ours.guard.wait_ready(TIMEOUT_S)
        assert not is_stopped(ours, "r1")
        wait_until(lambda: "no signature" in (theirs.guard.waiting_for or ""), TIMEOUT_S, "they are blind")
        assert is_stopped(theirs, "r1")
        assert not is_stopped(theirs, "forged")
        assert ours.guard.waiting_for is None
        assert (ours.guard.stats.applied, theirs.guard.stats.applied) == (0, 1)
    asked = {"run_id": "any"}
    assert "blind" not in gateway.post("/v1/guard/check", json.dumps(asked).encode(), token)[1]
    assert "blind" in gateway.post("/v1/guard/check", json.dumps(asked).encode(), other)[1]


def test_who_does_not_read_is_cut_off_and_goes_on_without_a_loss(
    kafka_topics: TopicSpace, tmp_path: Path, gateway: GatewayProcess, token: str
) -> None:
    """A client that takes nothing is let go, while another one is served. At another gateway it goes on behind the last
    command that it has, by that one's id, and has each command once.
    """
    sent = 6_000
    reason = "x" * 1_000
    stalled = socket.create_connection(("127.0.0.1", gateway.gateway_port))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    stalled.sendall(f"GET /v1/control HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    give(kafka_topics, *(Target("run", f"r{number}") for number in range(sent)), reason=reason)
    heard: list[str] = []
    last_id = ""
    for name, event_id, data in events(gateway, token):
        if name == "command":
            heard.append(json.loads(data["value"])["command_id"])
            last_id = event_id
        if len(heard) == sent // 2:
            break
    wait_until(lambda: gateway.metric(CUT_STREAMS).get("") == 1, TIMEOUT_S, "the client that does not read is cut off")
    wait_until(lambda: gateway.metric(OPEN_STREAMS).get("") == 0, TIMEOUT_S, "nothing of it is left")
    stalled.close()
    with GatewayProcess(kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "other") as second:
        second.wait_ready()
        for name, _, data in events(second, token, last_id):
            if name == "command":
                heard.append(json.loads(data["value"])["command_id"])
            if len(heard) >= sent:
                break
    assert len(heard) == len(set(heard)) == sent


def test_a_control_stream_needs_a_key_that_may_guard_and_ends_with_it(
    kafka_topics: TopicSpace, gateway: GatewayProcess, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One for other work is refused in words, a revoked one's stream ends within seconds; and so do all when the
    gateway is told to end, which does not wait for them.
    """
    ingest = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "ingest", capture=capsys)
    wait_until(lambda: gateway.post("/v1/control/c/ack", b"{}", ingest)[0] == 403, TIMEOUT_S, "it may not answer")
    assert not list(events(gateway, ingest))
    assert gateway.post("/v1/control/c/ack", b'{"run_id": "r1"}', token)[0] == 400
    revoked = new_key(kafka_topics.bootstrap, kafka_topics.prefix, "acme", "guard", capture=capsys)
    wait_until(lambda: gateway.post("/v1/guard/check", b'{"run_id": "r"}', revoked)[0] == 200, TIMEOUT_S, "it is known")
    stream = events(gateway, revoked)
    assert next(stream)[0] == "hello"
    assert run_revoke(operator_of(kafka_topics), revoked) == 0
    assert {name for name, _, _ in stream} == {"fresh"}, "and then it ends"
    stream = events(gateway, token)
    assert next(stream)[0] == "hello"
    assert gateway.stop(5) == 0
