"""A run introduces itself, numbers what it says, and says how it ended."""

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from spendfuse import Emitter, Guard, InvalidEvent, Paused, Run, Stopped
from spendfuse._client.run import CURRENT
from spendfuse.testing import FakeControl, MemoryTransport

TIMEOUT_S = 10.0


def test_a_run_from_start_to_outcome(emitter: Emitter, transport: MemoryTransport) -> None:
    """Attribution and the stop rule go on the introduction; later messages carry ids and their number."""
    with emitter.run(tenant_id="acme", workflow="docs", owner="ana", cap_usd="2.50", max_retries=3, run_id="r") as run:
        run.llm_call(
            model="gpt",
            input_tokens=10,
            output_tokens=2,
            cost_usd="0.01",
            attempt=2,
            latency_ms=5,
            started_ms=1,
        )
        run.tool_call("grep", args=["x"], result="y", status="error")
        run.outcome("accepted")
    emitter.flush()
    started, call, tool, outcome, finished = transport.events
    assert (started["type"], started["workflow"], started["owner"]) == ("run_started", "docs", "ana")
    assert (started["cap_nanousd"], started["max_retries"]) == (2_500_000_000, 3)
    assert (call["cost_nanousd"], call["attempt"], call["latency_ms"], call["started_ms"]) == (10_000_000, 2, 5, 1)
    assert (
        tool["tool"],
        tool["status"],
        len(tool["args_hash"]),
        len(tool["result_hash"]),
    ) == ("grep", "error", 32, 32)
    assert (outcome["outcome"], finished["status"]) == ("accepted", "completed")
    assert [event["seq"] for event in transport.events] == [1, 2, 3, 4, 5]
    assert {("acme", "r")} == {(event["tenant_id"], event["run_id"]) for event in transport.events}
    assert not [event for event in transport.events[1:] if "workflow" in event]


def test_children_know_their_parent_and_root(emitter: Emitter, transport: MemoryTransport) -> None:
    """A tree is complete from any of its events; a child is attributed as its parent is, its limits are its own."""
    with emitter.run(tenant_id="acme", run_id="root", session_id="s", workflow="w", owner="ana", max_retries=1) as root:
        with root.child(run_id="child", owner="bo") as child, child.child(run_id="leaf") as leaf:
            leaf.llm_call(model="m")
        with pytest.raises(InvalidEvent, match="tenant"):
            emitter.run(tenant_id="other", parent=root)
    emitter.flush()
    started = {event["run_id"]: event for event in transport.of_type("run_started")}
    assert tuple(
        started["child"][name] for name in ("parent_run_id", "root_run_id", "session_id", "workflow", "owner")
    ) == ("root", "root", "s", "w", "bo")
    (call,) = transport.of_type("llm_call")
    assert (call["parent_run_id"], call["root_run_id"], call["session_id"]) == ("child", "root", "s")
    assert "root_run_id" not in started["root"]
    assert "max_retries" not in started["child"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "completed"),
        (ValueError(), "failed"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (Paused("p"), "cancelled"),
        (Stopped("s"), "killed"),
        (GeneratorExit(), "cancelled"),
        (SystemExit(), "completed"),
        (SystemExit(0), "completed"),
        (SystemExit(1), "failed"),
        (SystemExit(143), "cancelled"),
        (ExceptionGroup("of tasks", [Paused("p")]), "cancelled"),
        (ExceptionGroup("of tasks", [ValueError(), ExceptionGroup("of theirs", [Stopped("s")])]), "killed"),
        (ExceptionGroup("of tasks", [Paused("p"), ValueError()]), "failed"),
        (BaseExceptionGroup("of tasks", [KeyboardInterrupt()]), "cancelled"),
    ],
    ids=repr,
)
def test_how_the_block_ended_is_the_status(
    emitter: Emitter, transport: MemoryTransport, error: BaseException | None, status: str
) -> None:
    """The exception goes on to the caller, and the log has its meaning."""

    def leave() -> None:
        with emitter.run(tenant_id="acme"):
            if error is not None:
                raise error

    if error is None:
        leave()
    else:
        with pytest.raises(type(error)):
            leave()
    emitter.flush()
    assert [status] == [event["status"] for event in transport.of_type("run_finished")]


