"""Hostile input, kind by kind: each gets its answer, and nobody beside it notices: neither in answers nor in memory."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from schemas.codec import decode_usage
from tests.support.gateway_process import GatewayProcess, new_key, post
from tests.support.hostile_requests import BODIES, CONNECTIONS, EVENTS, Hostile, Raw, call, replayed_webhook
from tests.support.kafka import TopicSpace, read_all, wait_until
from tests.support.systems import HELICONE_SECRET

pytestmark = pytest.mark.kafka
KINDS = 25
"""So many at least are held by name."""
IDLE = 1_000
STALLED = 20
ANSWER_S = 30
MOST_RESIDENT = 450e6


@pytest.fixture
def tokens(kafka_topics: TopicSpace, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """A key that may all, and one that may not report."""
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    return {
        "own": new_key(bootstrap, prefix, "acme", "ingest", "guard", capture=capsys),
        "guard only": new_key(bootstrap, prefix, "acme", "guard", capture=capsys),
    }


@pytest.fixture
def gateway(kafka_topics: TopicSpace, tmp_path: Path, tokens: dict[str, str]) -> Iterator[GatewayProcess]:
    """One for all kinds: what one of them breaks, those behind it show."""
    secrets = json.dumps({"support": f"{tokens['own'].split('_')[1]}:{HELICONE_SECRET}"})
    with GatewayProcess(
        kafka_topics.bootstrap, kafka_topics.prefix, tmp_path / "spool", HELICONE_SECRETS=secrets
    ) as process:
        process.wait_ready()
        yield process


class Beside:
    """A client that reports and asks again and again, as if nothing were."""

    def __init__(self, gateway: GatewayProcess, token: str) -> None:
        self.answers: list[int] = []
        self._port, self._token = gateway.gateway_port, token
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def expect_answers(self, kind: str) -> None:
        """It gets two further answers, both good: one at least was asked for after this was called."""
        before = len(self.answers)
        wait_until(lambda: len(self.answers) >= before + 2, ANSWER_S, f"beside {kind!r} others are answered")
        assert set(self.answers) == {200}, kind

    def _go_on(self) -> None:
        number = 0
        while not self._end.wait(0.02):
            number += 1
            body = json.dumps(call(f"beside-{number}")).encode()
            reported, _ = post(self._port, EVENTS, body, self._token)
            asked, _ = post(self._port, "/v1/guard/check", b'{"run_id": "run-1"}', self._token)
            self.answers.append(max(reported, asked) if reported and asked else 0)


def test_no_kind_of_hostile_input_harms_anybody(
    kafka_topics: TopicSpace, gateway: GatewayProcess, tokens: dict[str, str]
) -> None:
    """Every kind of body, key, path, method, connection and webhook is answered with its own status and word, or
    closed; meanwhile and afterwards a client beside it is answered, memory is bounded and given back, and in the log
    there is nothing but what that client has reported, and one call of the webhook.
    """
    assert len(BODIES) + len(CONNECTIONS) >= KINDS
    wrong: dict[str, object] = {}
    with Beside(gateway, tokens["own"]) as beside:
        for kind, sent in BODIES.items():
            status, answer = ask(gateway, sent, tokens)
            if status not in sent.statuses or sent.word not in str(answer):
                wrong[kind] = (status, answer)
            beside.expect_answers(kind)
        for kind, raw in CONNECTIONS.items():
            answered = say(gateway, raw, tokens["own"])
            if not answered.startswith(raw.begins):
                wrong[kind] = answered[:100]
            beside.expect_answers(kind)
        assert wrong == {}
        replay(gateway)
        beside.expect_answers("a replayed webhook")
        with ExitStack() as held:
            hold(held, gateway, tokens["own"])
            beside.expect_answers("connections that wait, and streams that nobody reads")
        beside.expect_answers("all of it")
    wait_until(lambda: gateway.metric("spendfuse_gateway_body_bytes") == {"": 0.0}, ANSWER_S, "no body is held")
    assert gateway.metric("process_resident_memory_bytes")[""] < MOST_RESIDENT
    assert gateway.stop() == 0, gateway.tail()
    logged = [decode_usage(one.value) for one in read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1"))]
    assert {one.tenant_id for one in logged} == {"acme"}
    assert len({one.event_id for one in logged if not one.event_id.startswith("beside-")}) == 1, "the webhook's"


def ask(gateway: GatewayProcess, sent: Hostile, tokens: dict[str, str]) -> tuple[int, Any]:
    """Send a request with the key that it shows."""
    own = tokens["own"]
    shown = {"own": own, "guard only": tokens["guard only"], "made up": own[:-4] + "aaaa"}.get(sent.key)
    path = f"{sent.path}?key={own}" if sent.key == "in the address" else sent.path
    return gateway.post(path, sent.body, shown, sent.method, **sent.headers)


def say(gateway: GatewayProcess, raw: Raw, token: str) -> bytes:
    """What a plain connection is answered; nothing if it is closed."""
    answered = b""
    with socket.create_connection(("127.0.0.1", gateway.gateway_port), ANSWER_S) as connection:
        try:
            connection.sendall(raw.sent.replace(b"{token}", token.encode()))
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answered += part
        except TimeoutError:
            raise
        except OSError:
            pass  # closed, maybe before we had sent all
    return answered


def replay(gateway: GatewayProcess) -> None:
    """A good webhook again, and then changed under its old signature."""
    nth = replayed_webhook()
    for number, expected in enumerate((200, 200, 401)):
        body, headers, path = nth(number)
        assert gateway.post(path, body, None, **headers)[0] == expected


def hold(held: ExitStack, gateway: GatewayProcess, token: str) -> None:
    """Connections that say nothing, that send a byte now and then, and that follow commands and never read."""
    where = ("127.0.0.1", gateway.gateway_port)
    for number in range(IDLE):
        connection = held.enter_context(socket.create_connection(where, ANSWER_S))
        if number % 4 == 0:
            connection.sendall(b"POST /v1/events HTTP/1.1\r\nHost: g\r\nX-Slow: ")
    for _ in range(STALLED):
        stream = held.enter_context(socket.create_connection(where, ANSWER_S))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stream.sendall(f"GET /v1/control HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
