"""What the agent's own code gives to the client may be broken: a clock, a callback, keys, a log, whatever is hashed."""

import asyncio
import dataclasses
import enum
import logging
import sys
import threading
import time
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import pytest

from spendfuse import ControlRecord, Emitter, Guard, Stopped, derive_keys, hash_of
from spendfuse._client import guard as guard_module
from spendfuse.testing import FakeControl, MemoryTransport

TIMEOUT_S = 10.0
ROOT = b"the root key of the engine, in tests"
KEYS = derive_keys(ROOT, "acme")


def failing() -> int:
    """A clock that is broken."""
    raise OSError("no time source")


CLOCKS: dict[str, Callable[[], Any]] = {
    "raises": failing,
    "seconds": lambda: int(time.time()),
    "nanoseconds": time.time_ns,
    "none": lambda: None,
    "not a number": lambda: float("nan"),
    "infinite": lambda: float("inf"),
    "text": lambda: "noon",
    "negative": lambda: -1,
}


@pytest.mark.parametrize("clock_ms", CLOCKS.values(), ids=CLOCKS)
def test_a_broken_clock_is_replaced_by_the_systems(
    transport: MemoryTransport, caplog: pytest.LogCaptureFixture, clock_ms: Callable[[], int]
) -> None:
    """The agent's calls are reported at the true time and its stops are obeyed; the log says what was wrong."""
    before_ms = time.time_ns() // 1_000_000
    control = FakeControl()
    with (
        Emitter(transport, clock_ms=clock_ms) as emitter,
        Guard(control, emitter, when_blind="stop", clock_ms=clock_ms) as guard,
    ):
        assert guard.wait_ready(TIMEOUT_S)
        with emitter.run(tenant_id="acme") as run:
            guard.check(run)
            run.llm_call(model="m")
            control.kill(run)
            with pytest.raises(Stopped):
                guard.check(run)
            assert not guard.advice(run).downgrade
    after_ms = time.time_ns() // 1_000_000
    assert {event["type"] for event in transport.events} >= {"run_started", "llm_call", "command_ack"}
    assert all(before_ms <= event["ts_ms"] <= after_ms for event in transport.events)
    assert "clock_ms was of no use" in caplog.text


def test_a_clock_may_give_fractions(transport: MemoryTransport) -> None:
    """`time.time() * 1000` is a clock in milliseconds."""
    with Emitter(transport, clock_ms=lambda: 1_800_000_000_000.9) as emitter:  # type: ignore[arg-type,return-value]
        emitter.emit({"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"})
    assert [event["ts_ms"] for event in transport.events] == [1_800_000_000_000]


def test_a_broken_callback_keeps_nobody_from_stopping(emitter: Emitter) -> None:
    """The others hear of the kill, the run stops, and ending a callback twice does no harm."""
    control, heard = FakeControl(), []
    with Guard(control, emitter, when_blind="stop", on_ignored=lambda *_: 1 / 0) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        end = guard.on_stop(lambda *_: 1 / 0)
        guard.on_stop(lambda run, _: heard.append(run.run_id))
        with emitter.run(tenant_id="acme", run_id="r1") as run:
            control.kill(run)
            control.kill(run, seq=0)
            assert run.stop_event.is_set()
            end()
            end()
        assert (heard, guard.stats.replayed) == (["r1"], 1)


def cancel(*_: object) -> NoReturn:
    """A callback in which a cancellation comes up."""
    raise asyncio.CancelledError


@pytest.mark.parametrize("callback", [lambda *_: sys.exit(1), cancel], ids=["sys.exit", "cancelled"])
def test_a_callback_that_exits_leaves_the_guard_alive(
    emitter: Emitter, caplog: pytest.LogCaptureFixture, callback: Callable[..., object]
) -> None:
    """`sys.exit` in a thread ends that thread alone, and without a word: the guard would hear nothing any more."""
    control = FakeControl()
    with Guard(control, emitter, when_blind="continue", on_believed=callback) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        guard.on_stop(callback)
        for run_id in ("r1", "r2"):
            with emitter.run(tenant_id="acme", run_id=run_id) as run:
                control.kill(run)
                assert run.stop_event.is_set()
    assert "guard callbacks failed" in caplog.text


def test_a_callback_may_close_the_guard(emitter: Emitter, caplog: pytest.LogCaptureFixture) -> None:
    """It is in the guard's own thread, which cannot wait for itself; what was heard holds."""
    control = FakeControl()
    guard = Guard(control, emitter, when_blind="continue")
    assert guard.wait_ready(TIMEOUT_S)
    guard.on_stop(lambda *_: guard.close())
    with emitter.run(tenant_id="acme") as run:
        control.kill(run)
        with pytest.raises(Stopped):
            guard.check(run)
    guard.close()
    assert "callbacks failed" not in caplog.text


class BrokenFilter(logging.Filter):
    """What an agent has put on its log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Fail."""
        raise RuntimeError(record.msg)


