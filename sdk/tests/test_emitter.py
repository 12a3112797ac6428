"""An emitter never makes an agent wait or fail because of the broker, and never gives an event a second id."""

import threading
from collections.abc import Callable

import pytest

from spendfuse import Emitter
from spendfuse._usage import outbox
from spendfuse._usage.transport import Done, Record, Undelivered
from spendfuse.testing import MemoryTransport

TIMEOUT_S = 10.0
CALL = {"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"}


class Failing(MemoryTransport):
    """Fails each record as `failures` says, first come first served, then delivers."""

    def __init__(self, *failures: Undelivered | Exception) -> None:
        super().__init__()
        self.failures = list(failures)
        self.attempts: list[Record] = []

    def send(self, record: Record, done: Done) -> None:
        """Fail or deliver."""
        self.attempts.append(record)
        if not self.failures:
            return super().send(record, done)
        failure = self.failures.pop(0)
        if isinstance(failure, Exception):
            raise failure
        return done(record, failure)


class Stuck(MemoryTransport):
    """Hangs in `send` until released, as no transport should."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def send(self, record: Record, done: Done) -> None:
        """Hang."""
        self.release.wait(30)
        super().send(record, done)


def test_an_event_gets_its_id_and_time_before_it_is_sent(transport: MemoryTransport) -> None:
    """What is missing is filled in, what is given is kept, and the time is also the record's."""
    with Emitter(transport, clock_ms=lambda: 1_700_000_000_123) as emitter:
        drawn = emitter.emit(CALL)
        given = emitter.emit(CALL | {"event_id": "mine", "ts_ms": 1_700_000_000_005})
    first, second = transport.records
    assert (drawn, 1_700_000_000_123) == (first.event_id, first.ts_ms)
    assert (given, second.event_id, second.ts_ms) == ("mine", "mine", 1_700_000_000_005)
    assert [drawn, given] == [event["event_id"] for event in transport.events]


@pytest.mark.parametrize(
    "failure", [Undelivered("timed out", retriable=True), OSError("broken"), BufferError("full")], ids=repr
)
def test_a_failed_record_is_sent_again_under_its_id(
    monkeypatch: pytest.MonkeyPatch, failure: Undelivered | Exception
) -> None:
    """Trouble that may pass costs time, not events; the service sees the same id twice at worst."""
    monkeypatch.setattr(outbox, "REST_S", 0.01)
    transport = Failing(failure)
    with Emitter(transport) as emitter:
        event_id = emitter.emit(CALL)
        assert emitter.flush(10) == 0
    assert [event_id, event_id] == [record.event_id for record in transport.attempts]
    assert [event_id] == [event["event_id"] for event in transport.events]


