"""A run introduces itself, numbers what it says, and says how it ended."""

import asyncio

import pytest

from spendfuse import Emitter, InvalidEvent, Paused, Stopped
from spendfuse.testing import MemoryTransport


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