@pytest.fixture
def broken_log() -> Iterator[None]:
    """A log that raises whenever the client says something."""
    broken, logger = BrokenFilter(), logging.getLogger("spendfuse")
    logger.addFilter(broken)
    yield
    logger.removeFilter(broken)


@pytest.mark.usefixtures("broken_log")
def test_a_broken_log_ends_nothing(transport: MemoryTransport) -> None:
    """Neither the guard's thread, nor the emitter's, nor a call of the agent that has the client warn."""
    control = FakeControl()
    with (
        Emitter(transport, max_buffered=2) as emitter,
        Guard(control, emitter, when_blind="stop", on_ignored=lambda *_: 1 / 0) as guard,
    ):
        assert guard.wait_ready(TIMEOUT_S)
        with emitter.run(tenant_id="acme") as run:
            control.put(ControlRecord(b"no command"))
            control.kill(run)
            assert run.stop_event.is_set()
            transport.down = True
            assert None in [run.llm_call(model="m") for _ in range(4)]
            transport.down = False
            assert emitter.flush(TIMEOUT_S) == 0


class Changing(UserDict[str, int]):
    """A mapping that another thread changes while it is read."""

    def items(self) -> NoReturn:
        """Fail as a dictionary does then."""
        raise RuntimeError("dictionary changed size during iteration")


@dataclasses.dataclass
class Unset:
    """A dataclass whose field nobody has set."""

    field: int = dataclasses.field(init=False)


class Lazy:
    """An object that loads what it is asked for, in vain."""

    @property
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise OSError("gone")


VALUES: dict[str, Callable[[], object]] = {
    "changed meanwhile": lambda: Changing(a=1),
    "unset": Unset,
    "lazy": Lazy,
    "stepped": lambda: memoryview(b"abcd")[::2],
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_whatever_is_hashed_the_call_is_reported(
    emitter: Emitter, transport: MemoryTransport, make: Callable[[], object]
) -> None:
    """Prompts, arguments and results are the agent's own objects: none breaks its call, and each has a hash."""
    value = make()
    assert len(hash_of(value)) == 32
    with emitter.run("acme") as run:
        run.llm_call(model="m", prompt=value)
        run.tool_call("t", args=value, result=value)
    emitter.flush()
    (call,) = transport.of_type("tool_call")
    assert (len(call["args_hash"]), len(call["result_hash"])) == (32, 32)


class Model(str, enum.Enum):  # noqa: UP042  # a StrEnum is no such member
    """Names as many programs keep them."""

    SMALL = "gpt-5-mini"


def test_a_name_may_be_a_member_of_an_enum(emitter: Emitter, transport: MemoryTransport) -> None:
    """What is sent is the name that it stands for, which has a price, and not how Python calls the member."""
    with emitter.run("acme", workflow=Model.SMALL, tags={"model": Model.SMALL}) as run:
        run.llm_call(model=Model.SMALL)
    emitter.flush()
    started, call, _ = transport.events
    assert (started["workflow"], started["tags"]["model"], call["model"]) == ("gpt-5-mini",) * 3


def kills_of(*tenants: str) -> FakeControl:
    """A topic on which each tenant's run r1 was killed before anybody reads it, all signed by the engine."""
    control = FakeControl(root=ROOT)
    for tenant_id in tenants:
        control.kill(("run", "r1"), tenant_id=tenant_id)
    return control


def test_a_tenant_without_keys_hides_nobody_elses_commands(emitter: Emitter) -> None:
    """A look-up that fails for another tenant is no fault: that tenant is not served here, and acme's kill holds."""
    keys: dict[str, Mapping[str, bytes]] = {"acme": KEYS}
    with Guard(kills_of("other", "acme"), emitter, when_blind="stop", keys=keys.__getitem__) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        assert (guard.stats.other_tenant, guard.stats.applied) == (1, 1)
        with pytest.raises(Stopped, match="from a test"):
            guard.check(emitter.run(tenant_id="acme", run_id="r1"))


def test_keys_that_are_not_to_be_had_are_asked_for_again(emitter: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the secret store is away the guard is blind, for it cannot judge what it reads; then the kill holds."""
    monkeypatch.setattr(guard_module, "KEYS_AGAIN_S", 0.01)
    back = threading.Event()
    asked = threading.Event()

    def keys(_: str) -> Mapping[str, bytes]:
        asked.set()
        if not back.is_set():
            raise ConnectionError("secret store")
        return KEYS

    with Guard(kills_of("acme"), emitter, when_blind="stop", keys=keys) as guard:
        assert asked.wait(TIMEOUT_S)
        assert not guard.wait_ready(0.05)
        with pytest.raises(Stopped, match="never read"):
            guard.check(emitter.run(tenant_id="acme", run_id="r2"))
        back.set()
        assert guard.wait_ready(TIMEOUT_S)
        guard.check(emitter.run(tenant_id="acme", run_id="r2"))
        with pytest.raises(Stopped, match="from a test"):
            guard.check(emitter.run(tenant_id="acme", run_id="r1"))