def test_what_waited_out_an_outage_goes_as_fast_as_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of records fail while the broker is away; each is sent again once, and none is left behind.

    At one per look of the sending thread, fifty a second, they were lost at the end of the program.
    """
    monkeypatch.setattr(outbox, "REST_S", 0.01)
    transport = Failing(*[Undelivered("timed out", retriable=True)] * 5_000)
    with Emitter(transport) as emitter:
        ids = {emitter.emit(CALL) for _ in range(5_000)}
        assert emitter.flush(20) == 0
        assert emitter.stats.resent == 5_000
    assert ids == {event["event_id"] for event in transport.events}


def test_what_goes_again_goes_in_its_order() -> None:
    """A record that failed and needs no rest is sent before all that came after it."""
    again = Undelivered("with another", retriable=True, at_once=True)
    transport = Failing(*[again] * 150)
    transport.down = True
    with Emitter(transport) as emitter:
        ids = [emitter.emit(CALL) for _ in range(100)]
        transport.down = False
        assert emitter.flush(10) == 0
    assert ids == [event["event_id"] for event in transport.events]


def test_an_emitter_that_ends_gives_account(caplog: pytest.LogCaptureFixture) -> None:
    """What never reached the log is told at the end, with how much of it was lost to what, and only then."""
    transport = Failing(Undelivered("too large", retriable=False))
    emitter = Emitter(transport, max_buffered=10)
    emitter.emit(CALL)
    assert emitter.flush(10) == 1
    emitter.emit(CALL)
    assert emitter.flush(10) == 0
    transport.down = True
    for _ in range(15):
        emitter.emit(CALL)
    assert emitter.close(0.01) == 10
    [account] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert account == (
        "16 of 17 usage events are not in the log, and their spend is not counted; waiting for the broker when the "
        "emitter closed: 10, refused by it: 1, dropped for want of room: 5"
    )


def test_an_emitter_that_lost_nothing_says_nothing(
    transport: MemoryTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """The account is for what is missing."""
    with Emitter(transport) as emitter:
        emitter.emit(CALL)
    assert not caplog.records


def test_a_record_the_broker_refuses_is_counted_not_repeated() -> None:
    """What can never succeed does not block what can; who flushes is told of it once, as of all that is missing."""
    transport = Failing(Undelivered("too large", retriable=False))
    with Emitter(transport) as emitter:
        emitter.emit(CALL)
        emitter.emit(CALL)
        assert emitter.flush(10) == 1
        assert emitter.flush(10) == 0
        assert (emitter.stats.refused, emitter.stats.sent, emitter.stats.dropped) == (1, 1, 0)


@pytest.mark.parametrize("make", [Stuck, MemoryTransport])
def test_a_dead_broker_costs_bounded_memory_and_no_wait(
    make: Callable[[], MemoryTransport], caplog: pytest.LogCaptureFixture
) -> None:
    """Ten thousand events into a buffer of ten: each call returns, the rest is dropped, counted and said once."""
    transport = make()
    transport.down = True
    emitter = Emitter(transport, max_buffered=10)
    results = [emitter.emit(CALL) for _ in range(10_000)]
    assert len([event_id for event_id in results if event_id is not None]) == 10
    assert (emitter.stats.accepted, emitter.stats.dropped) == (10, 9_990)
    assert len([record for record in caplog.records if "dropped" in record.message]) == 1
    assert emitter.flush(0.01) == 10
    transport.down = False
    if isinstance(transport, Stuck):
        transport.release.set()
    assert emitter.close(10) == 0
    assert [event_id for event_id in results if event_id] == [event["event_id"] for event in transport.events]


def test_the_buffer_is_bounded_in_bytes_too(transport: MemoryTransport) -> None:
    """Few large events cost no more than many small ones."""
    transport.down = True
    emitter = Emitter(transport, max_buffered_bytes=500)
    results = [emitter.emit(CALL | {"user": "x" * 200}) for _ in range(10)]
    assert results[0] is not None
    assert results[-1] is None
    assert emitter.close(0) == emitter.stats.accepted == 1


def test_a_closed_emitter_drops_and_counts(transport: MemoryTransport) -> None:
    """An agent that reports after shutdown is not punished with an exception."""
    emitter = Emitter(transport)
    assert emitter.close() == 0
    assert emitter.emit(CALL) is None
    assert emitter.stats.dropped == 1
    assert emitter.close() == 0


def test_many_threads_lose_nothing(transport: MemoryTransport) -> None:
    """Every accepted event arrives, and a run's numbers arrive in order, whoever reports."""
    with Emitter(transport) as emitter, emitter.run(tenant_id="acme") as run:
        threads = [
            threading.Thread(target=lambda: [run.llm_call(model="m") for _ in range(200)], daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert list(range(1, 803)) == [event["seq"] for event in transport.events]
    assert len({event["event_id"] for event in transport.events}) == 802


class FailingPoll(MemoryTransport):
    """Has no room at first, and fails when it is asked to make some."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = 3

    def send(self, record: Record, done: Done) -> None:
        """Take it once the faults are over."""
        if self.faults:
            raise BufferError("full")
        super().send(record, done)

    def poll(self, timeout_s: float) -> None:
        """Fail."""
        if self.faults:
            self.faults -= 1
            raise RuntimeError("what no transport should raise")


def test_a_transport_that_fails_while_it_is_full_ends_nothing() -> None:
    """The emitter's thread goes on, and what waited is sent."""
    transport = FailingPoll()
    with Emitter(transport) as emitter:
        emitter.emit(CALL)
        assert emitter.flush(TIMEOUT_S) == 0
    assert len(transport.events) == 1