def test_attribution_survives_a_lost_introduction(transport: MemoryTransport) -> None:
    """When `run_started` found the buffer full, later events say themselves whose they are."""
    transport.down = True
    with Emitter(transport, max_buffered=1) as emitter:
        emitter.emit({"type": "llm_call", "tenant_id": "acme", "run_id": "other", "model": "m"})
        with emitter.run(tenant_id="acme", workflow="w") as run:
            assert emitter.stats.dropped == 1
            transport.down = False
            assert emitter.flush(10) == 0
            run.llm_call(model="m")
            assert emitter.flush(10) == 0
    assert [event["workflow"] for event in transport.events if event.get("seq") == 2] == ["w"]


def test_a_bad_name_is_refused_before_anything_is_sent(emitter: Emitter, transport: MemoryTransport) -> None:
    """A run with a name too long never starts, and says which name."""
    with pytest.raises(InvalidEvent, match="workflow"):
        emitter.run(tenant_id="acme", workflow="x" * 257)
    with pytest.raises(InvalidEvent, match="cap_usd"):
        emitter.run(tenant_id="acme", cap_usd=float("nan"))
    emitter.flush()
    assert transport.events == []


def nested(run: Run) -> None:
    """A function further in makes it the current run as well."""
    with run:
        run.llm_call(model="m")
    run.llm_call(model="m")


def in_threads(run: Run) -> None:
    """Each thread enters it, so that what it calls finds the run; one goes on after the other has left."""
    first_left = threading.Event()

    def first() -> None:
        with run:
            run.llm_call(model="m")
        first_left.set()

    def second() -> None:
        with run:
            assert first_left.wait(TIMEOUT_S)
            run.llm_call(model="m")

    threads = [threading.Thread(target=work) for work in (second, first)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)


@pytest.mark.parametrize("work", [nested, in_threads])
def test_a_run_that_is_entered_again_ends_once_and_last(
    emitter: Emitter, transport: MemoryTransport, work: Callable[[Run], None]
) -> None:
    """It begins with the first block and ends with the last; inside it is current, and afterwards what was before."""
    with emitter.run("acme") as outer, emitter.run("acme") as run:
        work(run)
        assert CURRENT.get() is run
        with outer:
            assert CURRENT.get() is outer
        assert CURRENT.get() is run
        guarded = [run.finished, outer.finished]
    assert CURRENT.get() is None
    emitter.flush()
    kinds = [event["type"] for event in transport.events if event["run_id"] == run.run_id]
    assert (kinds, guarded) == (["run_started", "llm_call", "llm_call", "run_finished"], [False, False])


def test_a_run_that_had_ended_goes_on(emitter: Emitter, transport: MemoryTransport) -> None:
    """The next attempt of a task has a beginning and an end of its own, and is watched in between."""
    with Guard(FakeControl(), emitter, when_blind="continue") as guard:
        run = emitter.run("acme")
        for _ in range(2):
            with run:
                assert guard._watchlist._events
            assert not guard._watchlist._events
    emitter.flush()
    assert [event["type"] for event in transport.events] == ["run_started", "run_finished"] * 2


class Interrupted:
    """What a run reports to, in the middle of which a signal comes."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self.interrupts = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._emitter, name)

    def send(self, event: Any) -> str | None:
        """Send after the signal's handler has run."""
        if self.interrupts:
            self.interrupts = False
            signal.raise_signal(signal.SIGALRM)
        return self._emitter.send(event)


def test_a_signal_may_report_while_its_own_thread_does(emitter: Emitter, transport: MemoryTransport) -> None:
    """A handler that says how the run ends waits for nobody. Python ends an abandoned stream in the same way."""
    interrupted = Interrupted(emitter)
    run = Run(interrupted, "acme", None, {})
    before = signal.signal(signal.SIGALRM, lambda *_: run.tool_call("said by the handler"))
    watchdog = threading.Timer(TIMEOUT_S, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR2))
    told = signal.signal(signal.SIGUSR2, lambda *_: pytest.fail("it waits for itself"))
    watchdog.start()
    try:
        interrupted.interrupts = True
        run.llm_call(model="m")
    finally:
        watchdog.cancel()
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGUSR2, told)
    emitter.flush()
    assert sorted(event["type"] for event in transport.events) == ["llm_call", "tool_call"]
    assert sorted(event["seq"] for event in transport.events) == [1, 2]
