"""A forked child goes on with its parent's emitter and guard: nothing hangs, crashes, is lost, or goes unheard."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spendfuse import Emitter, Guard, Stopped
from spendfuse.testing import FakeControl, MemoryTransport

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

TIMEOUT_S = 30.0
CHILDREN = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from spendfuse import Emitter
from spendfuse.testing import MemoryTransport

method, path = sys.argv[1:]


class Slow(MemoryTransport):
    began_s = None

    def send(self, record, done):
        self.began_s = self.began_s or time.monotonic()
        if time.monotonic() - self.began_s < 0.2:
            raise BufferError("not yet")
        with open(path, "ab") as file:
            file.write(record.value + b"\\n")
        done(record, None)

    def poll(self, timeout_s):
        time.sleep(timeout_s)


emitter = Emitter(Slow())


def work(number, own=None):
    reporter = Emitter(Slow()) if own else emitter
    reporter.emit({"type": "llm_call", "tenant_id": "acme", "run_id": f"r{number}", "model": "m"})


if __name__ == "__main__":
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=work, args=(number, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(work, 2).result()
"""
CALL = {"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"}


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


def test_a_child_sends_its_own(transport: MemoryTransport) -> None:
    """What waits in the parent is the parent's to send; the child has a buffer and counts of its own."""
    transport.down = True
    with Emitter(transport) as emitter:
        emitter.emit(CALL)

        def reports() -> bool:
            transport.down = False
            event_id = emitter.emit(CALL)
            sent = emitter.flush(TIMEOUT_S) == 0 and emitter.close() == 0
            return sent and [event["event_id"] for event in transport.events] == [event_id] and emitter.stats.sent == 1

        assert in_child(reports)
        transport.down = False
        assert emitter.flush(TIMEOUT_S) == 0
    assert len(transport.events) == 1


def test_a_lock_that_was_held_at_the_fork_holds_up_no_child(transport: MemoryTransport) -> None:
    """A thread of the parent is in the middle of reporting when another one forks."""
    with Emitter(transport) as emitter, emitter.run("acme") as run:
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with emitter._outbox._changed, run._lock:
                held.set()
                release.wait(TIMEOUT_S)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        assert held.wait(TIMEOUT_S)
        try:
            assert in_child(lambda: run.llm_call(model="m") is not None and emitter.flush(TIMEOUT_S) == 0)
        finally:
            release.set()
            thread.join()


def test_a_child_obeys_what_stood_before_the_fork_and_hears_what_comes_after(emitter: Emitter) -> None:
    """Its first check waits until the topic is read there, so that a guard that fails closed stops nobody for that."""
    control = FakeControl()
    with Guard(control, emitter, when_blind="stop") as guard:
        assert guard.wait_ready(TIMEOUT_S)
        control.kill(("run", "r1"), tenant_id="acme")

        def obeys() -> bool:
            guard.check(emitter.run("acme", run_id="r2"))
            with pytest.raises(Stopped):
                guard.check(emitter.run("acme", run_id="r1"))
            with emitter.run("acme", run_id="r3") as run:
                control.kill(run)
                with pytest.raises(Stopped):
                    guard.check(run)
                return run.stop_event.is_set() and guard.stats.applied == 2 and guard.stats.replayed == 0

        assert in_child(obeys)
        assert guard.stats.applied == 1


def test_a_child_of_a_closed_emitter_and_guard_gets_what_its_parent_gets(transport: MemoryTransport) -> None:
    """They stay closed: nothing is reported, nothing begins to follow the topic."""
    emitter = Emitter(transport)
    guard = Guard(FakeControl(), emitter, when_blind="continue")
    guard.close()
    emitter.close()
    run = emitter.run("acme")

    def stays_closed() -> bool:
        guard.check(run)
        return emitter.emit(CALL) is None and emitter.stats.dropped == 1

    assert in_child(stays_closed)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_flush_at_their_end(method: str, tmp_path: Path) -> None:
    """As a program does that ends without `close`, although they end by `os._exit`: a pool's and an executor's as well,
    with an emitter that the module has made, or one of the child's own.
    """
    path = tmp_path / "sent"
    script = tmp_path / "children.py"
    script.write_text(CHILDREN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, method, path], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line.count(b"llm_call") for line in path.read_bytes().splitlines()) == [1, 1, 1], done.stderr
