"""An emitter and a guard over HTTP keep the promises that they keep over Kafka, with a gateway that misbehaves."""

import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from email.utils import formatdate
from typing import Any

import pytest
from tests.support.kafka import wait_until
from tests.support.scripted_gateway import KEY, ScriptedGateway

import spendfuse._http.control
from spendfuse import Emitter, Guard, Stopped, connect
from spendfuse._http.gateway import Answer, Gateway
from spendfuse.http import HttpControl, HttpTransport
from spendfuse.testing import FakeControl

TIMEOUT_S = 30.0
CALL = {"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"}


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    """One that misbehaves when told to."""
    with ScriptedGateway() as gateway:
        yield gateway


def transport(gateway: ScriptedGateway) -> HttpTransport:
    """A way to it."""
    return HttpTransport(gateway.url, key=KEY)


def command(action: str = "kill", run_id: str = "r1", **fields: object) -> FakeControl:
    """A topic with one command to a run of acme."""
    control = FakeControl()
    control.command(action, ("run", run_id), tenant_id="acme", **fields)
    return control


def test_events_arrive_in_order_and_together(gateway: ScriptedGateway) -> None:
    """However many wait, several go in one request."""
    with Emitter(transport(gateway)) as emitter:
        ids = [emitter.emit(CALL) for _ in range(2_000)]
        assert emitter.flush(TIMEOUT_S) == 0
    assert [event["event_id"] for event in gateway.received] == ids


def test_what_is_refused_for_the_moment_is_sent_again_under_its_id(gateway: ScriptedGateway) -> None:
    """Neither broker nor disk takes it, a proxy in between answers, an answer is lost: each id gets there."""
    gateway.refusals = [
        (503, {"error": "send this again"}), (502, {}), (401, {"error": "not known here"}), (200, {"rejected": [{}]}),
    ]  # fmt: skip
    gateway.drops = 1
    with Emitter(transport(gateway)) as emitter:
        ids = [emitter.emit(CALL) for _ in range(3)]
        assert emitter.flush(TIMEOUT_S) == 0
        assert emitter.stats.dropped == emitter.stats.refused == 0
    assert [event["event_id"] for event in gateway.received] == [*ids, *ids], "the second time for the lost answer"


def in_a_minute() -> str:
    """That moment as HTTP has it."""
    return formatdate(time.time() + 60, usegmt=True)


@pytest.mark.parametrize("said", ["60", in_a_minute, "86400"], ids=["seconds", "date", "more than a minute"])
def test_who_asks_to_be_left_alone_is_and_a_flush_tries_once(
    gateway: ScriptedGateway, said: str | Callable[[], str]
) -> None:
    """Nothing is sent while a gateway, or a proxy before it, wants nothing, not what is reported meanwhile either;
    whoever ends then loses nothing if it takes it after all.
    """
    gateway.refusals = [(429, {})]
    gateway.retry_after = said if isinstance(said, str) else said()
    with Emitter(transport(gateway)) as emitter:
        emitter.emit({**CALL, "event_id": "before"})
        wait_until(lambda: gateway.requests, TIMEOUT_S, "it is refused")
        wait_until(lambda: emitter._outbox._resting, TIMEOUT_S, "and knows it")
        emitter.emit({**CALL, "event_id": "meanwhile"})
        wait_until(lambda: emitter.stats.resent == 1, TIMEOUT_S, "it would try again")
        assert emitter.flush(TIMEOUT_S) == 0
    assert gateway.requests == [["before"], ["before", "meanwhile"]]


def test_whoever_ends_asks_again_while_there_is_time(gateway: ScriptedGateway) -> None:
    """Who has nothing to come back for is not kept from sending by a refusal that comes at the end."""
    gateway.refusals = [(429, {}), (503, {})]
    gateway.retry_after = "60"
    emitter = Emitter(transport(gateway))
    emitter.emit(CALL)
    assert emitter.close(TIMEOUT_S) == 0


