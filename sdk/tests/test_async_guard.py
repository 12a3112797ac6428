"""An agent in asyncio asks without blocking its loop, and what it awaits ends when its run is killed."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from spendfuse import AsyncGuard, Emitter, Guard, Paused, Run, Stopped
from spendfuse.testing import FakeControl, MemoryTransport

TIMEOUT_S = 20.0


class Agent:
    """What a test of an agent needs."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.control = FakeControl()
        self.guard = AsyncGuard(Guard(self.control, emitter, when_blind="stop"))
        self.under_way = asyncio.Event()

    async def long_call(self) -> str:
        """A model that takes its time."""
        self.under_way.set()
        await asyncio.sleep(TIMEOUT_S)
        return "too late"

    async def kill(self, run: Run, **fields: object) -> None:
        """Kill the run once its call is under way."""
        await self.under_way.wait()
        await asyncio.to_thread(self.control.kill, run, **fields)


def played(emitter: Emitter, play: Callable[[Agent], Awaitable[None]]) -> None:
    """Run an agent's coroutine with a guard that is ready."""

    async def main() -> None:
        agent = Agent(emitter)
        async with agent.guard as guard, asyncio.timeout(TIMEOUT_S / 2):
            assert await guard.wait_ready(TIMEOUT_S)
            await play(agent)

    asyncio.run(main())


def test_a_nudge_is_handed_over_once(emitter: Emitter, transport: MemoryTransport) -> None:
    """The sentence is there for the agent's next call, and answered."""

    async def play(agent: Agent) -> None:
        with emitter.run("acme") as run:
            assert await agent.guard.nudge(run) is None
            await asyncio.to_thread(agent.control.nudge, run, "the third time")
            assert [await agent.guard.nudge(run), await agent.guard.nudge(run)] == ["the third time", None]

    played(emitter, play)
    emitter.flush()
    assert [ack["acted"] for ack in transport.of_type("command_ack")] == ["delivered"]


def test_a_kill_ends_the_call_under_way(emitter: Emitter, transport: MemoryTransport) -> None:
    """The awaited call is cancelled, the run ends by Stopped as killed and acknowledged, and its task goes on."""

    async def play(agent: Agent) -> None:
        ended = asyncio.Event()

        async def call() -> str:
            try:
                return await agent.long_call()
            finally:
                ended.set()

        async def run_until_killed() -> None:
            with agent.emitter.run("acme") as run:
                killing = asyncio.create_task(agent.kill(run))
                try:
                    await agent.guard.call(run, call())
                finally:
                    await killing

        with pytest.raises(Stopped, match="from a test") as stopped:
            await run_until_killed()
        task = asyncio.current_task()
        assert task is not None
        assert (ended.is_set(), task.cancelling(), stopped.value.command_id) == (True, 0, "command-1")
        await asyncio.sleep(0)

    played(emitter, play)
    emitter.flush()
    assert [event.get("acted") for event in transport.of_type("command_ack")] == ["stopped"]
    assert [event["status"] for event in transport.of_type("run_finished")] == ["killed"]


def test_a_call_that_is_not_killed_returns(emitter: Emitter) -> None:
    """Nothing is in its way, another run's kill neither."""

    async def play(agent: Agent) -> None:
        async def call() -> str:
            agent.under_way.set()
            await agent.kill(other)
            return "answer"

        with agent.emitter.run("acme") as run, agent.emitter.run("acme") as other:
            assert await agent.guard.call(run, call(), model="m") == "answer"

    played(emitter, play)


def test_a_call_that_may_not_be_made_is_not_begun(emitter: Emitter) -> None:
    """A kill or a pause that stands comes before it, without a complaint about a coroutine that nobody awaited."""

    async def play(agent: Agent) -> None:
        for say, expected in ((agent.control.pause, Paused), (agent.control.kill, Stopped)):
            with agent.emitter.run("acme") as run:
                await asyncio.to_thread(say, run)
                with pytest.raises(expected):
                    await agent.guard.call(run, agent.long_call())
                with pytest.raises(expected):
                    await agent.guard.check(run)
        assert not agent.under_way.is_set()

    played(emitter, play)


def test_a_task_that_somebody_else_cancels_is_cancelled(emitter: Emitter) -> None:
    """The guard takes no cancellation that is not its own for a kill, a time-out's neither."""

    async def play(agent: Agent) -> None:
        with agent.emitter.run("acme") as run:
            task = asyncio.create_task(agent.guard.call(run, agent.long_call()))
            await agent.under_way.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await agent.guard.call(run, agent.long_call())
            async with agent.guard.cancelling(run):
                pass

    played(emitter, play)


def test_a_block_that_swallows_its_cancellation_ends_all_the_same(emitter: Emitter) -> None:
    """A framework's `except` turns it into a result or another error: the block ends with Stopped, also within one."""

    async def swallow(agent: Agent, error: Exception | None) -> None:
        try:
            await agent.long_call()
        except asyncio.CancelledError:
            if error is not None:
                raise error from None

    async def run_until_killed(agent: Agent, error: Exception | None) -> None:
        agent.under_way.clear()
        with agent.emitter.run("acme") as run:
            killing = asyncio.create_task(agent.kill(run))
            try:
                async with agent.guard.cancelling(run), agent.guard.cancelling(run):
                    await swallow(agent, error)
            finally:
                await killing

    async def play(agent: Agent) -> None:
        for error in (None, ValueError("connection lost")):
            with pytest.raises(Stopped):
                await run_until_killed(agent, error)

    played(emitter, play)


def test_a_run_object_of_ones_own_is_cancelled_too(emitter: Emitter) -> None:
    """It is watched from its first block on."""
    run = SimpleNamespace(tenant_id="acme", run_id="r1", session_id=None, root_run_id=None, workflow=None)

    async def play(agent: Agent) -> None:
        killing = asyncio.create_task(agent.kill(run))  # type: ignore[arg-type]  # a run all the same
        with pytest.raises(Stopped):
            await agent.guard.call(run, agent.long_call())
        await killing
        agent.guard.guard.unwatch(run)

    played(emitter, play)


def test_a_pause_is_waited_out(emitter: Emitter) -> None:
    """The loop goes on meanwhile; what was asked for in vain is False."""

    async def play(agent: Agent) -> None:
        with agent.emitter.run("acme") as run:
            await asyncio.to_thread(agent.control.pause, run)
            assert not await agent.guard.wait_while_paused(run, 0.05)
            waiting = asyncio.create_task(agent.guard.wait_while_paused(run))
            await asyncio.to_thread(agent.control.resume, run)
            assert await waiting
            await asyncio.to_thread(agent.control.downgrade, run)
            assert (await agent.guard.advice(run)).downgrade

    played(emitter, play)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_obeys(emitter: Emitter) -> None:
    """The first question in a child waits for the topic, and not in the loop."""
    control = FakeControl()
    with Guard(control, emitter, when_blind="stop") as guard:
        assert guard.wait_ready(TIMEOUT_S)
        control.kill(("run", "r1"), tenant_id="acme")
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(AsyncGuard(guard).check(emitter.run("acme", run_id="r1")))
            except Stopped as stopped:
                os._exit(0 if stopped.command_id == "command-1" else 2)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