def test_the_commands_of_a_gateway_that_asks_to_be_left_alone_are_asked_for_later(gateway: ScriptedGateway) -> None:
    """Whoever follows them does not press on a gateway, or a proxy before it, that has too much to do."""
    gateway.streams_refused, gateway.retry_after = 1, "1"
    with Guard(HttpControl(gateway.url, key=KEY), Emitter(transport(gateway)), when_blind="stop") as guard:
        assert guard.wait_ready(TIMEOUT_S)
    first_s, second_s = gateway.asked_s
    assert second_s - first_s >= 1


def test_no_kill_waits_for_as_long_as_somebody_wants_to_be_left_alone(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again after ten seconds at most (here, a hundredth of one), whatever a proxy wishes."""
    assert spendfuse._http.control.MOST_REST_S == 10
    monkeypatch.setattr("spendfuse._http.control.MOST_REST_S", 0.01)
    gateway.streams_refused, gateway.retry_after = 1, "3600"
    with Guard(HttpControl(gateway.url, key=KEY), Emitter(transport(gateway)), when_blind="stop") as guard:
        assert guard.wait_ready(TIMEOUT_S)


DATE = "Sat, 28 Nov 2026 14:00:00 GMT"
SAID: dict[str, tuple[dict[str, str], float]] = {
    "nothing": ({}, 0), "seconds": ({"Retry-After": " 120 "}, 120), "fractions": ({"Retry-After": "1.5"}, 0),
    "below zero": ({"Retry-After": "-5"}, 0), "words": ({"Retry-After": "later"}, 0), "empty": ({"Retry-After": ""}, 0),
    "other digits": ({"Retry-After": "\u0665"}, 0),
    "a date": ({"Retry-After": "Sat, 28 Nov 2026 14:00:30 GMT", "Date": DATE}, 30),
    "a date in the past": ({"Retry-After": "Sat, 28 Nov 2026 13:00:00 GMT", "Date": DATE}, 0),
    "a date of another year": ({"Retry-After": "Sat, 28 Nov 0000 14:00:30 GMT", "Date": DATE}, 0),
    "a date without a clock": ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "rest_s"), SAID.values(), ids=SAID)
def test_when_to_come_again_is_by_the_clock_of_who_says_it(headers: dict[str, str], rest_s: float) -> None:
    """Seconds or a date; what is neither asks for nothing."""
    answer = Message()
    for name, value in headers.items():
        answer[name] = value
    assert Answer(429, None, answer).rest_s == rest_s


def test_a_gateway_that_has_moved_says_where() -> None:
    """Redirections are not followed, because they would take the key along: whoever has the old address is told."""
    headers = Message()
    headers["Location"] = "https://spendfuse.example/v1/key"
    why = Gateway("http://spendfuse.example", KEY).why(Answer(301, None, headers))
    assert why == "http://spendfuse.example answers 301: it has moved to https://spendfuse.example/v1/key"


ANSWERS = {
    "a proxy with too much to do": (429, "Too Many Requests"), "a proxy without a gateway": (502, "Bad Gateway"),
    "somebody else": (404, "is it a gateway of Spendfuse?"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "why"), ANSWERS.values(), ids=ANSWERS)
def test_what_somebody_in_between_answers_is_told_as_it_is(status: int, why: str) -> None:
    """Nobody looks for a wrong address where there is too much to do."""
    assert Gateway("http://g", KEY).why(Answer(status, None, Message())) == f"http://g answers {status}: {why}"


SILENCES: dict[str, tuple[Exception, str]] = {
    "a certificate of one's own": (ssl.SSLCertVerificationError("self-signed"), "SSL_CERT_FILE"),
    "a port without TLS": (ssl.SSLError("WRONG_VERSION_NUMBER"), "https://"),
}


@pytest.mark.parametrize(("error", "says"), SILENCES.values(), ids=SILENCES)
def test_what_is_to_be_done_about_tls_is_said(error: Exception, says: str) -> None:
    """The library's own words name what is wrong, and not where it is set."""
    assert says in Gateway("http://g", KEY).unreachable(error)


def test_a_word_that_is_no_choice_begins_nothing(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody follows commands for a connection that was never made; the variable is named."""
    monkeypatch.setenv("SPENDFUSE_WHEN_BLIND", "Stop")
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match=r"SPENDFUSE_WHEN_BLIND.*'Stop'"):
        connect(gateway.url, key=KEY, tenant_id="acme")
    assert not {each for each in set(threading.enumerate()) - before if each.name.startswith("spendfuse")}


def test_what_is_wrong_in_itself_is_refused_alone_and_told(
    gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The others of its request are taken; `flush` counts it, and the log says why."""
    gateway.reject = {"wrong"}
    with Emitter(transport(gateway)) as emitter:
        for event_id in ("before", "wrong", "after"):
            emitter.emit({**CALL, "event_id": event_id})
        assert emitter.flush(TIMEOUT_S) == 1
        assert (emitter.stats.sent, emitter.stats.refused) == (2, 1)
    assert [event["event_id"] for event in gateway.received] == ["before", "after"]
    assert "wrong_value" in caplog.text


def test_nothing_is_lost_in_silence_while_no_gateway_answers(caplog: pytest.LogCaptureFixture) -> None:
    """Reporting neither waits nor raises; what finds no room, and what is left at the end, is counted and logged."""
    with ScriptedGateway() as gateway:
        pass
    emitter = Emitter(transport(gateway), max_buffered=2)
    with caplog.at_level(logging.WARNING, "spendfuse"):
        assert [emitter.emit(CALL) is None for _ in range(3)] == [False, False, True]
        wait_until(lambda: "does not answer" in caplog.text, TIMEOUT_S, "it says who does not answer")
        assert emitter.close(0.1) == 2
    assert emitter.stats.dropped == 1
    assert "3 of 3 usage events are not in the log" in caplog.text


def test_a_proxy_that_takes_less_than_the_gateway_holds_nothing_up(gateway: ScriptedGateway) -> None:
    """What is too large goes in smaller requests; only a record that is too large by itself is refused, and told."""
    gateway.most_bytes = 2_000
    with Emitter(transport(gateway)) as emitter:
        for number in range(50):
            emitter.emit({**CALL, "event_id": f"e{number}"})
        emitter.emit({**CALL, "event_id": "large", "tags": {f"t{n}": 250 * "x" for n in range(12)}})
        assert emitter.flush(TIMEOUT_S) == 1
        assert (emitter.stats.sent, emitter.stats.refused) == (50, 1)
    assert sorted(event["event_id"] for event in gateway.received) == sorted(f"e{number}" for number in range(50))


def test_a_kill_over_http_stops_a_run_and_is_answered_once(gateway: ScriptedGateway) -> None:
    """A guard without keys believes its gateway, which has verified the command."""
    with (
        Emitter(transport(gateway)) as emitter,
        Guard(HttpControl(gateway.url, key=KEY), emitter, when_blind="stop", tenant_id="acme") as guard,
    ):
        assert guard.wait_ready(TIMEOUT_S), guard.waiting_for
        with emitter.run("acme", run_id="r1") as run:
            guard.check(run)
            gateway.commands += command()._records
            assert run.stop_event.wait(TIMEOUT_S)
            for _ in range(2):
                with pytest.raises(Stopped):
                    guard.check(run, by="a test")
        assert emitter.flush(TIMEOUT_S) == 0
    acks = [event for event in gateway.received if event["type"] == "command_ack"]
    assert [(ack["acted"], ack["denied_by"]) for ack in acks] == [("stopped", "a test")]


def test_a_stream_that_ends_is_taken_up_where_it_ended(gateway: ScriptedGateway) -> None:
    """No command is heard twice, and none is missed that was given while nobody listened."""
    gateway.commands = command()._records
    with (
        Emitter(transport(gateway)) as emitter,
        Guard(HttpControl(gateway.url, key=KEY), emitter, when_blind="stop", tenant_id="acme") as guard,
    ):
        assert guard.wait_ready(TIMEOUT_S)
        gateway.commands = gateway.commands + command(run_id="r2", command_id="second")._records
        gateway.cuts.put(True)
        run = emitter.run("acme", run_id="r2")
        wait_until(lambda: guard.stats.applied == 2, TIMEOUT_S, "the second is heard")
        with pytest.raises(Stopped):
            guard.check(run)
        assert guard.stats.replayed == 0
    assert gateway.last_ids[:2] == [None, "0-1"] or gateway.last_ids[:2] == [None, "0-2"]


def test_a_guard_is_blind_while_its_gateway_is(gateway: ScriptedGateway) -> None:
    """It says so with the gateway's own reason, and sees again when that does."""
    with (
        Emitter(transport(gateway)) as emitter,
        Guard(HttpControl(gateway.url, key=KEY), emitter, when_blind="stop", tenant_id="acme") as guard,
    ):
        assert guard.wait_ready(TIMEOUT_S)
        gateway.blind = "no broker answers"
        wait_until(lambda: "no broker answers" in (guard.waiting_for or ""), TIMEOUT_S, "it is blind")
        with pytest.raises(Stopped, match="no broker answers"):
            guard.check(emitter.run("acme"))
        gateway.blind = None
        wait_until(lambda: not guard.blind, TIMEOUT_S, "it sees")
        guard.check(emitter.run("acme"))


def test_knowledge_is_never_newer_than_now(gateway: ScriptedGateway) -> None:
    """A machine that slept for an hour while its stream stayed open does not take what it heard before for news until
    the hour is over: it is blind as soon as the gateway is gone.
    """
    with (
        Emitter(transport(gateway)) as emitter,
        Guard(HttpControl(gateway.url, key=KEY), emitter, when_blind="stop", blind_after_s=0.5) as guard,
    ):
        assert guard.wait_ready(TIMEOUT_S)
        gateway.ahead_s = 3_600.0
        gateway.commands = command(run_id="r2")._records
        wait_until(lambda: guard.stats.applied == 1, TIMEOUT_S, "it hears what comes after")
        gateway.is_ending = True
        wait_until(lambda: guard.blind, TIMEOUT_S, "it is blind")


def test_records_of_a_request_that_fails_in_an_unforeseen_way_go_again(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are nowhere but in the transport."""
    faults = [UnicodeError("label too long")]
    request = Gateway.request

    def failing(*given: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return request(*given, **options)

    monkeypatch.setattr(Gateway, "request", failing)
    with Emitter(transport(gateway)) as emitter:
        emitter.emit(CALL)
        assert emitter.flush(TIMEOUT_S) == 0
    assert len(gateway.received) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_reports_and_obeys_by_connections_of_its_own(gateway: ScriptedGateway) -> None:
    """What stood before the fork stops it, and its parent's stream and requests go on."""
    gateway.commands = command()._records
    with connect(gateway.url, key=KEY) as connection:
        assert connection.guard.wait_ready(TIMEOUT_S)
        connection.emitter.emit(CALL)
        assert connection.emitter.flush(TIMEOUT_S) == 0

        def obeys() -> bool:
            with pytest.raises(Stopped):
                connection.guard.check(connection.run(run_id="r1"))
            connection.guard.check(connection.run(run_id="r2"))
            return (
                connection.emitter.emit({**CALL, "event_id": "child"}) == "child" and connection.close(TIMEOUT_S) == 0
            )

        assert in_child(obeys)
        connection.emitter.emit({**CALL, "event_id": "parent"})
        assert connection.emitter.flush(TIMEOUT_S) == 0
        connection.guard.check(connection.run(run_id="r2"))
    ids = [event["event_id"] for event in gateway.received]
    assert (ids.count("child"), ids.count("parent")) == (1, 1)


def in_child(promise: Callable[[], bool]) -> bool:
    """Whether the promise holds in a forked child."""
    child = os.fork()
    if child == 0:
        held = False
        try:
            held = promise()
        finally:
            os._exit(0 if held else 1)
    return os.waitpid(child, 0)[1] == 0


def test_two_lines_are_enough_to_obey(gateway: ScriptedGateway) -> None:
    """Whoever connects and asks at once, as the page for Python shows, is told what stands, and goes on if it may."""
    gateway.commands = command()._records
    with connect(gateway.url, key=KEY) as connection:
        connection.guard.check(connection.run(run_id="r2"))
        with pytest.raises(Stopped, match="from a test"):
            connection.guard.check(connection.run(run_id="r1"))


def test_one_address_says_which_way(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenant and what to do while blind are the key's, unless said; what nobody says is named."""
    for name in ("URL", "KEY", "KAFKA_BOOTSTRAP", "TENANT", "WHEN_BLIND", "TENANT_KEY"):
        monkeypatch.delenv(f"SPENDFUSE_{name}", raising=False)
    with pytest.raises(ValueError, match="SPENDFUSE_URL"):
        connect()
    monkeypatch.setenv("SPENDFUSE_URL", gateway.url)
    with pytest.raises(ValueError, match="SPENDFUSE_KEY"):
        connect()
    monkeypatch.setenv("SPENDFUSE_KEY", "sf_another")
    with pytest.raises(ValueError, match="not known here"):
        connect()
    monkeypatch.setenv("SPENDFUSE_KEY", KEY)
    with connect() as connection:
        assert connection.tenant_id == "acme"
        assert connection.guard.wait_ready(TIMEOUT_S)
        with connection.run() as run:
            run.llm_call(model="m")
    assert [event["type"] for event in gateway.received] == ["run_started", "llm_call", "run_finished"]
    monkeypatch.setenv("SPENDFUSE_TENANT", "globex")
    monkeypatch.setenv("SPENDFUSE_WHEN_BLIND", "continue")
    with connect("http://127.0.0.1:9", key=KEY) as connection:
        assert connection.tenant_id == "globex", "with all said, nobody is asked"
    monkeypatch.delenv("SPENDFUSE_TENANT")
    with pytest.raises(ConnectionError, match="SPENDFUSE_TENANT"):
        connect("http://127.0.0.1:9", key=KEY)
    with pytest.raises(ValueError, match="SPENDFUSE_TENANT"):
        connect("kafka:9092")


def test_a_key_of_another_tenant_is_told_for_nobody_could_stop_these_runs(gateway: ScriptedGateway) -> None:
    """Its commands are another tenant's, so that nothing is known of what stands against these."""
    with connect(gateway.url, key=KEY, tenant_id="globex", when_blind="stop") as connection:
        connection.guard._blind_after_s = 1.0  # how long the first check waits
        with pytest.raises(Stopped, match="the tenant acme, and these are runs of globex"):
            connection.guard.check(connection.run())


def test_over_http_no_kafka_client_is_imported(gateway: ScriptedGateway) -> None:
    """Nor any other package: what an agent without Kafka installs is ours alone."""
    program = (
        "import sys\n"
        "before = {name.partition('.')[0] for name in sys.modules}\n"
        "import spendfuse\n"
        f"connection = spendfuse.connect({gateway.url!r}, key={KEY!r})\n"
        "with connection.run() as run: run.llm_call(model='m')\n"
        "assert connection.close() == 0\n"
        "new = {name.partition('.')[0] for name in sys.modules} - before - sys.stdlib_module_names - {'__mp_main__'}\n"
        "assert new == {'spendfuse'}, new\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
